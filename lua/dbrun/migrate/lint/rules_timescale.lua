--- Rules about TimescaleDB, whose options are in the namespaces `timescaledb` and `tsdb`.
local facts = require "dbrun.migrate.lint.facts"
local model = require "dbrun.migrate.lint.model"
local names = require "dbrun.migrate.lint.names"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

local SPACES <const> = { timescaledb = true, tsdb = true }

---Whether an option of TimescaleDB is on, as it is without a value.
local function option(list, name)
    for _, node in ipairs(list or {}) do
        local def = node.DefElem
        local space = def and (def.defnamespace or def.defname:match "^(%a+)%.")
        if def and SPACES[(space or ""):lower()] and def.defname:match "[^.]+$":lower() == name then
            local value = tree.option({ { DefElem = { defname = name, arg = def.arg } } }, name)
            local word = def.arg and def.arg.TypeName and facts.type_name { typeName = def.arg.TypeName }
            if word then return word ~= "false" and word ~= "off" end
            return value ~= nil
        end
    end
    return false
end

---Procedures and functions that TimescaleDB refuses inside a transaction.
local OUTSIDE <const> = {
    refresh_continuous_aggregate = true, move_chunk = true, reorder_chunk = true, merge_chunks_concurrently = true,
}

local function is_aggregate(ctx, name)
    local entry = ctx.model.tables[name]
    return entry ~= nil and entry.aggregate == true
end

---What DROP cannot drop.
local function dropped(ctx, report)
    local kind = ctx.body.removeType
    for _, object in ipairs((kind == "OBJECT_INDEX" and ctx.body.concurrent or kind == "OBJECT_VIEW")
        and ctx.body.objects or {}) do
        local name = model.listed(ctx.model, object.List.items)
        local owner = ctx.model.index_tables[name]
        if kind == "OBJECT_INDEX" and owner and facts.is_hypertable(ctx, owner) then
            report(("DROP INDEX CONCURRENTLY is not for %s, of the hypertable %s"):format(shown(name), shown(owner)),
                owner, "DROP INDEX, in a quiet hour")
        elseif kind == "OBJECT_VIEW" and is_aggregate(ctx, name) then
            report(("DROP VIEW is not for the continuous aggregate %s"):format(shown(name)), name,
                "DROP MATERIALIZED VIEW")
        end
    end
end

local function refreshed(ctx, report)
    local name = model.name(ctx.model, ctx.body.relation)
    if is_aggregate(ctx, name) then
        report(("REFRESH MATERIALIZED VIEW is not for the continuous aggregate %s"):format(shown(name)), name,
            "CALL refresh_continuous_aggregate(), in a migration with transaction:false")
    end
end

---@type dbrun.migrate.Rule[]
return {
    {
        name = "timescaledb-in-transaction",
        severity = "error",
        why = "TimescaleDB refuses this inside a transaction",
        safe = "put transaction:false after the directive",
        statement = function(ctx, report)
            if not ctx.transaction then return end
            facts.calls(ctx, function(name, call)
                if OUTSIDE[name] or name == "merge_chunks" and facts.flag(call, "concurrently") then
                    report(("%s() cannot run in a transaction"):format(name))
                end
            end)
            local into = ctx.kind == "CreateTableAsStmt" and ctx.body.into
            if into and option(into.options, "continuous") and not into.skipData then
                report("a continuous aggregate WITH DATA cannot be made in a transaction",
                    model.name(ctx.model, into.rel))
            end
            if ctx.kind == "IndexStmt" and option(ctx.body.options, "transaction_per_chunk") then
                report("an index with transaction_per_chunk cannot be made in a transaction",
                    model.name(ctx.model, ctx.body.relation))
            end
        end,
    },
    {
        name = "hypertable-index",
        severity = "warning",
        rows = "stored",
        why = "CREATE INDEX on a hypertable blocks every write to all its chunks until the last index is built",
        safe = "CREATE INDEX ... WITH (timescaledb.transaction_per_chunk), in a migration with transaction:false",
        statement = function(ctx, report)
            local name = ctx.kind == "IndexStmt" and facts.existing(ctx, ctx.body.relation)
            if name and facts.is_hypertable(ctx, name) and not ctx.body.concurrent and not ctx.body.unique
                and not option(ctx.body.options, "transaction_per_chunk") then
                report(("an index on the hypertable %s is built in one transaction"):format(shown(name)), name)
            end
        end,
    },
    {
        name = "hypertable-refuses",
        severity = "error",
        why = "TimescaleDB refuses this for a hypertable",
        safe = "CREATE INDEX ... WITH (timescaledb.transaction_per_chunk), which is not for unique indexes; REINDEX "
            .. "without CONCURRENTLY; ADD CONSTRAINT without USING INDEX",
        statement = function(ctx, report)
            local body = ctx.body
            if ctx.kind == "DropStmt" then return dropped(ctx, report) end
            if ctx.kind == "RefreshMatViewStmt" then return refreshed(ctx, report) end
            if ctx.kind ~= "IndexStmt" and ctx.kind ~= "ReindexStmt" and ctx.kind ~= "AlterTableStmt" then return end
            local name = body.relation and model.name(ctx.model, body.relation)
            local per_chunk = ctx.kind == "IndexStmt" and option(body.options, "transaction_per_chunk")
            if per_chunk and body.unique then
                report("transaction_per_chunk is not for a unique index", name)
            end
            local owner = name and ctx.kind == "ReindexStmt" and ctx.model.index_tables[name]
            if owner and facts.is_hypertable(ctx, owner) then
                report(("REINDEX INDEX is not for %s, of the hypertable %s"):format(shown(name), shown(owner)), owner,
                    "REINDEX TABLE, in a quiet hour")
            end
            if not name or not facts.is_hypertable(ctx, name) then return end
            if ctx.kind == "IndexStmt" and body.concurrent
                or ctx.kind == "ReindexStmt" and tree.option(body.params, "concurrently") then
                report(("CONCURRENTLY is not for the hypertable %s"):format(shown(name)), name)
            end
            for _, node in ipairs(body.cmds or {}) do
                local constraint = node.AlterTableCmd.def and node.AlterTableCmd.def.Constraint
                if constraint and constraint.indexname then
                    report(("a constraint of the hypertable %s uses an index that exists"):format(shown(name)), name)
                end
            end
        end,
    },
    {
        name = "hypertable-migrate-data",
        severity = "warning",
        why = "create_hypertable(migrate_data => true) copies all rows under an ACCESS EXCLUSIVE lock",
        safe = "a new hypertable, filled in batches and swapped",
        statement = function(ctx, report)
            facts.calls(ctx, function(called, call)
                local text = called == "create_hypertable" and facts.flag(call, "migrate_data")
                    and facts.text(facts.argument(call, 1, "relation"))
                local name = text and names.of_text(text, ctx.model.schema)
                if name and not model.is_made(ctx.model, name) then
                    report(("the rows of %s are moved into a hypertable"):format(shown(name)), name)
                end
            end)
        end,
    },
}
