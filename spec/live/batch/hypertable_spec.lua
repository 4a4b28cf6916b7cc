-- Jobs on hypertables. Debian does not package TimescaleDB: without it all is pending.
local batch = require "dbrun.batch"
local define = require "dbrun.batch.define"
local errors = require "dbrun.error"
local extensions = require "spec.support.extensions"
local look = require "dbrun.batch.look"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local walks = require "dbrun.batch.walk"

if not extensions.is_there "timescaledb" then
    describe("a batch on a hypertable", function()
        pending "timescaledb is not installed: its specs are skipped"
    end)
    return
end

local TABLE <const> = [[
drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, m;
create table m (time timestamptz not null, id int not null, device int not null, n int not null default 0,
    primary key (id, time));
select create_hypertable('m', by_range('time', interval '1 day'));
create unique index by_time on m (time, id);
insert into m select timestamptz '2024-01-01Z' + (i * 7919 % 1000) * interval '864 s', i, i % 10
    from generate_series(0, 999) i;
analyze m]]

local COMPRESS <const> = [[
alter table m set (timescaledb.compress, timescaledb.compress_segmentby = 'device',
    timescaledb.compress_orderby = 'time, id');
select compress_chunk(c) from show_chunks('m', older_than => timestamptz '2024-01-04Z') c]]

describe("a batch on a hypertable", function()
    local server, engine
    setup(function()
        server = servers.postgres { settings = {
            shared_preload_libraries = "timescaledb", ["timescaledb.telemetry_level"] = "off",
        } }
        server:psql "create extension timescaledb"
        engine = pg.engine { url = server:address {}, size = 6 }
    end)
    teardown(function()
        engine:close()
        server:close()
    end)
    before_each(function() engine:exec(TABLE) end)

    local function job(options)
        local all <const> = { name = "j", table = "m", key = { "time", "id" }, size = 50, engine = engine,
            run = "update m set n = n + 1 where :chunk" }
        for key, value in pairs(options or {}) do all[key] = value end
        return batch.job(all)
    end

    local function run(options, opts)
        local seen <const> = { message = {}, retry = {} }
        opts = opts or {}
        opts.on = function(event)
            seen[event.what] = seen[event.what] or {}
            table.insert(seen[event.what], event)
        end
        return job(options):run(opts), seen
    end

    local function counted()
        return engine:value [[select string_agg(n || ': ' || rows, ', ' order by n)
            from (select n, count(*) as rows from m group by n) x]]
    end

    it("processes each row once, by time or another key", function()
        assert.equal(1000, run(nil, { workers = 3 }).rows)
        assert.equal("1: 1000", counted())
        assert.equal(1000, run({ name = "k", key = { "id", "time" }, where = "n < 2" }, { workers = 2 }).rows)
        assert.equal("2: 1000", counted())
    end)

    it("touches only the chunks of its range, and is cut at their last keys", function()
        local conn <close> = engine:acquire()
        conn:exec "set plan_cache_mode = force_custom_plan"
        local d <const> = define.of("run", { name = "j", table = "m", key = { "time", "id" },
            run = "update m set n = 1 where :chunk" })
        local walk <const> = walks.open(conn, d)
        local named <const> = define.named(d, { after = { "2024-01-03T00:00:00+00", "7" },
            upto = { "2024-01-03T20:00:00+00", "9" } })
        named.size, named.look = 10, 1000
        for _, sql in ipairs { define.expand(d, walk, d.run, false), walk:step(false, false) } do
            local chunks <const> = {}
            for _, row in ipairs(conn:query({ positional = true }, "explain (costs off) " .. sql, named)) do
                chunks[#chunks + 1] = row[1]:match "Scan.* on (_hyper%S+)"
            end
            assert.equal(1, #chunks)
        end
        run(nil, { limit = 1 })
        assert.equal(10, engine:value "select count(*) from dbrun_batch_ranges")
    end)

    it("goes on while retention drops chunks, and says so", function()
        local dropped = false
        local ended <const>, seen <const> = run({ after = function()
            if dropped then return end
            dropped = true
            engine:exec "select drop_chunks('m', older_than => timestamptz '2024-01-04Z')"
        end }, { workers = 2 })
        assert.equal("done", ended.state)
        assert.equal("1: 700", counted())
        assert.matches("3 chunks of m are gone since the job began, and what it had not reached there is not done: "
            .. "_timescaledb_internal._hyper_%d+_%d+_chunk was dropped, ", seen.message[#seen.message].text)
    end)

    it("can walk one chunk as a table", function()
        local chunk <const> = engine:value "select show_chunks::text from show_chunks('m') order by 1 limit 1"
        local sql <const> = ("update %s as c set n = 1 where :chunk"):format(chunk)
        assert.equal(100, run({ table = chunk, as = "c", run = sql }).rows)
        assert.equal("0: 900, 1: 100", counted())
    end)

    it("skips compressed chunks unless the job includes them", function()
        engine:exec(COMPRESS)
        local ok <const>, e <const> = pcall(run)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"))
        assert.matches("m has compressed chunks", e.message, 1, true)
        assert.matches("compressed = true", e.hint, 1, true)
        assert.equal(1000, run({ compressed = true }, { workers = 2 }).rows)
        assert.equal("1: 1000", counted())
    end)

    it("halves a chunk that decompresses too much, and stops when one key does", function()
        engine:exec(COMPRESS)
        local limit <const> = "timescaledb.max_tuples_decompressed_per_dml_transaction"
        local ended <const>, seen <const> = run { compressed = true, settings = { [limit] = 60 } }
        assert.equal("done", ended.state)
        assert.equal("1: 1000", counted())
        assert.equal("53400", seen.retry[1].sqlstate)
        assert.equal("halved", seen.retry[1].how)
        engine:exec "select compress_chunk(c) from show_chunks('m', older_than => timestamptz '2024-01-02Z') c"
        local ok <const>, e <const> = pcall(run, { name = "k", compressed = true, settings = { [limit] = 1 } })
        assert.is_false(ok)
        assert.equal("53400", e.sqlstate)
        assert.matches("A single key is over the limit", e.hint, 1, true)
    end)

    it("is checked before it runs", function()
        local found <const> = look.dry_run(batch.purge { name = "p", table = "m", key = { "time", "id" },
            where = "time < '2024-01-03Z'", engine = engine })
        local text <const> = table.concat(found.lines, "\n")
        assert.matches("every row of 2 chunks of its 10 fits", text, 1, true)
        assert.matches("select drop_chunks(...) is quicker", text, 1, true)
        assert.equal(0, found.status, text)
        engine:exec [[insert into m select timestamptz '2024-02-01Z' + i * interval '1 s', i, 0
            from generate_series(1, 60000) i; analyze m]] -- more than few pages
        local all <const> = look.dry_run(job {})
        assert.equal(0, all.status, table.concat(all.lines, "\n"))
        assert.equal(61000, all.data.rows.fits)
        assert.is_nil(all.data.plans[1].problem)
    end)

    it("names the index that a hypertable can have", function()
        local conn <close> = engine:acquire()
        local ok <const>, e <const> = pcall(walks.open, conn, define.of("run", { name = "j", table = "m",
            key = { "device", "time", "id" }, run = "delete from m where :chunk" }))
        assert.is_false(ok)
        assert.matches("create index on public.m (device, time, id) with (timescaledb.transaction_per_chunk)", e.hint,
            1, true)
    end)
end)
