-- The causes that messages name, each produced on a real server, and their remedies.
local fs = require "dbrun.fs"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

local HBA <const> = [[
local   all  peered                  peer
local   all  all                     trust
host    all  barred  127.0.0.1/32    reject
hostssl all  sealed  127.0.0.1/32    trust
host    all  dbrun   127.0.0.1/32    trust
]]

describe("dbrun verify", function()
    local pg

    setup(function()
        pg = servers.postgres { tcp = true, hba = HBA }
        pg:psql [[create database shut; alter database shut allow_connections false;
            create database narrow connection limit 0; create database closed;
            revoke connect on database closed from public;
            create role few login connection limit 0;
            create role "o""dd" login connection limit 0; create role peered login;
            create role hasty login; create role mute nologin;
            alter role hasty set statement_timeout = '1ms'; create role plain login; create role barred login;
            create role sealed login]]
    end)
    teardown(function() pg:close() end)

    ---The report about a connection that fails.
    local function report(address, ...)
        local result = scripts.run("verify", { "--only", "postgres", ... }, { DATABASE_URL = address })
        assert.is_true(result.code == 1 or result.code == 2, result.text)
        assert.equal(1, select(2, result.stdout:gsub("FAIL  ", "")), result.text)
        return result.stdout
    end

    it("gives the right remedy for a refused connection, and one block for each cause", function()
        local cases = {
            { { user = "few" }, "the role's connection limit is reached", "alter role few connection limit -1" },
            { { user = "plain", database = "narrow" }, "the database's connection limit is reached",
                "alter database narrow connection limit -1" },
            { { database = "shut" }, "the database takes no connections",
                "alter database shut allow_connections true" },
            { { user = "plain", database = "closed" }, "a privilege is missing",
                "grant connect on database closed to plain;" },
            { { user = "nosuch" }, "the role does not exist", "create role nosuch login;" },
            { { user = 'o"dd' }, "the role's connection limit is reached",
                'alter role "o""dd" connection limit -1' },
            { { user = "plain", params = { options = "-c work_mem=much" } }, "a setting has a wrong value",
                "correct 'work_mem' in" },
            { { user = "plain", params = { options = "-c nosuch=1" } }, "a setting does not exist",
                "correct 'nosuch' in" },
            { { params = { sslmode = "require" }, tcp = true }, "the server speaks no TLS", "ssl = on" },
            { { user = "peered" }, "the account of this program is not the role",
                "as the account 'peered'" },
            { { user = "plain", params = { sslmode = "bogus" } }, "a wrong value", "'sslmode'" },
            { { user = "mute" }, "the role may not log in", "alter role mute login;" },
            { { user = "plain", tcp = true }, "pg_hba.conf has no line for this client",
                "pg_hba.conf: host  postgres  plain  127.0.0.1/32  scram-sha-256" },
            { { user = "barred", tcp = true }, "a line of pg_hba.conf rejects this client", "`reject`" },
            { { user = "sealed", tcp = true }, "pg_hba.conf has no line for this client", "sslmode=require" },
        }
        for _, case in ipairs(cases) do
            local text = report(pg:address(case[1]))
            assert.matches("FAIL  postgres.async +[%d.]+ m?s  " .. case[2]:gsub("%p", "%%%0"), text)
            assert.matches(case[3], text, 1, true)
            assert.matches("SKIP  postgres.clock +0.0 ms  needs postgres.async\n", text)
        end
    end)

    it("recognises a statement_timeout that is too short for any statement", function()
        local text = report(pg:address { user = "hasty" })
        assert.matches("statement_timeout is too short", text)
        assert.matches("alter role hasty reset statement_timeout", text, 1, true)
    end)

    it("recognises a missing service", function()
        local text = report "postgresql:///?service=nosuch"
        assert.matches("there is no such service", text)
        assert.matches("[nosuch]", text, 1, true)
    end)

    it("quotes any name in a GRANT", function()
        pg:psql [[create materialized view "My Totals" as select 1 as n]]
        local root = scripts.folder { ["e.lua"] = [[return { { check = "own", run = function(ctx)
            return ctx.db:value 'select n from "My Totals"' end } }]] }
        finally(function()
            fs.rmtree(root)
            pg:psql [[drop materialized view "My Totals"]]
        end)
        local result = scripts.run("verify", { "--only", "own", "--expect", root .. "/e.lua" }, {
            DATABASE_URL = pg:address { user = "plain" } })
        assert.matches('grant select on table "My Totals" to plain;', result.stdout, 1, true)
    end)

    it("writes out the GRANT that a migration's table needs", function()
        local root = scripts.folder { ["m/20250101000000_a.sql"] = "-- migrate:up\nselect 1;\n" }
        finally(function() fs.rmtree(root) end)
        pg:psql "create table schema_migrations (version text primary key)"
        local result = scripts.run("verify", { "--only", "schema.migrations" }, { DATABASE_URL = pg:address {
            user = "plain" }, DBRUN_MIGRATIONS_DIR = root .. "/m" })
        assert.equal(1, result.code, result.text)
        assert.matches("grant select on table schema_migrations to plain;", result.stdout, 1, true)
    end)

    it("--read-only skips checks that write", function()
        local r <close> = servers.redis()
        local command = scripts.command("verify", { "--skip", "schema" }, { DATABASE_URL = pg.url, REDIS_URL = r.url })
        table.insert(command, 2, "--read-only")
        local result = require("dbrun.process").run(command)
        assert.equal(0, result.code, result.stdout)
        assert.matches("SKIP  redis.round_trip", result.stdout)
        assert.matches("not tried with --read-only: DEL, EXPIRE, PUBLISH, EVAL", result.stdout, 1, true)
    end)
end)
