local config = require "dbrun.config"
local core = require "dbrun.core"
local errors = require "dbrun.error"

local AWKWARD <const> = "p@/:%#'\\ ä\u{10348}?&"

---A configuration with only this environment and this text of a file.
local function load(environ, text, arguments)
    local path
    if text then
        path = os.tmpname()
        local file = assert(io.open(path, "wb"))
        file:write(text)
        file:close()
    end
    local c = config.load(arguments, { environ = environ or {}, env_file = path, no_env = not path })
    assert(c.NO_SUCH_KEY == nil) -- the file has been read now
    if path then
        os.remove(path)
    end
    return c, path
end

local function refused(fn)
    local ok, e = pcall(fn)
    assert.is_false(ok, "this should have been refused")
    assert.is_true(errors.is(e, "config"), tostring(e))
    assert.is_nil(tostring(e):lower():find("hunter", 1, true), tostring(e))
    return e
end

describe("the configuration", function()
    it("has defaults", function()
        local c = load()
        assert.same({ 20, 10, 30, false, true, 10, false, 100, 5, 50 }, {
            c.DB_POOL_SIZE, c.DB_MAX_OVERFLOW, c.DB_POOL_TIMEOUT, c.DB_POOL_RECYCLE, c.DB_POOL_PRE_PING,
            c.DB_CONNECT_TIMEOUT, c.DB_STATEMENT_TIMEOUT, c.DB_STATEMENT_CACHE, c.SYNC_POOL_SIZE,
            c.REDIS_MAX_CONNECTIONS,
        })
        assert.same({ "scripts/migrations", "scripts/seeds", "scripts/hooks", "scripts/batches" },
            { c.DBRUN_MIGRATIONS_DIR, c.DBRUN_SEEDS_DIR, c.DBRUN_HOOKS_DIR, c.DBRUN_BATCHES_DIR })
        assert.is_nil(c.DATABASE_URL)
        assert.equal("postgresql://", c.async_database_url)
        assert.equal("postgresql://", c.sync_database_url)
        assert.equal("redis://127.0.0.1:6379/0", c.redis_url)
    end)

    it("prefers arguments to the environment, that to the file, that to defaults", function()
        local file = "SYNC_POOL_SIZE=1\nDB_POOL_SIZE=1\nDB_MAX_OVERFLOW=1"
        local c, path = load({ DB_POOL_SIZE = "2", DB_MAX_OVERFLOW = "2" }, file, { DB_MAX_OVERFLOW = 3 })
        assert.same({ 3, 2, 1, 50 }, { c.DB_MAX_OVERFLOW, c.DB_POOL_SIZE, c.SYNC_POOL_SIZE, c.REDIS_MAX_CONNECTIONS })
        assert.same({ "argument", "environment", path .. " line 1", "default" }, {
            c.source "DB_MAX_OVERFLOW", c.source "DB_POOL_SIZE", c.source "SYNC_POOL_SIZE",
            c.source "REDIS_MAX_CONNECTIONS",
        })
    end)

    it("treats an empty value as the default, and lets it hide lower sources", function()
        local c = load({ DB_POOL_SIZE = "", DATABASE_URL = "" }, "DB_POOL_SIZE=7\nDATABASE_URL=postgresql://file")
        assert.equal(20, c.DB_POOL_SIZE)
        assert.equal("postgresql://", c.async_database_url)
        assert.equal("default", c.source "DB_POOL_SIZE")
    end)

    it("has any other key as its original string", function()
        local c = load({ FROM_ENV = "01" }, "CUSTOM='a b'\nEMPTY=", { mine = "x" })
        assert.same({ "01", "a b", "", "x" }, { c.FROM_ENV, c.CUSTOM, c.EMPTY, c.mine })
        assert.is_nil(c.NOT_THERE)
        assert.is_nil(c[1])
    end)

    it("cannot be assigned to", function()
        local ok, e = pcall(function() load().DB_POOL_SIZE = 5 end)
        assert.is_false(ok)
        assert.is_true(errors.is(e, "usage"))
        assert.truthy(e.message:find("config.DB_POOL_SIZE", 1, true))
    end)

    local typed = {
        { "DB_POOL_SIZE", { ["0"] = 0, ["5"] = 5, [" 7 "] = 7, ["+3"] = 3, ["007"] = 7 },
            { "abc", "-1", "1.5", "0x10", "1e2", "99999999999999999999", "100001", "5;", "five hunter" } },
        { "DB_MAX_OVERFLOW", { ["-1"] = -1, ["0"] = 0 }, { "-2", "x" } },
        { "DB_POOL_TIMEOUT", { ["0"] = 0, ["2.5"] = 2.5, [".5"] = 0.5, ["30"] = 30 },
            { "-1", "off", "inf", "nan", "1e5", "0x1", "5s", "1,5" } },
        { "DB_POOL_RECYCLE", { off = false, OFF = false, ["-1"] = false, ["0"] = false, ["3600"] = 3600, none = false },
            { "-2", "hunter", "on" } },
        { "DB_STATEMENT_TIMEOUT", { off = false, ["0"] = false, ["0.5"] = 0.5 }, { "hunter", "-3" } },
        { "DB_CONNECT_TIMEOUT", { ["0.5"] = 0.5, ["10"] = 10 }, { "0", "-1", "off" } },
        { "DB_POOL_PRE_PING", { ["true"] = true, ["1"] = true, Yes = true, on = true, ["false"] = false, ["0"] = false,
            NO = false, off = false }, { "2", "hunter", "tru" } },
        { "SYNC_POOL_SIZE", { ["1"] = 1 }, { "0", "x" } },
        { "REDIS_MAX_CONNECTIONS", { ["1"] = 1 }, { "0", "x" } },
        { "DB_STATEMENT_CACHE", { ["0"] = 0 }, { "-1" } },
        { "POSTGRES_PORT", { ["5432"] = 5432, ["65535"] = 65535 }, { "0", "65536", "hunter", "5432,5433" } },
        { "REDIS_PORT", { ["1"] = 1 }, { "0", "65536" } },
        { "REDIS_DB", { ["0"] = 0, ["15"] = 15 }, { "-1", "x" } },
        { "POSTGRES_HOST", { db = "db" }, { "a\0b", "a\xFF" } },
        { "DBRUN_PROTECTED", { ["*prod*, db.example/shop"] = "*prod*, db.example/shop", [" "] = " ",
            ["::1/x"] = "::1/x" },
            { "live;shop", "live|shop", '"live"', "^live$", "live?", "{live,shop}", "a\xFF", "db.example:5432/shop",
                "app@db.example/shop", "postgresql://db.example/shop", "db.example:5432", "!dev" } },
    }
    for _, case in ipairs(typed) do
        local key = case[1]
        it("accepts the values of " .. key, function()
            for text, value in pairs(case[2]) do
                local got = load({ [key] = text })[key]
                assert.equal(value, got, ("%s=%s"):format(key, text))
                assert.equal(math.type(value), math.type(got))
            end
        end)
        it("refuses wrong values of " .. key .. ", naming key, source and expected values", function()
            for _, text in ipairs(case[3]) do
                local e = refused(function() return load({ [key] = text })[key] end)
                assert.truthy(e.message:find(key .. " (environment): expected ", 1, true), e.message)
            end
        end)
    end

    it("accepts numbers and booleans as arguments", function()
        local c = load(nil, nil, { DB_POOL_SIZE = 3, DB_POOL_TIMEOUT = 1.5, DB_POOL_PRE_PING = false,
            DB_POOL_RECYCLE = false, REDIS_DB = 2.0 })
        assert.same({ 3, 1.5, false, false, 2 },
            { c.DB_POOL_SIZE, c.DB_POOL_TIMEOUT, c.DB_POOL_PRE_PING, c.DB_POOL_RECYCLE, c.REDIS_DB })
    end)

    it("names the line of a wrong value in the file", function()
        local c, path = load(nil, "# x\n\nDB_POOL_SIZE=hunter2")
        local e = refused(function() return c.DB_POOL_SIZE end)
        assert.equal(("DB_POOL_SIZE (%s line 3): expected an integer from 0 to 100000"):format(path), e.message)
    end)

    it("explains Kubernetes' variables of a service", function()
        local e = refused(function() return load({ REDIS_PORT = "tcp://10.0.0.1:6379" }).redis_url end)
        assert.truthy(e.hint:find("enableServiceLinks", 1, true))
        assert.equal("redis://cache:6379/0",
            load({ REDIS_PORT = "tcp://10.0.0.1:6379", REDIS_URL = "redis://cache" }).redis_url)
    end)

    it("refuses a named file that does not exist", function()
        local c = config.load(nil, { environ = {}, env_file = "/nonexistent/dev.env" })
        assert.truthy(refused(function() return c.DB_POOL_SIZE end).message:find("/nonexistent/dev.env", 1, true))
    end)

    it("is cheap: under 0.3 ms from loading to all URLs", function()
        local best = math.huge -- other programs on the processor cost time, too
        for _ = 1, 10 do
            local started = os.clock()
            for _ = 1, 20 do
                local c = config.load({ POSTGRES_PASSWORD = AWKWARD }, { no_env = true })
                assert(c.async_database_url and c.sync_database_url and c.redis_url and c.DB_POOL_SIZE)
            end
            best = math.min(best, (os.clock() - started) / 20)
        end
        assert.is_true(best < 0.0003, best)
    end)
end)

