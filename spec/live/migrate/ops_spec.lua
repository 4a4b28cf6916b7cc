-- scripts/migrate.lua beyond up and down: Lua migrations, records, redo, stamp, verify, repair, plan, protected
-- targets.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local pg = require "spec.support.pg"
local scripts = require "spec.support.scripts"

local A <const>, B <const>, C <const> = migrations.table "a", migrations.table "b", migrations.table "c"

describe("dbrun migrate", function()
    local url, database, sql, dir, env
    migrations.around(_ENV, function(...) url, database, sql = ... end)
    before_each(function()
        env, dir = { DATABASE_URL = url }, nil
    end)

    local function project(files)
        dir = migrations.folder(files)
        return dir
    end

    local function migrate(command, ...)
        return scripts.run("migrate", { command, "--dir", dir, ... }, env)
    end

    local function ok(...)
        local result = migrate(...)
        assert.equal(0, result.code, result.text)
        return result.stdout
    end

    local function fails(...)
        local result = migrate(...)
        assert.is_true(result.code ~= 0, result.text)
        return result.stderr, result.code
    end

    local function versions()
        return sql "select string_agg(version, ' ' order by version) from schema_migrations"
    end

    local function exists(name)
        return sql(("select to_regclass('%s') is not null"):format(name)) == "t"
    end

    describe("runs Lua migrations", function()
        it("beside SQL ones, up and down, each in a transaction with its version", function()
            project {
                ["1_a.sql"] = A,
                ["2_fill.lua"] = [[
return {
    up = function(ctx)
        for i = 1, 3 do ctx.db:query("insert into a values ($1)", i) end
        assert(ctx.migration.version == "2" and ctx.migration.direction == "up")
        assert(ctx.config.DBRUN_MIGRATIONS_DIR)
    end,
    down = function(db) db:exec "delete from a" end,
}
]],
                ["3_fails.lua"] = [[
return { up = function(ctx)
    ctx.db:exec "create table half ()"
    ctx.db:exec "insert into nowhere values (1)"
end }
]],
            }
            local said = fails "up"
            assert.matches(dir .. "/3_fails.lua:3: relation \"nowhere\" does not exist (SQLSTATE 42P01)", said, 1, true)
            assert.matches("Nothing that this migration did through ctx.db was kept.", said, 1, true)
            assert.equal("1 2", versions())
            assert.is_false(exists "half")
            assert.equal("3", sql "select count(*) from a")
            ok "down"
            assert.equal("0", sql "select count(*) from a")
            assert.equal("1", versions())
        end)

        it("without a transaction on request", function()
            project { ["1_x.lua"] = [[
return { transaction = false, up = function(ctx)
    ctx.db:exec "create table a (id int)"
    ctx.db:exec "create index concurrently a_id on a (id)"
end }
]] }
            ok "up"
            assert.is_true(exists "a_id")
            assert.equal("1", versions())
            fs.write(dir .. "/2_x.lua", [[
return { transaction = false, up = function(ctx)
    ctx.db:exec "create table b (id int)"
    error "no"
end }
]])
            assert.matches("transaction = false: what it did before this stays; the migration counts as not applied.",
                (fails "up"), 1, true)
            assert.is_true(exists "b")
        end)

        it("and says what is wrong with an invalid one", function()
            for text, message in pairs {
                ["return 1"] = "returned number, not a table", ["return {}"] = "has no 'up'",
                ["retrun"] = "not valid Lua",
                ["return { up = 1 }"] = "'up' is not a function", ["return { pu = 1 }"] = "'pu' is unknown",
                ["error 'oh'"] = "oh",
            } do
                project { ["1_x.lua"] = text }
                assert.matches(message, (fails "up"), 1, true)
                fs.rmtree(dir)
            end
        end)

        it("which new --lua makes", function()
            project {}
            ok("new", "fill it", "--lua")
            ok "up"
            ok "down"
        end)
    end)

    it("records checksum, time, user and host in a separate table", function()
        project { ["1_a.sql"] = A }
        ok "up"
        assert.equal("1_a.sql|64|t|t|t", sql [[
            select name || '|' || length(checksum) || '|' || (seconds > 0)::text::char || '|'
                   || (applied_at between now() - interval '1 minute' and now())::text::char || '|'
                   || (applied_by = current_user and applied_from <> '')::text::char from schema_migrations_dbrun]])
        ok "down"
        assert.equal("0", sql "select count(*) from schema_migrations_dbrun")
    end)

    it("redo reverts the last ones and applies them again", function()
        project { ["1_a.sql"] = A, ["2_b.sql"] = B }
        ok "up"
        sql "insert into a values (1); insert into b values (1)"
        assert.matches("undone  2_b.sql.*applied  2_b.sql.*1 migration taken back and applied again", ok "redo")
        assert.equal("1 0", sql "select (select count(*) from a) || ' ' || (select count(*) from b)")
        ok("redo", "--steps", "2")
        assert.equal("0", sql "select count(*) from a")
        assert.equal("1 2", versions())
    end)

    it("stamp records the database's version and runs nothing", function()
        project { ["1_a.sql"] = A, ["2_b.sql"] = B, ["3_c.sql"] = C }
        ok("stamp", "2")
        assert.equal("1 2", versions())
        assert.is_false(exists "a")
        ok "up"
        assert.is_true(exists "c")
        ok("stamp", "1")
        assert.equal("1", versions())
        assert.is_true(exists "c")
        assert.equal(2, select(2, fails("stamp", "7")))
        fs.write(dir .. "/1_a.sql", "-- migrate:up\nselect 1;\n-- migrate:down transaction:false\ndrop table a;\n"
            .. "select 1 / 0;\n")
        sql "create table a ()"
        fails "down"
        assert.matches("is half done %(down%)", (fails "up"))
        assert.matches("recorded  1_a.sql", ok("stamp", "1"), 1, true)
        assert.equal("[X] 1_a.sql\n", ok("status"):match "^[^\n]*\n")
    end)

    describe("verify", function()
        it("accepts files that are equal to the applied ones, with any line ends", function()
            project { ["1_a.sql"] = A, ["2_b.sql"] = B }
            assert.equal("No migration is applied: there is nothing to compare.\n", ok "verify")
            ok("up", "--steps", "1")
            fs.write(dir .. "/1_a.sql", (A:gsub("\n", "\r\n")))
            assert.equal("The files are the same as when they were applied.\n", ok "verify")
            sql "delete from schema_migrations_dbrun" -- as if dbmate had applied it
            assert.matches("1 migration was applied without a checksum (by another program?): whether its file has",
                ok "verify", 1, true)
            ok "repair"
            assert.equal("The files are the same as when they were applied.\n", ok "verify")
        end)

        it("removes no record when a folder has no files, or options exclude each other", function()
            project { ["1_a.sql"] = A }
            ok "up"
            assert.equal(2, select(2, fails("repair", "--missing", "--version", "1", "--statement", "1")))
            fs.unlink(dir .. "/1_a.sql")
            assert.equal(2, select(2, fails("repair", "--missing")))
            assert.equal("1", versions())
        end)

        it("finds changed, missing and late files, and repair corrects those that it can", function()
            project { ["1_a.sql"] = A, ["3_c.sql"] = C }
            ok "up"
            fs.write(dir .. "/1_a.sql", A .. "-- a remark\n")
            fs.write(dir .. "/2_b.sql", B)
            fs.unlink(dir .. "/3_c.sql")
            local result = migrate "verify"
            assert.equal(1, result.code)
            assert.matches("1_a.sql: changed since it was applied", result.stdout, 1, true)
            assert.matches("3_c.sql: in the database, but its file is missing", result.stdout, 1, true)
            fs.write(dir .. "/3_c.sql", C)
            assert.matches("2_b.sql: pending, but the later 3_c.sql is applied", migrate("verify").stdout, 1, true)
            fs.unlink(dir .. "/3_c.sql")
            assert.matches("1_a.sql: its checksum was updated", ok "repair", 1, true)
            ok("repair", "--missing")
            ok "verify"
            assert.equal("1", versions())
            assert.matches("Nothing to repair", ok "repair")
        end)

        it("does not complain about files that dbmate has applied; repair records them", function()
            project { ["1_a.sql"] = A }
            sql [[create table schema_migrations (version varchar primary key);
                  insert into schema_migrations values ('1')]]
            ok "verify"
            assert.matches("1_a.sql: recorded", ok "repair", 1, true)
        end)
    end)

    it("plan prints the SQL and its locks, and writes nothing", function()
        project {
            ["1_a.sql"] = A,
            ["2_more.sql"] = "-- migrate:up\nalter table a add x int;\ncreate index on a (x);\n"
                .. "alter table a add foreign key (x) references a (id);\n-- migrate:down\nalter table a drop x;\n",
            ["3_i.sql"] = "-- migrate:up transaction:false\ncreate index concurrently i on a (id);\n"
                .. "-- migrate:down\n",
        }
        local text = ok "plan"
        assert.is_false(exists "schema_migrations")
        assert.matches("2_more.sql (up, one transaction)\n-- line 2\n"
            .. "-- locks a in ACCESS EXCLUSIVE: blocks reads and writes\nalter table a add x int;\n-- line 3\n"
            .. "-- locks a in SHARE: blocks writes", text, 1, true)
        assert.matches("in SHARE ROW EXCLUSIVE", text, 1, true)
        assert.matches("-- line 2, outside a transaction\n-- locks a in SHARE UPDATE EXCLUSIVE", text, 1, true)
        assert.matches("create table a (id int primary key);", text, 1, true)
        assert.not_matches("2_more", ok("plan", "--to", "1"))
        ok "up"
        assert.matches("Nothing to apply", ok "plan")
        assert.matches("drop x;", ok("plan", "--down", "--steps", "2"))
    end)

    it("status and plan write JSON for programs", function()
        local json = require "dbrun.json"
        project { ["1_a.sql"] = A, ["2_x.sql"] = "-- migrate:up transaction:false\nalter table a add x int;\n"
            .. "select '\xE9';\n-- migrate:down\n", ["3_l.lua"] = "return { up = function() end }" }
        ok("up", "--steps", "1")
        sql "insert into schema_migrations values ('0')"
        local state = json.decode(ok("status", "--format", "json"))
        assert.same({ 1, 2, "0" }, { state.applied, state.pending, state.missing[1] })
        assert.same({ "1", "1_a.sql", dir .. "/1_a.sql", "sql", true }, { state.files[1].version, state.files[1].name,
            state.files[1].path, state.files[1].kind, state.files[1].applied })
        assert.is_false(state.files[3].applied)
        local plan = json.decode(ok("plan", "--format=json"))
        assert.equal("up", plan.direction)
        assert.equal(2, #plan.migrations)
        local first, statement = plan.migrations[1], plan.migrations[1].statements[1]
        assert.same({ "2", false, 2, "alter table a add x int" }, { first.version, first.transaction, statement.line,
            statement.sql })
        assert.same({ "a", "ACCESS EXCLUSIVE", "reads and writes" }, { statement.locks[1].table,
            statement.locks[1].mode, statement.locks[1].blocks })
        assert.matches("\\xe9", first.statements[2].sql, 1, true)
        assert.same({ "lua", 0 }, { plan.migrations[2].kind, #plan.migrations[2].statements })
        plan = json.decode(ok("plan", "--down", "--format", "json"))
        assert.same({ "down", "1" }, { plan.direction, plan.migrations[1].version })
        local quiet = migrate("status", "--format", "json", "--quiet", "--exit-code")
        assert.same({ 1, "" }, { quiet.code, quiet.stdout })
        project { ["1_a.sql"] = A }
        plan = json.decode(ok("plan", "--format", "json"))
        assert.same({ 0, true }, { #plan.migrations, json.is_array(plan.migrations) })
        assert.equal(2, select(2, fails("status", "--format", "yaml")))
    end)

    describe("on a protected target", function()
        it("does nothing unless --target names it", function()
            project { ["1_a.sql"] = A }
            for _, pattern in ipairs { database, "spec_*", "nothing, *PEC_*", "*/" .. database } do
                env.DBRUN_PROTECTED = pattern
                for _, command in ipairs { "up", "down", "redo", "repair" } do
                    local said, code = fails(command)
                    assert.equal(2, code)
                    assert.matches(("'%s' is protected"):format(database), said, 1, true)
                    assert.matches("--target " .. database, said, 1, true)
                end
                assert.is_false(exists "schema_migrations")
            end
            ok "status"
            ok("up", "--target", database)
            assert.equal("1", versions())
        end)

        it("and never accepts another name", function()
            project { ["1_a.sql"] = A }
            assert.matches(("the target is the database '%s', not 'other'"):format(database),
                (fails("up", "--target", "other")), 1, true)
            env.DBRUN_PROTECTED = "other*"
            ok "up"
        end)
    end)

    it("retries a migration when a table is in use", function()
        project { ["1_a.sql"] = A, ["2_x.sql"] = "-- migrate:up\nalter table a add x int;\n-- migrate:down\n" }
        ok("up", "--steps", "1")
        local engine = require("dbrun.db").engine { url = url, size = 1 }
        local conn <close> = engine:acquire()
        conn:exec "begin; lock table a"
        local run = scripts.start("migrate", { "up", "--dir", dir, "--lock-timeout", "0.2" }, env)
        local function waiting()
            return conn:value "select count(*) from pg_locks where not granted and relation = 'a'::regclass" > 0
        end
        pg.eventually(30, waiting, "the wait for the table")
        pg.eventually(30, function() return not waiting() end, "the end of that wait")
        conn:exec "rollback"
        local result = run.finish()
        assert.equal(0, result.code, result.text)
        assert.matches("2_x.sql: a table it needs is in use; again in [^\n]+ %(1 of 3%)", result.stderr)
        assert.equal("1 2", versions())
    end)

    it("ends a statement that takes longer than --statement-timeout", function()
        project { ["1_x.sql"] = "-- migrate:up\nselect pg_sleep(20);\n-- migrate:down\n" }
        assert.matches("SQLSTATE 57014", (fails("up", "--statement-timeout", "0.2")), 1, true)
    end)
end)
