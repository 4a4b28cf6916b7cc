-- Hooks around migrations: their events, their order, their transactions, and the possibilities of Lua hooks.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local pace = require "spec.support.pace"
local scripts = require "spec.support.scripts"

local EVENTS <const> = require("dbrun.migrate.run.hooks").EVENTS

describe("hooks of migrations", function()
    local url, sql, dir
    migrations.around(_ENV, function(address, _, ask) url, sql = address, ask end)

    ---A project with migrations m/ and hooks h/.
    local function project(files)
        dir = migrations.folder(files)
        sql "create table if not exists seen (n serial, what text)"
    end

    local function migrate(command, ...)
        return scripts.run("migrate", { command, "--dir", dir .. "/m", "--hooks", dir .. "/h", ... },
            { DATABASE_URL = url })
    end

    local function seen()
        local list = sql "select string_agg(what, ' ' order by n) from seen"
        sql "truncate seen"
        return list
    end

    local A <const> = "-- migrate:up\ncreate table a ();\n-- migrate:down\ndrop table a;\n"
    local B <const> = "-- migrate:up\ncreate table b ();\n-- migrate:down\ndrop table b;\n"
    local BAD <const> = "-- migrate:up\nselect 1 / 0;\n-- migrate:down\nselect 1 / 0;\n"

    ---One hook for each event, which records its name; each-hooks also record the version.
    local function all_hooks(files)
        for i, event in ipairs(EVENTS) do
            if event == "beforeConnect" then
                files["h/beforeConnect.lua"] = "assert(not (...).db); io.stdout:write 'before the connection\\n'"
            elseif i % 2 == 0 then
                files["h/" .. event .. ".sql"] = ("insert into seen (what) values ('%s');"):format(event)
            else
                files["h/" .. event .. ".lua"] = ([[return function(ctx)
                    ctx.engine:query("insert into seen (what) values ($1)",
                        ctx.event .. (ctx.migration and ":" .. ctx.migration.version or ""))
                end]])
            end
        end
        return files
    end

    it("run in Flyway's order, up and down, and when there is nothing to do", function()
        project(all_hooks { ["m/1_a.sql"] = A, ["m/2_b.sql"] = B })
        local result = migrate "up"
        assert.equal(0, result.code, result.text)
        assert.matches("^before the connection\n", result.stdout)
        local order = seen():gsub(":%d", "")
        assert.equal("afterConnect beforeMigrate beforeEachMigrate afterEachMigrate beforeEachMigrate afterEachMigrate "
            .. "beforeRepeatables afterVersioned afterMigrateApplied afterMigrate", order)
        migrate "up"
        assert.equal("afterConnect beforeMigrate beforeRepeatables afterVersioned afterMigrate", seen())
        result = migrate "down"
        assert.equal(0, result.code, result.text)
        assert.equal("afterConnect beforeUndo beforeEachUndo afterEachUndo afterUndo", (seen():gsub(":%d", "")))
    end)

    it("get errors, after the migration was rolled back", function()
        project(all_hooks { ["m/1_a.sql"] = A, ["m/2_bad.sql"] = BAD })
        assert.equal(1, migrate("up").code)
        assert.equal("afterConnect beforeMigrate beforeEachMigrate afterEachMigrate afterEachMigrateError "
            .. "afterMigrateError", (seen():gsub(":%d", "")))
    end)

    it("of one event run the nameless one first, then by name", function()
        project {
            ["m/1_a.sql"] = A,
            ["h/beforeMigrate__b.sql"] = "insert into seen (what) values ('b')",
            ["h/beforeMigrate__a.lua"] = "(...).db:exec [[insert into seen (what) values ('a')]]",
            ["h/beforeMigrate.sql"] = "insert into seen (what) values ('none')",
            ["h/beforeMigrate__a_2.sql"] = "insert into seen (what) values ('a_2')",
            ["h/README.md"] = "not a hook",
        }
        assert.equal(0, migrate("up").code)
        assert.equal("none a a_2 b", seen())
    end)

    it("for each migration share its transaction: a failure rolls the migration back", function()
        project {
            ["m/1_a.sql"] = A,
            ["h/beforeEachMigrate.sql"] = "insert into seen (what) values ('each')",
            ["h/afterEachMigrate.sql"] = "select 1;\nselect nonsense;",
            ["h/beforeMigrate.sql"] = "insert into seen (what) values ('own')",
        }
        local result = migrate "up"
        assert.equal(1, result.code)
        assert.matches("/h/afterEachMigrate.sql:2: column \"nonsense\" does not exist", result.stderr, 1, true)
        assert.equal("own", seen())
        assert.equal("f", sql "select to_regclass('a') is not null")
    end)

    it("in Lua can veto a migration", function()
        project {
            ["m/1_a.sql"] = A, ["m/2_b.sql"] = B,
            ["h/beforeEachMigrate__freeze.lua"] = [[
local ctx = ...
if ctx.migration.name:find "b" and ctx.config.DBRUN_MIGRATIONS_DIR then return false, "no changes on Fridays" end]],
        }
        local result = migrate "up"
        assert.equal(1, result.code)
        assert.matches("beforeEachMigrate__freeze.lua stopped the run: no changes on Fridays", result.stderr, 1, true)
        assert.equal("1", sql "select string_agg(version, ' ') from schema_migrations")
    end)

    it("that fail on an error do not hide it", function()
        project { ["m/1_bad.sql"] = BAD, ["h/afterMigrateError.sql"] = "select nonsense" }
        local result = migrate "up"
        assert.matches("division by zero", result.stderr, 1, true)
        assert.matches("The hooks for afterMigrateError failed, too: .*nonsense", result.stderr)
    end)

    it("run around a transaction:false migration, too", function()
        project {
            ["m/1_x.sql"] = "-- migrate:up transaction:false\ncreate table x (id int);\nvacuum x;\n-- migrate:down\n",
            ["h/beforeEachMigrate.sql"] = "insert into seen (what) values ('before')",
            ["h/afterEachMigrate.sql"] = "insert into seen (what) values ('after')",
        }
        assert.equal(0, migrate("up").code)
        assert.equal("before after", seen())
    end)

    it("with a name that is not an event, or the same name twice, are refused before anything runs", function()
        for files, message in pairs {
            [{ ["h/beforeMigrat.sql"] = "select 1" }] = "did you mean 'beforeMigrate'?",
            [{ ["h/afterMigrate__x.sql"] = "select 1", ["h/afterMigrate__x.lua"] = "" }] = "two hooks are called",
            [{ ["h/beforeConnect.sql"] = "select 1" }] = "no SQL can run",
        } do
            files["m/1_a.sql"] = A
            project(files)
            local result = migrate "up"
            assert.equal(2, result.code, result.text)
            assert.matches(message, result.stderr, 1, true)
            fs.rmtree(dir)
        end
        project { ["m/1_a.sql"] = A }
        assert.equal(2, migrate("up").code)
    end)

    it("after a run get the applied migrations, and their durations", function()
        project {
            ["m/1_a.sql"] = A, ["m/2_b.sql"] = B,
            ["h/afterMigrate.lua"] = [[local ctx = ...
                for _, one in ipairs(ctx.applied) do
                    assert(one.path:find(one.name, 1, true) and math.type(one.seconds) == "float" and one.seconds > 0)
                    ctx:query("insert into seen (what) values ($1)", one.direction .. ":" .. one.version)
                end]],
            ["h/afterUndo.lua"] = [[local ctx = ...
                ctx:query("insert into seen (what) values ($1)", ctx.applied[1].direction .. ":" .. #ctx.applied)]],
            ["h/afterVersioned.sql"] = [[insert into seen (what)
                select x ->> 'name' from json_array_elements(current_setting('dbrun.applied')::json) x]],
        }
        assert.equal(0, migrate("up").code)
        assert.equal("1_a.sql 2_b.sql up:1 up:2", seen())
        assert.equal(0, migrate("up").code)
        assert.equal("", seen())
        assert.equal(0, migrate("down").code)
        assert.equal("down:1", seen())
        assert.equal("", sql "select coalesce(current_setting('dbrun.applied', true), '')")
    end)

    it("after a failure get the migrations that were applied before it", function()
        project {
            ["m/1_a.sql"] = A, ["m/2_bad.sql"] = BAD,
            ["h/afterMigrateError.lua"] = [[local ctx = ...
                ctx:query("insert into seen (what) values ($1)", #ctx.applied .. ":" .. ctx.error.sqlstate)]],
        }
        assert.equal(1, migrate("up").code)
        assert.equal("1:22012", seen())
    end)

    describe("that raise are named with their file, and the work that stays:", function()
        local FAILURES <const> = {
            { "lua", "(...).db:query 'select nonsense'", 'column "nonsense" does not exist (SQLSTATE 42703)' },
            { "lua", "error('no luck')", "x.lua:1: no luck\n" },
            { "lua", "error { code = 5 }", "%s stopped the run: table: " },
            { "lua", "return false, 'not today'", "%s stopped the run: not today\n  hint: it is a hook that refuses" },
            { "lua", "require 'dbrun.fs'.read '/no/such'", "cannot read '/no/such'" },
            { "lua", "syntax error here", "%s stopped the run: it is not valid Lua" },
            { "sql", "select nonsense", '%s:1: column "nonsense" does not exist (SQLSTATE 42703)' },
            { "sql", "commit", "%s:1: 'commit' would end the hook's transaction" },
        }
        ---It fails at COMMIT, so it has a separate transaction.
        local LATE <const> = { "sql", "create table d (i int unique deferrable initially deferred);\n"
            .. "insert into d values (1), (1)", "%s: duplicate key" }

        local function check(event, stays, up, m)
            local failures = table.move(FAILURES, 1, #FAILURES, 1, {})
            failures[#failures + 1] = not event:find "Each" and LATE or nil
            for _, failure in ipairs(failures) do
                local kind, text, message = table.unpack(failure)
                local file = ("h/%s__x.%s"):format(event, kind)
                project { ["m/1_a.sql"] = m or A, ["m/2_b.sql"] = B, [file] = text }
                local result = migrate "up"
                assert.equal(1, result.code, result.text)
                local path <const> = dir .. "/" .. file
                local expected <const> = message:gsub("%%s", function() return path end)
                assert.truthy(result.stderr:find(expected, 1, true), text .. "\n" .. result.stderr)
                assert.truthy(result.stderr:find("migrate: " .. path, 1, true), result.stderr)
                assert.truthy(result.stderr:find(stays, 1, true), text .. "\n" .. result.stderr)
                assert.equal(up, sql "select count(*) from schema_migrations", text)
                sql "drop table if exists a, b, d, schema_migrations, dbrun_migrations"
            end
        end

        it("after the migrations", function()
            check("afterMigrate", "It is a hook; 2 migrations were applied before it, and that stays. The last one was "
                .. "2_b.sql.", "2")
        end)

        it("before the migrations", function()
            check("beforeMigrate", "It is a hook; no migration was run.", "0")
        end)

        it("in a migration's transaction", function()
            check("afterEachMigrate", "It is a hook; nothing of this migration was kept.", "0")
        end)

        it("after a migration without a transaction", function()
            check("afterEachMigrate", "It is a hook; this migration was applied before it (transaction:false), and "
                .. "that stays.", "1", (A:gsub("migrate:up", "%0 transaction:false")))
        end)
    end)

    it("cannot end the program with os.exit, nor can migrations", function()
        for name, code in pairs { ["h/beforeConnect.lua"] = "os.exit(0)", ["h/beforeMigrate.lua"] = "os.exit()",
            ["h/beforeEachMigrate.lua"] = "return function() os.exit(0, true) end",
            ["h/afterEachMigrate.lua"] = "os.exit(0)", ["m/0_x.lua"] = "return { up = function() os.exit(0) end }",
            ["m/0_y.lua"] = "os.exit(0)" } do
            project { ["m/1_a.sql"] = A, ["h/afterConnect.sql"] = "select 1", [name] = code }
            local result = migrate "up"
            assert.equal(1, result.code, result.text)
            assert.matches(name .. ":1: ", result.stderr, 1, true)
            assert.matches(name .. " called os.exit", result.stderr, 1, true)
            assert.equal("", sql "select to_regclass('a')")
        end
        local program = [[local exit_guard = require "dbrun.exit_guard"
            pcall(exit_guard.call, "it", error, "x") exit_guard.call("it", print, 1) os.exit(7)]]
        assert.equal(7, require("dbrun.process").run { require("dbrun.core").options.program, "-e", program }.code)
    end)

    it("that are interrupted are named, with the work that stays", function()
        project { ["m/1_a.sql"] = A, ["h/afterMigrate.sql"] = "select pg_sleep(60)" }
        local core = require "dbrun.core"
        local result
        pace.long_enough(1, function(seconds)
            sql "drop table if exists a, schema_migrations, schema_migrations_dbrun"
            result = require("dbrun.process").run { core.options.program, "--timeout", ("%g"):format(seconds),
                "migrate", "up", "--dir", dir .. "/m", "--hooks", dir .. "/h", env = { DATABASE_URL = url } }
            return result.stderr:find "afterMigrate"
        end)
        assert.equal(1, result.code, result.stderr)
        assert.matches("h/afterMigrate.sql was interrupted. It is a hook; 1 migration was applied before it, and that "
            .. "stays.", result.stderr, 1, true)
    end)

    it("whose statement is cancelled on the server do not count as interrupted", function()
        project { ["m/1_a.sql"] = A, ["h/beforeMigrate.lua"] =
            "local ctx = ...\nctx.db:query 'select pg_cancel_backend(pg_backend_pid()), pg_sleep(20)'" }
        local result = migrate "up"
        assert.equal(1, result.code, result.text)
        assert.matches("h/beforeMigrate.lua:2: canceling statement due to user request (SQLSTATE 57014)",
            result.stderr, 1, true)
        assert.not_matches("interrupted", result.stderr)
    end)

    it("that raise show their own frames only, and nil with a reason is a veto, too", function()
        for code, told in pairs {
            ["local function f() error('boom', 0) end f()"] = "stopped the run: boom\n  stack traceback:",
            ["error {}"] = "stopped the run: table: ",
            ["return nil, 'no disk'"] = "stopped the run: no disk",
        } do
            project { ["m/1_a.sql"] = A, ["h/beforeMigrate.lua"] = code }
            local result = migrate "up"
            assert.equal(1, result.code)
            assert.matches(told, result.stderr, 1, true)
            assert.not_matches("dbrun/", (result.stderr:gsub(dir:gsub("%p", "%%%0"), "")), 1, true)
        end
    end)

    it("for each migration get the migrations that were applied before it", function()
        project { ["m/1_a.sql"] = A, ["m/2_b.sql"] = B, ["h/afterEachMigrate.lua"] = [[local c = ...
            local last = c.applied[#c.applied]
            c:query("insert into seen (what) values ($1)", c.migration.version .. "/" .. (last and last.version or "-"))
            assert(not last or last.seconds > 0)]] }
        assert.equal(0, migrate("up").code)
        assert.equal("1/- 2/1", seen())
    end)

    it("come from DBRUN_HOOKS_DIR, when that is set", function()
        project { ["m/1_a.sql"] = A, ["h/afterMigrate.sql"] = "insert into seen (what) values ('set')" }
        local result = scripts.run("migrate", { "up", "--dir", dir .. "/m" },
            { DATABASE_URL = url, DBRUN_HOOKS_DIR = dir .. "/h" })
        assert.equal(0, result.code, result.text)
        assert.equal("set", seen())
    end)
end)