describe("the database's URL", function()
    local url = require "dbrun.url"

    local cases = {
        { "all POSTGRES_ keys", { POSTGRES_HOST = "db", POSTGRES_PORT = "5433", POSTGRES_USER = "app",
            POSTGRES_PASSWORD = "pw12", POSTGRES_DB = "shop" }, "postgresql://app:pw12@db:5433/shop" },
        { "a host alone", { POSTGRES_HOST = "db" }, "postgresql://db" },
        { "a socket folder", { POSTGRES_HOST = "/run/pg", POSTGRES_DB = "x" }, "postgresql://%2Frun%2Fpg/x" },
        { "several hosts", { POSTGRES_HOST = "a,b", POSTGRES_PORT = "5433" }, "postgresql://a:5433,b:5433" },
        { "a user alone", { POSTGRES_USER = "app" }, "postgresql://app@" },
        { "DATABASE_URL", { DATABASE_URL = "postgresql+asyncpg://app@db/shop" }, "postgresql://app@db/shop" },
        { "a keyword string", { DATABASE_URL = "host=/run/pg dbname='my shop'" },
            "postgresql://%2Frun%2Fpg/my%20shop" },
        { "DATABASE_URL before POSTGRES_ keys", { DATABASE_URL = "postgresql://db", POSTGRES_HOST = "db" },
            "postgresql://db" },
    }
    for _, case in ipairs(cases) do
        it("is made from " .. case[1], function()
            local c = load(case[2])
            assert.equal(case[3], c.async_database_url)
            assert.equal(case[3], c.sync_database_url)
        end)
    end

    it("carries passwords with any characters", function()
        local c = load { POSTGRES_USER = AWKWARD, POSTGRES_PASSWORD = AWKWARD, POSTGRES_DB = AWKWARD,
            REDIS_USERNAME = AWKWARD, REDIS_PASSWORD = AWKWARD }
        local parsed = url.parse_postgres(c.async_database_url)
        assert.same({ AWKWARD, AWKWARD, AWKWARD }, { parsed.user, parsed.password, parsed.dbname })
        parsed = url.parse_redis(c.redis_url)
        assert.same({ AWKWARD, AWKWARD }, { parsed.username, parsed.password })
    end)

    it("is MIGRATION_DATABASE_URL for the sync engine", function()
        local c = load { DATABASE_URL = "postgresql://pooler/x", MIGRATION_DATABASE_URL = "postgresql://direct/x" }
        assert.equal("postgresql://pooler/x", c.async_database_url)
        assert.equal("postgresql://direct/x", c.sync_database_url)
        assert.equal("MIGRATION_DATABASE_URL (environment)", c.source "sync_database_url")
    end)

    it("is never the file's MIGRATION_DATABASE_URL when this run names another database", function()
        local c = load({ MIGRATION_DATABASE_URL = "postgresql://production" }, nil,
            { DATABASE_URL = "postgresql://mine" })
        assert.equal("postgresql://mine", c.sync_database_url)
        c = load(nil, nil, { DATABASE_URL = "postgresql://a", MIGRATION_DATABASE_URL = "postgresql://b" })
        assert.equal("postgresql://b", c.sync_database_url)
    end)

    it("names the keys that cause the error", function()
        assert.equal("DATABASE_URL (environment)",
            load { DATABASE_URL = "postgresql://db" }.source "async_database_url")
        assert.equal("POSTGRES_HOST (environment), POSTGRES_PORT (environment)",
            load { POSTGRES_HOST = "db", POSTGRES_PORT = "1" }.source "async_database_url")
        assert.equal("default", load().source "async_database_url")
        assert.equal("REDIS_URL (environment)", load { REDIS_URL = "redis://c" }.source "redis_url")
    end)

    it("is refused with key and source when it is wrong", function()
        local c, path = load(nil, "\nDATABASE_URL=postgresql://app:hunter2@db:port/x")
        local e = refused(function() return c.async_database_url end)
        assert.equal(("DATABASE_URL (%s line 2): the port is not a number from 1 to 65535"):format(path), e.message)
        e = refused(function() return load { MIGRATION_DATABASE_URL = "hunter2" }.sync_database_url end)
        assert.truthy(e.message:find "^MIGRATION_DATABASE_URL %(environment%): ")
        e = refused(function() return load { REDIS_URL = "http://:hunter2@c" }.redis_url end)
        assert.truthy(e.message:find "^REDIS_URL %(environment%): ")
        e = refused(function() return load { DATABASE_URL = "mysql://hunter2@db" }.DATABASE_URL end)
        assert.truthy(e.message:find "^DATABASE_URL %(environment%): ")
    end)
end)

