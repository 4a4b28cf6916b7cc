-- Transaction blocks, roles and sessions of migrations: the records are true.
local fs = require "dbrun.fs"
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"

describe("a migration", function()
    local folder <const> = migrations.folder
    local url, sql
    migrations.around(_ENV, function(u, _, s) url, sql = u, s end)

    local function migrate(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url })
    end

    local function up(text, options)
        local dir = folder { ["1_x.sql"] = "-- migrate:up" .. (options or " transaction:false") .. "\n" .. text
            .. "\n-- migrate:down\n" }
        return migrate("up", "--dir", dir), dir
    end

    local function applies(text, options)
        local result, dir = up(text, options)
        assert.equal(0, result.code, result.text)
        assert.equal("1", sql "select version from schema_migrations")
        return dir
    end

    ---Checks that it is refused with its line before anything is written, and that lint finds it, too.
    local function refuses(line, what, text, options)
        local result, dir = up(text, options)
        assert.equal(1, result.code, text)
        assert.matches(("1_x.sql:%d: "):format(line), result.stderr, 1, true)
        assert.matches(what, result.stderr, 1, true)
        assert.equal("0", sql "select count(*) from pg_class where relnamespace = 'public'::regnamespace")
        local lint = migrate("lint", "--dir", dir)
        assert.equal(1, lint.code, lint.text)
        assert.matches(("1_x.sql:%d"):format(line), lint.text, 1, true)
        assert.matches("refused", lint.text, 1, true)
    end

    local function tables()
        return sql [[select string_agg(relname, ' ' order by relname) from pg_class where relkind = 'r'
            and relnamespace = 'public'::regnamespace and relname not like 'schema_migrations%']]
    end

    describe("with blocks of its own", function()
        it("undoes only the block of a ROLLBACK, and runs the statements after it", function()
            applies "create table a ();\nbegin;\ncreate table b ();\nrollback /* to */;\ncreate table c ();"
            assert.equal("a c", tables())
        end)

        it("that ends with a ROLLBACK runs the last statement before it", function()
            applies "create sequence s;\nbegin;\nselect nextval('s');\nabort;"
            assert.equal("1", sql "select last_value from s")
        end)

        it("has the options of its BEGIN", function()
            local result = up "begin read only;\ncreate table a ();\ncommit;"
            assert.equal(1, result.code)
            assert.matches("1_x.sql:3: ", result.stderr, 1, true)
            assert.matches("25006", result.stderr, 1, true)
            applies [[begin read only; select 1; commit;
                begin isolation level serializable; create table i as select current_setting('transaction_isolation') x;
                end;]]
            assert.equal("serializable", sql "select x from i")
        end)

        it("whose session is read-only is recorded nevertheless", function()
            applies "create table a ();\nset default_transaction_read_only = on;\nselect 1;\nbegin;\nselect 2;\ncommit;"
        end)

        it("can use SET TRANSACTION", function()
            applies("set transaction read only;\nselect 1;", "")
            assert.equal("1", sql "select version from schema_migrations_dbrun")
        end)
    end)

    describe("is refused before anything is written", function()
        it("with a block without an end", function()
            refuses(3, "is never committed", "create table a ();\nbegin;\ncreate table b ();")
        end)

        it("with AND CHAIN or PREPARE TRANSACTION", function()
            refuses(4, "and chain", "begin;\ncreate table a ();\ncommit and /* no */ chain;")
            refuses(3, "PREPARE TRANSACTION", "begin;\nprepare transaction 'x';")
            refuses(2, "PREPARE TRANSACTION", "prepare transaction 'x';", "")
        end)

        it("with a statement outside of a block that works only in a block", function()
            for _, statement in ipairs { "savepoint a", "release a", "rollback to a", "rollback work to savepoint a",
                "lock table pg_class", "declare c cursor for select 1" } do
                refuses(2, "only inside a transaction block", statement .. ";")
            end
        end)

        it("with a comment, a string, an identifier or a dollar quote that has no end", function()
            for _, options in ipairs { "", " transaction:false" } do
                refuses(3, "comment", "create table a ();\nselect 1; /* /* */\nselect 2;", options)
                refuses(2, "string", "select 'a;\n\nselect 1;", options)
                refuses(2, "string", "select E'a\\';\nselect 1;", options)
                refuses(2, "quoted identifier", 'select "a;\nselect 1;', options)
                refuses(2, "dollar-quoted string", "do $x$ begin end $y$;\nselect 1;", options)
            end
        end)

        it("with BEGIN or its end where the migration has a transaction", function()
            for _, statement in ipairs { "begin", "COMMIT", "end work", "abort", "rollback /* to */",
                "start transaction" } do
                refuses(3, statement:match "%a+", "create table a ();\n" .. statement .. ";\ncreate table b ();", "")
            end
        end)
    end)

    describe("runs nothing twice:", function()
        before_each(function() sql "create sequence drawn" end)

        it("a DO that commits", function()
            applies [[do $$ begin perform nextval('drawn'); commit; end $$;]]
            assert.equal("1", sql "select last_value from drawn")
        end)

        it("a procedure that commits", function()
            sql "create procedure p() language plpgsql as 'begin perform nextval(''drawn''); commit; end'"
            applies "call p();"
            assert.equal("1", sql "select last_value from drawn")
        end)

        it("a function that refuses a transaction", function()
            sql [[create function f() returns int language plpgsql as
                'begin perform nextval(''drawn''); raise ''no'' using errcode = ''25001''; end']]
            assert.equal(1, (up "select f();").code)
            assert.equal("1", sql "select last_value from drawn")
        end)

        it("a procedure that failed after a commit", function()
            sql [[create procedure p() language plpgsql as
                'begin perform nextval(''drawn''); commit; perform 1 / 0; end']]
            local result, dir = up "create table a ();\ncall p();"
            assert.equal(1, result.code)
            result = migrate("up", "--dir", dir)
            assert.equal(1, result.code)
            assert.matches("1_x.sql:3: a run was interrupted here", result.stderr, 1, true)
            assert.matches("repair --version 1 --statement 2", result.stderr, 1, true)
            assert.equal("1", sql "select last_value from drawn")
        end)
    end)

    it("of another role is recorded by the session's own, and its SET ROLE stays", function()
        sql "create role somebody; grant create on schema public to somebody"
        applies [[set role somebody; create table a ();
            begin; create table b (); commit;
            set session authorization somebody; create table c (); reset session authorization; create table d ();]]
        assert.equal("a b c", sql [[select string_agg(relname, ' ' order by relname) from pg_class
            where relkind = 'r' and relowner = 'somebody'::regrole]])
        local result = up("set role somebody; create table e ();", "")
        assert.equal(0, result.code, result.text)
        sql "drop owned by somebody; drop role somebody"
    end)

    it("of another role fires its deferred triggers as that role", function()
        sql [[create role somebody; create table a (who text); create table seen (who text);
            grant all on a, seen to somebody;
            create function f() returns trigger language plpgsql as
                'begin insert into seen values (current_user); return null; end';
            create constraint trigger t after insert on a deferrable initially deferred for each row
                execute function f()]]
        applies [[set role somebody; insert into a values ('x');
            begin; insert into a values ('y'); commit; reset role; select 1;]]
        assert.equal("somebody somebody", sql "select string_agg(who, ' ') from seen")
        sql "drop owned by somebody; drop role somebody"
    end)

    it("reads and writes dates in the style that it sets", function()
        applies("set datestyle = 'German';\ncreate table a as select date '2024-02-29'::text as x;", "")
        assert.equal("29.02.2024", sql "select x from a")
    end)

    it("can switch standard_conforming_strings", function()
        applies "set standard_conforming_strings = off;\ncreate table a as select 'x\\';y'::text as x;\nselect 1;"
        assert.equal("x';y", sql "select x from a")
    end)

    it("that switches it unnoticed is stopped before a statement could be split in the wrong place", function()
        local result = up("select set_config('standard_' || 'conforming_strings', 'off', false);\n"
            .. "select 'a\\'';select 1;--'")
        assert.equal(1, result.code)
        assert.matches("1_x.sql:2: standard_conforming_strings was switched", result.stderr, 1, true)
    end)

    describe("that is continued", function()
        ---Runs up to a failing statement in line `line`, then again with that statement corrected.
        local function again(text)
            local result, dir = up((text:gsub("STOP", "select 1 / (select count(*) from go)")))
            assert.equal(1, result.code, result.text)
            assert.matches("22012", result.stderr, 1, true)
            sql "insert into go values (1)"
            return migrate("up", "--dir", dir), dir
        end

        before_each(function() sql "create table go (x int); create schema other" end)

        it("has the settings of the earlier statements, however they were set", function()
            local result = again [[select set_config('search_path', 'other', false);
                set work_mem = '3MB'; set app.name = 'x;y'; set datestyle = 'German'; reset lock_timeout;
                begin; set local work_mem = '5MB'; commit;
                begin; set work_mem = '7MB'; rollback;
                set search_path = other, public;
                STOP;
                create table made as select current_setting('work_mem') || current_setting('app.name')
                    || current_setting('datestyle') || current_setting('lock_timeout') as x;]]
            assert.equal(0, result.code, result.text)
            assert.equal("3MBx;yGerman, DMY0", sql "select x from other.made")
        end)

        it("has the role of the earlier statements", function()
            sql "create role somebody; grant create on schema public to somebody; grant all on go to somebody"
            local result = again "set role somebody;\nSTOP;\ncreate table made ();"
            assert.equal(0, result.code, result.text)
            assert.equal("somebody", sql "select relowner::regrole from pg_class where relname = 'made'")
            sql "drop owned by somebody; drop role somebody"
        end)

        it("that depends on lost session state is refused, with the line and the remedy", function()
            for statement, what in pairs {
                ["create temp table tt (id int)"] = "the temporary table tt", ["prepare p as select 1"] = "statement p",
                ["listen ch"] = "LISTEN ch", ["select pg_advisory_lock(7)"] = "the advisory lock",
                ["declare c cursor with hold for select 1"] = "the cursor c",
            } do
                local result, dir = again(statement .. ";\nSTOP;\nselect 2;")
                assert.equal(1, result.code, statement)
                assert.matches("1_x.sql:2: a run was interrupted after this line", result.stderr, 1, true)
                assert.matches(what, result.stderr, 1, true)
                assert.matches("repair --version 1 --statement 2", result.stderr, 1, true)
                assert.equal(0, migrate("repair", "--dir", dir, "--version", "1", "--statement", "2").code)
                assert.equal(0, migrate("up", "--dir", dir).code)
                sql "drop table schema_migrations, schema_migrations_dbrun; truncate go"
            end
        end)
    end)

    it("is not up to date while another is partly reverted", function()
        local text = "-- migrate:up transaction:false\ncreate table a ();\ncreate table b ();\n"
            .. "-- migrate:down transaction:false\ndrop table b;\n%s;\n"
        local dir = folder { ["1_x.sql"] = text:format "select 1 / 0" }
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal(1, migrate("down", "--dir", dir).code)
        fs.write(dir .. "/2_y.sql", "-- migrate:up\ncreate table c ();\n-- migrate:down\n")
        local result = migrate("up", "--dir", dir)
        assert.equal(1, result.code, result.text)
        assert.matches("1_x.sql is half done (down): 1 of its statements took effect", result.stderr, 1, true)
        assert.matches("'down' continues it; or: migrate repair --version 1 --statement N", result.stderr, 1, true)
        fs.write(dir .. "/1_x.sql", text:format "drop table a")
        assert.equal(0, migrate("down", "--dir", dir).code)
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal("3", sql "select count(*) from pg_class where relname in ('a', 'b', 'c')")
    end)

    it("accepts the records of an older version", function()
        local dir = folder { ["1_x.sql"] = "-- migrate:up transaction:false\ncreate table a ();\n-- migrate:down\n" }
        assert.equal(0, migrate("up", "--dir", dir).code)
        sql "alter table schema_migrations_dbrun drop column session"
        fs.write(dir .. "/2_y.sql", "-- migrate:up transaction:false\ncreate table b ();\n-- migrate:down\n")
        local result = migrate("up", "--dir", dir)
        assert.equal(0, result.code, result.text)
    end)
end)
