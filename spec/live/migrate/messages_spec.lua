-- Messages of a run of migrations: the server's, errors of dbrun's own statements, missing rights.
local migrations = require "spec.support.migrations"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun migrate up", function()
    local url, database, sql
    migrations.around(_ENV, function(...) url, database, sql = ... end)

    local function up(files, ...)
        if type(files) == "string" then
            files = { ["7_x.sql"] = "-- migrate:up" .. files .. "\n-- migrate:down\n" }
        end
        return scripts.run("migrate", { "up", "--dir", migrations.folder(files), ... }, { DATABASE_URL = url })
    end

    local function failing(...)
        local result = up(...)
        assert.equal(1, result.code, result.text)
        return result.stderr
    end

    describe("shows the server's messages", function()
        local FILES <const> = {
            ["1_a.sql"] = "-- migrate:up\ndrop table if exists nothing;\n\n"
                .. "do $$ begin raise warning 'so' using hint = 'h'; end $$;\n-- migrate:down\n",
            ["2_b.sql"] = "-- migrate:up transaction:false\nset local work_mem = '7MB';\n-- migrate:down\n",
            ["3_c.lua"] = "return { up = function(c) c.db:exec 'drop table if exists nothing' end }",
        }

        it("unchanged, with file and line", function()
            local result = up(FILES)
            assert.equal(0, result.code, result.text)
            for _, text in ipairs {
                '1_a.sql:2: NOTICE:  table "nothing" does not exist, skipping\n', "1_a.sql:4: WARNING:  so\nHINT:  h\n",
                "2_b.sql:2: WARNING:  SET LOCAL can only be used in transaction blocks\n",
                '3_c.lua: NOTICE:  table "nothing" does not exist, skipping\n',
            } do
                assert.matches(text, result.stderr, 1, true)
            end
            assert.equal(4, select(2, result.stderr:gsub("[NW][OA][TR][IN]%u+:  ", "")))
        end)

        it("of triggers that run at COMMIT, and of hooks", function()
            sql [[create table late (i int); create function say() returns trigger language plpgsql as
                    $$ begin raise notice 'row %', new.i; return null; end $$;
                create constraint trigger say after insert on late deferrable initially deferred
                    for each row execute function say()]]
            local hooks = migrations.folder { ["beforeMigrate.sql"] = "\ninsert into late values (5);\n"
                .. "drop table if exists nothing;", ["afterEachMigrate.lua"] =
                "return function(c) c.db:exec 'drop table if exists no_thing' end" }
            local result = up({
                ["1_a.sql"] = "-- migrate:up\ninsert into late values (1);\n-- migrate:down\n",
                ["2_b.sql"] = "-- migrate:up transaction:false\ninsert into late values (2);\nbegin;\n"
                    .. "insert into late values (3);\ncommit;\n-- migrate:down\n",
                ["3_c.lua"] = "return { up = function(c) c.db:exec 'insert into late values (4)' end }",
            }, "--hooks", hooks)
            assert.equal(0, result.code, result.text)
            for _, text in ipairs {
                "1_a.sql: NOTICE:  row 1\n", "2_b.sql:2: NOTICE:  row 2\n", "2_b.sql:5: NOTICE:  row 3\n",
                "3_c.lua: NOTICE:  row 4\n", "beforeMigrate.sql: NOTICE:  row 5\n",
                'beforeMigrate.sql:3: NOTICE:  table "nothing"', 'afterEachMigrate.lua: NOTICE:  table "no_thing"',
            } do
                assert.matches(text, result.stderr, 1, true)
            end
        end)

        it("except with --quiet", function()
            local result = up(FILES, "--quiet")
            assert.equal(0, result.code, result.text)
            assert.equal("", result.stderr)
            assert.matches("applied  3_c.lua", result.stdout, 1, true)
        end)
    end)

    describe("names the record that failed", function()
        it("and the statement of the file that touched the tables", function()
            for text, line in pairs {
                ["\nselect 1;\ndrop table schema_migrations;\nselect 2;"] =
                    "7_x.sql:3: while version 7 was recorded: relation",
                ["\ninsert into schema_migrations values ('7');"] =
                    "7_x.sql:2: while version 7 was recorded: duplicate",
                ["\nselect 1;\n\ndrop schema public cascade;"] =
                    "7_x.sql:4: while version 7 was recorded: relation",
                [" transaction:false\nselect 1;\ndrop table schema_migrations_dbrun;\nselect 2;"] =
                    "7_x.sql:3: while statement 2 of it was recorded: relation",
            } do
                local said = failing(text)
                assert.matches(line, said, 1, true)
                assert.matches("this statement of the file has changed what dbrun writes to", said, 1, true)
                assert.is_nil(said:find("| commit", 1, true))
                sql "drop table if exists public.schema_migrations, public.schema_migrations_dbrun"
            end
        end)

        it("and the failed COMMIT", function()
            local said = failing("\ncreate table d (i int unique deferrable initially deferred);\n"
                .. "insert into d values (1), (1);")
            assert.matches("7_x.sql: at its COMMIT: duplicate key value", said, 1, true)
            assert.matches("Nothing of this migration was kept.", said, 1, true)
        end)

        it("and the remedy for code that ends transactions", function()
            local said = failing "\ndo $$ begin commit; end $$;"
            assert.matches("7_x.sql:2: invalid transaction termination", said, 1, true)
            assert.matches("hint: put 'transaction:false'", said, 1, true)
            said = failing " transaction:false\nbegin;\ndo $$ begin commit; end $$;\ncommit;"
            assert.matches("7_x.sql:3: invalid transaction termination", said, 1, true)
            assert.matches("hint: put it outside of 'begin' and 'commit'", said, 1, true)
            assert.matches("hint: put it outside of 'begin' and 'commit'",
                failing " transaction:false\nbegin;\nvacuum;\ncommit;", 1, true)
        end)
    end)

    describe("without a right", function()
        local role

        before_each(function()
            role = "spec_weak_" .. database:gsub("%W", "_")
            sql(("create role %s; revoke create on schema public from public"):format(role))
        end)

        after_each(function()
            sql(("drop owned by %s; drop role %s"):format(role, role))
        end)

        local function as_role(files)
            local address = url .. (url:find("?", 1, true) and "&" or "?") .. "options=-c%20role%3D" .. role
            local dir = migrations.folder(files)
            local result = scripts.run("migrate", { "up", "--dir", dir }, { DATABASE_URL = address })
            assert.equal(1, result.code, result.text)
            return result.stderr
        end

        it("names the GRANT", function()
            local files = { ["1_a.sql"] = migrations.table "a" }
            assert.matches("grant usage, create on schema public to " .. role, as_role(files), 1, true)
            assert.equal(0, up({ ["0_z.sql"] = migrations.table "z" }).code)
            local grant = 'grant select, insert, update, delete on "public"."schema_migrations", '
                .. '"public"."schema_migrations_dbrun" to '
            assert.matches(grant .. role, as_role(files), 1, true)
            sql(("grant select on schema_migrations, schema_migrations_dbrun to %s; "
                .. "grant create on schema public to %s"):format(role, role))
            local said = as_role(files)
            assert.matches("1_a.sql: while version 1 was recorded: permission denied for table schema_migrations", said,
                1, true)
            assert.matches(grant, said, 1, true)
            sql(("grant all on schema_migrations, schema_migrations_dbrun to %s; "
                .. "revoke create on schema public from %s"):format(role, role))
            said = as_role(files)
            assert.matches("1_a.sql:2: permission denied for schema public", said, 1, true)
            assert.matches("grant create", said, 1, true)
        end)
    end)

    it("names the role that lacks a right: the connection's, or the one that a line has set", function()
        local role = "spec_set_" .. database:gsub("%W", "_")
        sql(("create role %s; create schema inner_one; create table inner_one.t (i int)"):format(role))
        for text, hint in pairs {
            [("\nset role %s;\nselect * from inner_one.t;"):format(role)] = "3: permission denied for schema inner_one",
            [("\nselect 1;\nset local role %s;\nselect * from schema_migrations;"):format(role)] =
                "4: permission denied for table schema_migrations",
        } do
            local said = failing(text)
            local line = tonumber(hint:match "%d") - 1
            assert.matches("7_x.sql:" .. hint, said, 1, true)
            assert.matches(("to %s, the role that line %d has set"):format(role, line), said, 1, true)
            assert.is_nil(said:find("since PostgreSQL 15", 1, true))
        end
        local said = failing(("\nset role %s;\nreset role;\nset role none;\nselect pg_read_file('/x', 0, -1);"):format(
            role))
        assert.is_nil(said:find("the role that line", 1, true))
        sql(("drop role %s"):format(role))
    end)

    it("refuses commands of psql by name, and runs the output of pg_dump", function()
        local said = failing "\ncreate table a (i int);\n\\connect other"
        assert.matches("7_x.sql:3: \\connect is a command of psql", said, 1, true)
        local lacking = servers.pg_dump_lacks()
        if lacking then pending(lacking) end
        sql "create table kept (i int, t text); insert into kept values (1, E'a\\tb'), (2, null), (3, E'\\\\.')"
        local dump = require("dbrun.process").run({ "pg_dump", "-t", "kept", url }).stdout
        sql "alter table kept rename to old"
        for _, options in ipairs { "\n", " transaction:false\n" } do
            local text = options == "\n" and dump or dump:gsub("\nSET [^\n]*", ""):gsub("\nSELECT pg_catalog[^\n]*", "")
            local result = up(options .. "\\restrict x\n" .. text .. "\\unrestrict x")
            assert.equal(0, result.code, result.text)
            assert.equal("0", sql "select count(*) from (table old except table kept) as x")
            assert.equal("3", sql "select count(*) from kept")
            sql "drop table kept, schema_migrations, schema_migrations_dbrun"
        end
    end)

    it("names the line of a row that the server refuses", function()
        local said = failing "\ncreate table a (i int);\ncopy a from stdin;\n1\nx\n\\."
        assert.matches("7_x.sql:5: invalid input syntax for type integer", said, 1, true)
        assert.matches("     5 | x\n", said, 1, true)
    end)

    it("refuses rows that the server would not read, after a value that ends with the end marker", function()
        local said = failing "\ncreate table a (t text);\ncopy a from stdin;\none\ntwo\\.\nthree\n\\."
        assert.matches("7_x.sql:5: line 2 of the data of COPY ends with \\., where the server stops", said, 1, true)
        assert.matches("     5 | two\\.\n", said, 1, true)
    end)
end)