describe("the URL of Redis", function()
    local cases = {
        { "REDIS_HOST and the like", { REDIS_HOST = "c", REDIS_PORT = "1", REDIS_DB = "2", REDIS_USERNAME = "me",
            REDIS_PASSWORD = "pw12" }, "redis://me:pw12@c:1/2" },
        { "a password alone", { REDIS_PASSWORD = "pw12" }, "redis://:pw12@127.0.0.1:6379/0" },
        { "a socket", { REDIS_HOST = "/run/r.sock", REDIS_DB = "1" }, "unix:///run/r.sock?db=1" },
        { "REDIS_URL", { REDIS_URL = "rediss://c/3" }, "rediss://c:6379/3" },
        { "sentinels", { REDIS_URL = "redis+sentinel://a,b/main/0" }, "redis+sentinel://a:26379,b:26379/main/0" },
    }
    for _, case in ipairs(cases) do
        it("is made from " .. case[1], function()
            assert.equal(case[3], load(case[2]).redis_url)
        end)
    end
end)

describe("config.explain", function()
    local function row(c, key)
        for _, r in ipairs(c.explain()) do
            if r.key == key then
                return r
            end
        end
    end

    it("lists each key once, with value and source", function()
        local c = load({ DB_POOL_SIZE = "5" }, "CUSTOM=x")
        local seen = {}
        for _, r in ipairs(c.explain()) do
            assert.is_nil(seen[r.key])
            seen[r.key] = true
            assert.is_string(r.source)
        end
        assert.same({ key = "DB_POOL_SIZE", value = "5", source = "environment" }, row(c, "DB_POOL_SIZE"))
        assert.equal("off", row(c, "DB_POOL_RECYCLE").value)
        assert.equal("x", row(c, "CUSTOM").value)
        assert.is_nil(row(c, "DATABASE_URL").value)
        assert.is_true(seen.async_database_url and seen.sync_database_url and seen.redis_url)
    end)

    it("shows no secret, wherever it is", function()
        local c = load({
            DATABASE_URL = "postgresql://app:hunter%402@db/x?sslpassword=hunter3",
            MIGRATION_DATABASE_URL = "host=db password='hunter 4'",
            REDIS_URL = "redis://c?password=hunter5",
        }, "API_TOKEN=hunter7\nOTHER_URL=amqp://u:hunter/@8@mq/\nMY_SECRET=hunter9\nDSN='x password=hunter'\n")
        for _, r in ipairs(c.explain()) do
            assert.is_nil(tostring(r.value):find("hunter", 1, true), r.key)
        end
        assert.equal("***", row(load { POSTGRES_PASSWORD = "hunter6" }, "POSTGRES_PASSWORD").value)
        assert.equal("postgresql://app:***@db/x?sslpassword=***", row(c, "DATABASE_URL").value)
        assert.equal("postgresql://app:***@db/x?sslpassword=***", row(c, "async_database_url").value)
        assert.equal("host='db' password='***'", row(c, "MIGRATION_DATABASE_URL").value)
        assert.equal("redis://:***@c:6379/0", row(c, "redis_url").value)
        assert.equal("amqp://***@mq/", row(c, "OTHER_URL").value)
        local sentinel = load { REDIS_URL = "redis+sentinel://:hunter@s/main/0?sentinel_password=hunter2" }
        assert.equal("redis+sentinel://:***@s:26379/main/0?sentinel_password=***", row(sentinel, "redis_url").value)
        assert.is_nil(tostring(row(sentinel, "REDIS_URL").value):find("hunter", 1, true))
    end)

    it("describes a wrong value instead of failing", function()
        local c = load { DB_POOL_SIZE = "hunter2", DATABASE_URL = "postgresql://u:hunter2@h:x" }
        local r = row(c, "DB_POOL_SIZE")
        assert.is_nil(r.value)
        assert.truthy(r.error:find("expected an integer", 1, true))
        assert.truthy(row(c, "async_database_url").error:find("the port", 1, true))
        assert.equal("20", row(load(), "DB_POOL_SIZE").value)
    end)

    it("does not complain about keys that a URL overrides", function()
        local c = load { DATABASE_URL = "postgresql://db", POSTGRES_PORT = "tcp://10.0.0.1:5432" }
        assert.same({ key = "POSTGRES_PORT", value = "(not used)", source = "environment" }, row(c, "POSTGRES_PORT"))
    end)
end)

