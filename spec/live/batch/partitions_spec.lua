-- Jobs on partitioned tables: the partitions that a statement touches, each row once, and partitions that are dropped
-- meanwhile.
local batch = require "dbrun.batch"
local db = require "dbrun.db"
local define = require "dbrun.batch.define"
local errors = require "dbrun.error"
local jobs = require "dbrun.batch.state.jobs"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local walks = require "dbrun.batch.walk"

describe("a batch on a partitioned table", function()
    local engine
    setup(function() engine = pg.engine { url = servers.database(), size = 6 } end)
    teardown(function() engine:close() end)

    --- Table t: 12 leaves of a month, each with 50 rows; n counts the changes of a row.
    before_each(function()
        engine:exec [[drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t, apart;
            create table t (id int not null, at timestamptz not null, region text not null default 'eu',
                n int not null default 0, primary key (id, at)) partition by range (at);
            create unique index by_time on t (at desc, id desc)]]
        engine:exec [[do $$ begin for i in 1..12 loop
            execute format('create table t_%s partition of t for values from (%L) to (%L)', i,
                make_timestamptz(2024, i, 1, 0, 0, 0, 'UTC'),
                make_timestamptz(2024, i, 1, 0, 0, 0, 'UTC') + interval '1 month');
        end loop; end $$]]
        engine:exec [[insert into t (id, at)
            select i, make_timestamptz(2024, 1 + i % 12, 1 + i % 28, i % 24, 0, 0, 'UTC')
            from generate_series(1, 600) i; analyze t]]
    end)

    local function run(options, opts)
        local all <const> = { name = "j", table = "t", run = "update t set n = n + 1 where :chunk", size = 20,
            engine = engine }
        for key, value in pairs(options or {}) do all[key] = value end
        local seen <const> = {}
        opts = opts or {}
        opts.on = function(event)
            seen[event.what] = seen[event.what] or {}
            table.insert(seen[event.what], event)
        end
        return batch.job(all):run(opts), seen
    end

    local function counted()
        return engine:value [[select string_agg(n || ': ' || rows, ', ' order by n)
            from (select n, count(*) as rows from t group by n) x]]
    end

    local function refused(options)
        options.name, options.table, options.run = "j", "t", "delete from t where :chunk"
        local conn <close> = engine:acquire()
        local ok <const>, e <const> = pcall(walks.open, conn, define.of("run", options))
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"), tostring(e))
        return e
    end

    it("processes each row once, by any key", function()
        for _, key in ipairs { { "id", "at" }, { "at", "id" } } do
            engine:exec "update t set n = 0"
            local ended <const> = run({ key = key, name = key[1] }, { workers = 3 })
            assert.equal("done", ended.state)
            assert.equal(600, ended.rows)
            assert.equal("1: 600", counted())
        end
    end)

    it("touches only the partitions of a chunk when the key begins with the partition key", function()
        local conn <close> = engine:acquire()
        conn:exec "set plan_cache_mode = force_custom_plan; set TimeZone = 'Asia/Kolkata'; set DateStyle = 'SQL, DMY'"
        local d <const> = define.of("run", { name = "j", table = "t", key = { "at", "id" }, as = "o", where = "n = 0",
            run = "update t as o set n = 1 where :chunk" })
        local walk <const> = walks.open(conn, d)

        ---The partitions in the plan of a statement, and the number of times.
        local function leaves(sql, named)
            local seen <const>, times = {}, 0
            for _, row in ipairs(conn:query({ positional = true }, "explain (costs off) " .. sql, named)) do
                local leaf <const> = row[1]:match "Scan.* on (t_%d+)"
                if leaf then seen[leaf], times = true, times + 1 end
            end
            local names <const> = {}
            for name in pairs(seen) do names[#names + 1] = name end
            table.sort(names)
            return table.concat(names, " "), times
        end
        local named <const> = define.named(d, { after = { "2024-03-05T00:00:00+00", "7" },
            upto = { "2024-03-31T23:00:00+00", "9" }, started = "2024-01-01Z" })
        assert.equal("t_3", (leaves(define.expand(d, walk, d.run, false), named)))
        named.size, named.look = 10, 1000
        for _, by_where in ipairs { false, true } do
            local names <const>, times <const> = leaves(walk:step(false, by_where), named)
            assert.equal("t_3", names)
            assert.equal(1, times)
        end
        d.key, named._upto, named.upto = nil, nil, db.array({ "600", "2025-01-01Z" }, "text")
        local _, times <const> = leaves(walks.open(conn, d):step(true, true), named)
        assert.equal(12, times) -- another key: all leaves, once
    end)

    it("cuts its ranges at the last keys of leaves, at the start and in a second pass", function()
        engine:exec "insert into t (id, at) values (1000, '2024-06-15Z'); delete from t where at < '2024-02-01Z'"
        local options <const> = { key = { "at", "id" }, where = "n = 0", on_error = "split",
            run = "update t set n = 1 / case when id = 1000 and region = 'eu' then 0 else 1 end where :chunk" }
        run(options, { limit = 1 })
        assert.equal(11, engine:value "select count(*) from dbrun_batch_ranges where pass = 1")
        local ended <const>, seen <const> = run(options)
        assert.equal("done", ended.state)
        assert.equal(1, ended.failed)
        assert.equal(550, ended.total_rows)
        assert.same({ "1000" }, { tostring(seen.failed[1].key[2]) })
        assert.equal(2, engine:value "select pass from dbrun_batch_jobs")
        engine:exec "update t set region = 'us' where id = 1000"
        local conn <close> = engine:acquire()
        jobs.retry(conn, "j")
        assert.equal(1, run(options).rows)
        assert.equal("1: 551", counted())
    end)

    it("leaves as few rows of its state as on an ordinary table", function()
        run({ key = { "at", "id" } }, { workers = 2 })
        assert.is_true(engine:value "select count(*) from dbrun_batch_ranges" <= 12)
    end)

    it("treats a row that moves to an earlier partition like any row whose key changes", function()
        local ok <const>, e <const> = pcall(run, { name = "k", key = { "at", "id" },
            run = "update t set at = at where :chunk" })
        assert.is_false(ok)
        assert.matches("at", e.message, 1, true)
        assert.equal(0, engine:value "select count(*) from dbrun_batch_jobs") -- no job was started
        local moved = false
        local ended <const> = run { key = { "at", "id" }, where = "n = 0", after = function()
            if moved then return end
            moved = true
            engine:exec "update t set at = '2024-01-01Z' where at >= '2024-12-20Z'"
        end }
        assert.equal("done", ended.state)
        assert.equal(0, ended.found)
        assert.equal("1: 600", counted())
    end)

    it("goes on when partitions are detached or dropped meanwhile, and says so", function()
        local gone = false
        local ended <const>, seen <const> = run { key = { "at", "id" }, after = function()
            if gone then return end
            gone = true
            engine:exec "alter table t detach partition t_7; drop table t_9; alter table t_7 rename to apart"
        end }
        assert.equal("done", ended.state)
        assert.equal("1: 500", counted())
        assert.equal(50, engine:value "select count(*) from apart where n = 0")
        local text <const> = "2 partitions of t are gone since the job began, and what it had not reached there is not "
            .. "done: t_7 was detached, t_9 was dropped"
        assert.equal(text, seen.message[#seen.message].text)
        local events <const> = engine:value "select events from dbrun_batch_jobs"
        local logged = 0
        for _, event in ipairs(events) do
            if event.what == "partitions" and event.text == text then logged = logged + 1 end
        end
        assert.equal(1, logged)
        run { key = { "at", "id" } } -- done already: no row is added
        assert.equal(#events, #engine:value "select events from dbrun_batch_jobs")
    end)

    it("needs an index of the parent, or is a job for each leaf", function()
        engine:exec [[drop index by_time; alter table t drop constraint t_pkey;
            create unique index on t_3 (id); create unique index on t_4 (id)]]
        local e <const> = refused { key = "id" }
        assert.matches("t has no index on (id), in this order", e.message, 1, true)
        assert.matches("create unique index concurrently on each partition, then the same without concurrently on "
            .. "public.t (id), which takes those (a unique one needs the partition key in it); or make a job for each "
            .. "partition", e.hint, 1, true)
        assert.matches("create unique index concurrently on each partition", refused({}).hint, 1, true)
        for i = 3, 4 do
            local leaf <const> = "t_" .. i
            assert.equal(50, run({ name = leaf, table = leaf, key = "id",
                run = ("update %s set n = n + 1 where :chunk"):format(leaf) }).rows)
        end
        assert.equal("0: 500, 1: 100", counted())
    end)

    it("walks lists, hashes and leaves below leaves", function()
        engine:exec [[drop table if exists l;
            create table l (region text collate "C" not null, id int not null, n int not null default 0,
                primary key (region, id)) partition by list (region);
            create table l_eu partition of l for values in ('eu', 'uk') partition by hash (id);
            create table l_eu0 partition of l_eu for values with (modulus 2, remainder 0);
            create table l_eu1 partition of l_eu for values with (modulus 2, remainder 1);
            create table l_us partition of l for values in ('us', 'Ä'); create table l_rest partition of l default;
            insert into l select (array['eu', 'uk', 'us', 'Ä', 'fr', ''])[1 + i % 6], i from generate_series(1, 300) i]]
        local ended <const> = run({ table = "l", run = "update l set n = n + 1 where :chunk", where = "n < 5" },
            { workers = 2 })
        assert.equal("done", ended.state)
        assert.equal(300, engine:value "select count(*) from l where n = 1")
    end)
end)
