-- ALTER EXTENSION ... UPDATE of TimescaleDB, which must be the first statement of a session that has not loaded the
-- library. Debian does not package it: without it all is pending.
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("alter extension timescaledb update", function()
    if servers.shared_postgres():psql "select 1 from pg_available_extensions where name = 'timescaledb'" == "" then
        return pending "timescaledb is not installed"
    end
    local server, folder, name
    local count = 0

    setup(function()
        server = servers.postgres { settings = { shared_preload_libraries = "timescaledb",
            ["timescaledb.telemetry_level"] = "off" } }
    end)
    teardown(function() server:close() end)
    before_each(function()
        count = count + 1
        name = "extension_" .. count
        server:psql("create database " .. name)
        server:psql([[create extension timescaledb; create table h (t timestamptz);
            select create_hypertable('h', 't')]], name)
        folder = fs.mkdtemp()
        fs.mkdir(folder .. "/hooks")
        fs.write(folder .. "/hooks/beforeEachMigrate.sql", "insert into h values ('2019-01-01')")
    end)
    after_each(function() fs.rmtree(folder) end)

    local function write(number, directive, sql)
        fs.write(("%s/%d_x.sql"):format(folder, number),
            ("-- migrate:up%s\n%s\n-- migrate:down\n"):format(directive, sql))
    end

    for _, directive in ipairs { "", " transaction:false" } do
        it("runs between other files, whose rows go into chunks" .. directive, function()
            write(1, "", "insert into h values ('2020-01-01');")
            write(2, directive, "alter extension timescaledb update;\ncreate table c (t timestamptz not null);\n"
                .. "select create_hypertable('c', 't');\ninsert into h values ('2021-01-01');")
            write(3, directive, "alter extension plpgsql update;\ninsert into h values ('2022-01-01');")
            write(4, "", "insert into c values ('2022-01-01'); insert into h values ('2023-01-01');")
            local result = scripts.run("migrate", { "up", "--dir", folder, "--hooks", folder .. "/hooks" },
                { DATABASE_URL = server:address { database = name } })
            assert.equal(0, result.code, result.text)
            assert.equal("8|0|0", server:psql([[select count(*), (select count(*) from only h),
                (select count(*) from only c) from h]], name))
        end)
    end

    it("says what to do when it is not the first statement", function()
        write(1, "", "insert into h values ('2020-01-01');\nalter extension timescaledb update;")
        local result = scripts.run("migrate", { "up", "--dir", folder },
            { DATABASE_URL = server:address { database = name } })
        assert.equal(1, result.code)
        assert.matches("1_x.sql:3: extension \"timescaledb\" cannot be updated", result.stderr, 1, true)
        assert.matches("hint: make it the first statement of a file", result.stderr, 1, true)
        fs.write(folder .. "/1_x.sql", "alter extension timescaledb update;")
        result = scripts.run("seed", { "--dir", folder }, { DATABASE_URL = server:address { database = name } })
        assert.equal(1, result.code)
        assert.matches("hint: put it into a migration, as the first statement", result.stderr, 1, true)
    end)
end)
