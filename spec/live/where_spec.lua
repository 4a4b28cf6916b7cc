-- The calling line of a script: in errors, in the holders that the pools name, in warnings. It is the same for any
-- folder of dbrun's own modules, and for any place of the script.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local redis_server = require "spec.support.redis_server"

-- Prints a name, a tab, and the place. The engine's list of holders is made one line.
local SCRIPT <const> = [=[
local errors = require "dbrun.error"
local db, redis, task = require "dbrun.db", require "dbrun.redis", require "dbrun.task"
local function failed(what, fn, field)
    local ok, e = pcall(fn)
    print(what, ok and "no error" or (tostring(e[field or "where"]):gsub("\n%s*", "; ")))
end
failed("made in Lua", function() errors.raise { kind = "usage", message = "wrong" } end) -- line 7
failed("raised by C", function() redis.client { url = os.getenv "REDIS" }:call(true) end) -- line 8

local engine = db.engine { url = os.getenv "PG", size = 2, overflow = 0, timeout = 0.2 }
local leased = engine:acquire() -- line 11
local busy = task.spawn(function()
    engine:value "select pg_sleep(60)" -- line 13
end)
repeat task.sleep(0.01) until engine:stats().leased == 2
failed("PostgreSQL", function() task.spawn(engine.value, engine, "select 1"):join() end, "detail")
busy:cancel()

local pool = redis.pool { url = os.getenv "REDIS", max_connections = 1, timeout = 0.1 }
local client = redis.client { pool = pool }
local taken = client:acquire() -- line 21
failed("Redis", function() task.spawn(client.acquire, client):join() end, "detail")
taken:close()
leased = nil
collectgarbage() -- warns of line 11
engine:close()
]=]

describe("the line of a script that called", function()
    local server, dir
    setup(function()
        server = redis_server.start()
        dir = fs.mkdtemp()
        fs.mkdir(dir .. "/dbrun")
        fs.write(dir .. "/script.lua", SCRIPT)
        fs.write(dir .. "/dbrun/script.lua", SCRIPT)
    end)
    teardown(function()
        server:stop()
        fs.rmtree(dir)
    end)

    local function run(argv, env)
        argv.cwd, argv.timeout, argv.stdout, argv.stderr = dir, 60, "capture", "capture"
        argv.env = { DBRUN_LUA_DIR = false, LUA_PATH = false, LUA_CPATH = false, PG = pg.url(), REDIS = server.url }
        for name, value in pairs(env or {}) do
            argv.env[name] = value
        end
        return process.run(argv)
    end

    local function check(result, script)
        assert.equal(0, result.code, result.stderr)
        local said <const> = {}
        for what, place in result.stdout:gmatch "([^\t\n]+)\t([^\n]*)" do
            said[what] = place:gsub(" for [%d.]+ s[^;]*", "")
        end
        assert.same({
            ["made in Lua"] = script .. ":7",
            ["raised by C"] = script .. ":8",
            PostgreSQL = ("held at %s:11; %s:13"):format(script, script),
            Redis = ("held at %s:21"):format(script),
        }, said)
        assert.matches(("acquired at %s:11 was never released"):format(script), result.stderr, 1, true)
    end

    for _, script in ipairs { "script.lua", "dbrun/script.lua" } do
        it("in the program: " .. script, function()
            check(run { core.options.program, "--no-env", script }, script)
        end)

        it("with DBRUN_LUA_DIR: " .. script, function()
            check(run({ core.options.program, "--no-env", script }, { DBRUN_LUA_DIR = fs.cwd() .. "/lua" }), script)
        end)

        it("in a stock lua5.4: " .. script, function()
            local build <const> = core.options.program:match "^(.*)/"
            if build:find "/asan$" then
                return -- stock lua5.4 does not contain the sanitizers' runtime
            end
            check(run({ "lua5.4", script }, {
                LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(fs.cwd(), fs.cwd()),
                LUA_CPATH = build .. "/lib/?.so;;",
            }), script)
        end)
    end
end)
