-- Batch jobs through PgBouncer: in transaction mode everything works, statement mode is refused.
local batch = require "dbrun.batch"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local servers = require "spec.support.servers"

local server, engine

setup(function()
    server = servers.postgres()
    engine = pg.engine { url = server.url, size = 4 }
end)
teardown(function()
    engine:close()
    server:close()
end)

local function fresh(n)
    engine:exec [[drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t;
        create table t (region text collate "und-x-icu", at timestamptz, id int, n int not null default 0,
                        primary key (region, at, id))]]
    engine:query([[insert into t select (array['Ä', 'a', 'Z', 'zürich ''x''', '{"b"}'])[1 + i % 5],
        '2024-03-31 00:00+00'::timestamptz + i % 97 * interval '1 hour', i from generate_series(1, $1::int) i]], n)
    engine:exec "analyze t"
end

local RUN <const> = "update t set n = n + 1 where :chunk"

describe("through a pooler", function()
    if not pgbouncer.is_there() then
        pending("pgbouncer is not installed")
        return
    end

    it("in transaction mode each row is changed once, by workers that share few sessions", function()
        fresh(6000)
        local pooler <close> = pgbouncer.start(server, { default_pool_size = 2 })
        local ended <const> = batch.job {
            name = "pooled", table = "t", run = RUN, size = 100, max = 100, engine = pooler.url,
            settings = { work_mem = "8MB" },
        }:run { workers = 4 }
        assert.same({ "done", 6000 }, { ended.state, ended.rows })
        assert.same({ least = 1, most = 1, sum = 6000 },
            engine:one "select min(n) as least, max(n) as most, sum(n)::int8 as sum from t")
        -- A chunk's settings end with it: the sessions go to other clients.
        local through <close> = pg.engine { url = pooler.url, size = 1, statement_cache = 0 }
        assert.same({ work_mem = "4MB", plan_cache_mode = "auto", timezone = "default" }, through:one [[
            select current_setting('work_mem') as work_mem, current_setting('plan_cache_mode') as plan_cache_mode,
                   case when current_setting('TimeZone') = (select reset_val from pg_settings where name = 'TimeZone')
                   then 'default' else current_setting('TimeZone') end as timezone]])
        assert.equal("0", tostring(through:value "select setting from pg_settings where name = 'statement_timeout'"))
    end)

    it("statement mode is refused, with the remedy", function()
        fresh(10)
        local pooler <close> = pgbouncer.start(server, { pool_mode = "statement" })
        local ok <const>, e <const> = pcall(function()
            batch.job { name = "pooled", table = "t", run = RUN, engine = pooler.url }:run { reconnect = 0 }
        end)
        assert.is_false(ok)
        assert.is_true(errors.is(e), tostring(e))
        assert.match("transaction", tostring(e))
        assert.match("pool_mode = transaction", e.hint or "", 1, true)
        assert.equal(0, engine:value "select max(n) from t")
    end)
end)
