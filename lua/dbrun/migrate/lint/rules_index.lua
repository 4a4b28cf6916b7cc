--- Rules about indexes.
local facts = require "dbrun.migrate.lint.facts"
local model = require "dbrun.migrate.lint.model"
local tree = require "dbrun.sql.tree"

local shown <const> = facts.shown

---A hypertable's indexes are never built CONCURRENTLY; the rules for TimescaleDB check them.
local function is_hypertable_index(ctx, index)
    local owner = ctx.model.index_tables[index]
    return owner and facts.is_hypertable(ctx, owner)
end

---Whether this full name is the parent of partitions.
local function is_parent(ctx, name)
    local entry = name and ctx.model.tables[name]
    return entry and entry.partition_by ~= nil
end

---Constraints that the server refuses to add to the parent of partitions.
local function added_to_parent(ctx, name, report)
    for _, node in ipairs(ctx.body.cmds) do
        local constraint = node.AlterTableCmd.def and node.AlterTableCmd.def.Constraint
        if constraint and constraint.indexname then
            report(("a constraint of the partitioned table %s uses an index that exists"):format(shown(name)), name,
                "ADD CONSTRAINT ... USING INDEX is for each partition; for the parent it is ADD CONSTRAINT, which "
                .. "takes those over")
        elseif constraint and constraint.contype == "CONSTR_FOREIGN" and constraint.skip_validation then
            report(("a foreign key of the partitioned table %s is NOT VALID"):format(shown(name)), name,
                "before PostgreSQL 18: NOT VALID and VALIDATE for each partition, then ADD CONSTRAINT for the parent, "
                .. "which takes those over")
        end
    end
end

---@type dbrun.migrate.Rule[]
return {
    {
        name = "partitioned-refuses",
        severity = "error",
        why = "the server refuses this for a partitioned table",
        safe = "CREATE INDEX ON ONLY the parent, CREATE INDEX CONCURRENTLY on each partition, then ALTER INDEX ... "
            .. "ATTACH PARTITION",
        statement = function(ctx, report)
            if ctx.kind == "IndexStmt" and ctx.body.concurrent and facts.is_partitioned(ctx, ctx.body.relation) then
                local name = model.name(ctx.model, ctx.body.relation)
                report(("CREATE INDEX CONCURRENTLY is not for the partitioned table %s"):format(shown(name)), name)
            elseif ctx.kind == "DropStmt" and ctx.body.removeType == "OBJECT_INDEX" and ctx.body.concurrent then
                for _, object in ipairs(ctx.body.objects) do
                    local index = model.listed(ctx.model, object.List.items)
                    local owner = ctx.model.index_tables[index]
                    if is_parent(ctx, owner) then
                        report(("DROP INDEX CONCURRENTLY is not for %s, of the partitioned table %s"):format(
                            shown(index), shown(owner)), owner, "DROP INDEX, in a quiet hour")
                    end
                end
            elseif ctx.kind == "AlterTableStmt" and facts.is_partitioned(ctx, ctx.body.relation) then
                added_to_parent(ctx, model.name(ctx.model, ctx.body.relation), report)
            end
        end,
    },
    {
        name = "index-not-concurrent",
        severity = "warning",
        rows = "stored",
        why = "CREATE INDEX blocks every write to the table until the index is built",
        safe = "CREATE INDEX CONCURRENTLY, in a migration of its own with transaction:false",
        statement = function(ctx, report)
            if ctx.kind ~= "IndexStmt" or ctx.body.concurrent then return end
            if tree.option(ctx.body.options, "transaction_per_chunk") then return end -- only hypertables have it
            local name = facts.existing(ctx, ctx.body.relation)
            -- ON ONLY is for the parent of partitions: nothing is built.
            if not name or not ctx.body.relation.inh or facts.is_hypertable(ctx, name) then return end
            local entry = ctx.model.tables[name]
            report(("an index on %s is built without CONCURRENTLY"):format(shown(name)), name,
                entry and entry.partition_by and "CREATE INDEX ON ONLY the parent, CREATE INDEX CONCURRENTLY on each "
                .. "partition, then ALTER INDEX ... ATTACH PARTITION" or nil)
        end,
    },
    {
        name = "drop-index-not-concurrent",
        severity = "warning",
        why = "DROP INDEX waits for every query of the table, and all new ones wait behind it",
        safe = "DROP INDEX CONCURRENTLY, in a migration with transaction:false",
        statement = function(ctx, report)
            if ctx.kind ~= "DropStmt" or ctx.direction ~= "up" or ctx.body.removeType ~= "OBJECT_INDEX"
                or ctx.body.concurrent then return end
            for _, object in ipairs(ctx.body.objects) do
                local index = model.listed(ctx.model, object.List.items)
                local owner = ctx.model.index_tables[index]
                local harmless = model.is_made(ctx.model, index) or owner and model.is_made(ctx.model, owner)
                    or is_hypertable_index(ctx, index)
                if not harmless then
                    report(("the index %s is dropped without CONCURRENTLY"):format(shown(index)), owner or index,
                        is_parent(ctx, owner) and "an index of a partitioned table cannot be dropped CONCURRENTLY: a "
                        .. "quiet hour, and a lint comment" or nil)
                end
            end
        end,
    },
    {
        name = "reindex-not-concurrent",
        severity = "warning",
        why = "REINDEX blocks writes, and reads that would use the index",
        safe = "REINDEX (CONCURRENTLY), in a migration with transaction:false",
        statement = function(ctx, report)
            if ctx.kind ~= "ReindexStmt" or tree.option(ctx.body.params, "concurrently") then return end
            local relation = ctx.body.relation
            local name = relation and model.name(ctx.model, relation)
            if name and (model.is_made(ctx.model, name) or facts.is_hypertable(ctx, name)
                or is_hypertable_index(ctx, name)) then return end
            report(("%s is rebuilt without CONCURRENTLY"):format(name and shown(name) or ctx.body.name or "an index"),
                name)
        end,
    },
}
