--- Servers that never stop sending: before the login has ended, or in the middle of a statement. Deadlines hold, no
--- thread remains, and memory is bounded.
local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local stalls = require "spec.support.faults.stalls"
local task = require "dbrun.task"
local wire = require "spec.support.pg_message"

local ROOM <const> = (os.getenv "ASAN_OPTIONS" and 1024 or 200) << 20

local function status(name)
    return tonumber(fs.read "/proc/self/status":match(name .. ":%s*(%d+)"))
end

--- A string of perl.
local function quoted(text)
    return '"' .. text:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
end

--- A server that runs the perl code for each connection.
local function server(code)
    local bad = bad_server.start(code)
    local dir = fs.dirname(bad.socket)
    assert(process.run { "ln", "-s", bad.socket, dir .. "/.s.PGSQL.5432" }.ok)
    return bad, wire.url { dir = dir }
end

local notice = wire.report("N", { S = "NOTICE", C = "00000", M = ("x"):rep(5000) })
local authenticated = wire.message("R", "\0\0\0\0")

pg.on_both(describe, function(mode, open)
    for name, flood in pairs {
        ["notices"] = { authenticated, notice },
        ["parameters"] = { authenticated, wire.message("S", "a\0b\0"):rep(500) },
        ["an error of the old protocol without an end"] = { "", ("Ex"):rep(5000) },
    } do
        it(("%s before the first ReadyForQuery: the deadline holds, and no thread remains"):format(name), function()
            local bad <close>, url = server(("print $c %s; my $x = %s x 20; while (print $c $x) {}"):format(
                quoted(flood[1]), quoted(flood[2])))
            local threads, peak = status "Threads", status "VmHWM" << 10
            local e <close> = open { url = url, size = 1, connect_timeout = 0.5 }
            for _ = 1, 3 do
                local took, problem = pg.timed(pg.raised, e.value, e, "select 1")
                assert.is_true(errors.is(problem), tostring(problem))
                assert.equal("not_sent", problem.outcome)
                assert(took < 5, took)
            end
            pg.eventually(10, function() return status "Threads" <= threads end, "the end of the threads")
            assert(status "VmHWM" * 1024 - peak < ROOM, "memory")
            assert(bad)
        end)
    end

    local columns = { { "a", 25 } }
    local described = wire.parsed .. wire.message("t", "\0\0") .. wire.columns(columns) .. wire.ready
    local read <const> = "sysread $c, my $d, 65536;"

    --- A server that answers this many messages, and then sends a piece every few milliseconds.
    local function trickle(replies, piece)
        local code = { read, "print $c " .. quoted(wire.hello) .. ";" }
        for _, reply in ipairs(replies) do
            code[#code + 1] = read .. "print $c " .. quoted(reply) .. ";"
        end
        code[#code + 1] = ("while (print $c %s) { select undef, undef, undef, 0.01 }"):format(quoted(piece))
        return server(table.concat(code))
    end

    local cases = {
        ["a row of copy_out that never ends"] = { { described, wire.copy_out }, wire.message("d", ("x"):rep(5000)),
            function(e) for _ in e:copy_out("select x", { format = "text" }) do error "a row" end end },
        ["notices in copy_out"] = { { described, wire.copy_out }, notice,
            function(e) for _ in e:copy_out("select x", { format = "text" }) do error "a row" end end },
        ["notices in copy_in"] = { { wire.copy_in }, notice, function(e) e:copy_in("t", { "a" }, { { 1 } }) end },
        ["notices in rows"] = { { described, wire.parsed .. wire.bound .. wire.columns(columns) }, notice,
            function(e) for _ in e:rows "select x" do error "a row" end end },
        ["notices in a statement"] = { {}, notice, function(e) e:value "select 1" end },
        ["notices in exec"] = { {}, notice, function(e) e:exec "select 1" end },
        ["notices in a pipeline"] = { {}, notice, function(e) e:pipeline(function(p) p:query "select 1" end) end },
        ["notices in execute_many"] = { {}, notice, function(e) e:execute_many("select $1", { { 1 } }) end },
        ["rows in a statement"] = { { wire.parsed .. wire.bound .. wire.columns(columns) }, wire.row { "x" },
            function(e) e:query "select x" end },
        ["results in exec"] = { {}, wire.complete "SELECT 1", function(e) e:exec "select 1" end },
        ["an unexpected COPY in rows"] = { { wire.copy_out }, wire.message("d", "x"),
            function(e) for _ in e:rows "select x" do error "a row" end end },
        ["an unexpected COPY in exec"] = { { wire.copy_out }, wire.message("d", "x"),
            function(e) e:exec "select x" end },
    }

    local function check(name, case, machine)
        local bad <close>, url = trickle(case[1], case[2])
        local e <close> = open { url = url, size = 1, connect_timeout = 5, command_timeout = 0.5, pre_ping = false }
        local began, waited = task.now(), stalls.waited()
        local problem = pg.raised(case[3], e)
        local took = task.now() - began
        local stood = stalls.waited() - waited + machine:between(began, task.now())
        assert(errors.is(problem), ("%s: %s"):format(name, problem))
        assert(problem.kind == "timeout" or name:find "COPY", ("%s: %s"):format(name, problem))
        local expected = name:find "execute_many" and "failed" or "unknown"
        assert(problem.outcome == expected or problem.kind == "usage",
            ("%s: %s, %s"):format(name, problem.outcome, problem))
        assert(took < 1.5 + stood, ("%s: %.2f s, %s"):format(name, took, problem))
        pg.settled(e, 5)
        assert(bad)
    end

    it("deadlines hold while data keeps coming, and the connection leaves the pool", function()
        local machine <close> = stalls.start()
        local work = {}
        for name, case in pairs(cases) do
            work[#work + 1] = function() check(name, case, machine) end
        end
        if mode == "async" then
            task.all(work)
        else
            for _, one in ipairs(work) do one() end
        end
    end)
end)