describe("config.check", function()
    it("passes when all is right", function()
        assert.same({}, load({ DATABASE_URL = "postgresql://db" }, "CUSTOM=1").check())
    end)

    it("raises the first error", function()
        local e = refused(function() load({ DB_STATEMENT_CACHE = "hunter2" }).check() end)
        assert.truthy(e.message:find "^DB_STATEMENT_CACHE")
        refused(function() load({ REDIS_URL = "hunter2" }).check() end)
    end)

    it("notes keys of the file that look like a mistyped one", function()
        local c, path = load(nil, "A=1\nDB_POOLSIZE=5")
        assert.same({ ("DB_POOLSIZE (%s line 2) is not a key of dbrun; did you mean DB_POOL_SIZE?"):format(path) },
            c.check())
    end)

    it("notes those of the environment", function()
        assert.same({ "DATABASE_ULR (environment) is not a key of dbrun; did you mean DATABASE_URL?" },
            load({ DATABASE_ULR = "postgresql://app:hidden@db", PATH = "x", DATA_URL = "y" }).check())
    end)

    it("ignores keys that a URL overrides", function()
        assert.same({}, load({ REDIS_URL = "redis://c", REDIS_PORT = "tcp://10.0.0.1:6379" }).check())
    end)
end)

describe("passwords", function()
    it("are masked once they are read, plain and URL-encoded", function()
        local c = load { POSTGRES_USER = "app", POSTGRES_PASSWORD = "quite@hidden",
            REDIS_URL = "redis://:well%2Fhidden@c" }
        assert(c.async_database_url and c.redis_url)
        local text = "quite@hidden quite%40hidden well/hidden well%2Fhidden"
        assert.equal("*** *** *** ***", core.log.mask(text))
    end)

    it("that equal the user's name do not mask it in every message", function()
        assert(load { DATABASE_URL = "postgresql://garbled:garbled@db" }.async_database_url)
        assert.equal('role "garbled" does not exist', core.log.mask 'role "garbled" does not exist')
    end)
end)

