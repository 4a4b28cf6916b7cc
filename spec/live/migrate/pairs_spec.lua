-- Files with several pairs of up and down: one file, one record; the downs in reverse.
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"

describe("a migration with several pairs", function()
    local url, sql
    migrations.around(_ENV, function(...)
        local _
        url, _, sql = ...
    end)

    local function run(text, ...)
        local folder = migrations.folder { ["1_pairs.sql"] = text }
        local results = {}
        for i, command in ipairs { ... } do
            results[i] = scripts.run("migrate", { command, "--dir", folder }, { DATABASE_URL = url })
        end
        return table.unpack(results)
    end

    local BOTH <const> = "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n"
        .. "-- migrate:up\ncreate view b as select * from a;\n-- migrate:down\ndrop view b;\n"

    it("is applied and reverted as one", function()
        local up, down, again = run(BOTH, "up", "down", "up")
        assert.equal(0, up.code, up.text)
        assert.equal(0, down.code, down.text) -- the view is dropped before its table
        assert.equal(0, again.code, again.text)
        assert.equal("1", sql "select string_agg(version, ' ') from schema_migrations")
        assert.equal("b", sql "select relname from pg_class where oid = to_regclass('b')")
    end)

    it("without transaction:false is one transaction, and the error has the line of its pair", function()
        local up = run(BOTH .. "-- migrate:up\n\nselect 1/0;\n-- migrate:down\n", "up")
        assert.equal(1, up.code)
        assert.matches("1_pairs.sql:11: ", up.stderr)
        assert.equal("", sql "select relname from pg_class where oid = to_regclass('a')")
        assert.equal("0", sql "select count(*) from schema_migrations")
    end)

    it("with transaction:false in one pair is a list of steps; a transactional pair is one of them", function()
        local text <const> = BOTH .. "-- migrate:up transaction:false\ncreate index concurrently c on a (id);\n"
            .. "-- migrate:down transaction:false\ndrop index concurrently c;\n"
            .. "-- migrate:up\ncreate table d ();\nselect 1/(select count(*) from go);\n"
            .. "-- migrate:down\ndrop table d;\n"
        sql "create table go (id int)"
        local up = run(text, "up")
        assert.equal(1, up.code)
        assert.matches("3 of its 4 statements took effect", up.stderr)
        assert.equal("c", sql "select relname from pg_class where oid = to_regclass('c')")
        assert.equal("", sql "select relname from pg_class where oid = to_regclass('d')")
        assert.equal("0", sql "select count(*) from schema_migrations")
        sql "insert into go values (1)"
        local again, down = run(text, "up", "down")
        assert.equal(0, again.code, again.text)
        assert.equal(0, down.code, down.text)
        assert.equal("0", sql "select count(*) from schema_migrations")
        assert.equal("", sql "select relname from pg_class where oid = to_regclass('a')")
    end)

    it("is linted in all of its pairs", function()
        local folder = migrations.folder {
            ["1_pairs.sql"] = "-- migrate:up\ncreate table a (id int);\n-- migrate:down\ndrop table a;\n"
                .. "-- migrate:up\nbegin;\n-- migrate:down\nselect 1;\n",
        }
        local result = scripts.run("migrate", { "lint", "--dir", folder }, {})
        assert.equal(1, result.code)
        assert.matches("1_pairs.sql:6", result.stdout)
    end)
end)
