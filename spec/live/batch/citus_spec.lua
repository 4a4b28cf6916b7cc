-- Jobs on tables of Citus: a coordinator and two workers. Debian does not package it: without it all is pending.
local batch = require "dbrun.batch"
local batches = require "spec.support.batch"
local errors = require "dbrun.error"
local extensions = require "spec.support.extensions"
local look = require "dbrun.batch.look"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

if not extensions.is_there "citus" then
    describe("a batch on a table of Citus", function()
        pending "citus is not installed: its specs are skipped"
    end)
    return
end

describe("a batch on a table of Citus", function()
    local nodes <const>, engine = {}, nil

    setup(function()
        for i = 1, 3 do
            nodes[i] = servers.postgres { tcp = true, settings = {
                shared_preload_libraries = "citus", ["citus.node_conninfo"] = "sslmode=prefer",
                max_prepared_transactions = 20, ["citus.recover_2pc_interval"] = -1, wal_level = "logical",
                fsync = i == 1 and "on" or "off", commit_siblings = 0, wal_writer_delay = 10000,
            } }
            nodes[i]:psql "create extension citus"
        end
        nodes[1]:psql(("select citus_set_coordinator_host('127.0.0.1', %d)"):format(nodes[1].tcp_port))
        for i = 2, 3 do
            nodes[1]:psql(("select citus_add_node('127.0.0.1', %d)"):format(nodes[i].tcp_port))
        end
        nodes[1]:psql [[create table t (tenant int not null, id int not null, n int not null default 0,
            primary key (tenant, id)); create index on t (id, tenant)]]
        nodes[1]:psql "select create_distributed_table('t', 'tenant', shard_count => 4)"
        nodes[1]:psql "insert into t select i % 20, i from generate_series(1, 1000) i; analyze t"
        nodes[1]:psql "create table one (id int primary key, n int not null default 0)"
        nodes[1]:psql "select create_distributed_table('one', 'id', shard_count => 1)"
        nodes[1]:psql "create table everywhere (id int primary key, n int not null default 0)"
        nodes[1]:psql "select create_reference_table('everywhere')"
        nodes[1]:psql [[insert into one select i from generate_series(1, 100) i;
            insert into everywhere select i from generate_series(1, 100) i]]
        engine = pg.engine { url = nodes[1]:address {}, size = 6 }
    end)
    teardown(function()
        if engine then engine:close() end
        for _, node in ipairs(nodes) do node:close() end
    end)
    before_each(function()
        engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges; update t set n = 0"
    end)

    local function run(options, opts)
        local all <const> = { name = "j", table = "t", size = 200, engine = engine,
            run = "update t set n = n + 1 where :chunk" }
        for key, value in pairs(options or {}) do all[key] = value end
        return batch.job(all):run(opts)
    end

    local function counted(name)
        return engine:value(([[select string_agg(n || ': ' || rows, ', ' order by n)
            from (select n, count(*) as rows from %s group by n) x]]):format(name or "t"))
    end

    it("processes each row once, for any key", function()
        assert.equal(1000, run(nil, { workers = 3 }).rows)
        assert.equal("1: 1000", counted())
        local ended <const> = run({ name = "k", key = { "id", "tenant" }, where = "n < 2" }, { workers = 3 })
        assert.equal("done", ended.state)
        assert.equal("2: 1000", counted())
        assert.equal(0, engine:value [[select count(*) from pg_dist_partition
            where logicalrelid::text like 'dbrun_batch%']]) -- its state is of the coordinator alone
        for _, name in ipairs { "one", "everywhere" } do
            assert.equal(100, run({ name = name, table = name, run = ("update %s set n = n + 1 where :chunk"):format(
                name) }).rows)
            assert.equal("1: 100", counted(name))
        end
    end)

    it("splits a chunk until the bad row is alone", function()
        local ended <const> = run { where = "n = 0", on_error = "split",
            run = "update t set n = 1 / (id - 500) + 1 where :chunk" }
        assert.equal(1, ended.failed)
        assert.equal("500", engine:value "select error->'key'->>1 from dbrun_batch_ranges where state = 'failed'")
    end)

    it("reads rows without locks, which Citus supports for a single shard only", function()
        local function read(tx, chunk)
            local rows <const> = chunk:rows { "tenant", "id" }
            for _, row in ipairs(rows) do
                tx:query("update t set n = n + 1 where tenant = $1 and id = $2", row.tenant, row.id)
            end
            return #rows
        end
        local ok <const>, e <const> = pcall(run, { run = read, size = 20 })
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"))
        assert.matches("those of t are in 4 shards, and Citus locks rows in one", e.message, 1, true)
        assert.matches("lock = false", e.hint, 1, true)
        assert.equal(1000, run({ name = "k", run = read, lock = false }).rows)
        assert.equal("1: 1000", counted())
        assert.equal(100, run({ name = "one", table = "one", run = function(_, chunk) return #chunk:rows() end }).rows)
    end)

    it("gives way at a lock on a worker as soon as at any lock", function()
        local other <close> = engine:acquire()
        other:exec "begin; update t set n = n where tenant = 7"
        local waits, longest = 0, 0
        local ended <const> = run({ lock_timeout = 0.1, target = 5, key = { "id", "tenant" } }, { on = function(event)
            if event.what ~= "retry" then return end
            waits = waits + 1
            assert.equal("55P03", event.sqlstate)
            if waits == 1 then other:exec "commit" end
            longest = math.max(longest, event.pause)
        end })
        assert.equal("done", ended.state)
        assert.is_true(waits >= 1)
        assert.equal("1: 1000", counted())
    end)

    it("works on the coordinator alone", function()
        local there <close> = pg.engine { url = nodes[2]:address {}, size = 3 }
        local ok <const>, e <const> = pcall(run, { engine = there })
        assert.is_false(ok)
        assert.matches("t is a table of Citus, and this is one of its workers", e.message, 1, true)
        assert.matches("connect to the coordinator", e.hint, 1, true)
    end)

    it("is checked before it runs", function()
        for _, key in ipairs { { "tenant", "id" }, { "id", "tenant" } } do
            local found <const> = look.dry_run(batch.job { name = "j", table = "t", key = key, where = "n = 0",
                run = "update t set n = 1 where :chunk", engine = engine })
            assert.equal(0, found.status)
            assert.equal(1000, found.data.rows.total)
            assert.equal(1000, found.data.rows.fits)
        end
        local single <const> = look.dry_run(batch.job { name = "j", table = "one", engine = engine,
            run = "update one set n = 1 where :chunk" })
        assert.matches("one is one shard", table.concat(single.lines, "\n"), 1, true)
        assert.equal("0: 1000", counted())
    end)

    ---Stops a node while a transaction is prepared on a worker, until a prepared one is left there.
    local function kill_in_two_phases(job, node, seen)
        for _ = 1, 10 do
            local watching <close> = pg.engine { url = nodes[3]:address {}, size = 1 } -- quicker than psql
            pg.eventually(20, function()
                return watching:value "select count(*) from pg_prepared_xacts" > 0
            end, "a prepared transaction")
            for _, pid in ipairs(node:children()) do pcall(process.kill, pid, "KILL") end -- they would end their COMMIT
            node:kill "KILL"
            node:start()
            pg.eventually(10, function() return pcall(nodes[3].psql, nodes[3], "select 1") end, "the worker")
            if nodes[3]:psql "select count(*) from pg_prepared_xacts" ~= "0" then seen = seen + 1 end
            pg.eventually(20, function()
                return pcall(nodes[1].psql, nodes[1], "select recover_prepared_transactions()")
            end, "the recovery of prepared transactions")
            if seen > 0 then return seen end
            assert.is_nil(job.child:wait(0), "the job ended before a server did between the two phases")
        end
        return seen
    end

    it("processes each row once when a server stops between the two phases of a COMMIT", function()
        -- A COMMIT takes long enough to stop a server during it.
        nodes[1]:psql "alter system set commit_delay = 100000"
        nodes[1]:psql "select pg_reload_conf()"
        local job <close> = batches.start(batches.job { name = "j", table = "t", size = 10, max = 10, target = 2,
            run = "update t set n = n + 1 where :chunk" }, { url = nodes[1]:address {}, workers = 2 })
        for i = 1, 3, 2 do
            assert.is_true(kill_in_two_phases(job, nodes[i], 0) > 0)
        end
        local result <const> = job:finish(90)
        assert.equal(0, result.code, result.text)
        nodes[1]:psql "select recover_prepared_transactions()"
        assert.equal("1: 1000", counted())
    end)
end)
