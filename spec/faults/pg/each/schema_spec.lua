--- Schema changes, poolers that mix sessions, primaries that change roles: rows 16 and 17 of the faults.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local pgbouncer = require "spec.support.pgbouncer"
local rounds = require "spec.support.faults.rounds"
local servers = require "spec.support.servers"
local task = require "dbrun.task"
local world = require "spec.support.faults.world"

--- Changes a table under its prepared statements; each returns the value to be read afterwards.
local CHANGES <const> = {
    function(e) e:exec "alter table t add column more text default 'm'" return "v" end,
    function(e) e:exec "alter table t alter column s type varchar(20)" return "v" end,
    function(e) e:exec "alter table t alter column i type bigint" return "v" end,
    function(e) e:exec "alter table t alter column i type numeric" return "v" end,
    function(e) e:exec "drop table t; create table t (s text, i int); insert into t values ('w', 1)" return "w" end,
    function(e) e:exec "alter table t rename column s to z; alter table t add column s text default 'n'" return "n" end,
    function(e) e:exec "alter table t alter column s set default 'x'; create index on t (i); analyze t" return "v" end,
}

local FRESH <const> = "drop table if exists t; create table t (s text, i int); insert into t values ('v', 1)"

local READS <const> = {
    function(e) return e:one "select * from t".s end, function(e) return e:value("select s from t where i = $1", 1) end,
    function(e) return e:columns "select * from t".s[1] end,
    function(e)
        local s
        for row in e:rows "select * from t" do s = row.s end
        return s
    end,
    function(e) return e:transaction(function(tx) return tx:one "select * from t".s end) end,
    function(e) return e:pipeline(function(p) p:query "select * from t" end)[1][1].s end,
}

--- Reads it in every way, several times, so that all statements are prepared on all connections.
local function read_all(e, expected, what)
    for _ = 1, 3 do
        for i, read in ipairs(READS) do
            local ok <const>, got <const> = pcall(read, e)
            if not ok then error(("%s: read %d: %s"):format(what, i, tostring(got)), 0) end
            if got ~= expected then
                error(("%s: read %d: %s instead of %s"):format(what, i, tostring(got), expected), 0)
            end
        end
    end
end

--- An address of both servers.
local function both(first, second)
    return ("postgresql://dbrun@/postgres?host=%s,%s&target_session_attrs=read-write"):format(first.sockdir,
        second.sockdir)
end

