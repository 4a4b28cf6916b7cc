-- The examples of the manual in which another migration tool calls dbrun, run by that tool where it is installed.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"
local servers = require "spec.support.servers"

---The files in the chapter, by their paths.
local function examples()
    local files = {}
    for path, code in fs.read "lua/manual/import.md":gmatch "<!%-%- example: (%S+) %-%->\n```%l+\n(.-)\n```" do
        files[path] = code .. "\n"
    end
    return files
end

local FILES <const> = examples()

describe("dbrun as a hook of", function()
    local folder, url, database

    before_each(function()
        url, database = servers.database()
        folder = fs.mkdtemp()
        fs.mkdir(folder .. "/seeds")
        fs.mkdir(folder .. "/scripts")
        for _, name in ipairs { "seed.lua", "verify.lua" } do
            fs.write(folder .. "/scripts/" .. name, fs.read("scripts/" .. name))
        end
        fs.write(folder .. "/seeds/1_fruit.sql", "insert into fruit (name) values ('apple')")
    end)
    after_each(function() fs.rmtree(folder) end)

    local function sql(text) return servers.shared_postgres():psql(text, database) end

    local function write(path, text, mode)
        fs.mkdir_p(fs.dirname(folder .. "/" .. path))
        fs.write(folder .. "/" .. path, text, mode)
    end

    ---Runs a command in the project, where `dbrun` is the one that runs the specs.
    local function run(...)
        local lua_dir = os.getenv "DBRUN_LUA_DIR"
        return process.run {
            cwd = folder, stderr = "stdout", timeout = 60, env = {
                DATABASE_URL = url, PATH = fs.dirname(core.options.program) .. ":" .. os.getenv "PATH",
                DBRUN_LUA_DIR = lua_dir and fs.realpath(lua_dir) or nil,
            }, ...,
        }
    end

    ---Runs it twice, then with a failing seed: its first run seeds, and the failure is the tool's own.
    local function check(...)
        local result = run(...)
        assert.equal(0, result.code, result.stdout)
        assert.matches("seeded +1_fruit", result.stdout)
        assert.matches("PASS +postgres.async", result.stdout)
        result = run(...)
        assert.equal(0, result.code, result.stdout)
        assert.equal("apple", sql "select string_agg(name, ' ') from fruit")
        return result
    end

    local UP <const> = "create table fruit (name text);\n"

    it("Alembic", function()
        local python
        for _, name in ipairs { "python3", "/usr/bin/python3" } do
            local found = process.run { "sh", "-c", name .. " -c 'import alembic, psycopg2'", stderr = "stdout" }
            python = python or found.ok and name or nil
        end
        if not python then return pending "Alembic is not installed (python3-alembic, python3-psycopg2)" end
        write("alembic.ini", "[alembic]\nscript_location = alembic\n")
        write("alembic/env.py", FILES["alembic/env.py"])
        local function revision(name, down, code)
            write(("alembic/versions/%s.py"):format(name), ("from alembic import op\nrevision = '%s'\n"
                .. "down_revision = %s\ndef upgrade():\n    op.execute(%q)\n"
                .. "def downgrade():\n    op.execute('drop table fruit')\n"):format(name, down, code))
        end
        revision("a1", "None", (UP:gsub("\n", "")))
        local result = run(python, "-m", "alembic", "upgrade", "head", "--sql")
        assert.equal(0, result.code, result.stdout)
        assert.matches("create table fruit", result.stdout, 1, true)
        assert.not_matches("seeded", result.stdout, 1, true)
        result = check(python, "-m", "alembic", "upgrade", "head")
        assert.is_nil(result.stdout:find("dbrun", 1, true))
        revision("b2", "'a1'", "create table bowl ()")
        fs.write(folder .. "/seeds/2_bad.sql", "select 1 / 0")
        result = run(python, "-m", "alembic", "upgrade", "head")
        assert.equal(1, result.code, result.stdout)
        assert.matches("division by zero", result.stdout, 1, true)
        assert.equal("b2", sql "select version_num from alembic_version")
        for _, words in ipairs { { "stamp", "a1" }, { "downgrade", "base" } } do
            result = run(python, "-m", "alembic", words[1], words[2])
            assert.equal(0, result.code, result.stdout)
            assert.not_matches("Target:", result.stdout, 1, true)
        end
    end)

    it("dbmate", function()
        if not programs.which "dbmate" then return pending "dbmate is not installed (npm install dbmate)" end
        write("db/migrations/20250101000000_fruit.sql", "-- migrate:up\n" .. UP .. "-- migrate:down\n")
        write("migrate.sh", FILES["migrate.sh"])
        url = url:gsub("^postgresql:", "postgres:") .. "&sslmode=disable"
        check("sh", "migrate.sh")
        fs.write(folder .. "/seeds/2_bad.sql", "select 1 / 0")
        local result = run("sh", "migrate.sh")
        assert.equal(1, result.code)
        assert.matches("division by zero", result.stdout, 1, true)
    end)

    it("Flyway", function()
        write("sql/V1__fruit.sql", UP)
        write("sql/afterMigrate.sh", FILES["sql/afterMigrate.sh"], tonumber("755", 8))
        -- Flyway itself connects by TCP only, and our servers have none: the script is called as Flyway calls it, in
        -- the folder where Flyway was started, when the migrations are committed.
        sql(UP)
        check "sql/afterMigrate.sh"
        fs.write(folder .. "/seeds/2_bad.sql", "select 1 / 0")
        assert.equal(1, run("sql/afterMigrate.sh").code)
    end)
end)
