--- Each public function refuses arguments that its annotation does not allow; spec/live/public_spec.lua tests those
--- that need servers.
local annotations = require "dbrun.manual.annotations"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local progress = require "dbrun.progress"
local task = require "dbrun.task"
local walk = require "spec.support.walk"

describe("public functions", function()
    local dir, walked
    setup(function()
        dir = fs.mkdtemp()
        fs.write(dir .. "/file", "text")
        fs.mkdir(dir .. "/folder")
        local files = {}
        local p <close> = assert(io.popen "find lua/dbrun -name '*.lua'")
        for file in p:lines() do files[#files + 1] = file end
        walked = walk.new {
            all = annotations.read(files),
            make = {
                ["dbrun.Error"] = function() return errors.new { kind = "usage", message = "x" } end,
                ["dbrun.Task"] = function() return task.spawn(function() end) end,
                ["dbrun.Group"] = task.group,
                ["dbrun.Queue"] = task.queue,
                ["dbrun.Semaphore"] = function() return task.semaphore(1) end,
                ["dbrun.Permit"] = function() return task.semaphore(1):acquire() end,
                ["dbrun.fs.Lock"] = function() return fs.lock(dir .. "/lock") end,
                ["dbrun.process.Child"] = function() return process.start { "cat", stdin_from = "pipe" } end,
                ["dbrun.progress.Progress"] = function()
                    return progress.new { label = "x", terminal = false, out = assert(io.open("/dev/null", "w")) }
                end,
                ["dbrun.csv.Reader"] = function() return require "dbrun.csv".reader(function() end) end,
                ["dbrun.csv.Writer"] = function() return require "dbrun.csv".writer(io.stdout) end,
                ["dbrun.seed.Random"] = function() return require "dbrun.seed.random".new "x" end,
            },
            values = {
                path = dir .. "/file", from = dir .. "/file", file = dir .. "/file", target = dir .. "/file",
                pid = 4194305, -- more than Linux has
                to = dir .. "/other",
                ["random:time from"] = "2024-01-01", ["random:time to"] = "2024-02-01",
                dir = dir .. "/folder", prefix = dir .. "/new-",
            },
            accepted = {},
        }
    end)
    teardown(function()
        fs.rmtree(dir)
    end)

    local MODULES = { "error", "fs", "json", "migrate", "process", "progress", "seed", "stack", "task", "time", "tty",
        "verify", "batch", "cli", "csv", "log", "table", "command_line", "url", "dotenv", "conninfo", "target",
        "seed.random" }
    local CLASSES = {
        { "task", "dbrun.Task" }, { "group", "dbrun.Group" }, { "queue", "dbrun.Queue" },
        { "semaphore", "dbrun.Semaphore" }, { "permit", "dbrun.Permit" }, { "lock", "dbrun.fs.Lock" },
        { "child", "dbrun.process.Child" },
        { "progress", "dbrun.progress.Progress" }, { "random", "dbrun.seed.Random" },
        { "reader", "dbrun.csv.Reader" }, { "writer", "dbrun.csv.Writer" },
    }

    it("are tested here, or need servers", function()
        -- db, redis: spec/live/public_spec.lua; testing: makes databases; dry_run: a boolean
        local walked_here <const> = { config = true, db = true, redis = true, testing = true, dry_run = true }
        for _, name in ipairs(MODULES) do walked_here[name] = true end
        for name in pairs(walked.all.classes.dbrun.fields) do
            assert.is_true(walked_here[name], name .. " is a part of dbrun that is not walked")
        end
    end)

    it("refuse what their annotations do not allow", function()
        for _, name in ipairs(MODULES) do
            local file = ("lua/dbrun/%s.lua"):format((name:gsub("%.", "/")))
            walked:module(name, require("dbrun." .. name), file)
        end
        walked:fields("config", require "dbrun.config", "Config")
        for _, class in ipairs(CLASSES) do walked:methods(class[1], class[2]) end
        print(("# %d functions, %d calls"):format(walked.functions, walked.calls))
        assert.equal("", table.concat(walked:finish(), "\n"))
    end)
end)

describe("a missing name", function()
    --- The message and the hint of the error.
    local function asked(object, name)
        local ok, e = pcall(function() return object[name] end)
        assert.is_false(ok, name .. " is taken")
        assert.is_true(errors.is(e, "usage"), tostring(e))
        assert.matches("public_spec.lua:%d+$", e.where)
        return e.message .. " | " .. tostring(e.hint)
    end

    local function module(name) return require("dbrun." .. name) end

    for _, case in ipairs {
        { "task", "channel", "task.queue(size)" }, { "task", "spwan", "did you mean 'spawn'?" },
        { "fs", "readfile", "fs.read(path)" }, { "fs", "reed", "did you mean 'read'?" },
        { "json", "parse", "json.decode(text)" }, { "json", "stringify", "json.encode(value)" },
        { "process", "spawn", "process.start{...}" }, { "time", "strftime", "time.format(when)" },
        { "time", "fromat", "did you mean 'format'?" }, { "progress", "bar", "progress.new" },
        { "tty", "color", "tty.colour(fd)" }, { "command_line", "argparse", "command_line.parser" },
        { "cli", "argparse", "cli.run" },
        { "url", "quote", "url.encode" },
        { "dotenv", "load", "dotenv.read" }, { "error", "throw", "error.raise" },
        { "migrate", "rollback", "migrate.down" },
        { "seed", "apply", "seed.run" }, { "verify", "check", "verify.run" }, { "stack", "start", "stack.up" },
        { "config", "get", "config.KEY" }, { "config", "explian", "did you mean 'explain'?" },
        { "config", "DB_POOL_SIZ", "did you mean 'DB_POOL_SIZE'?" },
    } do
        local name, key, meant = table.unpack(case)
        it(("is an error with a suggestion: %s.%s"):format(name, key), function()
            assert.matches(meant, asked(module(name), key), 1, true)
        end)
    end

    it("is an error with a suggestion for objects, too", function()
        local g <close> = task.group()
        local t = g:spawn(function() end)
        local child <close> = process.start { "true" }
        for _, case in ipairs {
            { t, "await", "t:join()" }, { t, "joim", "did you mean 'join'?" }, { g, "join", "g:wait()" },
            { task.queue(), "put", "q:push(value)" }, { task.semaphore(1), "release", "permit:release()" },
            { child, "terminate", "child:kill()" }, { child, "read", "child:read_line()" },
            { require "dbrun.seed.random".new "x", "choice", "r:pick(list)" },
        } do
            assert.matches(case[3], asked(case[1], case[2]), 1, true)
        end
    end)

    it("is nil when nothing resembles it, so that a script can check for newer functions", function()
        for _, name in ipairs { "task", "fs", "json", "process", "time", "progress", "tty", "config" } do
            assert.is_nil(module(name).something_else)
            assert.is_nil(module(name).__call)
        end
        assert.is_nil(require "dbrun.config".A_KEY_OF_THE_PROJECT)
        local g <close> = task.group()
        assert.is_nil(g.something_else)
        assert.is_nil(task.queue()[7])
    end)
end)

describe("a common wrong call", function()
    local function refused(expected, fn, ...)
        local ok, e = pcall(fn, ...)
        assert.is_false(ok, "it was taken")
        assert.is_true(errors.is(e, "usage"), tostring(e))
        assert.matches(expected, e.message .. " | " .. tostring(e.hint), 1, true)
    end
    local config = require "dbrun.config"

    it("gets an error that explains it", function()
        refused("process.run: unknown option 'timout' | did you mean 'timeout'?", process.run, { "true", timout = 5 })
        refused("config.load: arguments must be a table, got 5", config.load, 5)
        refused("config.load: DB_POOL_SIZ is not a key of dbrun | did you mean DB_POOL_SIZE?", config.load,
            { DB_POOL_SIZ = 5 })
        refused("progress.new: the options must be a table, got a string", progress.new, "x")
        refused("task.group takes no argument", task.group, 5)
        refused("fs.read: path must be a string that is not empty", fs.read, {})
        refused("task.sleep: seconds must be a number of seconds of at least 0, got a string", task.sleep, "x")
        refused("task.all: list[2] must be a function, got 5", task.all, { print, 5 })
        refused("group:spawn is called with ':' on its object, got a function", task.group().spawn, print)
        refused("process.run: env: X must be a string, a number, or false to remove it, got a table", process.run,
            { "true", env = { X = {} } })
    end)
end)
