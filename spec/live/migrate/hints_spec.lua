-- Hints in errors of statements that depend on the statements around them.
local migrations = require "spec.support.migrations"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"

---Directive and statements of an up section, and the words that the error must have.
---@type table<string, { [1]: string, [2]: string }>
local CASES <const> = {
    ["a DO that commits in the migration's transaction"] = {
        "\ndo $$ begin commit; end $$;",
        "7_x.sql:2: invalid transaction termination %(SQLSTATE 2D000%)\n.*hint: put 'transaction:false' after "
            .. "'%-%- migrate:up' in line 1: the code that it runs ends transactions\n",
    },
    ["a procedure that commits in the file's own block"] = {
        " transaction:false\ncreate procedure p() language plpgsql as $$ begin commit; end $$;\nbegin;\ncall p();\n"
            .. "commit;",
        "7_x.sql:4: .*hint: put it outside of 'begin' and 'commit' %(the block begins in line 3%): the code",
    },
    ["a procedure that may not commit"] = {
        " transaction:false\ncreate procedure p() language plpgsql set work_mem = '3MB' as $$ begin commit; end $$;\n"
            .. "call p();",
        "7_x.sql:3: .*hint: a procedure cannot commit when it has a SET clause",
    },
    ["CREATE INDEX CONCURRENTLY in the migration's transaction"] = {
        "\ncreate table t (i int);\ncreate index concurrently on t (i);",
        "7_x.sql:3: .*hint: put 'transaction:false' after '%-%- migrate:up' in line 1: this statement cannot run in a",
    },
    ["CREATE INDEX CONCURRENTLY in the file's own block"] = {
        " transaction:false\ncreate table t (i int);\nbegin;\ncreate index concurrently on t (i);\ncommit;",
        "7_x.sql:4: .*hint: put it outside of 'begin' and 'commit' %(the block begins in line 3%): this",
    },
    ["VACUUM in a DO"] = {
        "\ndo $$ begin execute 'vacuum'; end $$;",
        "7_x.sql:2: .*hint: it cannot run in a function, a procedure or a DO",
    },
    ["SET TRANSACTION that comes too late"] = {
        "\nselect 1;\nset transaction isolation level serializable;",
        "7_x.sql:3: .*hint: put it before all other statements of its transaction",
    },
    ["a block that is READ ONLY"] = {
        " transaction:false\nbegin read only;\ncreate table t ();\ncommit;",
        "7_x.sql:3: .*hint: line 2 has made it read%-only",
    },
    ["a session that the file has made read-only"] = {
        " transaction:false\nset default_transaction_read_only = on;\ncreate table t ();",
        "7_x.sql:3: .*hint: line 2 has made it read%-only",
    },
    ["a new value of an enum"] = {
        "\nalter type e add value 'b';\ncreate table t (e e default 'b');",
        "7_x.sql:3: .*hint: New enum values must be committed before they can be used. Put ALTER TYPE ... ADD VALUE",
        before = "create type e as enum ('a')", -- in the same transaction, PostgreSQL 18 accepts it
    },
    ["a statement_timeout of the file"] = {
        "\nset statement_timeout = '50ms';\nselect pg_sleep(20);",
        "7_x.sql:3: .*hint: statement_timeout is set in line 2",
    },
    ["a statement that was cancelled on the server"] = {
        "\nselect pg_cancel_backend(pg_backend_pid()), pg_sleep(20);",
        "7_x.sql:2: canceling statement due to user request .*\n     2 | select pg_cancel.*"
            .. "hint: it was cancelled on the server.*Nothing of this migration was kept",
    },
    ["one that was cancelled on the server, without a transaction"] = {
        " transaction:false\ncreate table t ();\nselect pg_cancel_backend(pg_backend_pid()), pg_sleep(20);",
        "7_x.sql:3: canceling statement due to user request .*transaction:false: 1 of its 2 statements took effect",
    },
}

describe("the error of a migration has a hint for", function()
    local url, _, sql
    migrations.around(_ENV, function(...) url, _, sql = ... end)

    for name, case in pairs(CASES) do
        it(name, function()
            if case.before then sql(case.before) end
            local folder <const> = migrations.folder {
                ["7_x.sql"] = "-- migrate:up" .. case[1] .. "\n-- migrate:down\n",
            }
            local result <const> = scripts.run("migrate", { "up", "--dir", folder }, { DATABASE_URL = url })
            assert.equal(1, result.code, result.text)
            assert.matches(case[2], result.stderr)
            assert.equal("0", sql "select count(*) from schema_migrations")
        end)
    end

    it("statement_timeout of the role, and --statement-timeout", function()
        local folder <const> = migrations.folder {
            ["7_x.sql"] = "-- migrate:up\nselect pg_sleep(20);\n-- migrate:down\n",
        }
        local function up(address, ...)
            return scripts.run("migrate", { "up", "--dir", folder, ... }, { DATABASE_URL = address }).stderr
        end
        assert.matches("hint: it ran longer than --statement-timeout", up(url, "--statement-timeout", "0.05"), 1, true)
        local before <const> = scripts.command("migrate", { "up", "--dir", folder }, { DATABASE_URL = url })
        table.insert(before, 2, "--statement-timeout=0.05") -- in front of the command
        assert.matches("hint: it ran longer than --statement-timeout", process.run(before).stderr, 1, true)
        local timeout <const> = (url:find("?", 1, true) and "&" or "?") .. "options=-c%20statement_timeout%3D500"
        assert.matches("hint: statement_timeout of the role, the database or the server ended it", up(url .. timeout),
            1, true)
    end)

    it("the right directive of several pairs", function()
        local folder <const> = migrations.folder { ["7_x.sql"] = "-- migrate:up transaction:false\nselect 1;\n"
            .. "-- migrate:down\n-- migrate:up\ndo $$ begin commit; end $$;\n-- migrate:down\n" }
        local result <const> = scripts.run("migrate", { "up", "--dir", folder }, { DATABASE_URL = url })
        assert.matches("7_x.sql:5: .*put 'transaction:false' after '%-%- migrate:up' in line 4", result.stderr)
    end)
end)
