-- dbrun.testing and `dbrun test`, as the author of a project uses them: a folder with migrations, a script and specs.
local core = require "dbrun.core"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local initdb = require "spec.support.initdb"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local support = require "spec.support.pg"

local program <const> = fs.realpath(core.options.program)
local root <const> = fs.cwd()

local MIGRATION <const> = [[
-- migrate:up
create table notes (id bigint generated always as identity primary key, text text not null unique,
    parent bigint references notes deferrable initially deferred, created_at timestamptz not null default now());
-- migrate:down
drop table notes;
]]

local TIDY <const> = [[
local db = require "dbrun.db"
local days = tonumber((...))
if not days then error("how many days?") end
local r = db.async:query("delete from notes where created_at < now() - make_interval(days => :days)", { days = days })
print(("%d notes deleted"):format(r.affected), io.read "a", os.getenv "COLOUR")
]]

local COUNTS <const> = [[
    it("counts", function() assert.equal(%d, db.async:value "select count(*) from notes") end)]]

local function wrap(body, options)
    return ([[
local testing, db, redis = require "dbrun.testing", require "dbrun.db", require "dbrun.redis"
describe("tidy", function()
    local t = testing.project%s
%s
end)
]]):format(options or "()", body)
end

describe("dbrun test", function()
    local folder, env

    before_each(function()
        folder = initdb.folder()
        for _, name in ipairs { "scripts/migrations", "spec" } do fs.mkdir_p(folder .. "/" .. name) end
        fs.write(folder .. "/scripts/migrations/20260101120000_create_notes.sql", MIGRATION)
        fs.write(folder .. "/scripts/tidy.lua", TIDY)
        for _, name in ipairs { "test", "migrate", "seed", "stack" } do
            fs.write(("%s/scripts/%s.lua"):format(folder, name), fs.read(("%s/scripts/%s.lua"):format(root, name)))
        end
        env = {
            DBRUN_TEST_DATABASE_URL = (servers.database()), DBRUN_TEST_REDIS_URL = servers.shared_redis().url,
            DATABASE_URL = "postgresql://nobody@127.0.0.1:1/production", DBRUN_LUA_DIR = os.getenv "DBRUN_LUA_DIR",
        }
    end)
    after_each(function()
        fs.rmtree(folder)
    end)

    local function spec(name, text) fs.write(("%s/spec/%s_spec.lua"):format(folder, name), text) end

    local function migration(name, sql)
        fs.write(("%s/scripts/migrations/%s.sql"):format(folder, name),
            ("-- migrate:up\n%s\n-- migrate:down\n"):format(sql))
    end

    local function dbrun(...)
        return process.run { program, "test", env = env, cwd = folder, stderr = "stdout", timeout = 100, ... }
    end

    local function left()
        local conn <close> = db.engine { url = env.DBRUN_TEST_DATABASE_URL, mode = "sync" }
        return conn:value "select count(*) from pg_database where datname ~ '^dbrun_test_[0-9]+$'"
    end

    it("gives each file its own databases, migrated and empty, and drops them", function()
        local body <const> = [[
    it("has the migrated tables and an empty Redis", function()
        assert.equal(0, db.async:value "select count(*) from notes")
        assert.equal(0, redis.get():call "DBSIZE")
        db.sync:query "insert into notes (text) values ('a')"
        redis.get():set("a", 1)
    end)
    it("keeps what the test before has written", function()
        assert.equal(1, db.async:value "select count(*) from notes")
        assert.equal("1", redis.get():get "a")
        assert.equal(t.database_url, require("dbrun.config").DATABASE_URL)
    end)
    it("gives both back as they were", function()
        t.reset()
        assert.equal(0, db.async:value "select count(*) from notes")
        assert.equal(0, redis.get():call "DBSIZE")
    end)]]
        spec("one", wrap(body))
        spec("two", wrap(body))
        local result <const> = dbrun()
        assert.equal(0, result.code, result.stdout)
        assert.matches("6 successes / 0 failures / 0 errors", result.stdout, 1, true)
        assert.equal(0, left())
        assert.is_nil(result.stdout:find "WARN", result.stdout)
    end)

    it("runs a script as its user does, and returns status and both outputs", function()
        spec("run", wrap [[
    it("runs", function()
        db.async:query "insert into notes (text, created_at) values ('old', '2020-01-01'), ('new', now())"
        local r = t.run("tidy", 1)
        assert.same({ status = 0, stdout = "1 notes deleted\t\tnil\n", stderr = "" }, r)
        assert.equal("0 notes deleted\tin\tred\n", t.run { "tidy", 1, stdin = "in", env = { COLOUR = "red" } }.stdout)
        r = t.run "tidy"
        assert.equal(1, r.status)
        assert.matches("how many days?", r.stderr, 1, true)
        assert.equal("", r.stdout)
        assert.equal(2, t.run "scripts/missing.lua".status)
        local ok, e = pcall(t.run, { "tidy", timout = 1 })
        assert.is_false(ok)
        assert.matches("did you mean 'timeout'", tostring(e), 1, true)
    end)]])
        local result <const> = dbrun()
        assert.equal(0, result.code, result.stdout)
    end)

    it("undoes the work in t.rollback, and checks deferred constraints", function()
        spec("rollback", wrap [[
    it("rolls back", function()
        local n, more = t.rollback(function(tx)
            tx:query "insert into notes (text) values ('a')"
            tx:transaction(function(inner) inner:query "insert into notes (text) values ('b')" end)
            return tx:value "select count(*) from notes", "more"
        end)
        assert.equal(2, n)
        assert.equal("more", more)
        assert.equal(0, db.async:value "select count(*) from notes")
        local ok, e = pcall(t.rollback, function(tx) tx:query "insert into notes (text, parent) values ('c', 99)" end)
        assert.is_false(ok)
        assert.equal("23503", e.sqlstate)
        ok, e = pcall(t.rollback, function() error("mine", 0) end)
        assert.equal("mine", e)
    end)]])
        local result <const> = dbrun()
        assert.equal(0, result.code, result.stdout)
    end)

    it("ends with 1 when a spec fails, and drops its databases", function()
        spec("fails", wrap(COUNTS:format(1)))
        local result <const> = dbrun()
        assert.equal(1, result.code, result.stdout)
        assert.matches("0 successes / 1 failure", result.stdout, 1, true)
        assert.equal(0, left())
    end)

    it("reaches no configured server without testing.project(), and gives a hint", function()
        spec("stray", [[
describe("stray", function()
    it("asks", function() require "dbrun.db".async:value "select 1" end)
    it("migrates", function() require "dbrun.db".sync:value "select 1" end)
    it("caches", function() require "dbrun.redis".get():ping() end)
end)]])
        env.PGHOSTADDR = "127.0.0.1"
        env.DATABASE_URL, env.REDIS_URL = env.DBRUN_TEST_DATABASE_URL, env.DBRUN_TEST_REDIS_URL -- servers that answer
        env.MIGRATION_DATABASE_URL = env.DATABASE_URL
        local result <const> = dbrun()
        assert.equal(1, result.code, result.stdout)
        local _, told <const> = result.stdout:gsub("local t = testing.project%(%), in a describe", "")
        assert.equal(3, told, result.stdout)
    end)

    it("shows the error of a failed migration, with file and line", function()
        migration("20260101130000_bad", "select 1;\nselect nothing;")
        spec("one", wrap [[    it("never runs", function() assert(false) end)]])
        local result <const> = dbrun()
        assert.equal(1, result.code, result.stdout)
        assert.matches("20260101130000_bad.sql", result.stdout, 1, true)
        assert.matches('column "nothing" does not exist', result.stdout, 1, true)
        fs.unlink(folder .. "/scripts/migrations/20260101130000_bad.sql")
        spec("one", wrap(COUNTS:format(0)))
        assert.equal(0, dbrun().code)
    end)

    it("migrates again when a file has changed, and only then", function()
        spec("one", wrap(COUNTS:format(0)))
        local conn <close> = db.engine { url = env.DBRUN_TEST_DATABASE_URL, mode = "sync" }
        local function templates()
            return conn:value [[select string_agg(datname || oid, ' ' order by oid) from pg_database
                where datname like 'dbrun_test_template_%']]
        end
        assert.equal(0, dbrun().code)
        local first <const> = templates()
        assert.equal(0, dbrun().code)
        assert.equal(first, templates())
        migration("20260101140000_more", "create table more ();")
        spec("one", wrap [[
    it("runs", function() assert.equal(0, db.async:value "select count(*) from more") end)]])
        local result <const> = dbrun()
        assert.equal(0, result.code, result.stdout)
        assert.not_equal(first, templates())
    end)

    it("runs the seeds on request", function()
        fs.mkdir_p(folder .. "/scripts/seeds/demo")
        fs.write(folder .. "/scripts/seeds/010_notes.sql", "insert into notes (text) values ('seeded');\n")
        fs.write(folder .. "/scripts/seeds/demo/010_more.sql", "insert into notes (text) values ('demo');\n")
        spec("none", wrap(COUNTS:format(0)))
        spec("seeds", wrap(COUNTS:format(1), "{ seed = true }"))
        spec("demo", wrap(COUNTS:format(2), "{ seed = 'demo' }"))
        spec("empty", wrap([[
    it("runs", function() assert.is_nil(db.async:value "select to_regclass('notes')") end)]],
            "{ migrations = false }"))
        local result <const> = dbrun()
        assert.equal(0, result.code, result.stdout)
    end)

    it("removes the databases that a killed run has left", function()
        spec("dies", wrap [[
    it("dies", function()
        redis.get():set("left", 1)
        require("dbrun.process").kill(require("dbrun.process").pid(), "KILL")
    end)]])
        local result = dbrun()
        assert.equal(137, result.code, result.stdout)
        assert.equal(1, left())
        spec("dies", wrap [[    it("finds an empty Redis", function() assert.equal(0, redis.get():call "DBSIZE") end)]])
        -- The server drops the lock when it has noticed that the client is gone.
        local count
        for _ = 1, 50 do
            result = dbrun()
            assert.equal(0, result.code, result.stdout)
            count = left()
            if count == 0 then break end
        end
        assert.equal(0, count)
    end)

    it("starts its own servers, and removes them", function()
        env.DBRUN_TEST_DATABASE_URL, env.DBRUN_TEST_REDIS_URL = nil, nil
        env.DBRUN_PG_BINDIR = initdb.bindir()
        spec("one", wrap [[
    it("runs", function()
        assert.equal(0, db.async:value "select count(*) from notes")
        redis.get():set("a", 1)
    end)]])
        local result <const> = dbrun("spec/one_spec.lua", "--", "-o", "TAP")
        assert.equal(0, result.code, result.stdout)
        assert.matches("ok 1 - ", result.stdout, 1, true)
        assert.same({ ".gitignore" }, fs.list(folder .. "/.dbrun"))
    end)

    it("removes them when it is interrupted", function()
        env.DBRUN_TEST_DATABASE_URL, env.DBRUN_TEST_REDIS_URL = nil, nil
        env.DBRUN_PG_BINDIR = initdb.bindir()
        spec("slow", wrap [[
    it("waits", function()
        require("dbrun.fs").write("waiting", "")
        db.async:query "select pg_sleep(60)"
    end)]])
        local child <const> = process.start { program, "test", env = env, cwd = folder, stderr = "stdout",
            detached = true }
        while not fs.exists(folder .. "/waiting") do
            assert.is_nil(child:wait(0.05))
        end
        os.execute(("kill -INT -%d"):format(child.pid)) -- like a terminal: to the program and to busted
        local result <const> = child:wait(60)
        assert.equal(130, result.code, result.stdout)
        support.eventually(60, function() -- after 2 seconds a separate program continues alone
            return #fs.list(folder .. "/.dbrun") == 1
        end, "the servers are not removed")
        assert.same({ ".gitignore" }, fs.list(folder .. "/.dbrun"))
    end)

    it("refuses missing files, unknown options and incomplete settings", function()
        local result = dbrun("spec/none_spec.lua")
        assert.equal(2, result.code)
        assert.matches("there is no 'spec/none_spec.lua' here", result.stdout, 1, true)
        result = dbrun("--colour")
        assert.equal(2, result.code)
        env.DBRUN_TEST_REDIS_URL = nil
        spec("one", wrap [[    it("never runs", function() assert(false) end)]])
        result = dbrun()
        assert.equal(2, result.code)
        assert.matches("DBRUN_TEST_DATABASE_URL is set, and DBRUN_TEST_REDIS_URL is not", result.stdout, 1, true)
        env.DBRUN_TEST_DATABASE_URL = nil
        fs.rmtree(folder .. "/spec")
        result = dbrun()
        assert.equal(2, result.code)
        assert.matches("specs are files spec/NAME_spec.lua", result.stdout, 1, true)
        env.LUA_PATH, env.LUA_PATH_5_4 = "/nowhere/?.lua", "/nowhere/?.lua"
        fs.mkdir_p(folder .. "/spec")
        result = dbrun()
        assert.equal(2, result.code)
        assert.matches("apt-get install lua-busted", result.stdout, 1, true)
    end)

    it("works only in busted", function()
        fs.write(folder .. "/try.lua", 'require("dbrun.testing").project()')
        local result <const> = process.run { program, "try.lua", env = env, cwd = folder, stderr = "stdout" }
        assert.equal(2, result.code)
        assert.matches("run it with: dbrun test", result.stdout, 1, true)
    end)
end)