rounds.describe(describe, it, {
    {
        row = 16, what = "DDL of the engine's own under prepared statements holds at once; DISCARD ALL too",
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()), { timeout = 10, command_timeout = 10 })
            each(w, function()
                w.e:exec(FRESH)
                read_all(w.e, "v", "before")
                local change <const> = math.random(#CHANGES)
                local expected <const> = CHANGES[change](w.e)
                read_all(w.e, expected, "change " .. change)
                local c <close> = w.e:acquire()
                read_all(c, expected, "a lease")
                c:exec "discard all"
                read_all(c, expected, "after DISCARD ALL")
                c:exec "deallocate all"
                read_all(c, expected, "after DEALLOCATE ALL")
            end)
        end,
    },
    {
        row = 16, what = "DDL of others: the right value or an error, and the right value within the cache's age",
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()), { timeout = 10, command_timeout = 10,
                statement_cache_age = 0.05 })
            each(w, function()
                w.control:exec(FRESH)
                task.sleep(0.06)
                read_all(w.e, "v", "before")
                local change <const> = math.random(#CHANGES)
                local expected <const> = CHANGES[change](w.control)
                for i, read in ipairs(READS) do
                    local ok <const>, got <const> = pcall(read, w.e)
                    if not ok and not (errors.is(got, "query") and got.outcome == "failed") then
                        error(("change %d: read %d: %s"):format(change, i, tostring(got)), 0)
                    elseif ok and got ~= expected and got ~= "v" then -- `rename`: the old plan reads the old column
                        error(("change %d: read %d: %s instead of %s"):format(change, i, tostring(got), expected), 0)
                    end
                end
                task.sleep(0.06)
                read_all(w.e, expected, "change " .. change)
            end)
        end,
    },
    {
        row = 16, what = "behind a transaction pooler each answer is that of its statement",
        run = function(kind, each)
            if not pgbouncer.is_there() then return end
            local server <close> = servers.postgres()
            local bouncer <close> = pgbouncer.start(server)
            local w <close> = world.new(kind, server.url, { url = bouncer.url, timeout = 10, connect_timeout = 10,
                command_timeout = 10 })
            local busy <close> = require "dbrun.db".engine { url = bouncer.url, size = 2, statement_cache = 0 }
            require "dbrun.core".log.level "error" -- another spec checks the warning about lost statements
            local _ <close> = setmetatable({}, { __close = function() require "dbrun.core".log.level "warn" end })
            each(w, function()
                local c <close> = busy:acquire()
                if math.random(2) == 1 then c:exec "begin" end -- the others get another session
                w:attempts(6, { ["26000"] = true }) -- inside a transaction the caller gets it, once for an engine
                if c:in_transaction() then c:exec "rollback" end
            end)
        end,
    },
    {
        row = 17, what = "a primary that is read-only from now on: 25006 with a hint, its connections leave the pool",
        run = function(kind, each)
            local a <close> = servers.postgres()
            local b <close> = servers.postgres()
            local w <close> = world.new(kind, a.url, { url = both(a, b), timeout = 10, connect_timeout = 10,
                command_timeout = 10 })
            b:psql "create table ledger (n int8, pad text)"
            local delete <const> = "delete from ledger where n = $1"
            each(w, function()
                w:fill()
                -- Each connection prepares it, and several statements share one.
                local prepare <const> = {}
                for i = 1, 40 do prepare[i] = function() w.e:query(delete, -i) end end
                for _ = 1, 2 do task.all(prepare) end
                w.control:exec "alter system set default_transaction_read_only = on"
                w.control:query "select pg_reload_conf()"
                w:attempts(3, { ["25006"] = true })
                pg.eventually(10, function()
                    return w.control:value "select current_setting('default_transaction_read_only')" == "on"
                end, "read-only")
                local refused = 0
                for i = 1, 5 do
                    local ok <const>, problem <const> = pcall(w.e.query, w.e, delete, -i)
                    if not ok then
                        if problem.sqlstate ~= "25006" or problem.outcome ~= "failed"
                            or not problem.hint:find "target_session_attrs" then
                            error(tostring(problem), 0)
                        end
                        refused = refused + 1
                    end
                end
                if refused > 1 then error(refused .. " writes were refused", 0) end
                -- The writes of that time are on the other server, so the check skips them here.
                for _, work in ipairs(w.entries) do
                    if work.outcome == "done" then work.outcome = "elsewhere" end
                end
                w.control:exec "alter system reset default_transaction_read_only"
                w.control:query "select pg_reload_conf()"
                pg.eventually(10, function()
                    w.control:dispose()
                    return w.control:value "select current_setting('default_transaction_read_only')" == "off"
                end, "writes again")
                w.e:invalidate()
            end)
        end,
    },
    {
        row = 17, what = "a failover to a promoted standby is found without help",
        run = function(kind, each)
            local w <close> = world.new(kind, (servers.database()))
            each(w, function()
                local primary <close> = servers.postgres()
                local standby <close> = servers.postgres { standby_of = primary }
                local inner <close> = world.new(kind, primary.url, { url = both(primary, standby), size = 2,
                    timeout = 10, connect_timeout = 10, command_timeout = 10 })
                inner:fill()
                w.counts = inner.counts
                inner:attempts(2)
                standby:catch_up(primary)
                primary:stop "immediate"
                inner:attempt({ connect = true, timeout = true, pool = true }, "insert")
                standby:promote()
                inner:observe(standby.url)
                inner:attempts(4)
                inner:whole()
                inner:verify()
            end, { rounds = math.max(1, rounds.count // 10) })
        end,
    },
})