-- The same through the program: its options, the folder it runs in, its log and its exit status.
describe("dbrun in a folder", function()
    local fs = require "dbrun.fs"
    local program = core.options.program
    local folder

    local function run(arguments, environ)
        local lua_dir = os.getenv "DBRUN_LUA_DIR"
        local command = ("cd '%s' && env -i %s %s '%s' %s 2>&1; echo \"exit $?\""):format(folder,
            lua_dir and ("DBRUN_LUA_DIR='%s'"):format(fs.realpath(lua_dir)) or "", environ or "", program, arguments)
        local pipe <close> = assert(io.popen(command))
        local output = pipe:read "a"
        return output:match "^(.*)exit (%d+)\n$"
    end

    local function file(name, text)
        local f <close> = assert(io.open(folder .. "/" .. name, "wb"))
        f:write(text)
    end

    before_each(function()
        folder = os.tmpname()
        os.remove(folder)
        assert(fs.mkdir(folder))
    end)
    after_each(function()
        fs.rmtree(folder)
    end)

    if not program then
        pending("needs the dbrun binary: this is another interpreter")
        return
    end

    local PRINT <const> = [[-e 'local c = require "dbrun.config" print(c.DB_POOL_SIZE, c.source "DB_POOL_SIZE")']]

    it("reads the .env of the folder", function()
        file(".env", "\nDB_POOL_SIZE=7")
        assert.equal("7\t.env line 2\n", (run(PRINT)))
        assert.equal("8\tenvironment\n", (run(PRINT, "DB_POOL_SIZE=8")))
    end)

    it("reads another file with --env-file, and none with --no-env", function()
        file(".env", "DB_POOL_SIZE=7")
        file("dev.env", "DB_POOL_SIZE=9")
        assert.equal("9\tdev.env line 1\n", (run("--env-file dev.env " .. PRINT)))
        assert.equal("20\tdefault\n", (run("--no-env " .. PRINT)))
    end)

    it("reads no file before a key is asked for", function()
        file(".env", "this is no environment file")
        local output, status = run [[-e 'require "dbrun.config" print "fine"']]
        assert.equal("fine\n", output)
        assert.equal("0", status)
    end)

    it("lets --stack override everything, including MIGRATION_DATABASE_URL", function()
        file(".env", "MIGRATION_DATABASE_URL=postgresql://production/x\nREDIS_URL=redis://production")
        local output = run([[-e 'require "dbrun.core".options.overlay =
            { DATABASE_URL = "postgresql://stack", REDIS_URL = "unix:///stack" }
            local c = require "dbrun.config"
            print(c.async_database_url, c.sync_database_url, c.redis_url, c.source "DATABASE_URL")']],
            "DATABASE_URL=postgresql://other")
        assert.equal("postgresql://stack\tpostgresql://stack\tunix:///stack?db=0\t--stack\n", output)
    end)

    it("logs overridden and repeated keys, and values that are not expanded", function()
        file(".env", "DATABASE_URL=postgresql://db/x\nPOSTGRES_DB=y\nPOSTGRES_HOST=db\nA=1\nA=2\nB=${A}\n")
        local output = run [[-e 'local c = require "dbrun.config"
            assert(c.async_database_url and c.sync_database_url)']]
        local _, lines = output:gsub("\n", "")
        assert.equal(3, lines, output)
        assert.truthy(output:find(
            "DATABASE_URL (.env line 1) overrides POSTGRES_DB (.env line 2), which differs from it", 1, true),
            output)
        assert.truthy(output:find(".env line 5: A is given in line 4 too; the last one counts", 1, true), output)
        assert.truthy(output:find(".env line 6: the '$' in B is taken literally", 1, true), output)
    end)

    local function config_script(arguments, environ)
        return run(("'%s/config.lua' %s"):format(fs.realpath "scripts", arguments), environ)
    end

    it("shows the configuration", function()
        file(".env", "DATABASE_URL=postgresql://app:hunter2@db/x\nDB_POOL_SIZE=7")
        local output, status = config_script ""
        assert.equal("0", status)
        assert.truthy(output:find "DB_POOL_SIZE +7 +%.env line 2\n")
        assert.truthy(output:find("postgresql://app:***@db/x", 1, true))
        assert.is_nil(output:find("hunter2", 1, true))
    end)

    it("warns when the only address has a mistyped key", function()
        local output, status = config_script("", "DATABASE_ULR=x REDIS_UR=y")
        assert.equal("0", status)
        assert.matches("DATABASE_ULR %(environment%) is not a key of dbrun; did you mean DATABASE_URL%?", output)
        assert.matches("REDIS_UR %(environment%) is not a key of dbrun; did you mean REDIS_URL%?", output)
        assert.is_nil(config_script("", "REDIS_UR=y DATABASE_ULR=x DATABASE_URL=postgresql://db REDIS_PORT=1")
            :find("did you mean", 1, true))
    end)

    it("reports a mistyped key of the pool or of a folder when its default is used", function()
        file(".env", "DATABASE_URL=postgresql://db/x\nDB_POOL_SZIE=3\nDB_HOST=far\nDB_NAME=far")
        local output = config_script("", "DBRUN_PROTECTD=x")
        assert.equal(1, select(2, output:gsub("DB_POOL_SZIE %(%.env line 2%) is not a key of dbrun; "
            .. "did you mean DB_POOL_SIZE%?", "")), output)
        assert.matches("DBRUN_PROTECTD %(environment%) is not a key of dbrun; did you mean DBRUN_PROTECTED%?", output)
        assert.equal(2, select(2, output:gsub("did you mean", "")), output)
        assert.is_nil(config_script("", "DB_POOL_SIZE=4"):find("did you mean", 1, true))
    end)

    it("shows one value unmasked with --show", function()
        file(".env", "DATABASE_URL=postgresql://app:hunter2@db/x\nAPI_TOKEN=hunter3")
        for key, value in pairs {
            DATABASE_URL = "postgresql://app:hunter2@db/x", API_TOKEN = "hunter3", DB_POOL_SIZE = "20",
            async_database_url = "postgresql://app:hunter2@db/x", DB_POOL_RECYCLE = "off",
        } do
            local output, status = config_script("--show " .. key)
            assert.equal("0", status)
            assert.equal(value .. "\n", output)
        end
        for key, expected in pairs { MISSING = "1", DATABASE_UR = "2", explain = "1" } do
            local output, status = config_script("--show " .. key)
            assert.equal(expected, status, output)
            assert.truthy(output:find(key, 1, true))
        end
    end)

    it("shows it as JSON", function()
        local output, status = config_script("--format json", "DB_POOL_SIZE=7")
        assert.equal("0", status)
        for _, row in ipairs(require "dbrun.json".decode(output)) do
            if row.key == "DB_POOL_SIZE" then
                assert.same({ key = "DB_POOL_SIZE", value = "7", source = "environment" }, row)
            elseif row.key == "DATABASE_URL" then
                assert.equal(require "dbrun.json".null, row.value)
            end
        end
    end)

    it("names errors with --check, and exits with 2", function()
        file(".env", "\nDB_POOL_SIZE=hunter2")
        local output, status = config_script "--check"
        assert.equal("2", status)
        assert.truthy(output:find("DB_POOL_SIZE (.env line 2): expected an integer from 0 to 100000", 1, true), output)
        assert.is_nil(output:find("hunter2", 1, true))
        output, status = config_script("", "DB_POOL_SIZE=x")
        assert.equal("2", status)
        assert.truthy(output:find("config: DB_POOL_SIZE (environment): expected", 1, true))
        output, status = config_script("--check", "DB_POOL_SIZE=3")
        assert.equal("", output)
        assert.equal("0", status)
    end)

    it("names the malformed line of .env, and exits with 2", function()
        file(".env", "A=1\nhunter2\n")
        for _, arguments in ipairs { "", "--check", "--format json" } do
            local output, status = config_script(arguments)
            assert.equal("2", status)
            assert.truthy(output:find(".env line 2: expected KEY=VALUE", 1, true), output)
            assert.is_nil(output:find("hunter2", 1, true))
        end
    end)

    it("refuses unknown options with exit 2, and shows its help with --help", function()
        local output, status = config_script "--nonsense"
        assert.equal("2", status)
        assert.truthy(output:find("unknown option", 1, true))
        output, status = config_script "--help"
        assert.equal("0", status)
        assert.truthy(output:find("Usage: dbrun config", 1, true))
    end)
end)
