--- Citus: checks that the nodes reach each other, have the same version and no prepared transaction left, how the
--- shards are spread, and how expected tables are distributed.
local catalog <const> = require "dbrun.db.catalog"
local cli <const> = require "dbrun.command_line"
local errors <const> = require "dbrun.error"
local findings <const> = require "dbrun.verify.findings"
local limits <const> = require "dbrun.verify.limits"
local relations <const> = require "dbrun.verify.relations"
local server_check <const> = require "dbrun.verify.server_check"
local task <const> = require "dbrun.task"

local M = {}

-- ---- questions that go to other nodes ----

local MOST <const> = 3 -- seconds that a query to the other nodes can take

---Queries with a statement timeout, because a node that does not answer would block for 30 s.
---@return table[]? rows
---@return dbrun.Error? problem
local function ask(ctx, sql, ...)
    local params <const> = table.pack(...)
    local seconds <const> = math.max(0.1, math.min(MOST, (ctx.deadline - task.now()) / 3))
    local ok, found = pcall(ctx.conn.transaction, ctx.conn, function(tx)
        tx:query(catalog.sql [[select {set_config}('statement_timeout', $1, true),
            {set_config}('citus.node_connection_timeout', $2, true)]], ("%.0f"):format(seconds * 1000),
            ("%.0f"):format(seconds * 500))
        return tx:query(sql, table.unpack(params, 1, params.n))
    end)
    if ok then return found end
    if not errors.is(found) or not found.sqlstate then error(found, 0) end
    return nil, found
end

local NODES <const> = catalog.sql [[
select {to_jsonb}(n) as node from pg_catalog.pg_dist_node n order by groupid, nodeid]]

local HEALTH <const> = "select * from pg_catalog.citus_check_cluster_node_health()"

---What each worker reports about itself. The text is run there as a separate statement.
local STATE <const> = catalog.sql [[
select nodename as host, nodeport as port, success, result
  from pg_catalog.run_command_on_workers($q$
       select {jsonb_build_object}(
              'version', (select extversion from {pg_extension} where extname = 'citus'),
              'prepared', (select {jsonb_agg}({jsonb_build_array}(gid,
                                extract(epoch from {clock_timestamp}() - prepared)) order by prepared)
                             from {pg_prepared_xacts} where database = {current_database}()))
  $q$)]]

local function at(host, port) return ("%s:%s"):format(tostring(host), tostring(port)) end

---Nodes that are switched off, or have old metadata.
local function judge_nodes(found, nodes)
    for _, node in ipairs(nodes) do
        local name = at(node.nodename, node.nodeport)
        if node.isactive == false then
            found.add("FAIL", ("%s is not active: its shards cannot be used"):format(name),
                ("select citus_activate_node('%s', %s);   (when it answers)"):format(node.nodename, node.nodeport))
        elseif node.hasmetadata == true and node.metadatasynced == false then
            found.add("WARN", ("%s has old metadata: what was changed meanwhile is not known there"):format(name),
                ("select start_metadata_sync_to_node('%s', %s);"):format(node.nodename, node.nodeport))
        end
    end
end

