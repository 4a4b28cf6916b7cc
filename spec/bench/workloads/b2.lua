-- B2: the overhead of a chunk of a batch job: claim, step and mark, with one row each. And whether the overhead stays
-- constant: 100,000 chunks leave a few rows of state, and the last chunk costs as much as the hundredth, even while a
-- snapshot is held open all the time.
local contender <const> = require "bench.lib.contender"

local PREPARE <const> = {
    "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, small",
    "create table small (id bigint primary key, n integer not null default 0) with (fillfactor = 50)",
    "insert into small (id) select i from generate_series(1, %d) i",
    "vacuum (freeze, analyze) small",
}

local MOST_ROWS <const> = 10 -- of state, at the end
local PER_JOB_WRITE <const> = 50 -- chunks

--- The number of chunks in a run.
local function chunks_of(seconds)
    return seconds < 1 and 2000 or 100000
end

local STATS <const> = [[
select (select sum(xact_commit)::int8 from pg_stat_database where datname = current_database()) as commits,
       coalesce((select n_tup_upd from pg_stat_user_tables where relname = 'dbrun_batch_jobs'), 0) as job]]

--- The server's statistics; our sessions report theirs within a second.
local function stats(engine)
    require("dbrun.task").sleep(1.5)
    return engine:one(STATS)
end

--- The number of errors of a run: rows that were not processed once, too much state, and more commits than chunks.
local function wrong(engine, chunks, before, seconds)
    local after <const> = stats(engine)
    local more <const> = after.commits - before.commits - chunks
    local n = engine:value("select abs($1::int8 - (select sum(n) from small)::int8)", chunks)
    if engine:value "select count(*) from dbrun_batch_ranges" > MOST_ROWS then n = n + 1 end
    if more > 0.05 * chunks + 10 * seconds + 100 then n = n + 1 end
    if after.job - before.job > chunks / PER_JOB_WRITE then n = n + 1 end
    return n
end

--- Runs `chunks` chunks (default: all) and measures the last `count` (default: all but the first).
---@param opts {chunks?: integer, count?: integer, held?: boolean}
local function measure(opts)
    return function(seconds)
        local batch <const> = require "dbrun.batch"
        local db <const> = require "dbrun.db"
        local task <const> = require "dbrun.task"
        local engine <const> = db.async
        local all <const> = chunks_of(seconds)
        local chunks <const> = opts.chunks or all
        local first <const> = opts.count and chunks - opts.count or 1
        for _, statement in ipairs(PREPARE) do engine:exec(statement:format(all)) end
        local before <const> = stats(engine)
        local holder <close> = engine:acquire()
        if opts.held then
            holder:exec "begin isolation level repeatable read"
            holder:query "select 1"
        end
        local n, began, cpu, took, start = 0, 0, 0, 0, task.now()
        batch.job({
            name = "small", table = "small", run = "update small set n = n + 1 where :chunk", size = 1, min = 1,
            max = 1,
        }):run { limit = chunks, on = function(event)
            if event.what ~= "chunk" then return end
            n = n + 1
            if n == first then began, cpu = task.now(), os.clock() end
            if n == chunks then took, cpu = task.now() - began, os.clock() - cpu end
        end }
        holder:exec "rollback"
        local result <const> = {
            ops = chunks - first, checks = chunks, seconds = took, cpu = cpu,
            errors = wrong(engine, chunks, before, task.now() - start),
            bytes = engine:value [[select pg_total_relation_size('dbrun_batch_ranges')
                + pg_total_relation_size('dbrun_batch_jobs')]],
        }
        db.close()
        return result
    end
end

local hundredth <const> = contender.ours("dbrun, chunk 100", "hundredth", 600)
hundredth.kind = "floor"

return {
    id = "B2", order = 42, title = "a chunk of a batch job, beside its work", metric = "time", pairs = 3, round = 22,
    measure = {
        all = measure {}, hundredth = measure { chunks = 150, count = 100, held = true },
        last = measure { count = 1000, held = true },
    },
    ours = { contender.ours("dbrun", "all", 1200), contender.ours("dbrun, the last chunks", "last", 1200) },
    others = { hundredth },
    targets = {
        { metric = "time", limit = 0.002 }, { metric = "memory", limit = 40 << 20 },
        { metric = "time", ours = "dbrun, the last chunks", against = "dbrun, chunk 100", at_most = 1.5 },
    },
}
