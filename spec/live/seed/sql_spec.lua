-- SQL seeds: output of pg_dump, refusals, places of errors, and session state.
local fs = require "dbrun.fs"
local pgbouncer = require "spec.support.pgbouncer"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("an SQL seed", function()
    local url, database, folders

    before_each(function()
        url, database = servers.database()
        folders = {}
    end)
    after_each(function()
        for _, folder in ipairs(folders) do fs.rmtree(folder) end
    end)

    local function seed(address, files, ...)
        folders[#folders + 1] = scripts.folder(files)
        return scripts.run("seed", { "--dir", folders[#folders], ... }, { DATABASE_URL = address })
    end

    local function sql(text) return servers.shared_postgres():psql(text, database) end

    local function failing(...)
        local result = seed(url, ...)
        assert.equal(1, result.code, result.text)
        return result.stderr
    end

    local lacking <const> = servers.pg_dump_lacks()

    it("that is cancelled on the server is an error like any other", function()
        for name, text in pairs {
            ["1_a.sql"] = "select pg_cancel_backend(pg_backend_pid()), pg_sleep(20);",
            ["1_a.lua"] = "return function(c) c.db:exec 'select pg_cancel_backend(pg_backend_pid()), pg_sleep(20)' end",
        } do
            local said <const> = failing { [name] = text }
            assert.matches("seed: .*/" .. name, said)
            assert.matches("canceling statement due to user request", said, 1, true)
            assert.matches("Nothing [%w. ]+ was kept", said)
        end
    end)

    it("can be the output of pg_dump, and the next one has a clean session", function()
        if lacking then pending(lacking) end
        sql [[create table t (id int primary key, v text); insert into t values (1, E'a\tb'), (2, null), (3, E'\\.')]]
        sql "create schema empty; create table empty.t (i int)"
        local rows = sql "select string_agg(concat_ws('|', id, v), ',' order by id) from t"
        for _, options in ipairs { {}, { "--inserts" }, { "--column-inserts" }, { "--disable-triggers" } } do
            sql "drop table if exists dbrun_seeds"
            local dump = process.run { "pg_dump", "--data-only", url, table.unpack(options) }
            assert.is_true(dump.ok, dump.stderr)
            sql "delete from t"
            local result = seed(url, {
                ["1_dump.sql"] = dump.stdout,
                ["2_next.lua"] = "return function(c) return c.db:value [[select concat_ws(' ', current_schema(), "
                    .. "count(*), current_setting('client_min_messages')) from t]] end",
            })
            assert.equal(0, result.code, result.text)
            assert.matches("seeded  1_dump  3 rows", result.stdout, 1, true)
            assert.matches("seeded  2_next  public 3 notice", result.stdout, 1, true)
            assert.equal(rows, sql "select string_agg(concat_ws('|', id, v), ',' order by id) from t")
            assert.equal("1_dump 2_next", sql "select string_agg(name, ' ' order by name) from public.dbrun_seeds")
        end
    end)

    it("can have large objects as pg_dump writes them, but no other transaction", function()
        if lacking then pending(lacking) end
        sql [[create table t (i int primary key, o oid);
            insert into t values (1, lo_from_bytea(0, '\x00ff10')), (2, lo_from_bytea(0, '\xabcd'))]]
        local dump = process.run { "pg_dump", "--blobs", url }
        assert.is_true(dump.ok, dump.stderr)
        assert.matches("\nBEGIN;\n\nSELECT pg_catalog.lo_open", dump.stdout, 1, true)
        url, database = servers.database()
        local result = seed(url, { ["1_dump.sql"] = dump.stdout })
        assert.equal(0, result.code, result.text)
        assert.equal("1 00ff10, 2 abcd", sql [[select string_agg(i || ' ' || encode(lo_get(o), 'hex'), ', ' order by i)
            from t]])
        for _, text in ipairs { "begin;\nSELECT pg_catalog.lo_close(0);\nselect 1;\ncommit;", "begin;\ncommit;",
            "commit;\nSELECT pg_catalog.lo_close(0);\nbegin;" } do
            assert.matches("1_a.sql:1: '", failing { ["1_a.sql"] = text }, 1, true)
        end
    end)

    it("that ends or begins a transaction is refused before any seed runs", function()
        sql "create table t (i int)"
        for _, word in ipairs { "commit", "END", "rollback", "abort", "begin", "start transaction", "commit and chain",
            "prepare transaction 'x'" } do
            for _, options in ipairs { {}, { "--dry-run" } } do
                local said = failing({
                    ["1_a.sql"] = "insert into t values (1);", ["2_b.sql"] = ("insert into t values (2);\n/* x */ %s;\n"
                        .. "insert into t values (3);"):format(word),
                }, table.unpack(options))
                assert.matches("2_b.sql:2: ", said, 1, true)
                assert.equal("0", sql "select count(*) from t")
            end
        end
        assert.matches("hint: remove it", failing { ["1_a.sql"] = "commit and chain" }, 1, true)
        local result = seed(url, { ["1_a.sql"] = "savepoint a; insert into t values (1); rollback to a; release a;" })
        assert.equal(0, result.code, result.text)
    end)

    it("that fails is named with its line", function()
        local said = failing { ["1_a.sql"] = "-- fruit\nselect 1;\n\nselect 1 +\n  nothing;" }
        assert.matches('1_a.sql:5: column "nothing" does not exist (SQLSTATE 42703)', said, 1, true)
        assert.matches("     5 |   nothing", said, 1, true)
        assert.matches("Nothing of it was kept.", said, 1, true)
        said = failing { ["1_a.sql"] = "create table t (i int);\ncopy t from stdin;\n1\nx\n\\.\n" }
        assert.matches("1_a.sql:4: invalid input syntax", said, 1, true)
        said = failing { ["1_a.sql"] = "select 1;\n\\i other.sql\n" }
        assert.matches("1_a.sql:2: \\i is a command of psql", said, 1, true)
        said = failing { ["1_a.sql"] = "select 1;\nvacuum;" }
        assert.matches("every seed has", said, 1, true)
        said = failing { ["1_a.sql"] = "select 'a" }
        assert.matches("1_a.sql:1: this string has no end", said, 1, true)
        for text, line in pairs { ["select :x"] = 1, ["select\n:'x'"] = 2, ["select %s"] = 1, ["select $1"] = 1 } do
            said = failing { ["1_a.sql"] = text }
            assert.matches(("1_a.sql:%d: "):format(line), said, 1, true)
            assert.matches("hint: a file is sent unchanged: it has no parameters", said, 1, true)
        end
        said = failing { ["1_a.sql"] = "select 1;\nset unheard_of_timeout = 0;" }
        assert.matches("hint: leave the line out: this server is older", said, 1, true)
        said = failing { ["1_a.sql"] = "select 1;\nset client_encoding = 'LATIN1';" }
        assert.matches("1_a.sql:2: client_encoding was set to LATIN1", said, 1, true)
        assert.matches("hint: leave client_encoding out", said, 1, true)
    end)

    it("that fails at its COMMIT is named, also in a dry run", function()
        sql "create table p (i int primary key); create table c (i int references p deferrable initially deferred)"
        for _, options in ipairs { {}, { "--dry-run" } } do
            for _, file in ipairs { { "1_a.sql", "insert into c values (1);" },
                { "1_a.lua", "return function(c) c.db:exec 'insert into c values (1)' end" } } do
                local said = failing({ [file[1]] = file[2], ["2_b.sql"] = "insert into p values (1);" },
                    table.unpack(options))
                assert.matches(file[1] .. ": at its COMMIT: insert or update on table \"c\" violates", said, 1, true)
                assert.is_nil(said:find("seed.lua", 1, true))
                assert.equal("0", sql "select count(*) from c")
            end
        end
    end)

    it("has its constraints deferred in a dry run, whatever the seed before it did", function()
        sql "create table p (i int primary key); create table c (i int references p deferrable initially deferred)"
        for _, options in ipairs { { "--dry-run" }, {} } do
            local result = seed(url, {
                ["1_a.sql"] = "set search_path = ''; insert into public.p values (7);",
                ["2_b.sql"] = "insert into c values (1); insert into p values (1);",
                ["3_c.lua"] = "return function(c) c.db:exec 'insert into c values (2); insert into p values (2)' end",
            }, table.unpack(options))
            assert.equal(0, result.code, result.text)
        end
    end)

    it("that cannot be recorded is named with the line that caused it", function()
        for text, expected in pairs {
            ["select 1;\ndrop table dbrun_seeds;\nselect 2"] = ":2: while the seed 1_a was recorded: relation",
            ["select 1;\n\nalter schema public rename to other"] = ":3: while the seed 1_a was recorded: relation",
            ["set transaction read only;\nselect 2"] = ":1: while the seed 1_a was recorded: cannot execute INSERT",
        } do
            local said = failing { ["1_a.sql"] = text }
            assert.matches("1_a.sql" .. expected, said, 1, true)
            assert.matches("hint: ", said, 1, true)
            assert.matches("Nothing of it was kept.", said, 1, true)
            assert.is_nil(said:find("insert into", 1, true))
        end
        assert.matches("hint: the code that it runs ends transactions",
            failing { ["1_a.sql"] = "do $$ begin commit; end $$" }, 1, true)
    end)

    it("reads its strings as the server does, and is refused when its text does not show how", function()
        local result = seed(url, { ["1_a.sql"] = "create table t (v text);\nset standard_conforming_strings = off;\n"
            .. "insert into t values ('\\'; x');\ninsert into t values ('y');" })
        assert.equal(0, result.code, result.text)
        assert.equal("'; x y", sql "select string_agg(v, ' ' order by v) from t")
        local said = failing { ["2_b.sql"] = "select 1;\ndo $$ begin execute 'set standard_conforming' "
            .. "|| '_strings = off'; end $$;\nselect 2;" }
        assert.matches("2_b.sql:2: standard_conforming_strings was switched", said, 1, true)
    end)

    it("of a role without the right to record it names the GRANT", function()
        local role = "spec_seed_" .. database:gsub("%W", "_")
        sql(("create role %s; revoke create on schema public from public"):format(role))
        local address = url .. (url:find("?", 1, true) and "&" or "?") .. "options=-c%20role%3D" .. role
        local files = { ["1_a.sql"] = "select 1;" }
        local result = seed(address, files)
        assert.equal(1, result.code, result.text)
        assert.matches("grant usage, create on schema public to", result.stderr, 1, true)
        assert.equal(0, seed(url, files).code)
        result = seed(address, files)
        assert.equal(1, result.code, result.text)
        assert.matches("grant select, insert, update, delete on dbrun_seeds to", result.stderr, 1, true)
        sql(("drop owned by %s; drop role %s"):format(role, role))
    end)

    it("shows the server's messages, except with --quiet", function()
        local files = { ["1_a.sql"] = "\ndrop table if exists nothing;" }
        assert.matches("1_a.sql:2: NOTICE:  table", seed(url, files).stderr, 1, true)
        assert.equal("", seed(url, files, "--force", "--quiet").stderr)
    end)

    local LEAKS <const> = "set role spec_seed; set work_mem = '7MB'; prepare p as select 1; "
        .. "select pg_advisory_lock(78); create temporary table scratch (); "
        .. "select set_config('search_path', '', false);"
    local CHECK <const> = [[
insert into public.found select concat_ws(' ', current_user = session_user, current_setting('work_mem'),
    current_setting('search_path'), (select count(*) from pg_prepared_statements where from_sql),
    (select count(*) from pg_locks where locktype = 'advisory' and objid = 78), to_regclass('pg_temp.scratch'));]]

    local function leaves_nothing(address)
        sql "create table if not exists found (x text); truncate found"
        servers.shared_postgres():psql "drop role if exists spec_seed; create role spec_seed"
        local failed = seed(address, { ["1_a.sql"] = LEAKS .. "select 1 / 0" })
        assert.equal(1, failed.code, failed.text)
        for _, options in ipairs { { "--force" }, { "--force", "--dry-run" } } do
            local result = seed(address, { ["1_a.sql"] = LEAKS, ["2_b.sql"] = CHECK,
                ["3_c.lua"] = "return function(c) return c.db:value 'select x from found limit 1' end" },
                table.unpack(options))
            assert.equal(0, result.code, result.text)
            assert.matches('seeded  3_c  t 4MB "$user", public 0 0', result.stdout, 1, true)
        end
        assert.equal("0", sql "select count(*) from pg_locks where locktype = 'advisory' and objid = 78")
        servers.shared_postgres():psql "drop role spec_seed"
    end

    it("leaves no session state for the next", function() leaves_nothing(url) end)

    it("leaves no session state through a transaction pooler", function()
        if not pgbouncer.is_there() then pending "pgbouncer is not installed" end
        local bouncer <close> = pgbouncer.start(servers.shared_postgres(), { default_pool_size = 1 })
        leaves_nothing((bouncer.url:gsub("/postgres%?", "/" .. database .. "?")))
    end)
end)
