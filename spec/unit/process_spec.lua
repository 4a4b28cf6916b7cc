--- Child processes: running, starting, ending, and what they inherit.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local finaliser = require "spec.support.finaliser"
local fs = require "dbrun.fs"
local once = require("spec.support.command").once
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local task = require "dbrun.task"

local dbrun = core.options.program
local is_root = process.uid() == 0

--- The error that fn raises; it must be one of this kind.
local function raised(kind, fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, kind), tostring(e))
    return e
end

local function descriptors()
    return #fs.list("/proc/self/fd")
end

--- A copy of dbrun that any user can run: the folder of this checkout can be closed to others.
local function readable_program()
    local dir <const> = fs.mkdtemp()
    local folder <const> = setmetatable({ path = dir .. "/dbrun" }, { __close = function() fs.rmtree(dir) end })
    fs.chmod(dir, tonumber("755", 8))
    assert.are.equal(0, process.run({ "cp", dbrun, folder.path }).code)
    fs.chmod(folder.path, tonumber("755", 8))
    return folder
end

--- Waits until a condition is true, at most 5 s.
local function eventually(fn)
    local deadline = task.now() + 5
    while not fn() do
        assert.is_true(task.now() < deadline, "it did not become true within 5 s")
        task.sleep(0.005)
    end
end

