--- Rules about locks and the time to wait for them.
local aftermath = require "dbrun.migrate.run.aftermath"
local facts = require "dbrun.migrate.lint.facts"
local locks = require "dbrun.migrate.show.locks"
local model = require "dbrun.migrate.lint.model"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

---Whether a value of lock_timeout means "no limit".
local function is_no_limit(text)
    return text ~= nil and text:find "^%s*0+%.?0*%s*%a*%s*$" ~= nil
end

---Calls that remove the limit.
local function calls_no_limit(ctx)
    local found = false
    facts.calls(ctx, function(name, call)
        local args = call.args or {}
        if name == "set_config" and facts.text(args[1]) == "lock_timeout" then
            found = found or is_no_limit(facts.constant(args[2]))
        end
    end)
    return found
end

local function takes_limit_away(ctx)
    local body = ctx.body
    if ctx.kind == "SelectStmt" then return calls_no_limit(ctx) end
    if ctx.kind == "DiscardStmt" then return not ctx.transaction and (body.target or "DISCARD_ALL") == "DISCARD_ALL" end
    if ctx.kind ~= "VariableSetStmt" then return false end
    if body.kind == "VAR_RESET_ALL" then return true end
    if body.name ~= "lock_timeout" then return false end
    return body.kind == "VAR_RESET" or body.kind == "VAR_SET_DEFAULT"
        or body.kind == "VAR_SET_VALUE" and is_no_limit(facts.constant(body.args[1]))
end

---Statements that may end transactions: only the author of the procedure knows.
local MAY_END <const> = { DoStmt = true, CallStmt = true }

---@type dbrun.migrate.Rule[]
return {
    {
        name = "concurrently-in-transaction",
        severity = "error",
        why = "the server refuses this inside a transaction",
        safe = "put transaction:false after the directive, and nothing else into that migration",
        statement = function(ctx, report)
            if ctx.reported["timescaledb-in-transaction"] then return end
            local name
            if ctx.kind == "TransactionStmt" and ctx.inner then
                -- COMMIT within DO is allowed only without an outer transaction.
                if not ctx.block then return end
            elseif not ctx.transaction or MAY_END[ctx.kind] then
                return
            elseif ctx.kind == "ReindexStmt" and facts.is_partitioned(ctx, ctx.body.relation) then
                name = model.name(ctx.model, ctx.body.relation)
            elseif not aftermath.outside(ctx.sql) then
                return
            end
            report(("%s cannot run in a transaction"):format(ctx.sql:match "^%s*([^\n]*)":sub(1, 60)), name)
        end,
    },
    {
        name = "lock-table",
        severity = "warning",
        why = "LOCK TABLE waits for all users of the table, all new ones wait behind it, and it is held to the end",
        safe = "leave the lock to the statement that needs it; or the weakest mode that does",
        statement = function(ctx, report)
            if ctx.kind ~= "LockStmt" then return end
            for _, lock in ipairs(locks.of_tree(ctx.kind, ctx.body)) do
                local name = lock.relation and facts.existing(ctx, lock.relation)
                if name and locks.BLOCKS[lock.mode] ~= "nothing" then
                    report(("%s is locked in %s mode"):format(shown(name), lock.mode), name)
                end
            end
        end,
    },
    {
        name = "no-lock-timeout",
        severity = "warning",
        why = "a statement that waits for a table in use blocks all later ones without limit",
        safe = "keep the limit of 5 s (--lock-timeout); the migration is tried again a little later",
        statement = function(ctx, report)
            if takes_limit_away(ctx) then report "the limit of lock_timeout is taken away" end
        end,
    },
    {
        name = "two-strong-locks",
        severity = "warning",
        why = "the first lock is held while the second is waited for: a program that takes them the other way round is "
            .. "in a deadlock with it",
        safe = "one migration for each table",
        statement = function(ctx, report)
            -- Reported once for a section: at the second table the harm is done.
            if not ctx.transaction or #ctx.locked ~= 1 then return end
            local first = ctx.locked[1]
            for _, name in ipairs(facts.strongly_locked(ctx)) do
                if not ctx.locked[name] then
                    report(("%s is locked while %s is"):format(shown(name), shown(first)), name)
                    return
                end
            end
        end,
    },
    {
        name = "create-trigger",
        severity = "warning",
        why = "CREATE TRIGGER blocks writes to the table, and programs that run now get its effects at once",
        safe = "in a migration of its own, so that the lock is short",
        statement = function(ctx, report)
            local name = ctx.kind == "CreateTrigStmt" and facts.existing(ctx, ctx.body.relation)
            if name then report(("a trigger is made on %s"):format(shown(name)), name) end
        end,
    },
    {
        name = "full-vacuum",
        severity = "warning",
        why = "VACUUM FULL and CLUSTER copy the table under an ACCESS EXCLUSIVE lock",
        safe = "plain VACUUM; pg_repack",
        statement = function(ctx, report)
            if ctx.kind == "VacuumStmt" and tree.option(ctx.body.options, "full") or ctx.kind == "ClusterStmt" then
                report("a table is copied by VACUUM FULL or CLUSTER",
                    ctx.body.relation and model.name(ctx.model, ctx.body.relation))
            end
        end,
    },
    {
        name = "refresh-not-concurrent",
        severity = "warning",
        why = "REFRESH blocks all reads of the view until it is filled",
        safe = "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
        statement = function(ctx, report)
            local name = ctx.kind == "RefreshMatViewStmt" and facts.existing(ctx, ctx.body.relation)
            local known = name and ctx.model.tables[name]
            if name and not ctx.body.concurrent and not ctx.body.skipData and not (known and known.aggregate) then
                report(("%s is refreshed without CONCURRENTLY"):format(shown(name)), name)
            end
        end,
    },
}
