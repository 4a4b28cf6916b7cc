-- Fills a column of a million rows in chunks: with a batch job, and with a procedure written by hand that commits each
-- chunk. Both begin with a new table with the same rows.
local shell <const> = require "bench.lib.shell"

local M = {}

M.CHUNK = 5000

--- The number of rows: fewer in a run that only checks whether it works.
---@param seconds number
---@return integer
function M.rows(seconds)
    if seconds < 1 then return seconds < 0.6 and 50000 or 100000 end
    return 1000000
end

--- The column of one row in %d is null: these rows meet the job's condition.
local FRESH <const> = [[
drop table if exists backfill;
create table backfill (id bigint primary key, amount numeric not null, cents bigint, note text not null);
insert into backfill select i, i / 100.0, case when i %% %d = 0 then null else i end, 'note of row ' || i
  from generate_series(1, %d) i;
vacuum (freeze, analyze) backfill;
checkpoint;
]]

---@param rows integer
---@param one_in integer
---@return string[] statements
function M.fresh(rows, one_in)
    local list <const> = {}
    for statement in FRESH:format(math.min(one_in, rows), rows):gmatch "[^;]+" do
        if statement:find "%S" then list[#list + 1] = statement end
    end
    return list
end

M.UPDATE = "update backfill set cents = round(amount * 100) where :chunk"

local PROCEDURE <const> = [[
create or replace procedure backfill_by_hand(done bigint, last bigint) language plpgsql as $$
declare
    upto bigint;
begin
    loop
        select max(id) into upto from (select id from backfill where id > done %s order by id limit %d) x;
        exit when upto is null;
        update backfill set cents = round(amount * 100) where id > done and id <= upto and cents is null;
        commit;
        done := upto;
    end loop;
end $$]]

--- A command line that runs SQL with psql: one statement each.
local function psql(ctx, ...)
    local argv <const> = { ctx.servers.bin .. "/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", ctx.servers.database_url }
    for _, statement in ipairs { ... } do
        argv[#argv + 1] = "-c"
        argv[#argv + 1] = statement
    end
    return argv
end

--- Makes a new table, outside of the measurement.
---@param ctx bench.Context
---@param one_in integer
function M.reset(ctx, one_in)
    shell.must(psql(ctx, table.unpack(M.fresh(M.rows(ctx.seconds), one_in))))
end

local WRITTEN <const> = "select pg_current_wal_insert_lsn() - '0/0'"
local SIZE <const> = "select pg_total_relation_size('backfill')"

--- Runs one session of the procedure on the whole table, or several in parallel, each on its own part.
local function by_hand(ctx, sessions, ask)
    M.reset(ctx, 1)
    local rows <const> = M.rows(ctx.seconds)
    shell.must(psql(ctx, PROCEDURE:format(sessions > 1 and "and id <= last" or "", M.CHUNK)))
    local before <const> = ask and tonumber(shell.must(ask))
    local script <const> = {}
    for i = 1, sessions do
        script[i] = ('"$@" -c "call backfill_by_hand(%d, %d)" & pid%d=$!'):format(rows * (i - 1) // sessions,
            rows * i // sessions, i)
    end
    for i = 1, sessions do script[#script + 1] = ("wait $pid%d || exit 1"):format(i) end
    local argv <const> = { "sh", "-c", table.concat(script, "\n"), "sh" }
    local session <const> = psql(ctx, "set synchronous_commit = on")
    local _, runs <const> = ctx:measure(table.move(session, 1, #session, #argv + 1, argv), { limit = 600 })
    local after <const> = ask and tonumber(shell.must(ask))
    local left <const> = shell.must(psql(ctx, "select count(*) from backfill where cents is distinct from id"))
    if tonumber(left) ~= 0 then error("the procedure left rows: " .. left, 0) end
    local r <const> = runs[1]
    return {
        rate = rows / r.wall, time = r.wall / rows, cpu = r.cpu / rows,
        memory = ask and after - before or r.rss_kib * 1024,
    }
end

--- The procedure, whose result is checked. With `bytes` its memory is the amount of WAL ("wal"), or the growth of the
--- table and its index ("size").
---@param bytes? "wal"|"size"
---@return bench.Contender
function M.by_hand(bytes)
    return {
        name = bytes and "procedure, " .. bytes or "procedure", kind = "peer",
        run = function(ctx) return by_hand(ctx, 1, bytes and psql(ctx, bytes == "size" and SIZE or WRITTEN)) end,
    }
end

--- Two sessions of the procedure, each with a fixed half of the keys: the most that the server can do with two workers
--- on this machine.
---@param of string the contender of ours that it is compared with
---@return bench.Contender
function M.in_halves(of)
    return {
        name = "two procedures, half each", kind = "floor", of = of, run = function(ctx) return by_hand(ctx, 2) end,
    }
end

local ALONG_INDEX <const> =
    "set enable_seqscan = off; set enable_bitmapscan = off; set max_parallel_workers_per_gather = 0"

--- A count of the rows that meet the condition, along the index that the job walks.
---@param one_in integer
---@return bench.Contender
function M.count(one_in)
    return {
        name = ("count(*), 1 in %d"):format(one_in), kind = "floor",
        run = function(ctx)
            M.reset(ctx, one_in)
            local rows <const> = M.rows(ctx.seconds)
            local out <const>, runs <const> = ctx:measure(psql(ctx, ALONG_INDEX,
                "select count(*) from backfill where id > 0 and cents is null"), { limit = 600 })
            if tonumber(out) ~= rows // math.min(one_in, rows) then error("count: " .. out, 0) end
            local r <const> = runs[1]
            return { rate = rows / r.wall, time = r.wall / rows, cpu = r.cpu / rows, memory = r.rss_kib * 1024 }
        end,
    }
end

--- The duration of a batch job on the server's clock: for child.lua.
---@param opts {workers?: integer, one_in?: integer, passes?: integer, bytes?: "wal"|"size"}
---@return fun(seconds: number): table
function M.job(opts)
    return function(seconds)
        local batch <const> = require "dbrun.batch"
        local db <const> = require "dbrun.db"
        local engine <const>, rows <const> = db.async, M.rows(seconds)
        local one_in <const> = math.min(opts.one_in or 1, rows)
        engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges"
        for _, statement in ipairs(M.fresh(rows, one_in)) do engine:exec(statement) end
        local ask <const> = opts.bytes == "size" and SIZE or "select (pg_current_wal_insert_lsn() - '0/0')::int8"
        local before <const>, cpu <const> = engine:value(ask), os.clock()
        local ended <const> = batch.job({
            name = "backfill", table = "backfill", where = "cents is null", run = M.UPDATE, size = M.CHUNK,
            max = M.CHUNK, target = 10, passes = opts.passes,
        }):run { workers = opts.workers or 1 }
        local bytes <const>, spent <const> = engine:value(ask) - before, os.clock() - cpu
        local took <const> = engine:value "select extract(epoch from ended - started)::float8 from dbrun_batch_jobs"
        local wrong = engine:value "select count(*) from backfill where cents is distinct from id"
        if ended.state ~= "done" or ended.rows ~= rows // one_in then wrong = wrong + 1 end
        engine:exec "drop table dbrun_batch_jobs, dbrun_batch_ranges"
        db.close()
        return {
            ops = rows, checks = rows, errors = wrong, seconds = took, cpu = spent, bytes = opts.bytes and bytes or nil,
        }
    end
end

return M
