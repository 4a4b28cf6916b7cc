-- The signals of a batch on real servers: a standby that is idle, paused, silent or gone; roles with and without
-- rights; blocked sessions; slots, the archive, transactions, dead rows.
local db = require "dbrun.db"
local fails = require "spec.support.fails"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local signals = require "dbrun.batch.signals"
local task = require "dbrun.task"

local LOOK <const> = 0.05 -- seconds between two samples here

local primary, standby, root, conn, oid, usual

setup(function()
    primary = servers.postgres { settings = { max_prepared_transactions = 2, archive_mode = "on",
        archive_command = "/bin/false", autovacuum = "off" } }
    primary:psql [[
        create role app login; create role crm login; create role watcher login; grant pg_monitor to watcher;
        create table t (id int primary key, n int); insert into t select i, 0 from generate_series(1, 5000) i;
        grant all on t to app, crm, watcher]]
    standby = servers.postgres { standby_of = primary, settings = {
        cluster_name = "b", max_prepared_transactions = 2 } }
    root = pg.engine { url = primary.url, size = 6 }
    conn = root:acquire()
    oid = conn:value "select 't'::regclass::oid::int8"
end)
teardown(function()
    conn:release()
    root:dispose()
    standby:close()
    primary:close()
end)

--- Signals with only the named ones, and the list of their messages.
local function health(throttle, opts)
    local said <const> = {}
    local all <const> = { replication_lag = false, blocked = false, latency = false }
    for name, limit in pairs(throttle) do all[name] = limit end
    opts = opts or {}
    opts.throttle, opts.oid, opts.table = all, oid, "t"
    opts.say = function(text) said[#said + 1] = text end
    return signals.new(opts), said
end

--- Other sessions that are in the middle of a statement.
local function active()
    return conn:value [[select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()
        and backend_type = 'client backend']]
end

local function engine_of(role) return pg.engine { url = primary:address { user = role }, size = 2 } end

local function write() root:exec "update t set n = n + 1 where id = 1" end

--- Samples until it waits (or does not), while a table is written continuously.
local function look_until(h, waits, seconds, through)
    local began <const> = task.now()
    repeat
        write()
        h:sample(through or conn)
        if (h:verdict() ~= nil) == waits then return h:verdict(), task.now() - began end
        task.sleep(LOOK)
    until task.now() - began > seconds
    error(("%s after %g s: %s"):format(waits and "it goes on" or "it waits", seconds, h:verdict()))
end

local function standbys() return conn:value "select count(*) from pg_stat_replication" end

local function signal_all(server, name)
    for _, pid in ipairs(server:children()) do process.kill(pid, name) end
end

describe("replication_lag", function()
    it("stops for a standby that is paused, silent or gone, and goes on; does not stop for an idle one", function()
        standby:catch_up(primary)
        local now = 0
        local h <const>, said <const> = health({ replication_lag = 0.6 }, { now = function() return now end })
        h:start(conn)
        assert.is_nil(h:verdict())
        standby:psql "select pg_wal_replay_pause()"
        usual = health { active = "2x" } -- its start takes a second, without writes
        local second <close> = root:acquire()
        local starting <const> = task.spawn(usual.start, usual, second)
        repeat -- until the standby has caught up
            h:sample(conn)
            assert.is_nil(h:verdict())
            task.sleep(LOOK)
        until starting:status() == "done"

        local text, took
        local e <close> = engine_of "app"
        local c <close> = e:acquire()
        local there <close> = pg.engine { url = standby:address { user = "app" }, size = 1 }
        local asking <const> = health({ replication_lag = 0.6 }, { replicas = { b = there } })
        asking:start(c) -- asks the standby itself, which its role may not see
        local asked <const> = task.spawn(look_until, asking, true, 2.8, c)
        text, took = look_until(h, true, 2.8)
        assert.matches("^standby b is [%d.]+ s behind, limit 0.6$", text)
        assert.is_true(took > 0.4)
        assert.is_true(h:near())
        assert.matches("^replica b is [%d.]+ s behind, limit 0.6$", (asked:join()))
        standby:psql "select pg_wal_replay_resume()"
        look_until(h, false, 2)
        look_until(asking, false, 2, c)

        signal_all(standby, "STOP")
        text = look_until(h, true, 2.8)
        assert.matches("^standby b is [%d.]+ s behind, limit 0.6$", text)
        signal_all(standby, "CONT")
        standby:stop "immediate"
        pg.eventually(5, function() return standbys() == 0 end)
        now = 100
        text = look_until(h, true, 2)
        assert.matches("^standby b is [%d.]+ s behind, and gone for 0 s, limit 0.6$", text)
        now = 159
        h:sample(conn)
        assert.is_truthy(h:verdict())
        now = 160
        h:sample(conn)
        assert.is_nil(h:verdict())
        assert.same({ "standby b has been gone for 60 s: replication_lag goes on without it" }, said)
        standby:start()
        pg.eventually(5, function() return standbys() == 1 end)
    end)

    it("refuses a replica that is not a standby", function()
        local none <const> = health({ replication_lag = 5 }, { replicas = { root } })
        assert.matches("replica 1: it is no standby", fails("usage", none.start, none, conn).message, 1, true)
    end)

    it("is refused for a role that may not see standbys, or left out when it was not requested", function()
        local e <close> = engine_of "app"
        local c <close> = e:acquire()
        local asked <const> = health { replication_lag = 5 }
        local problem <const> = fails("usage", asked.start, asked, c)
        assert.matches("replication_lag cannot be read: pg_stat_replication hides %d standbys? from the role app",
            problem.message)
        assert.matches('grant pg_monitor to "app"; or blind = true', problem.hint, 1, true)
        local default, said = health {}
        default:configure { blocked = false, latency = false }
        local blind, told = health({ replication_lag = 5 }, { blind = true })
        for h, texts in pairs { [default] = said, [blind] = told } do
            h:start(c)
            h:configure { replication_lag = h == blind and 5 or nil, blocked = false, latency = false } -- as before
            h:sample(c)
            assert.equal(1, #texts)
            assert.matches('the job goes on without (grant pg_monitor to "app")', texts[1], 1, true)
            assert.is_nil(h:verdict())
        end
        local w <close> = engine_of "watcher"
        local seeing <close> = w:acquire()
        health({ replication_lag = 5 }):start(seeing)
    end)

    it("never waits on a server without standbys, for any role", function()
        local e <close> = pg.engine { url = standby:address { user = "app" }, size = 1 }
        local c <close> = e:acquire()
        local h <const> = health { replication_lag = 0, wal_archive = "1MiB" } -- archiving is off there
        h:start(c)
        assert.is_nil(h:verdict())
        assert.is_false(h:near())
    end)
end)

describe("blocked", function()
    it("names the sessions that wait for us, for a role without rights too, and none between chunks", function()
        local e <close> = engine_of "app"
        local crm <close> = engine_of "crm"
        local control <close> = e:acquire()
        local ours <close> = e:acquire()
        local other <close> = crm:acquire()
        local working = {}
        local h <const> = health({ blocked = 0.3 }, { pids = function() return working end })
        h:start(control)
        local pid <const> = ours:backend_pid()
        local waiting
        ours:transaction(function(tx)
            working = { pid }
            tx:exec "update t set n = 1 where id = 7"
            other:exec "set application_name = 'crm'"
            waiting = task.spawn(function() other:exec "update t set n = 2 where id = 7" end)
            pg.eventually(10, function()
                h:sample(control)
                return h.by_name.blocked.signal.longest
            end)
            assert.same({}, h:blocking())
            assert.is_true(h:next_look() < 0.35) -- the limit and a little, whenever it is asked
            task.sleep(h:next_look() + 0.02)
            h:sample(control)
            local blocking <const> = h:blocking()
            assert.equal(1, #blocking)
            assert.equal(pid, blocking[1].pid)
            assert.matches(("^pid %d %%(crm%%) waits [%%d.]+ s for a lock of ours$"):format(other:backend_pid()),
                blocking[1].text)
            assert.is_true(h:near())
            assert.is_nil(h:verdict())
            working = {}
            h:sample(control)
            assert.same({}, h:blocking())
            assert.equal(1, h:next_look())
        end)
        waiting:join()
    end)

    it("does not count sessions that wait for others, nor our own workers", function()
        local e <close> = engine_of "app"
        local ours <close> = e:acquire()
        local second <close> = root:acquire()
        local other <close> = root:acquire()
        local h <const> = health({ blocked = 0.05 }, { pids = function()
            return { ours:backend_pid(), second:backend_pid() }
        end })
        h:start(conn)
        local tasks <const> = {}
        other:transaction(function(tx)
            ours:transaction(function(mine)
                mine:exec "update t set n = 1 where id = 8"
                tx:exec "update t set n = 1 where id = 9"
                tasks[1] = task.spawn(function() second:exec "update t set n = 2 where id = 8" end)
                tasks[2] = task.spawn(function() root:exec "update t set n = 2 where id = 9" end)
                pg.eventually(10, function()
                    return conn:value "select count(*) from pg_locks where not granted" == 2
                end)
                task.sleep(0.1)
                h:sample(conn)
                assert.same({}, h:blocking())
            end)
        end)
        for _, one in ipairs(tasks) do one:join() end
    end)
end)

describe("the other signals", function()
    it("see slots, the archive, the rate and checkpoints", function()
        conn:exec "select pg_create_physical_replication_slot('old', true), pg_switch_wal()"
        local h <const> = health({ slots = "64KiB" })
        h:start(conn)
        assert.is_nil(h:verdict()) -- it has not grown
        conn:exec "create table fill as select i, repeat('x', 200) from generate_series(1, 2000) i"
        h:sample(conn)
        assert.matches("^slot old keeps %d+ [kM]B of WAL, limit 64 kB$", h:verdict())
        conn:exec "select pg_drop_replication_slot('old')"
        h:sample(conn)
        assert.is_nil(h:verdict())

        h:configure({ wal_archive = "1MiB" })
        h:sample(conn)
        assert.matches("^%d+ [kM]B of WAL wait to be archived, limit 1024 kB$", h:verdict())

        h:configure({ wal_rate = 1000, replication_lag = false })
        task.sleep(0.5)
        h:sample(conn)
        assert.matches("^the server writes .* of WAL a second, limit 1000 bytes$", h:verdict())

        h:configure({ checkpoints = 0, replication_lag = false })
        h:sample(conn)
        assert.is_nil(h:verdict())
        conn:exec "checkpoint"
        pg.eventually(10, function()
            h:sample(conn)
            return h:verdict() or task.sleep(LOOK)
        end)
        assert.matches("^1 checkpoint was asked for in 5 min, limit 0$", h:verdict())
    end)

    it("find a slot critical when it loses WAL for five seconds", function()
        conn:exec "alter system set max_slot_wal_keep_size = '1MB'"
        conn:query "select pg_reload_conf(), pg_create_physical_replication_slot('left', true)"
        pg.eventually(10, function() return conn:value "show max_slot_wal_keep_size" == "1MB" end, "the reload")
        local now = 0
        local h <const> = health({}, { critical = { slots = "9GiB" }, now = function() return now end })
        h:start(conn)
        assert.is_nil(h:critical())
        for _ = 1, 3 do conn:query "select pg_switch_wal(), txid_current()" end
        h:sample(conn)
        local text <const> = "slot left is unreserved: its WAL is about to be removed"
        assert.equal(text, (h:verdict()))
        assert.is_nil(h:critical())
        now = 5
        h:sample(conn)
        assert.is_nil(h:critical()) -- it waits already, and no chunk is running
        local working <const> = health({}, { critical = { slots = "9GiB" }, now = function() return now end,
            pids = function() return { 1 } end })
        working.by_name.slots.signal.started = true
        working:sample(conn)
        now = 10
        working:sample(conn)
        assert.same({ text, "slots" }, { working:critical() })
        conn:query "select pg_drop_replication_slot('left')"
        working:sample(conn)
        assert.is_nil(working:critical())
        assert.is_nil(working:verdict())
        conn:exec "alter system reset max_slot_wal_keep_size"
        conn:query "select pg_reload_conf()"
    end)

    it("see sessions, transactions and dead rows, and leave ours out", function()
        local e <close> = engine_of "crm"
        local other <close> = e:acquire()
        local ours <close> = e:acquire()
        local h <const> = health({ active = 0, oldest_transaction = 0.05 }, { pids = function()
            return { ours:backend_pid() }
        end })
        h:start(conn)
        assert.is_nil(h:verdict())
        ours:transaction(function(tx)
            tx:exec "update t set n = 1 where id = 20"
            task.sleep(0.07)
            h:sample(conn)
            assert.is_nil(h:verdict())
        end)
        other:exec "set application_name = 'crm'"
        other:transaction(function(tx)
            tx:exec "update t set n = 1 where id = 20"
            task.sleep(0.07)
            h:sample(conn)
            assert.matches(("^the transaction of pid %d %%(crm%%), idle in transaction, is open for [%%d.]+ s, limit "
                ):format(other:backend_pid()), h:verdict())
            local sleeping
            root:transaction(function(gate)
                gate:query "select pg_advisory_xact_lock(20)"
                sleeping = task.spawn(function() tx:exec "select pg_advisory_xact_lock(20)" end)
                pg.eventually(10, function() return active() == 1 end, "a session that is active")
                h:sample(conn)
                local text, name = h:verdict()
                assert.equal("1 session is active, limit 0", text)
                assert.equal("active", name)
            end)
            sleeping:join()
        end)
        conn:exec "begin; update t set n = 1 where id = 21; prepare transaction 'left'"
        task.sleep(0.07)
        h:sample(conn)
        assert.matches("the prepared transaction 'left' of dbrun is open for", h:verdict(), 1, true)
        conn:exec "rollback prepared 'left'"

        conn:exec "update t set n = n + 1; select pg_stat_force_next_flush()"
        h:configure { vacuum = true, dead = 0.1 }
        pg.eventually(10, function()
            h:sample(conn)
            return h:verdict() or task.sleep(LOOK)
        end)
        assert.matches("^%d+%.?%d* %% of the rows of t are dead, autovacuum is off, limit 10 %%$", h:verdict())
        assert.is_true(h:wants_vacuum())
        assert.is_false(h:wants_vacuum()) -- one worker is enough
        conn:exec "vacuum t"
        pg.eventually(10, function()
            h:sample(conn)
            return not h:verdict() or task.sleep(LOOK)
        end)
    end)

    it("compare with the usual values before the start", function()
        local h <const> = assert(usual)
        local busy <const> = {}
        root:transaction(function(gate)
            gate:query "select pg_advisory_xact_lock(21)"
            for i = 1, 3 do
                busy[i] = task.spawn(function()
                    root:transaction(function(tx) tx:query "select pg_advisory_xact_lock(21)" end)
                end)
            end
            pg.eventually(10, function() return active() == 3 end, "three sessions that are active")
            h:sample(conn)
            assert.equal("3 sessions are active, limit 2 (2x of 1)", (h:verdict()))
        end)
        for _, one in ipairs(busy) do one:join() end
        h:sample(conn)
        assert.is_nil(h:verdict())
    end)

    it("need a right, or are refused; and say once what they lack with blind = true", function()
        local e <close> = engine_of "app"
        local c <close> = e:acquire()
        for name, limit in pairs { active = 5, oldest_transaction = 5, autovacuum = 5, wal_archive = 5 } do
            local h <const> = health { [name] = limit }
            local problem <const> = fails("usage", h.start, h, c)
            assert.matches(name .. " cannot be read: ", problem.message, 1, true)
            assert.matches('grant pg_monitor to "app"', problem.hint, 1, true)
            local blind <const>, said <const> = health({ [name] = limit }, { blind = true })
            blind:start(c)
            blind:sample(c)
            assert.equal(1, #said)
            assert.is_nil(blind:verdict())
        end
        local h <const> = health { slots = "1GiB", wal_rate = "1GiB", checkpoints = 5, dead = 0.5 }
        h:start(c)
        h:configure { active = 5, replication_lag = false }
        h:sample(c)
        assert.matches('^active cannot be read: .*grant pg_monitor to "app"', h:verdict())
        h:sample(c)
        assert.is_truthy(h:verdict())
        h:configure { replication_lag = false }
        h:sample(c)
        assert.is_nil(h:verdict())
        local w <close> = engine_of "watcher"
        local seeing <close> = w:acquire()
        health({ active = 50, oldest_transaction = 500, autovacuum = 5, wal_archive = "9GiB" }):start(seeing)
    end)

    it("of a job say why to wait; their own errors are a reason, too", function()
        local answer, critical
        local now = 0
        local h <const> = health({ queue = function(ctx)
            assert(ctx.name == "queue" and ctx.table == "t" and ctx.db:value "select 1" == 1)
            return answer and answer()
        end }, { critical = { disk = function() return critical end }, now = function() return now end })
        h:start(conn)
        assert.is_nil(h:verdict())
        for text, fn in pairs {
            ["queue: 900 mails wait"] = function() return "900 mails wait" end,
            ["queue: a\\x1b[31m"] = function() return "a\27[31m" end,
            ["queue failed: division by zero"] = function() conn:exec "select 1/0" end,
            ["queue returned a number: it must return nil, or a text that says why to wait"] = function() return 7 end,
        } do
            answer = fn
            h:sample(conn)
            assert.same({ text, "queue" }, { h:verdict() })
        end
        answer, critical = nil, "full"
        h:sample(conn) -- it has waited until now
        h:sample(conn)
        now = 5
        h:sample(conn)
        assert.same({ "disk: full", "disk" }, { h:critical() })
        assert.is_nil(h:verdict())
        db.close()
    end)
end)

describe("after a failover", function()
    it("the standbys are those of the new primary, and none lags", function()
        local h <const>, said <const> = health { replication_lag = 0.6 }
        h:start(conn)
        write()
        standby:catch_up(primary)
        standby:promote()
        local e <close> = pg.engine { url = standby.url, size = 1 }
        local c <close> = e:acquire()
        c:exec "update t set n = n + 1"
        h:sample(c)
        assert.equal(0, #h.by_name.replication_lag.signal.standbys.list)
        assert.is_nil(h:verdict())
        assert.same({}, said)
    end)
end)