---Nodes that others do not reach, each reported once.
---@return table<string, boolean> gone
---@return { from: string, to: string }[] broken single connections that fail, between nodes that answer
local function judge_health(found, ctx)
    local rows, problem = ask(ctx, HEALTH)
    if not rows then
        if problem.sqlstate == "57014" then
            found.add("FAIL", "the nodes did not answer within the time for them: one of them hangs",
                "select * from citus_check_cluster_node_health();")
        elseif problem.sqlstate ~= "42883" then -- releases before 10 do not have it
            found.add("WARN", "cannot see whether nodes reach each other: " .. problem.message,
                "grant execute on function citus_check_cluster_node_health() to ...;")
        end
        return {}, {}
    end
    local reached, gone, broken = {}, {}, {}
    for _, row in ipairs(rows) do
        local to = at(row.to_nodename, row.to_nodeport)
        reached[to] = reached[to] or row.result == true
    end
    for _, row in ipairs(rows) do
        local from, to = at(row.from_nodename, row.from_nodeport), at(row.to_nodename, row.to_nodeport)
        if not reached[to] and not gone[to] then
            gone[to] = true
            found.add("FAIL", ("%s is not reached by any node"):format(to),
                ("psql -h %s -p %s -c 'select 1'"):format(row.to_nodename, row.to_nodeport))
        elseif reached[to] and reached[from] and row.result ~= true then
            broken[#broken + 1] = { from = from, to = to }
        end
    end
    return gone, broken
end

---The prepared transactions of a worker. One of two-phase commit is finished by the coordinator within a minute.
local function judge_prepared(found, ctx, name, list)
    for _, entry in ipairs(list) do
        local age = tonumber(entry[2]) or 0
        local status, limit = limits.judge(ctx, "postgres.prepared_transactions", age)
        if limit then
            found.add(status, ("%s: the prepared transaction '%s' is open for %s"):format(name, entry[1],
                cli.duration(age)), entry[1]:find "^citus_" and "select recover_prepared_transactions();   (on the "
                .. "coordinator)" or ("rollback prepared '%s';   (on %s)"):format((entry[1]:gsub("'", "''")), name))
        end
    end
end

---@return table<string, boolean> skewed the workers with another version: they refuse every function of Citus
local function judge_workers(found, ctx, gone)
    local skewed = {}
    local rows, problem = ask(ctx, STATE)
    if not rows then
        if problem.sqlstate ~= "57014" or next(gone) == nil then
            found.add("WARN", "cannot see the state of the workers: " .. problem.message)
        end
        return skewed
    end
    local json <const>, own <const> = require "dbrun.json", ctx.server.extensions.citus
    for _, row in ipairs(rows) do
        local name = at(row.host, row.port)
        local ok, state = pcall(json.decode, row.success and row.result or "")
        if not ok then
            if not gone[name] then
                found.add("WARN", ("cannot see the state of %s: %s"):format(name, tostring(row.result)))
            end
        else
            if state.version ~= own then
                skewed[name] = true
                found.add("FAIL", ("%s has Citus %s, this node %s"):format(name,
                    type(state.version) == "string" and state.version or "not in this database", own),
                    "install the same package on all nodes; alter extension citus update; on each")
            end
            judge_prepared(found, ctx, name, type(state.prepared) == "table" and state.prepared or {})
        end
    end
    return skewed
end

---Nodes among each other.
local function judge_cluster(found, ctx)
    local gone, broken = judge_health(found, ctx)
    local skewed = judge_workers(found, ctx, gone)
    for _, pair in ipairs(broken) do
        if not skewed[pair.from] then
            found.add("FAIL", ("%s does not reach %s"):format(pair.from, pair.to),
                "look for a firewall, pg_hba.conf and pg_dist_authinfo between the two")
        end
    end
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.nodes(ctx)
    local version = ctx.server.extensions.citus
    local nodes, found = {}, findings.new()
    for i, row in ipairs(ctx.conn:query(NODES)) do nodes[i] = row.node end
    local text = ("Citus %s, %s"):format(version, cli.plural(#nodes, "node"))
    local installed = ctx.conn:value(catalog.sql [[
        select default_version from {pg_available_extensions}() where name {=} 'citus']])
    if installed and installed ~= version then
        found.add("WARN", ("the server has Citus %s, this database still %s"):format(installed, version),
            "alter extension citus update;   (on each node)")
    end
    judge_nodes(found, nodes)
    if #nodes > 0 then judge_cluster(found, ctx) end
    return found.result(text, { version = version, nodes = #nodes })
end

-- ---- shards ----

---Where the shards are, from the metadata alone.
local PLACES <const> = catalog.sql [[
with p as (select s.shardid, s.shardminvalue, t.logicalrelid, t.partmethod, t.repmodel, t.colocationid, l.groupid
             from pg_catalog.pg_dist_placement l join pg_catalog.pg_dist_shard s on s.shardid {=} l.shardid
             join pg_catalog.pg_dist_partition t on t.logicalrelid {=} s.logicalrelid),
     n as (select * from pg_catalog.pg_dist_node where noderole {=} 'primary')
select (select {count}(*)::int from p where partmethod {<>} 'n') as shards,
       array(select array[host, port::{text}, shards::{text}] from (
             select n.nodename, n.nodeport, {count}(*) from p join n on n.groupid {=} p.groupid
              where p.partmethod {<>} 'n' and not n.shouldhaveshards group by 1, 2) u (host, port, shards)) as unwanted,
       array(select array[name::{text}, shards::{text}] from (select p.logicalrelid, {count}(*) from p
              where not exists (select from n where n.groupid {=} p.groupid)
                and p.groupid {<>} 0 group by 1) h (name, shards)) as homeless,
       array(select colocationid::{text} from (select colocationid, shardminvalue
                  from p where partmethod {<>} 'n' and colocationid {>} 0
                 group by colocationid, shardminvalue, groupid
                having {count}(*) {<>} (select {count}(*) from pg_catalog.pg_dist_partition t
                                         where t.colocationid {=} p.colocationid)) a group by colocationid) as apart,
       array(select r.logicalrelid::{text} from pg_catalog.pg_dist_partition r
              where r.partmethod {=} 'n' and r.repmodel {=} 't' and exists (
                    select from n where n.isactive and n.shouldhaveshards and not exists (
                           select from p where p.logicalrelid {=} r.logicalrelid and p.groupid {=} n.groupid)))
           as unreplicated]]

---Bytes of distributed tables for each node that should have shards, and how many shards have no size for this role.
local SIZES <const> = catalog.sql [[
select n.nodename as host, n.nodeport as port,
       coalesce({sum}(s.shard_size), 0)::{float8} as bytes,
       {count}(*) filter (where s.shardid is not null and s.shard_size is null)::int as unseen
  from pg_catalog.pg_dist_node n
  left join pg_catalog.citus_shards s on s.nodename {=} n.nodename and s.nodeport {=} n.nodeport
        and s.citus_table_type {<>} 'reference' and s.citus_table_type {<>} 'local'
 where n.noderole {=} 'primary' and n.isactive and n.shouldhaveshards
 group by 1, 2 order by 3 desc]]

local FEW <const> = 1 << 20 -- bytes on the fullest node below which the balance is not judged

local function judge_balance(found, ctx)
    local rows, problem = ask(ctx, SIZES)
    if not rows then
        if problem.sqlstate == "42P01" or problem.sqlstate == "42703" then return "" end -- before release 10
        found.add("WARN", "cannot see how large the shards are: " .. problem.message)
        return ""
    end
    if #rows < 2 then return "" end
    local sum, unseen = 0, 0
    for _, row in ipairs(rows) do sum, unseen = sum + row.bytes, unseen + row.unseen end
    if unseen > 0 then
        -- A superuser lacks no right.
        local all <const> = ctx.conn:value(catalog.sql [[
            select rolsuper from {pg_roles} where rolname {=} {current_user}()]])
        found.add("WARN", ("cannot see the size of %s: a node does not answer%s"):format(cli.plural(unseen, "shard"),
            all and "" or (", or %s may not use their schemas"):format(ctx.server.role)),
            all and "postgres.citus says which node" or
            ("grant usage on schema ... to %s;   (for each schema with distributed tables)"):format(
                server_check.ident(ctx.server.role)))
        return ""
    end
    local most, average = rows[1], sum / #rows
    if most.bytes < FEW then return "" end
    local share = most.bytes / average
    local status, limit = limits.judge(ctx, "citus.balance", share)
    if limit then
        found.add(status, ("%s holds %.1f times the average of all nodes (%s of %s bytes)"):format(
            at(most.host, most.port), share, cli.count(math.floor(most.bytes)), cli.count(math.floor(sum))),
            "select citus_rebalance_start();   (or another distribution column, if one value has most rows)")
    end
    return (", the fullest node has %.1f times the average"):format(share)
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.shards(ctx)
    local row, found = ctx.conn:one(PLACES), findings.new()
    for _, node in ipairs(row.unwanted) do
        found.add("WARN", ("%s shards are on %s, which is to have none"):format(node[3], at(node[1], node[2])),
            ("select citus_drain_node('%s', %s);"):format(node[1], node[2]))
    end
    for _, entry in ipairs(row.homeless) do
        found.add("FAIL", ("%s shards of %s are on a node that is not in pg_dist_node"):format(entry[2], entry[1]),
            "add the node again, or restore the table")
    end
    if #row.apart > 0 then
        found.add("FAIL", ("co-located shards are on different nodes (co-location %s): joins fail"):format(
            table.concat(row.apart, ", ")), "select citus_rebalance_start();")
    end
    if #row.unreplicated > 0 then
        found.add("WARN", ("reference tables are not on every node: %s"):format(
            table.concat(row.unreplicated, ", ")), "select replicate_reference_tables();")
    end
    local text = cli.plural(row.shards, "shard")
    if row.shards > 0 then text = text .. judge_balance(found, ctx) end
    return found.result(text, { shards = row.shards })
end

-- ---- expectations ----

local TABLES <const> = catalog.sql(([[
select f.at is not null as there, p.partmethod::{text} as method, p.repmodel::{text} as model,
       case when p.partkey is not null then pg_catalog.column_to_column_name(f.at::{regclass}, p.partkey) end as key
  from (select n, %s as at from {unnest}($1::{text}[]) with ordinality f (name, n) offset 0) f
  left join pg_catalog.pg_dist_partition p on p.logicalrelid::{oid} {=} f.at order by f.n]]):format(
    relations.named "name"))

local function kind_of(row)
    if not row.method then return "a local table" end
    if row.key then return "distributed by " .. row.key end
    return row.model == "t" and "a reference table" or "a single shard"
end

local function literal(text) return "'" .. text:gsub("'", "''") .. "'" end

---The call that makes the expected kind of table. A table of Citus must become a local one first.
local function remedy(name, row, make, ...)
    local args <const> = { literal(name) }
    for i, value in ipairs { ... } do args[i + 1] = literal(value) end
    local call <const> = ("select %s(%s);"):format(make, table.concat(args, ", "))
    return row.method and make ~= "undistribute_table"
        and ("select undistribute_table(%s); "):format(literal(name)) .. call or call
end

---@return string? cause
---@return string? todo
local function differs(fact, row)
    local name, wanted = fact.table, fact.distributed_by
    if not row.there then return name .. " is not there" end
    local is = kind_of(row)
    if wanted and row.key ~= wanted then
        return ("%s is %s, expected: distributed by %s"):format(name, is, wanted),
            row.key and ("select alter_distributed_table(%s, distribution_column => %s);"):format(literal(name),
                literal(wanted)) or remedy(name, row, "create_distributed_table", wanted)
    end
    local reference = is == "a reference table"
    if fact.reference ~= nil and fact.reference ~= reference then
        return ("%s is %s, expected: %s reference table"):format(name, is, fact.reference and "a" or "no"),
            remedy(name, row, fact.reference and "create_reference_table" or "undistribute_table")
    end
end

---@param ctx dbrun.verify.Context
---@return dbrun.verify.Found|string
function M.distribution(ctx)
    local facts, names, seen = {}, {}, {}
    for _, fact in ipairs(ctx.expect.tables) do
        if fact.distributed_by or fact.reference ~= nil then
            facts[#facts + 1], names[#names + 1] = fact, fact.table
        end
    end
    if not ctx.server.extensions.citus then
        return { status = "INCOMPLETE", text = "Citus is not in this database",
            cause = "expected of it: " .. table.concat(names, ", "),
            remedy = { "shared_preload_libraries = 'citus' in postgresql.conf; then: create extension citus;" } }
    end
    local found = findings.new()
    for i, row in ipairs(ctx.conn:query(TABLES, require("dbrun.db").array(names, "text"))) do
        local cause, todo = differs(facts[i], row)
        if cause then found.add("WARN", cause, todo) end
        seen[i] = ("%s: %s"):format(names[i], row.there and kind_of(row) or "not there")
    end
    local result = found.result(table.concat(seen, "; "))
    if result.status then result.status = "INCOMPLETE" end
    return result
end

return M
