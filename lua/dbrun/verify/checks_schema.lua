--- The contents of the database: migrations, tables, partitions by time. These checks run one after the other on the
--- connection of the first check (ctx.conn), while the concurrency check holds others: that connection has a warm
--- catalog cache, and another one would cost the server a process.
local catalog = require "dbrun.db.catalog"
local relations = require "dbrun.verify.relations"
local server_check = require "dbrun.verify.server_check"

local M = {}

---The command that applies the migrations on the servers of this run.
local UP <const> = ("dbrun %smigrate up"):format(
    next(require("dbrun.core").options.overlay or {}) and "--stack " or "")

-- ---- migrations ----

---A default folder that does not exist means that the project has no migrations.
local function migration_files(ctx)
    local dir, chosen = require("dbrun.migrate.read.folders").default(ctx.config)
    if not chosen and not require("dbrun.fs").exists(dir) then return nil, dir end
    return require("dbrun.migrate.read.files").list { dir }, dir
end

local function names_of(state)
    local names = {}
    for _, entry in ipairs(state.files) do
        if not entry.applied then names[#names + 1] = entry.file.name end
    end
    local shown = table.concat(names, ", ", 1, math.min(#names, 3))
    return #names > 3 and ("%s and %d more"):format(shown, #names - 3) or shown
end

---Records that differ from the files. The server computes the checksums, because loading libcrypto in this program
---would take longer than the whole check.
local function changed_sql()
    return catalog.sql [[
select f.n::int as n, r.direction, r.done
  from rows from ({unnest}($1::{text}[]), {unnest}($2::{text}[])) with ordinality f (version, body, n)
  join %s r on r.version {=} f.version
 where r.direction is not null or r.checksum {<>} {encode}({sha256}({decode}(f.body, 'escape')), 'hex') order by n]]
end

---The contents in the escape form of bytea, which is much shorter than the hexadecimal one.
local function contents(file)
    local handle <close> = assert(io.open(file.path, "rb"))
    local text = handle:read "a"
    if text:sub(1, 3) == "\xEF\xBB\xBF" then text = text:sub(4) end
    if text:find("\r", 1, true) then text = text:gsub("\r\n", "\n") end
    if not text:find "[%z\\\128-\255]" then return text end
    return (text:gsub("[%z\\\128-\255]", function(c) return ("\\%03o"):format(c:byte()) end))
end

---Migrations changed after they were applied, and half-done ones.
local function changed_files(conn, list)
    local ledger, records = require "dbrun.migrate.book.ledger", require "dbrun.migrate.book.records"
    local book = ledger.locate(conn, ledger.DEFAULT_TABLE)
    if #list == 0 or not records.exist(conn, book) then return {}, {} end
    local db, versions, bodies, changed, half = require "dbrun.db", {}, {}, {}, {}
    for i, file in ipairs(list) do
        versions[i], bodies[i] = file.version, contents(file)
    end
    local sql = changed_sql():format(records.table(book))
    for _, row in ipairs(conn:query(sql, db.array(versions, "text"), db.array(bodies, "text"))) do
        local file = list[row.n]
        if row.direction then
            half[#half + 1] = ("%s (%s, %d statements)"):format(file.name, row.direction, row.done)
        else
            changed[#changed + 1] = file.name
        end
    end
    return changed, half
end

---@type dbrun.verify.Check
M.migrations = {
    name = "schema.migrations",
    about = "every migration is applied, unchanged since then, and every applied one has its file",
    needs = { "postgres.async" },
    on_conn = true,
    after = { "postgres.server" },
    service = function(ctx) return require("dbrun.verify.checks_pg").async.service(ctx) end,
    run = function(ctx)
        local files, dir = migration_files(ctx)
        if not files then return ("no folder %s: nothing to check"):format(dir) end
        local state = require("dbrun.migrate").compare(ctx.conn, files)
        local cause, remedy = {}, {}
        if state.pending > 0 then
            cause[1], remedy[1] = ("%d not applied: %s"):format(state.pending, names_of(state)), UP
        end
        if #state.missing > 0 then
            cause[#cause + 1] = ("applied, but without a file in %s: %s"):format(dir, table.concat(state.missing, ", "))
            remedy[#remedy + 1] = "restore the files (another branch?); dbrun migrate status"
        end
        local changed, half = changed_files(ctx.conn, files)
        if #changed > 0 then
            cause[#cause + 1] = "changed after they were applied: " .. table.concat(changed, ", ")
            remedy[#remedy + 1] = "restore them and write a new migration; dbrun migrate verify"
        end
        if #half > 0 then
            cause[#cause + 1] = "half done: " .. table.concat(half, ", ")
            remedy[#remedy + 1] = "the same command continues it, dbrun migrate up or down; dbrun migrate verify"
        end
        local facts = { applied = state.applied, pending = state.pending, missing = #state.missing,
            changed = #changed, half_done = #half }
        local text = ("%d of %d applied"):format(state.applied, #state.files)
        if #cause == 0 then return { text = text, facts = facts } end
        return { status = "INCOMPLETE", text = text, cause = table.concat(cause, "\n"), remedy = remedy, facts = facts }
    end,
}

-- ---- tables ----

---The facts to check, or, without any, a result that says so.
local function facts_of(ctx, want)
    if not ctx.expect.there then return nil, ("no %s: nothing to check"):format(ctx.expect.file) end
    local chosen = {}
    for _, fact in ipairs(ctx.expect.tables) do
        if want(fact) then chosen[#chosen + 1] = fact end
    end
    if #chosen == 0 then return nil, ("%s expects none"):format(ctx.expect.file) end
    return chosen
end

local function lines_of(facts)
    local names = {}
    for i, fact in ipairs(facts) do names[i] = fact.table end
    return table.concat(names, "\n"), names
end

local function tables_sql()
    return catalog.sql(([[
select t.name, t.at is not null as there, %s::{regnamespace}::{text} as closed, current_user::{text} as me
  from (select name, %s as at from {unnest}({string_to_array}($1, E'\n')) name offset 0) t]]):format(
    relations.closed "t.at", relations.named "name"))
end

---@type dbrun.verify.Check
M.tables = {
    name = "schema.tables",
    about = "the tables and views of scripts/expect.lua exist, in schemas that the role may use",
    needs = { "postgres.async" },
    on_conn = true,
    after = { "schema.migrations" },
    service = M.migrations.service,
    run = function(ctx)
        local facts, none = facts_of(ctx, function() return true end)
        if not facts then return none end
        local joined, names = lines_of(facts)
        local absent, causes, remedy, closed = {}, {}, {}, 0
        for i, row in ipairs(ctx.conn:query(tables_sql(), joined)) do
            local schema = row.closed
            if not row.there then
                absent[#absent + 1] = row.name
            elseif schema and (facts[i].role or row.me) == row.me then
                closed = closed + 1
                causes[closed] = ("%s: %s may not use the schema %s"):format(row.name, row.me, schema)
                local grant = ("grant usage on schema %s to %s;"):format(schema, server_check.ident(row.me))
                if remedy[#remedy] ~= grant then remedy[#remedy + 1] = grant end
            end
        end
        if #absent > 0 then
            table.insert(causes, 1, "missing: " .. table.concat(absent, ", "))
            table.insert(remedy, 1, UP)
        end
        if #causes == 0 then return table.concat(names, ", ") end
        return {
            status = "INCOMPLETE", cause = table.concat(causes, "\n"), remedy = remedy, facts = { missing = absent },
            text = ("%d of %d are there"):format(#names - #absent, #names)
                .. (closed > 0 and (", %d out of reach"):format(closed) or ""),
        }
    end,
}

-- ---- split by time ----

---For each table: its partition key ("RANGE (observed_at)"), and the bounds of its partitions ("FOR VALUES FROM
---('2024-01-01 00:00:00+00') TO ..."), as texts of the server. They are compared here, because on the server this needs
---a plan over five catalogs, which a new connection has to load first.
local function native_sql()
    return catalog.sql(([[
select t.name, t.at is not null as there, {pg_get_partkeydef}(t.at) as split,
       array(select {pg_get_expr}(relpartbound, oid) from {pg_class} where oid {=} any (
             array(select inhrelid from {pg_inherits} where inhparent {=} t.at))) as bounds,
       {now}()::{text} as now, localtimestamp::{text} as local_now, %s is not null as timescale
  from (select name, %s as at from {unnest}({string_to_array}($1, E'\n')) name offset 0) t]]):format(
    relations.at("'timescaledb_information'", "'hypertables'"), relations.named "name"))
end

---An integer column has no time_interval; releases before 2.0 have no integer_interval.
local function hyper_sql()
    return catalog.sql(([[
select t.name, d.column_name::{text} as key, h.num_chunks::int as parts,
       coalesce(d.time_interval::{text}, {to_jsonb}(d) {->>} 'integer_interval') as step
  from (select name, %s as at from {unnest}({string_to_array}($1, E'\n')) name offset 0) t
  join timescaledb_information.hypertables h on %s {=} t.at
  join timescaledb_information.dimensions d
    on d.hypertable_schema {=} h.hypertable_schema and d.hypertable_name {=} h.hypertable_name
 where d.dimension_number {=} 1]]):format(relations.named "name",
    relations.at("h.hypertable_schema", "h.hypertable_name")))
end

---The first column of a partition key; nil for an expression.
local function key_of(split)
    local keys = split:match("^RANGE %((.*)%)$"):gsub('""', "\0")
    local quoted = keys:match '^"([^"]*)"'
    if quoted then return (quoted:gsub("%z", '"')) end
    return keys:match "^([^%s,()\"']+)%f[%s,]" or keys:match "^([^%s,()\"']+)$"
end

---A bound of a partition as microseconds; nil when it is not a time.
local function bound_at(bound, pattern, open, unlimited)
    if bound:find(open) then return unlimited end
    local text = bound:match(pattern)
    if not text then return nil end
    local ok, us, kind = pcall(require("dbrun.time").parse, text)
    if ok then return us, kind end
end

---Whether a partition accepts rows of the present time. Assumed when its bounds are not times (numbers, texts).
local function takes_now(bound, native)
    if bound == "DEFAULT" then return true end
    local time <const> = require "dbrun.time"
    local from, kind = bound_at(bound, "FROM %('([^']*)'", "FROM %(MINVALUE", time.MINUS_INFINITY)
    local to, other = bound_at(bound, "TO %('([^']*)'", "TO %(MAXVALUE", time.INFINITY)
    if not from or not to then return true end
    kind = kind or other
    local now = time.parse(kind == "timestamptz" and native.now or native.local_now)
    return from <= now and now < to
end

---@param native table row of native_sql
---@return { key?: string, for_now: boolean }? nil when it is not partitioned by range
local function split_of(native)
    if not native.split or not native.split:find "^RANGE " then return nil end
    local split = { key = key_of(native.split), for_now = false }
    for _, bound in ipairs(native.bounds) do split.for_now = split.for_now or takes_now(bound, native) end
    return split
end

local SPLIT_IT <const> = "split it in a migration, or correct the expectation"

---Describes a table; returns also what is wrong with it (nil = nothing), and a remedy.
local function judge(fact, native, hyper)
    local name, column = fact.table, fact.time_partitioned
    if hyper then
        local text = ("%s: hypertable on %s, %s, %d chunks"):format(name, hyper.key, hyper.step or "no interval",
            hyper.parts or 0)
        if hyper.key == column then return text end
        return text, ("%s is split by %s, not by %s"):format(name, hyper.key, column), SPLIT_IT
    end
    if not native.there then return name .. ": not there", name .. " is not there", UP end
    local split = split_of(native)
    if not split then
        return name .. ": not split", ("%s is neither a hypertable nor partitioned by range"):format(name), SPLIT_IT
    end
    local key = split.key or "an expression"
    local text = ("%s: %d partitions by %s"):format(name, #native.bounds, key)
    if split.key ~= column then
        return text, ("%s is split by %s, not by %s"):format(name, key, column), SPLIT_IT
    end
    if split.for_now then return text end
    return text, ("%s has no partition for now: inserting fails"):format(name),
        ("create table ... partition of %s for values from (...) to (...)"):format(name)
end

---@type dbrun.verify.Check
M.partitioning = {
    name = "schema.time_partitioning",
    about = "tables that must be split by time are hypertables or have native range partitions",
    needs = { "postgres.async" },
    on_conn = true,
    after = { "schema.migrations", "schema.extensions" },
    service = M.migrations.service,
    run = function(ctx)
        local facts, none = facts_of(ctx, function(fact) return fact.time_partitioned ~= nil end)
        if not facts then return none end
        local joined = lines_of(facts)
        local native, hyper = ctx.conn:query(native_sql(), joined), {}
        if native[1].timescale then
            for _, row in ipairs(ctx.conn:query(hyper_sql(), joined)) do hyper[row.name] = row end
        end
        local texts, wrong, remedy = {}, {}, {}
        for i, fact in ipairs(facts) do
            local text, problem, todo = judge(fact, native[i], hyper[fact.table])
            texts[i], wrong[#wrong + 1] = text, problem
            if todo and not remedy[todo] then remedy[#remedy + 1], remedy[todo] = todo, true end
        end
        if #wrong == 0 then return table.concat(texts, "; ") end
        return {
            status = "INCOMPLETE", text = table.concat(texts, "; "), cause = table.concat(wrong, "\n"),
            remedy = table.move(remedy, 1, #remedy, 1, {}),
        }
    end,
}

return M
