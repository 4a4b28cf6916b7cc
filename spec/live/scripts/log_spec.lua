-- The log of --log debug about the work on servers.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

local SCRIPT <const> = [[
local db, redis, task = require "dbrun.db", require "dbrun.redis", require "dbrun.task"
local engine = db.engine { url = os.getenv "DATABASE_URL", size = 1, overflow = 0 }
engine:query("select $1::int as n, $2::text, 'password=hush' from generate_series(1, 3)", 5, "it's") -- line 3
pcall(engine.query, engine, "select 1/0") -- line 4
for _ in engine:rows "select 7" do end
pcall(task.timeout, 0.05, engine.query, engine, "select pg_sleep(9)")
task.all { function() engine:query "select pg_sleep(0.02)" end, function() engine:query "select 'second'" end }
engine:transaction(function(tx)
    tx:exec "create temp table t (a int)"
    tx:execute_many("insert into t values ($1)", { { 1 }, { 2 } })
    tx:copy_in("t", nil, { { 3 } })
    for _ in tx:copy_out("select a from t where a > $1", {}, 1) do end
    tx:pipeline(function(p) p:query "select 1" p:query "select 2" end)
end)
pcall(engine.copy_in, engine, "pg_class", nil, { { "x" } }) -- the columns are others
engine:exec "create table if not exists uniques (a int primary key)"
pcall(engine.copy_in, engine, "uniques", { "a" }, { { 1 }, { 1 } })
pcall(engine.pipeline, engine, function(p) p:query "select 1" p:query "select 1/0" end)
local shared = db.engine { url = os.getenv "DATABASE_URL", pipeline = 10 }
shared:query("select 'shared', $1::int", 7)
local r = redis.get()
r:set("k", "value") -- line 22
pcall(r.lpush, r, "k", 1)
pcall(r.call, r, "sentinel", "set", "m", "auth-pass", "hush")
pcall(r.acl, r, "setuser", "somebody", "on", ">hush", "nonsense")]]

describe("--log debug", function()
    local dir, env
    setup(function()
        dir = fs.mkdtemp()
        fs.write(dir .. "/a.lua", SCRIPT)
        env = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()), DBRUN_LOG = false }
    end)
    teardown(function() fs.rmtree(dir) end)

    local function find(list, key, text, waits)
        for _, line in ipairs(list) do
            local is_wait = line.message:find("waited", 1, true) ~= nil
            local value = is_wait == (waits or false) and line[key]
            if value and tostring(value):find(text, 1, true) then return line end
        end
        error(("no line has %s in %s"):format(text, key), 2)
    end

    local function command(...)
        local with = { core.options.program, "--no-env", "--log", "debug", "--log-format", "json" }
        for _, option in ipairs { ... } do with[#with + 1] = option end
        with[#with + 1], with.cwd, with.env = "a.lua", dir, env
        local result = process.run(with)
        assert.equal(0, result.code, result.stderr)
        local list = {}
        for line in result.stderr:gmatch "[^\n]+" do list[#list + 1] = json.decode(line) end
        return list, result.stderr
    end

    it("logs statements with their time, rows and place, without parameters", function()
        local list, text = command()
        local first = find(list, "sql", "as n")
        assert.equal("postgres: statement", first.message)
        assert.equal(3, first.rows)
        assert.equal("a.lua:3", first.place)
        assert.is_true(first.ms > 0)
        assert.is_nil(first.parameters)
        assert.is_nil(text:find("hush", 1, true))
        local failed = find(list, "sqlstate", "22012")
        assert.equal("postgres: statement failed", failed.message)
        assert.equal("select 1/0 a.lua:4", failed.sql .. " " .. failed.place)
        assert.is_truthy(find(list, "sql", "select 7"))
        assert.equal("postgres: statement cancelled", find(list, "sql", "pg_sleep(9)").message)
        local waited = find(list, "sql", "'second'", true)
        assert.equal("postgres: waited for a connection a.lua:7", waited.message .. " " .. waited.place)
        assert.is_true(waited.ms >= 20)
        assert.equal(2, find(list, "message", "execute_many").rows)
        assert.equal(1, find(list, "message", "copy_in").rows)
        assert.equal("select a from t where a > $1", find(list, "message", "copy_out").sql)
        assert.equal(2, find(list, "message", "postgres: pipeline").statements)
        assert.equal(1, find(list, "sql", "'shared'").rows)
        local copied = find(list, "sqlstate", "23505")
        assert.equal("postgres: copy_in failed", copied.message)
        assert.matches("duplicate key", copied.error)
        assert.equal("22012", find(list, "message", "pipeline failed").sqlstate)
        local set = find(list, "command", "SET")
        assert.equal("a.lua:22", set.place)
        assert.is_nil(set.arguments)
        assert.matches("^WRONGTYPE", find(list, "command", "LPUSH").error)
    end)

    it("logs parameters with --log-parameters", function()
        local list, text = command "--log-parameters"
        assert.is_nil(text:find("hush", 1, true))
        assert.equal("err unknown command 'sentinel'", find(list, "command", "SENTINEL").error:lower())
        assert.equal("5, 'it's'", find(list, "sql", "as n").parameters)
        assert.equal("7", find(list, "sql", "'shared'").parameters)
        assert.equal("k value", find(list, "command", "SET").arguments)
    end)
end)