describe("process.run", function()
    it("returns exit status and both outputs", function()
        local r = process.run { "sh", "-c", "echo out; echo err >&2; exit 3" }
        assert.are.same({ code = 3, ok = false, stdout = "out\n", stderr = "err\n" }, r)
    end)

    it("names the signal that ended the child", function()
        local r = process.run { "sh", "-c", "kill -USR1 $$" }
        assert.are.equal("USR1", r.signal)
        assert.are.equal(128 + 10, r.code)
    end)

    it("passes every argument unchanged", function()
        local r = process.run { "printf", "%s|", "a b", "", "*", "$HOME", 'q"\'\\', 7 }
        assert.are.equal('a b||*|$HOME|q"\'\\|7|', r.stdout)
    end)

    it("feeds a large text through a pipe in both directions at once", function()
        local text = ("0123456789abcdef"):rep(200000)
        assert.is_true(process.run { "cat", stdin = text }.stdout == text)
    end)

    it("survives a child that does not read its input", function()
        local r = process.run { "true", stdin = ("x"):rep(1000000) }
        assert.is_true(r.ok)
    end)

    it("gives an empty standard input by default", function()
        assert.are.equal("", process.run { "cat" }.stdout)
    end)

    it("keeps every byte, including NUL and invalid UTF-8", function()
        local text = "\0\255\r\n\0"
        assert.are.equal(text, process.run { "cat", stdin = text }.stdout)
    end)


    it("reads its input from a file", function()
        local path = os.tmpname()
        finally(function() fs.unlink(path) end)
        fs.write(path, "in the file")
        assert.are.equal("in the file", process.run { "cat", stdin_from = path }.stdout)
    end)

    it("changes, adds and removes environment variables", function()
        local r = process.run { "env", env = { DBRUN_SPEC_A = "1 2", HOME = false } }
        assert.matches("\nDBRUN_SPEC_A=1 2\n", "\n" .. r.stdout)
        assert.is_nil(("\n" .. r.stdout):find("\nHOME=", 1, true))
        assert.matches("\nPATH=", "\n" .. r.stdout)
        assert.are.equal("A=1\n", process.run { "env", env = { A = 1 }, clear_env = true }.stdout)
    end)

    it("works in another folder", function()
        assert.are.equal("/\n", process.run { "pwd", cwd = "/" }.stdout)
    end)

    it("gives a hint when the program is missing", function()
        local before = descriptors()
        local e = raised("io", process.run, { "no-such-program-here" })
        assert.matches("cannot run 'no%-such%-program%-here': No such file or directory", e.message)
        assert.matches("PATH", e.hint)
        assert.are.equal(before, descriptors())
    end)

    it("skips a folder in PATH that it cannot search", function()
        local dir = fs.mkdtemp()
        finally(function()
            fs.chmod(dir, tonumber("700", 8))
            fs.rmtree(dir)
        end)
        fs.chmod(dir, 0)
        local code = 'local _, e = pcall(require("dbrun.process").run, {"no-such-program-here"}) print(e.message)'
        local program <close> = readable_program()
        local r = process.run { program.path, "-e", code, env = { PATH = dir .. ":" .. os.getenv("PATH") },
            uid = is_root and 12345 or nil, gid = is_root and 12345 or nil, cwd = "/" }
        assert.matches("No such file or directory", r.stdout)
    end)

    it("does not open the output of another user's program through a link", function()
        if not is_root then return pending("only root can change users") end
        local dir = fs.mkdtemp()
        finally(function() fs.rmtree(dir) end)
        fs.symlink("target", dir .. "/log")
        local e = raised("io", process.run, { "true", uid = 12345, gid = 12345, stdout = dir .. "/log" })
        assert.matches("cannot open '.*/log'", e.message)
        assert.is_false(fs.exists(dir .. "/target"))
    end)

    it("names folder and program when the folder is missing", function()
        local e = raised("io", process.run, { "true", cwd = "/no/such/folder" })
        assert.matches("'true' in the folder '/no/such/folder'", e.message)
    end)

    it("gives a hint when a system limit is reached", function()
        local code = [[
            local process, fs = require "dbrun.process", require "dbrun.fs"
            local held = {}
            repeat held[#held + 1] = io.open "/dev/null" until not io.open "/dev/null"
            for _, fn in ipairs { process.run, fs.list, fs.read } do
                local ok, e = pcall(fn, fn == process.run and { "true" } or "/")
                print(ok, e.kind, e.message:match "Too many open files", e.hint:match "ulimit %-n")
            end
            for _, file in ipairs(held) do file:close() end
            collectgarbage()
            print(process.run({ "true" }).ok)]]
        local r = process.run { "sh", "-c", 'ulimit -n 20; exec "$@"', "sh", dbrun, "--no-env", "-e", code }
        local line = "false\tio\tToo many open files\tulimit -n\n"
        assert.are.equal(line:rep(3) .. "true\n", r.stdout .. r.stderr)
        local e = raised("io", process.run, { "true", ("x"):rep(200000) })
        assert.matches("Argument list too long", e.message)
        assert.matches("standard input", e.hint)
    end)

    it("says that a file is not executable", function()
        local path = os.tmpname()
        finally(function() fs.unlink(path) end)
        assert.matches("Permission denied", raised("io", process.run, { path }).message)
    end)

    it("stops a child that takes too long, and tells what it said", function()
        local t, e, limit
        pace.long_enough(0.2, function(seconds)
            t, limit = task.now(), seconds
            e = raised("timeout", process.run, { "sh", "-c", "echo stuck here >&2; exec sleep 600", timeout = seconds })
            return e.detail and e.detail:find "stuck"
        end)
        assert.matches(("'sh' did not end within %g s"):format(limit), e.message)
        assert.matches("stuck here", e.detail)
        assert.is_true(task.now() - t < limit + 10)
    end)

    it("ends its child when the task is cancelled", function()
        local path = os.tmpname()
        finally(function() fs.unlink(path) end)
        local pid = pace.long_enough(0.3, function(seconds)
            local e = raised("timeout", task.timeout, seconds, function()
                process.run { "sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", path }
            end)
            assert.matches(("%g s"):format(seconds), tostring(e))
            return math.tointeger(tonumber(fs.read(path):match "%d+"))
        end)
        assert.is_false(process.alive(pid))
    end)

    it("kills a child that does not listen to SIGTERM", function()
        local path = os.tmpname()
        finally(function() fs.unlink(path) end)
        local took
        pace.long_enough(0.1, function(seconds)
            local t = task.now()
            raised("timeout", process.run, {
                "sh", "-c", "trap '' TERM; echo deaf >\"$1\"; while :; do sleep 0.05; done", "sh", path,
                timeout = seconds, stdout = "null", stderr = "null",
            })
            took = task.now() - t - seconds
            return #fs.read(path) > 0
        end)
        assert.is_true(took > 1.9 and took < 12, ("%.2f s"):format(took))
    end)

    it("lets other tasks go on meanwhile", function()
        local ticks, path = 0, os.tmpname()
        fs.unlink(path)
        finally(function() fs.unlink(path) end)
        local ticker = task.spawn(function()
            while true do
                task.sleep(0.01)
                ticks = ticks + 1
                if ticks == 5 then fs.write(path, "") end
            end
        end)
        process.run { "sh", "-c", once(path) }
        ticker:cancel()
        assert.is_true(ticks >= 5, ("%d ticks"):format(ticks))
    end)

    it("runs many in parallel", function()
        local numbers = {}
        for i = 1, 40 do numbers[i] = i end
        local t, sum = task.now(), 0
        local results = task.map(numbers, 40, function(i)
            local began <const> = task.now()
            local result <const> = process.run { "sh", "-c", "sleep 0.2; echo $1", "sh", i }
            sum = sum + task.now() - began
            return result.stdout
        end)
        for i = 1, 40 do assert.are.equal(i .. "\n", results[i]) end
        assert.is_true(task.now() - t < sum / 4, "they ran one after the other")
    end)

    it("refuses an invalid command before anything is started", function()
        assert.matches("the name of the program is missing", raised("usage", process.run, {}).message)
        assert.matches("argument 2 is a table", raised("usage", process.run, { "echo", {} }).message)
        assert.matches("NUL", raised("usage", process.run, { "echo", "a\0b" }).message)
        assert.matches("stdout: ", raised("usage", process.run, { "echo", stdout = "captured" }).message)
        assert.matches("spec must be a table", raised("usage", process.run, "echo").message)
        local problem <const> = raised("usage", process.run, { "true", pdeathsig = "SIGFOO" })
        assert.matches("'SIGFOO' is not a signal", problem.message)
        assert.matches("environment", raised("usage", process.run, { "true", env = { ["A=B"] = 1 } }).message)
    end)

    it("refuses a second table, whose options it would not see", function()
        for _, name in ipairs { "run", "start", "exec" } do
            local problem <const> = raised("usage", process[name], { "sleep", "60" }, { timeout = 0.1 })
            assert.matches("^process." .. name .. ": takes one table, got a second one", problem.message)
            assert.matches("in the same table", problem.hint)
        end
        assert.is_true(task.map({ { "true" } }, 1, process.run)[1].ok) -- a number after it is an index
    end)

    it("leaks no descriptor", function()
        collectgarbage()
        process.run { "true" }
        local before = descriptors()
        for _ = 1, 50 do
            process.run { "cat", stdin = "x" }
            pcall(process.run, { "no-such-program-here" })
        end
        assert.are.equal(before, descriptors())
    end)

    it("leaves no zombie", function()
        for _ = 1, 20 do process.run { "true" } end
        local children = process.run { "ps", "-o", "stat=", "--ppid", tostring(process.pid()) }.stdout
        assert.is_nil(children:find("Z", 1, true), children)
    end)
end)

describe("a child process", function()
    it("inherits only its three standard descriptors", function()
        local file <close> = assert(io.open("/etc/passwd")) -- io.open does not mark it close-on-exec
        local r = process.run { "ls", "/proc/self/fd", stdin = "" }
        -- ls itself opens the folder.
        assert.are.equal("0\n1\n2\n3\n", r.stdout)
        assert.is_truthy(file:read("l"))
    end)

    it("has the default action for SIGPIPE, and no signal blocked", function()
        local r = process.run { "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status" }
        local ignored, blocked
        for name, mask in r.stdout:gmatch("Sig(%a+):%s*(%x+)") do
            if name == "Ign" then ignored = tonumber(mask, 16) else blocked = tonumber(mask, 16) end
        end
        assert.are.equal(0, blocked)
        assert.are.equal(0, ignored & (1 << 12))
    end)

    it("can be read and written line by line", function()
        local child <close> = process.start { "cat", stdin_from = "pipe", stdout = "capture" }
        child:write("one\ntw")
        assert.are.equal("one", child:read_line(5))
        assert.are.same({ nil, "timeout" }, { child:read_line(0.05) })
        child:write("o\nlast")
        assert.are.equal("two", child:read_line(5))
        child:close_stdin()
        assert.are.equal("last", child:read_line(5))
        assert.are.same({ nil, "end" }, { child:read_line(5) })
        assert.is_true(child:wait(5).ok)
    end)

    it("can be polled until it has ended", function()
        local child <close> = process.start { "sleep", "30" }
        assert.is_nil(child:wait(0.05))
        assert.is_true(child:running())
        assert.is_true(child:kill("INT"))
        assert.are.equal("INT", child:wait(5).signal)
        assert.is_false(child:kill("INT"))
        assert.is_false(child:running())
    end)

    it("ends with its block, also by an error", function()
        local pid
        raised("usage", function()
            local child <close> = process.start { "sleep", "30" }
            pid = child.pid
            errors.raise { kind = "usage", message = "enough" }
        end)
        assert.is_false(process.alive(pid))
    end)

    it("ends when its handle is forgotten", function()
        local pid = process.start({ "sleep", "30" }).pid
        collectgarbage()
        collectgarbage()
        eventually(function() return not process.alive(pid) end)
    end)

    it("is ended although it is stopped", function()
        pace.takes(0, 1.9, function(child) -- less than the grace, after which SIGKILL comes
            child:close()
            assert.is_false(process.alive(child.pid))
        end, function()
            local child = process.start { "sleep", "30" }
            child:kill("STOP")
            return child
        end)
    end)

    it("can be waited for by one task only", function()
        local child <close> = process.start { "sleep", "30" }
        local group <close> = task.group()
        group:spawn(function() child:wait() end)
        task.sleep(0.01)
        assert.matches("another task waits", raised("usage", child.wait, child, 1).message)
        child:kill()
    end)

    it("can be polled and closed while another task waits for it", function()
        for _, how in ipairs { "wait", "read_line" } do
            local child = process.start { "sleep", "30", stdout = "capture" }
            local waiter = task.spawn(pcall, child[how], child, 30)
            task.sleep(0.01)
            assert.is_true(child:running())
            child:close()
            assert.is_false(process.alive(child.pid))
            waiter:join()
        end
    end)

    it("does not let a waiter hang when another task closes it", function()
        local child = process.start { "sleep", "30" }
        local waiter = task.spawn(function() return pcall(child.wait, child) end)
        task.sleep(0.01)
        child.handle:close()
        local ok, e = waiter:join()
        assert.is_false(ok)
        assert.matches("closed", tostring(e))
        eventually(function() return not process.alive(child.pid) end)
    end)

    it("dies with its parent on request", function()
        local script = [[
            local child = require("dbrun.process").start{"sleep", "30", pdeathsig = "KILL"}
            print(child.pid); io.stdout:flush()
            require("dbrun.task").sleep(30)
        ]]
        local parent <close> = process.start { dbrun, "-e", script, stdout = "capture" }
        local pid = math.tointeger(tonumber(parent:read_line(10)))
        assert.is_true(process.alive(pid))
        parent:kill("KILL")
        eventually(function() return not process.alive(pid) end)
    end)

    it("is terminated when the program ends without closing it", function()
        local script = [[print(require("dbrun.process").start{"sleep", "30"}.pid)]]
        local r = process.run { dbrun, "-e", script, timeout = 10 }
        local pid = math.tointeger(tonumber(r.stdout))
        assert.is_truthy(pid, r.stderr)
        eventually(function() return not process.alive(pid) end)
    end)

    it("is killed in time when the program is interrupted and the child ignores that", function()
        local script = [[
            local child <close> = require("dbrun.process").start{
                "sh", "-c", "trap '' TERM INT; while :; do sleep 0.05; done"}
            print(child.pid); io.stdout:flush()
            child:wait()
        ]]
        local parent <close> = process.start { dbrun, "-e", script, stdout = "capture", stderr = "null" }
        local pid = math.tointeger(tonumber(parent:read_line(10)))
        task.sleep(0.1)
        parent:kill("INT")
        assert.are.equal(130, parent:wait(20).code)
        assert.is_false(process.alive(pid))
    end)

    it("survives the program when it is detached, in its own session", function()
        local r = process.run {
            dbrun, "-e", [[
                local start = require("dbrun.process").start
                print(start{"sleep", "30", detached = true, stdout = "null", stderr = "null"}.pid)]], timeout = 10,
        }
        local pid = math.tointeger(tonumber(r.stdout))
        assert.is_true(process.alive(pid))
        local session = process.run({ "ps", "-o", "sid=", "-p", tostring(pid) }).stdout
        assert.are.equal(pid, math.tointeger(tonumber(session)))
        process.kill(pid, "KILL")
        eventually(function() return not process.alive(pid) end)
    end)

    it("runs as another user, with that user's groups", function()
        if not is_root then return pending("only root can change users") end
        local nobody = process.user("nobody")
        local r = process.run { "id", "-u", user = "nobody" }
        assert.are.equal(nobody.uid, math.tointeger(tonumber(r.stdout)))
        assert.is_nil(process.run({ "id", "-G", uid = nobody.uid, gid = nobody.gid }).stdout:find("%f[%d]0%f[%D]"))
    end)

    it("is not started as a user that does not exist", function()
        assert.matches("no user 'no%-such%-user'", raised("io", process.run, { "true", user = "no-such-user" }).message)
    end)

    it("cannot change its user without being root", function()
        if not is_root then
            local e = raised("io", process.run, { "true", uid = 0, gid = 0 })
            assert.matches("root", e.hint)
            return
        end
        local program <close> = readable_program()
        local r = process.run {
            program.path, "-e", [[
            local ok, e = pcall(require("dbrun.process").run, {"true", uid = 0, gid = 0})
            io.write(tostring(ok), " ", e.message, " ", e.hint)]], user = "nobody", cwd = "/",
        }
        assert.matches("^false cannot run 'true': cannot .* only root", r.stdout)
    end)
end)

describe("process.exec", function()
    it("replaces the program and keeps its process number", function()
        local child <close> = process.start {
            dbrun, "-e", [[
                local process = require "dbrun.process"
                print(process.pid())
                process.exec{"sh", "-c", "echo $$ $A; exit 5", env = {A = "x"}}]], stdout = "capture",
        }
        local r = child:wait(10)
        assert.are.equal(("%d\n%d x\n"):format(child.pid, child.pid), r.stdout)
        assert.are.equal(5, r.code)
    end)

    it("raises an error when the program is missing", function()
        local e = raised("io", process.exec, { "no-such-program-here" })
        assert.matches("cannot run 'no%-such%-program%-here'", e.message)
    end)
end)

describe("processes in general", function()
    it("are distinguished as running, dead and zombie", function()
        assert.is_true(process.alive(process.pid()))
        assert.is_false(process.alive(4194304 + 1))
        local child <close> = process.start { "sleep", "30" }
        local info = process.info(child.pid)
        assert.are.equal(process.pid(), info.ppid)
        assert.is_true(process.alive(child.pid, info.start))
        assert.is_false(process.alive(child.pid, info.start + 1), "the number was given to another process")
        -- It is not reaped while this task does not wait: it is a zombie now.
        process.kill(child.pid, "KILL")
        local tries = 0
        repeat
            tries = tries + 1
            os.execute("sleep 0.05")
            local state <const> = process.info(child.pid).state
        until state == "Z" or tries == 200
        assert.are.equal("Z", process.info(child.pid).state)
        assert.is_false(process.alive(child.pid))
    end)

    it("get signals by name and number", function()
        local child <close> = process.start { "sleep", "30" }
        assert.is_true(process.kill(child.pid, "SIGUSR2"))
        assert.are.equal("USR2", child:wait(5).signal)
        assert.is_false(process.kill(4194304 + 1, 15))
        raised("usage", process.kill, (1 << 32) + process.pid(), 0)
    end)

    it("have users", function()
        local root = process.user(0)
        assert.are.equal("root", root.name)
        assert.are.equal(0, process.user("root").uid)
        assert.is_nil(process.user("no-such-user"))
        assert.are.equal(process.uid(), process.user().uid)
        for _, who in ipairs { 1 << 32, -1, 0.5 } do raised("usage", process.user, who) end
    end)
end)

describe("a child's output", function()
    it("is complete, or there is an error, when a finaliser takes some of it or closes the child", function()
        finaliser.run "finaliser_process.lua"
    end)
end)
