--- The streams of child processes: writes that wait, outputs with a limit, files.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local resident = require "spec.support.resident"
local task = require "dbrun.task"

local MIB <const> = 1 << 20
local LIMIT <const> = 24 * MIB -- the allowed growth of this program, far below the amount of data

--- The error that fn raises; it must be one of this kind.
local function raised(kind, fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, kind), tostring(e))
    return e
end

--- A child that reads its standard input only after a line on a separate pipe.
local function cat(more)
    local spec = { "cat", stdin_from = "pipe", stdout = "capture" }
    for key, value in pairs(more or {}) do spec[key] = value end
    return process.start(spec)
end

local function sleeper()
    return process.start { "sleep", "30", stdin_from = "pipe" }
end

describe("a write to a child", function()
    it("waits while the child does not read, and memory does not grow", function()
        local child <close> = sleeper()
        local before = resident()
        local sent = 0
        local writer = task.spawn(function()
            local block = ("x"):rep(MIB)
            for _ = 1, 200 do
                child:write(block)
                sent = sent + 1
            end
        end)
        task.sleep(0.3)
        assert.equal(0, sent)
        assert.equal("waiting", writer:status())
        assert.is_true(resident() - before < LIMIT)
        writer:cancel()
        pcall(writer.join, writer)
    end)

    it("goes on as the child reads, and every byte arrives in order", function()
        local path = os.tmpname()
        finally(function() fs.unlink(path) end)
        local child <close> = process.start { "sh", "-c", "sleep 0.2; exec cksum", stdin_from = "pipe", stdout = path }
        local parts = {}
        for i = 1, 400 do parts[i] = ("%d,"):format(i):rep(3000) end
        for _, part in ipairs(parts) do child:write(part) end
        child:close_stdin()
        assert.is_true(child:wait(20).ok)
        assert.equal(process.run({ "cksum", stdin = table.concat(parts) }).stdout, fs.read(path))
    end)

    it("says how much was written after a timeout, and refuses later writes that would mix with it", function()
        local child <close> = sleeper()
        local e = raised("timeout", child.write, child, ("x"):rep(MIB), 0.05)
        assert.equal("unknown", e.outcome)
        assert.is_true(e.written > 0 and e.written < MIB)
        assert.matches(("%d of %d bytes"):format(e.written, MIB), e.detail)
        local refused = raised("io", child.write, child, "more")
        assert.equal("not_sent", refused.outcome)
        assert.equal(0, refused.written)
        assert.matches("given up after " .. e.written, refused.message)
        child:kill()
        assert.equal("TERM", child:wait(5).signal)
    end)

    it("can be repeated when nothing of it was written", function()
        local child <close> = process.start { "sh", "-c", "read line; exec wc -c", stdin_from = "pipe",
            stdout = "capture" }
        local small = ("x"):rep(4096)
        local n = 0
        local e
        repeat -- fill the pipe; a text of this size is written completely or not at all
            local ok, problem = pcall(child.write, child, small, 0)
            if ok then n = n + 1 else e = problem end
        until not ok
        assert.is_true(errors.is(e, "timeout"), tostring(e))
        assert.equal("not_sent", e.outcome)
        assert.equal(0, e.written)
        -- `read` reads byte by byte until a line ends: there is no line end, so it reads everything.
        child:write "\nrest"
        child:close_stdin()
        assert.equal("4", child:read_line(20))
        assert.is_true(n > 0)
    end)

    it("that is cancelled says how much was written", function()
        local child <close> = sleeper()
        local problem
        local writer = task.spawn(function()
            local ok, e = pcall(child.write, child, ("x"):rep(MIB))
            problem = not ok and e
        end)
        task.sleep(0.05)
        writer:cancel()
        writer:join()
        assert.equal("cancelled", problem.kind)
        assert.equal("unknown", problem.outcome)
        assert.is_true(problem.written > 0 and problem.written < MIB)
        local second <close> = sleeper()
        local e = raised("timeout", task.timeout, 0.1, second.write, second, ("x"):rep(MIB))
        assert.equal("unknown", e.outcome)
    end)

    it("whose turn has not come is not_sent when it is abandoned, and does not affect others", function()
        local child <close> = cat { stdout = "null" }
        child:kill "STOP"
        local first = task.spawn(child.write, child, ("a"):rep(MIB))
        task.sleep(0.02)
        local e = raised("timeout", child.write, child, "b", 0.05)
        assert.equal("not_sent", e.outcome)
        child:kill "CONT"
        first:join()
        child:write "c"
    end)

    it("of several tasks at once stays in one piece, and in the order of the calls", function()
        local child <close> = cat()
        local group <close> = task.group()
        for i = 1, 40 do
            group:spawn(function()
                child:write(("%02d"):format(i):rep(i % 4 == 0 and 10 or 50000) .. "\n")
            end)
        end
        group:spawn(function() child:close_stdin() end) -- after all waiting writes
        for i = 1, 40 do
            assert.equal(("%02d"):format(i):rep(i % 4 == 0 and 10 or 50000), (child:read_line(20)))
        end
        assert.same({ nil, "end" }, { child:read_line(20) })
    end)

    it("fails when an earlier one was cut short", function()
        local child <close> = sleeper()
        local first = task.spawn(function() return pcall(child.write, child, ("a"):rep(MIB), 0.1) end)
        local others = {}
        for i = 1, 5 do others[i] = task.spawn(function() return pcall(child.write, child, "b") end) end
        task.sleep(0.01)
        child:close_stdin()
        assert.is_false((first:join()))
        for i = 1, 5 do
            local ok, e = others[i]:join()
            assert.is_false(ok)
            assert.equal("not_sent", e.outcome)
            assert.matches("given up after %d+ bytes", e.message)
        end
    end)

    for what, script in pairs {
        ["has closed its standard input"] = "exec 0<&-; echo closed; sleep 30",
        ["has ended"] = "echo closed; exit 3",
    } do
        it("fails when the child " .. what .. ", before it and in the middle of it", function()
            for _, waits in ipairs { true, false } do
                local child <close> = process.start { "sh", "-c", waits and "read x; " .. script or script,
                    stdin_from = "pipe", stdout = "capture" }
                if not waits then
                    assert.equal("closed", child:read_line(10))
                    if what == "has ended" then child:wait(10) end
                end
                local e = raised("io", child.write, child, "x\n" .. ("x"):rep(MIB))
                assert.matches("cannot write to 'sh'", e.message)
                assert.matches(waits and "it has" or what, e.message)
                if not waits then assert.equal("not_sent", e.outcome) end
                raised("io", child.write, child, "more")
            end
        end)
    end

    it("wakes when another task closes the child", function()
        local child = sleeper()
        local tasks = {}
        for i = 1, 3 do
            tasks[i] = task.spawn(function() return pcall(child.write, child, ("x"):rep(MIB)) end)
        end
        task.sleep(0.02)
        child:close()
        for i = 1, 3 do
            local ok, e = tasks[i]:join()
            assert.is_false(ok)
            assert.is_true(errors.is(e), tostring(e))
        end
    end)

    it("can have an infinite limit, or none at all", function()
        local child <close> = cat()
        for _, limit in ipairs { math.huge, 5, -1, 0 } do child:write("x\n", limit) end
        for _ = 1, 4 do assert.equal("x", child:read_line(math.huge)) end
        assert.same({ nil, "timeout" }, { child:read_line(-1) })
        raised("usage", child.write, child, "x", 0 / 0)
    end)

    it("is refused when there is no pipe, when it is closed, and when the text was given at the start", function()
        local none <close> = process.start { "sleep", "30" }
        assert.matches("stdin_from", raised("usage", none.write, none, "x").hint)
        local closed <close> = sleeper()
        closed:close_stdin()
        closed:close_stdin()
        assert.matches("is closed", raised("usage", closed.write, closed, "x").message)
        local fed <close> = process.start { "sleep", "30", stdin = "text" }
        assert.matches("stdin=", raised("usage", fed.write, fed, "x").message)
        assert.matches("text must be a string", raised("usage", fed.write, fed, {}).message)
        assert.matches("timeout must be", raised("usage", fed.write, fed, "x", "y").message)
    end)

    it("where tasks cannot wait succeeds if it is small, or is refused before it begins", function()
        local child <close> = cat()
        local problem
        table.sort({ 1, 2 }, function(a, b)
            child:write "small\n"
            problem = problem or raised("usage", child.write, child, ("x"):rep(MIB))
            return a < b
        end)
        assert.matches("nothing can wait here", problem.message)
        assert.equal("small", child:read_line(5))
        child:write "goes on\n"
        local line = child:read_line(5)
        while line == "small" do line = child:read_line(5) end
        assert.equal("goes on", line)
    end)

    it("to a child that reads fast lets other tasks run", function()
        local child <close> = process.start { "cat", stdin_from = "pipe", stdout = "null" }
        local ticks = 0
        local ticker = task.spawn(function()
            while true do
                task.sleep(0.005)
                ticks = ticks + 1
            end
        end)
        local stop = task.now() + 20
        repeat child:write "one line\n" until ticks >= 5 or task.now() > stop
        ticker:cancel()
        assert.is_true(ticks >= 5, ("%d ticks"):format(ticks))
    end)
end)

