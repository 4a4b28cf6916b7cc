-- Passwords from every place of a configuration, on servers that really check them.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local url = require "dbrun.url"

local PASSWORDS <const> = {
    "@/:%#'\\ ", "p@ss/w:rd%41#?&=+", "it's \"quoted\" \\ and $HOME `id` ${X}", "pä\u{10348}ß", " spaces at both ends ",
    "%%41%zz", "a'b\\'c\\\\", "=;,[]{}()<>|!~^*",
}

---The quoted form of a password in psql.
local function literal(text)
    return "'" .. text:gsub("'", "''") .. "'"
end

local ASK_POSTGRES <const> = [[print(require "dbrun.db".async:value "select current_user")]]
local ASK_REDIS <const> = [[print(require "dbrun.redis".get():call("ACL", "WHOAMI"))]]

---Runs a Lua statement with dbrun in a folder, with only these variables. Returns its output and exit status.
local function dbrun(folder, statement, environ)
    local lua_dir = os.getenv "DBRUN_LUA_DIR"
    local command = { "env", "-i", "PATH=" .. os.getenv "PATH" }
    if lua_dir then
        command[#command + 1] = "DBRUN_LUA_DIR=" .. fs.realpath(lua_dir)
    end
    for name, value in pairs(environ) do
        command[#command + 1] = name .. "=" .. value
    end
    for _, word in ipairs { core.options.program, "--log", "error", "-e", statement } do
        command[#command + 1] = word
    end
    command.cwd, command.stderr, command.timeout = folder, "stdout", 60
    local result = process.run(command)
    return result.stdout, result.code
end

describe("a password", function()
    local pg, redis, folder

    local function run(statement, environ, dotenv)
        if dotenv then
            fs.write(folder .. "/.env", dotenv .. "\n")
        end
        return dbrun(folder, statement, environ)
    end

    setup(function()
        pg = servers.postgres { hba = "local all dbrun trust\nlocal all all scram-sha-256\n", settings = {
            password_encryption = "scram-sha-256" } }
        redis = servers.redis()
        for i, password in ipairs(PASSWORDS) do
            pg:psql(("create role app%d login password %s"):format(i, literal(password)))
            redis:cli("ACL", "SETUSER", "app" .. i, "on", ">" .. password, "allcommands", "allkeys")
        end
    end)
    teardown(function()
        pg:close()
        redis:close()
    end)
    before_each(function()
        folder = fs.mkdtemp()
    end)
    after_each(function()
        fs.rmtree(folder)
    end)

    for i, password in ipairs(PASSWORDS) do
        local user = "app" .. i
        local double = '"' .. password:gsub('[\\"]', "\\%0") .. '"'

        it("like " .. password .. " opens PostgreSQL from every place", function()
            local parts = { POSTGRES_HOST = pg.sockdir, POSTGRES_PORT = tostring(pg.port), POSTGRES_DB = "postgres",
                POSTGRES_USER = user }
            local address = { hosts = { { host = pg.sockdir, port = pg.port } }, user = user, password = password,
                dbname = "postgres", params = {} }
            assert.equal(user .. "\n", (run(ASK_POSTGRES, parts, "POSTGRES_PASSWORD=" .. double)))
            parts.POSTGRES_PASSWORD = password
            assert.equal(user .. "\n", (run(ASK_POSTGRES, parts, "")))
            assert.equal(user .. "\n", (run(ASK_POSTGRES, { DATABASE_URL = url.build_postgres(address) })))
            assert.equal(user .. "\n", (run(ASK_POSTGRES, { DATABASE_URL = url.build_keywords(address) })))
        end)

        it("like " .. password .. " opens Redis from every place", function()
            local parts = { REDIS_HOST = redis.socket, REDIS_USERNAME = user }
            assert.equal(user .. "\n", (run(ASK_REDIS, parts, "REDIS_PASSWORD=" .. double)))
            parts.REDIS_PASSWORD = password
            assert.equal(user .. "\n", (run(ASK_REDIS, parts, "")))
            local address = { scheme = "unix", path = redis.socket, username = user, password = password }
            assert.equal(user .. "\n", (run(ASK_REDIS, { REDIS_URL = url.build_redis(address) })))
        end)
    end

    it("that is wrong is refused with the cause and never printed", function()
        local address = { hosts = { { host = pg.sockdir, port = pg.port } }, user = "app1", password = "hunter2/@",
            dbname = "postgres", params = {} }
        for _, statement in ipairs { ASK_POSTGRES, (ASK_POSTGRES:gsub("async", "sync")) } do
            local output, status = run(statement, { DATABASE_URL = url.build_postgres(address) })
            assert.equal(1, status)
            assert.truthy(output:find("28P01", 1, true), output)
            assert.is_nil(output:find("hunter2", 1, true), output)
        end
        local output, status = run(ASK_REDIS, { REDIS_HOST = redis.socket, REDIS_USERNAME = "app1",
            REDIS_PASSWORD = "hunter2/@" })
        assert.equal(1, status)
        assert.truthy(output:find("WRONGPASS", 1, true), output)
        assert.is_nil(output:find("hunter2", 1, true), output)
    end)
end)

describe("without any configuration", function()
    it("libpq's own variables name the database", function()
        local pg = servers.shared_postgres()
        local folder = fs.mkdtemp()
        local output = dbrun(folder, [[print(require "dbrun.db".async:value "select current_database()")]],
            { PGHOST = pg.sockdir, PGPORT = tostring(pg.port), PGUSER = "dbrun", PGDATABASE = "postgres" })
        fs.rmtree(folder)
        assert.equal("postgres\n", output)
    end)
end)
