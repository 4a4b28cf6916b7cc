--- Statements that a dry run refuses before it sends them, and statements that the server refuses in it.
local dry = require "spec.support.dry"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local core = require "dbrun.core"

describe("a dry run refuses", function()
    local at

    setup(function() at = dry.database() end)
    teardown(function() at.engine:close() end)

    it("statements that would end the transaction, or have a permanent effect", function()
        local result = dry.run(at, [=[
            for _, sql in ipairs {
                "commit", "BEGIN", "start transaction", "end", "abort", "rollback", "/* x */ commit and chain",
                "insert into orders values (9001, ''); commit", "prepare transaction 'x'", "rollback prepared 'x'",
                "copy orders to '/tmp/x'", "copy orders from program 'true'",
                "select pg_terminate_backend(1)", 'select pg_catalog."pg_cancel_backend"(1)',
                "do $$ begin perform pg_reload_conf(); end $$", "select setval('s', 1)", "select dblink_exec('', '')",
                "alter system set work_mem = '1MB'", "select lo_export(1, '/tmp/x')",
            } do
                for _, engine in ipairs { db.async, db.sync } do
                    local p = fails(engine.exec, engine, sql)
                    assert(p.kind == "usage" and p.outcome == "not_sent" and p.hint, sql)
                    assert(fails(engine.query, engine, sql).kind == "usage", sql)
                end
            end
            for _, sql in ipairs { "savepoint a", "lock table orders", "declare c cursor for select 1" } do
                assert(fails(e.exec, e, sql).sqlstate == "25P01", sql)
            end
            e:exec "lock table orders; declare c cursor with hold for select 1"
            e:transaction(function(tx) assert(fails(tx.exec, tx, "commit").kind == "usage") end)
            assert(fails(e.pipeline, e, function(p) p:query "select 1" p:query "commit" end).kind == "usage")
            for _, sql in ipairs { "vacuum orders", "create database x", "reindex table concurrently orders" } do
                local p = fails(e.exec, e, sql)
                assert(p.sqlstate == "25001" and p.message:find "cannot run in a dry run", sql)
            end
            local p = fails(e.exec, e, "do $$ begin commit; end $$")
            assert(p.sqlstate == "2D000" and p.message:find "that commits cannot run in a dry run")
            local fs = require "dbrun.fs"
            local folder = fs.mkdtemp()
            fs.write(folder .. "/1.sql", "-- migrate:up\n-- migrate:down\n")
            local run = "delete from orders where :chunk"
            local job = require "dbrun.batch".job { name = "j", table = "orders", run = run }
            for name, p in pairs {
                migrations = fails(require "dbrun.migrate".up, { dirs = { folder } }),
                seeds = fails(require "dbrun.seed".run, { dir = folder }), ["batch jobs"] = fails(job.run, job),
            } do
                assert(p.kind == "usage" and p.hint and p.message == name
                    .. " have no part in a dry run, which is one transaction", p.message)
            end
            fs.rmtree(folder)
            print((e:value "select 'commit; rollback'"), (e:value "select 1 as \"commit\""))]=])
        assert.equal("commit; rollback\t1\n", result.stdout, result.stderr)
        assert.equal("dry run: rolled back\n  no row of a table would have changed\n", result.stderr)
        assert.is_true(dry.is_unchanged(at))
    end)

    it("a protected database that --target does not name", function()
        local env = { DBRUN_PROTECTED = "*" }
        local result = dry.run(at, "print((e:value 'select 1'))", {}, env)
        assert.equal(2, result.code)
        assert.matches("is protected %(DBRUN_PROTECTED: %*%).*a dry run locks what it changes until its end; name it",
            result.stderr)
        local name = at.engine:value "select current_database()"
        result = dry.run(at, "print((e:value 'select 1'))", { "--target", name }, env)
        assert.equal("1\n", result.stdout, result.stderr)
    end)

    it("dbrun's own commands, and names an alternative", function()
        local function run(...)
            return process.run { core.options.program, "--no-env", "--dry-run", (...), timeout = 60 }
        end
        for name, text in pairs { migrate = "dbrun migrate plan", seed = "dbrun seed --dry-run",
            batch = "dbrun batch run NAME --dry-run",
            verify = "changes nothing", stack = "leave --dry-run out", sql = "rollback" } do
            local result = run("scripts/" .. name .. ".lua")
            assert.equal(2, result.code)
            assert.equal("", result.stdout)
            assert.matches("^" .. name .. ": %-%-dry%-run is for scripts; .*", result.stderr)
            assert.is_truthy(result.stderr:find(text, 1, true), result.stderr)
        end
        local result = run("scripts/version.lua")
        assert.equal(0, result.code)
        assert.equal("", result.stderr)
    end)

    describe("after a script's name", function()
        local dir

        local function tidy(text, ...)
            dir = fs.mkdtemp()
            fs.write(dir .. "/tidy.lua", text)
            local argv = { core.options.program, "--no-env", "tidy.lua", ... }
            argv.cwd, argv.timeout, argv.env = dir, 60, { DATABASE_URL = at.url }
            return process.run(argv)
        end
        after_each(function() fs.rmtree(dir) end)

        it("nothing: cli.run handles --dry-run", function()
            local result = tidy([[
                local cli, db = require "dbrun.cli", require "dbrun.db"
                assert(require "dbrun".dry_run == false)
                return cli.run { only_one = true, options = { { "days", "integer" } }, run = function(args)
                    local r = db.async:query("delete from items where id < :days", args)
                    print(require "dbrun".dry_run, args.days, r.affected)
                end }]], "--days", "5", "--dry-run")
            assert.equal("true\t5\t4\n", result.stdout, result.stderr)
            assert.equal("dry run: rolled back\n  items  4 deleted\n", result.stderr)
            assert.is_true(dry.is_unchanged(at))
        end)

        it("a script that has opened a database before", function()
            local result = tidy([[
                local cli, engine = require "dbrun.cli", require "dbrun.db".async
                return cli.run { run = function() engine:exec "delete from items" end }]], "--dry-run")
            assert.equal(2, result.code)
            assert.matches("has opened a database before cli.run\nHINT:  write it before the script's name",
                result.stderr)
            assert.is_true(dry.is_unchanged(at))
        end)

        it("nothing when --dry-run is the script's own option", function()
            local result = tidy([[
                return require "dbrun.cli".run { options = { { "dry-run", "flag" } }, run = function(args)
                    print(args.dry_run, require "dbrun".dry_run)
                end }]], "--dry-run")
            assert.equal("true\tfalse\n", result.stdout, result.stderr)
            assert.equal("", result.stderr)
        end)
    end)
end)