describe("a child with an input text", function()
    it("gets all of it while its output is read: more than the pipes hold, back and forth", function()
        local text = ("0123456789abcdef"):rep(200 * MIB // 16)
        local before = resident()
        local r = process.run { "cat", stdin = text, max_output = false }
        assert.is_true(r.stdout == text)
        assert.is_true(resident() - before < 3 * #text, "no copy of the input is kept")
    end)

    it("can write back more than it reads", function()
        local r = process.run { "sed", "p;p;p", stdin = ("line\n"):rep(400000) }
        assert.equal(4 * 5 * 400000, #r.stdout)
    end)

    it("can leave it unread, close it, or sleep", function()
        local text = ("x"):rep(20 * MIB)
        assert.is_true(process.run({ "true", stdin = text }).ok)
        assert.equal("on\n", process.run({ "sh", "-c", "exec 0<&-; sleep 0.1; echo on", stdin = text }).stdout)
        raised("timeout", process.run, { "sleep", "30", stdin = text, timeout = 0.2 })
    end)
end)

describe("a captured output", function()
    it("has a limit of 64 MiB, over which the child is terminated and the error has a hint", function()
        local before = resident()
        local e = raised("io", process.run, { "sh", "-c", "echo $$ >&2; exec yes", stderr = "null" })
        assert.matches("'sh' wrote more than 64 MiB to its standard output", e.message)
        assert.matches("max_output", e.hint)
        collectgarbage()
        assert.is_true(resident() - before < 200 * MIB)
    end)

    it("has the given limit, for each stream, to the byte", function()
        local function run(n, more)
            local spec = { "sh", "-c", "head -c " .. n .. " /dev/zero" .. (more.stderr and "" or " >&2") }
            for key, value in pairs(more) do spec[key] = value end
            return process.run(spec)
        end
        local a, b = { max_output = 100000, stderr = "null" }, { max_output = 100000 }
        assert.equal(100000, #run(100000, a).stdout)
        assert.equal(100000, #run(100000, b).stderr)
        assert.matches("100000 bytes to its standard output", raised("io", run, 100001, a).message)
        assert.matches("100000 bytes to its standard error", raised("io", run, 100001, b).message)
        assert.equal(70 * MIB, #run(70 * MIB, { max_output = false, stderr = "null" }).stdout)
        assert.equal(70 * MIB, #run(70 * MIB, { max_output = 0, stderr = "null" }).stdout)
    end)

    it("over its limit terminates a child during a wait, and each later call raises again", function()
        local child <close> = process.start { "yes", stdout = "capture", max_output = 1000 }
        raised("io", child.wait, child)
        raised("io", child.wait, child)
        raised("io", child.read_line, child)
        assert.is_false(process.alive(child.pid))
    end)

    it("of a waiting child is read completely although it exceeds the read-ahead", function()
        local child <close> = process.start { "head", "-c", 30 * MIB, "/dev/zero", stdout = "capture" }
        assert.is_nil(child:wait(0.01))
        assert.equal(30 * MIB, #child:wait(20).stdout)
        local polled <close> = process.start { "head", "-c", 10 * MIB, "/dev/zero", stdout = "capture" }
        local result
        local stop = task.now() + 20
        repeat
            task.sleep(0.001)
            result = polled:wait(0)
        until result or task.now() > stop
        assert.equal(10 * MIB, #result.stdout)
    end)
end)

describe("an output that is read line by line", function()
    it("blocks the child through the pipe while it is not read", function()
        local child <close> = process.start { "yes", ("y"):rep(1000), stdout = "capture" }
        assert.equal(1000, #child:read_line(5))
        local before = resident()
        task.sleep(0.3)
        assert.is_true(resident() - before < LIMIT)
        local stop <const> = task.now() + 10
        while process.info(child.pid).state ~= "S" and task.now() < stop do task.sleep(0.01) end
        assert.equal("S", process.info(child.pid).state)
        for _ = 1, 5000 do assert.equal(1000, #child:read_line(5)) end
    end)

    it("has a limit for a line, also for one without a line end", function()
        local child <close> = process.start { "sh", "-c", "echo short; exec tr '\\0' x < /dev/zero",
            stdout = "capture" }
        assert.equal("short", child:read_line(5))
        local e = raised("io", child.read_line, child)
        assert.matches("'sh' wrote a line of more than 64 MiB", e.message)
        assert.is_false(process.alive(child.pid))
        local lines <close> = process.start { "sh", "-c", "seq 100000; head -c 101 /dev/zero; sleep 30",
            stdout = "capture", max_output = 100 }
        for i = 1, 100000 do
            local line <const> = lines:read_line(30)
            if line ~= tostring(i) then assert.equal(tostring(i), line) end -- a call of assert.equal takes 20 us
        end
        assert.matches("more than 100 bytes", raised("io", lines.read_line, lines).message)
    end)

    it("does not block when the other stream is over its limit", function()
        local child <close> = process.start { "sh", "-c", "exec 3>&1 yes >&2", stdout = "capture", stderr = "capture",
            max_output = MIB }
        assert.matches("standard error", raised("io", child.read_line, child, 20).message)
    end)

    it("does not prevent a child from ending when it is closed", function()
        local child = process.start { "sh", "-c", "trap 'head -c 3000000 /dev/zero; exit 0' TERM; echo ready; " ..
            "while :; do sleep 0.01; done", stdout = "capture" }
        assert.equal("ready", child:read_line(5))
        child:close()
        assert.is_false(process.alive(child.pid))
    end)
end)

describe("a file for a stream", function()
    local dir
    setup(function() dir = fs.mkdtemp() end)
    teardown(function() fs.rmtree(dir) end)

    --- Runs this in the folder, in a separate program, and returns its output.
    local function inside(code)
        local r = process.run {
            core.options.program, "--no-env", "-e",
            'local process, fs = require "dbrun.process", require "dbrun.fs" ' .. code, cwd = dir,
        }
        assert.equal("", r.stderr)
        return r.stdout
    end

    it("is overwritten or appended to", function()
        local path = dir .. "/out"
        for _ = 1, 2 do process.run { "echo", "new", stdout = path } end
        assert.equal("new\n", fs.read(path))
        for _ = 1, 2 do process.run { "echo", "more", stdout = { append = path } } end
        assert.equal("new\nmore\nmore\n", fs.read(path))
        process.run { "echo", "again", stdout = { file = path } }
        assert.equal("again\n", fs.read(path))
        process.run { "sh", "-c", "echo e >&2", stderr = { append = path } }
        assert.equal("again\ne\n", fs.read(path))
        process.start({ "echo", "started", stdout = path }):wait(5)
        assert.equal("started\n", fs.read(path))
    end)

    it("can be the same for both outputs", function()
        local path = dir .. "/both"
        for _, file in ipairs { path, { file = path }, { append = path } } do
            process.run { "sh", "-c", "echo o; echo e >&2; echo o", stdout = file, stderr = file }
        end
        assert.equal(("o\ne\no\n"):rep(2), fs.read(path))
        process.run { "sh", "-c", "echo o; echo e >&2; echo o", stdout = path, stderr = "stdout" }
        assert.equal("o\ne\no\n", fs.read(path))
    end)

    it("can have any name", function()
        local names = {
            "file", "with space", "-dash", "~", "$HOME", "*", "\u{e9}", "new\nline", "'", "log.txt", "./x", "=", "#",
        }
        for _, name in ipairs(names) do
            inside(('process.run {"echo", "hi", stdout = %q}'):format(name))
            assert.equal("hi\n", fs.read(fs.join(dir, name)))
            assert.equal("hi\n", inside(('io.write(process.run {"cat", stdin_from = %q}.stdout)'):format(name)))
        end
        for _, name in ipairs { "pipe", "inherit", "capture", "null", "stdout", "captured", "nul" } do
            inside(('process.run {"echo", "hi", stdout = {file = %q}}'):format(name))
            assert.equal("hi\n", fs.read(fs.join(dir, name)))
            local code = ('io.write(process.run {"cat", stdin_from = {file = %q}}.stdout)'):format(name)
            assert.equal("hi\n", inside(code))
        end
    end)

    it("is not created by a mistyped option", function()
        for _, word in ipairs { "captured", "inherrit", "nul", "pipe", "stderr" } do
            local e = raised("usage", process.run, { "true", stdout = word })
            assert.matches("stdout: '" .. word .. "'", e.message)
            assert.matches("{file = ", e.hint, 1, true)
        end
        raised("usage", process.start, { "true", stdin_from = "inherited" })
    end)

    it("that cannot be opened is named", function()
        local e = raised("io", process.run, { "true", stdout = dir .. "/no/such/folder" })
        assert.matches("cannot open '.*/no/such/folder' for 'true': No such file", e.message)
        assert.matches("No such file", raised("io", process.run, { "cat", stdin_from = dir .. "/none" }).message)
        assert.matches("Is a directory", raised("io", process.run, { "true", stderr = { append = dir } }).message)
    end)

    it("can be given in only one way", function()
        for _, value in ipairs { {}, { file = "a", append = "b" }, { flie = "a" }, { file = "" }, { file = 5 }, true, 5,
            "", "a\0b", { "a" } } do
            raised("usage", process.run, { "true", stdout = value })
        end
        raised("usage", process.run, { "true", stdin_from = { append = "a" } })
        raised("usage", process.run, { "true", stdin = "x", stdin_from = "pipe" })
    end)
end)

describe("an option of a child", function()
    it("must be known, and of the right type", function()
        local function refused(fn, key, value, hint)
            local e = raised("usage", process[fn], { "true", [key] = value })
            assert.matches("process." .. fn .. ": ", e.message, 1, true)
            assert.matches(tostring(key), e.message, 1, true)
            assert.matches("process_streams_spec", e.where)
            if hint then assert.matches(hint, e.hint) end
        end
        refused("run", "timout", 1, "'timeout'")
        refused("start", "envv", {}, "'env'")
        refused("start", "timeout", 1, "wait")
        refused("exec", "stdout", "null")
        refused("run", 0, "x")
        for key, value in pairs {
            timeout = "1", cwd = 5, env = "A=1", clear_env = 1, user = 0, uid = "root", gid = -1, detached = "yes",
            stdin = {}, max_output = -1, pdeathsig = {},
        } do
            refused("run", key, value)
        end
        refused("run", "timeout", 0 / 0)
        refused("run", "uid", 1 << 32) -- as 32 bits it is root
        refused("run", "gid", (1 << 32) - 1)
        raised("usage", process.run, { "true", env = { A = true } })
        local e = raised("usage", process.run, { "true", env = { A = "x\0secret" } })
        assert.matches("A contains a NUL byte", e.message)
        assert.matches("argument 2 is nil", raised("usage", process.run, { "echo", nil, "x" }).message)
    end)

    it("can be false to turn it off, an infinite time, or a packed table", function()
        local r = process.run { "true", env = false, user = false, uid = false, gid = false, pdeathsig = false,
            cwd = false, stdin_from = false, stdout = false, stderr = false, timeout = math.huge }
        assert.is_true(r.ok)
        assert.equal("x\n", process.run(table.pack("echo", "x")).stdout)
        assert.matches("argument 2 is nil", raised("usage", process.run, table.pack("echo", nil)).message)
    end)
end)

describe("a child whose captured output is not read by lines yet", function()
    it("accepts all writes before its output is read", function()
        local child <close> = cat()
        child:write(("x"):rep(4 * MIB), 30)
        child:close_stdin()
        assert.equal(4 * MIB, #child:wait(30).stdout)
    end)

    it("ends while a script only polls it", function()
        local child <close> = process.start { "head", "-c", "3000000", "/dev/zero", stdout = "capture" }
        local stop <const> = task.now() + 30
        while child:running() do
            assert(task.now() < stop, "it runs on")
            task.sleep(0.01)
        end
        assert.equal(3000000, #child:wait(30).stdout)
    end)

    it("is terminated over its limit when a script only polls it", function()
        local child <close> = process.start { "yes", stdout = "capture", max_output = MIB }
        local stop <const> = task.now() + 30
        local e = raised("io", function()
            while child:running() do
                assert(task.now() < stop, "it runs on")
                task.sleep(0.01)
            end
        end)
        assert.matches("wrote more than 1 MiB to its standard output", e.message)
        assert.is_false(child:running())
    end)
end)

describe("a file that several processes write", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    it("contains the writes of each", function()
        for _, other in ipairs { { append = dir .. "/f" }, { file = dir .. "/./f" } } do
            process.run { "sh", "-c", "echo aaaaaa; echo b >&2; echo c", stdout = { file = dir .. "/f" },
                stderr = other }
            assert.equal("aaaaaa\nb\nc\n", fs.read(dir .. "/f"))
        end
    end)

    it("is not emptied when it is this program's own output", function()
        for _, name in ipairs { "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2" } do
            local r = process.run { core.options.program, "--no-env", "-e", ([[
                io.stderr:write "first\n"
                require "dbrun.process".run { "echo", "second", stdout = %q }]]):format(name),
                stderr = dir .. "/log" }
            assert.equal(0, r.code)
            assert.equal("first\nsecond\n", fs.read(dir .. "/log"))
        end
    end)
end)

describe("a write where tasks cannot wait", function()
    it("raises an error that says so, and how much is possible", function()
        local child <close> = cat()
        local e = raised("usage", string.gsub, "a", "%a", function(x) child:write(x:rep(5000)) end)
        assert.matches("nothing can wait here", e.message)
        assert.matches("at most 4096 bytes", e.message)
        string.gsub("a", "%a", function(x) child:write(x:rep(4096)) end)
        child:close_stdin()
        assert.equal(4096, #child:wait(30).stdout)
    end)
end)
