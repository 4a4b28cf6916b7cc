-- `dbrun sql` compared with psql: equal output, and the documented differences.
local core = require "dbrun.core"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

---Values of many types, from the regression tests of PostgreSQL.
local VALUES <const> = {
    "1::int2, (-2147483648)::int4, 9223372036854775807::int8", "null, true, false", "'', ' ', 'a|b', E'a\\nb\\tc\\\\'",
    "1.0::numeric, 123456789012345678901234567890.0123456789, 'NaN'::numeric, 0.1::float8, 'Infinity'::float8",
    "'{1,2,NULL}'::int[], '{\"a b\",\"\",NULL,\"q\\\"\"}'::text[], '{{1,2},{3,4}}'::int[]",
    "'1 year 2 mons -3 days 04:05:06.789'::interval, '-1 days'::interval", "'\\x00ff10'::bytea, ''::bytea",
    "'2024-02-29'::date, '2024-02-29 12:34:56.789'::timestamp, '2024-02-29 12:00+02'::timestamptz, 'infinity'::date",
    "'{\"a\": [1, 2.50, null]}'::json, '{\"b\":1,  \"a\":2}'::jsonb", "int4range(1, 5)", "1e20::float4",
    "row(1, 'x y', null)", "'12.34'::money, B'1010', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
    "'192.168.0.1/24'::inet, point(1, 2), 'pg_class'::regclass, 'é☃'::text", "1 as a, 2 as a",
}

describe("dbrun sql", function()
    local url, folder, pg

    setup(function()
        url = servers.database()
        pg = db.engine { url = url, size = 2 }
        folder = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-sql-"))
    end)
    teardown(function()
        pg:close()
        fs.rmtree(folder)
    end)
    before_each(function()
        pg:exec "set client_min_messages = error; drop table if exists t; create table t (a int, b text)"
    end)

    local function sql(args, stdin, env, more)
        env = env or {}
        env.DATABASE_URL = url
        more = more or {}
        more.stdin, more.cwd = stdin, folder
        return scripts.run("sql", args, env, more)
    end

    local function psql(args, stdin)
        local command = { "psql", "-X", url, table.unpack(args) }
        command.stdin, command.timeout = stdin, 60
        return process.run(command)
    end

    local function file(name, text)
        fs.write(folder .. "/" .. name, text)
        return name
    end

    local function fails(status, pattern, result)
        assert.equal(status, result.code, result.text)
        assert.matches(pattern, result.stderr)
        return result
    end

    it("prints values as psql -At does", function()
        local text = {}
        for i, values in ipairs(VALUES) do text[i] = ("select %s;\n"):format(values) end
        text = table.concat(text)
        local theirs, ours = psql({ "-At" }, text), sql({ "-t" }, text)
        assert.equal("", ours.stderr)
        assert.equal(theirs.stdout, ours.stdout)
        text = "set datestyle = 'German, DMY'; set intervalstyle = iso_8601; set bytea_output = escape;\n" .. text
        assert.equal(psql({ "-Atq" }, text).stdout, sql({ "-t" }, text).stdout)
    end)

    it("prints csv as psql does, except NULL and the empty string", function()
        local text = "select 1 as a, 'x, \"y\"' as \"b c\", null as d, E'l\\nm' as e;"
        assert.equal(psql({ "--csv" }, text).stdout, sql({ "--format", "csv" }, text).stdout)
        assert.equal('a,b\n,""\n', sql { "--format", "csv", "select null as a, '' as b" }.stdout)
        assert.equal('1,2\n', sql { "--format", "csv", "-t", "select 1 as a, 2 as b" }.stdout)
        assert.equal('a\tb\n\\N\tx\\ty\n', sql { "--format", "tsv", "select null as a, E'x\\ty' as b" }.stdout)
    end)

    it("prints JSON with JSON values, and both columns of one name", function()
        local result = sql { "--format", "jsonl", "select 1 as id, 2 as id, true as b, null as n, 1.50 as num, "
            .. "'{\"x\": [1]}'::jsonb as j, 'NaN'::float8 as f, '{1,2}'::int[] as arr" }
        assert.equal("", result.stderr)
        local row = json.decode(result.stdout)
        assert.same({ 1, 2, true, json.null, { x = { 1 } }, "NaN" }, { row.id, row.id_2, row.b, row.n, row.j, row.f })
        assert.matches('"num":1.50,', result.stdout, 1, true)
        result = sql { "--format", "json", "insert into t values (1) returning a" }
        assert.same({ { a = 1 } }, json.decode(result.stdout))
        assert.same({}, json.decode(sql { "--format", "json", "select 1 where false" }.stdout))
        assert.equal("", sql { "--format", "json", "insert into t values (1)" }.stdout)
    end)

    it("prints a table and the tags of commands for people", function()
        local out = sql({ "create table u (x int); insert into u values (1), (2); select x, null as y from u; "
            .. "drop table u" }).stdout
        assert.matches("^CREATE TABLE\nINSERT 0 2\n", out)
        assert.matches("x", out)
        assert.matches("\nDROP TABLE\n$", out)
        assert.equal("", sql { "-t", "update t set a = 1" }.stdout)
        assert.equal("", sql { "--format", "csv", "update t set a = 1" }.stdout)
    end)

    it("stops at the first error, with file and line", function()
        file("bad.sql", "insert into t values (1);\n\nselect\n  nope,\n  1;\ninsert into t values (2);\n")
        local result = fails(1, "^bad.sql:4: ERROR: column \"nope\" does not exist", sql { "-f", "bad.sql" })
        assert.matches("LINE 4:   nope,\n +^\n", result.stderr)
        assert.equal(1, pg:value "select count(*) from t")
        fails(1, "^<stdin>:2: ERROR: division by zero", sql({}, "select 1;\nselect 1/0;\ninsert into t values (3)"))
        fails(1, "^ERROR: syntax error", sql { "selec 1" })
        assert.equal(1, pg:value "select count(*) from t")
    end)

    it("with -1 rolls back everything when a statement fails, and otherwise commits", function()
        fails(1, "division by zero", sql { "-1", "insert into t values (1); select 1/0" })
        assert.equal(0, pg:value "select count(*) from t")
        for _, last in ipairs { "commit", "rollback", "begin", "end", "abort work", "prepare transaction 'x'" } do
            fails(2, "%-1", sql { "-1", "insert into t values (1); " .. last })
        end
        assert.equal(0, pg:value "select count(*) from t")
        local text = "insert into t values (1); savepoint s; rollback to s; insert into t values (2)"
        assert.equal(0, sql({ "-1", text }).code)
        assert.equal(2, pg:value "select count(*) from t")
        fails(1, "^ERROR: duplicate key .*\nDETAIL:  Key .*\nCONTEXT:  the COMMIT of the transaction\n$", sql { "-1",
            "create temp table u (a int unique deferrable initially deferred); insert into u values (1), (1)" })
    end)

    it("runs BEGIN and COMMIT, and reports a transaction that is left open", function()
        assert.equal(0, sql({ "begin; insert into t values (1); commit; begin; delete from t; rollback" }).code)
        assert.equal(1, pg:value "select count(*) from t")
        fails(1, "<stdin>:3: .*not ended", sql({}, "select 1;\n\nbegin;\ninsert into t values (2);\n"))
        assert.equal(1, pg:value "select count(*) from t")
    end)

    it("sends values as parameters, never as text", function()
        local value = "x'; drop table t; --"
        local result = sql { "-t", "-v", "v=" .. value, "select :v, :v, length(:v), $$:v$$, ':v', a[1:2] from (select "
            .. "'{1,2}'::int[] as a) s" }
        assert.equal(("%s|%s|%d|:v|:v|{1,2}\n"):format(value, value, #value), result.stdout)
        assert.equal("90 days\n", sql({ "-t", "-v", "days=90", "select make_interval(days => :days)" }).stdout)
        fails(2, "did you mean ':days'", sql { "-v", "days=1", "insert into t values (1); select :day" })
        fails(2, ":x has no value", sql { "insert into t values (1); select :x" })
        fails(2, "no statement has :b", sql { "-v", "b=1", "insert into t values (1)" })
        fails(2, "NAME=VALUE", sql { "-v", "b", "select 1" })
        fails(2, "^<stdin>:2: .*both %$n and :b", sql({ "-v", "b=1" }, "select :b;\nselect $1, :b"))
        fails(2, "twice", sql { "-v", "b=1", "-v", "b=2", "select :b" })
        fails(2, "'b' is not valid UTF%-8", sql { "-v", "b=\xff", "select :b" })
        for text, hint in pairs {
            ["select :y::int, :x is null"] = "$2 is :x: say its type, as :x::text",
            ["set work_mem = :x"] = ":x is a parameter",
            ["copy (select :x) to stdout"] = ":x is a parameter", ["select :y::int, :x::int"] = "$1 is :y, $2 is :x",
            ["select :x::text, :y::text, nope"] = "$1 is :x, $2 is :y",
        } do
            local options <const> = { "-v", "x=v", text }
            if text:find ":y" then table.insert(options, 1, "-v") table.insert(options, 2, "y=1") end
            fails(1, "\nHINT:  " .. hint:gsub("%$", "%%$"), sql(options))
        end
        fails(1, "\nHINT:  values have names here: :NAME in the place of %$1, and %-v", sql { "select $1" })
        fails(2, "no statement has :b", sql({ "-v", "b=1" }, "select 1"))
        assert.equal(0, pg:value "select count(*) from t")
    end)

    it("refuses psql's own commands before anything runs", function()
        for text, hint in pairs {
            ["\\d t"] = "the prompt has it", ["\\i x.sql"] = "-f FILE", ["\\set x 1"] = "-v NAME=VALUE",
            ["\\copy t from 'x'"] = "copy t from stdin", ["select 1 \\gexec"] = "Lua", ["\\connect other"] = "one run",
            ["select :'x'"] = ":NAME", ["select :\"x\""] = ":NAME", ["\\nosuch"] = "psql", ["\\x"] = "vertical",
        } do
            file("psql.sql", "insert into t values (1);\n" .. text .. "\n")
            fails(2, hint, fails(2, "^psql.sql:2: ", sql { "-f", "psql.sql" }))
        end
        assert.equal(0, pg:value "select count(*) from t")
        assert.equal(0, sql({ "select 'x'::\"char\", $$ :'x' \\d $$, ':\"x\"', (array[1,2,3])[1:'2'::int]" }).code)
        assert.equal("1\n", sql({ "-t" }, "\\restrict abc\nselect 1;\n\\unrestrict abc\n").stdout)
    end)

    it("copies from standard input and to the output", function()
        assert.equal("COPY 2\n", sql({ "copy t from stdin with (format csv)" }, "1,\"x, y\"\n2,z\n").stdout)
        file("in.sql", "copy t (a) from stdin;\nselect count(*) from t;\n")
        assert.equal("5\n", sql({ "-t", "-f", "in.sql" }, "3\n4\n5\n").stdout)
        file("inline.sql", "copy t from stdin;\n6\tin line\n\\.\nselect max(a) from t;\n")
        assert.equal("6\n", sql({ "-t", "-f", "inline.sql" }, "7\t7\n").stdout)
        assert.equal("7\n", sql({ "-t" }, "copy t (a) from stdin;\n7\n\\.\nselect max(a) from t;").stdout)
        assert.equal("COPY 1\n", sql({}, "copy t (a) from stdin;\n8\n").stdout)
        assert.equal("1,\"x, y\"\n2,z\n", sql({ "copy (select * from t where a < 3 order by a) to stdout csv" }).stdout)
        sql { "-o", "copied", "copy (select generate_series(1, 3)) to stdout" }
        assert.equal("1\n2\n3\n", fs.read(folder .. "/copied"))
        fails(1, "<stdin>:1: ERROR: invalid input syntax", sql({ "-1" }, "copy t (a) from stdin;\n9\nx\n\\.\n"))
        assert.equal(8, pg:value "select max(a) from t")
        local marked <const> = sql({ "copy (select 9, E'\\\\.\\n') to stdout binary" }).stdout
        assert.equal("COPY 1\n", sql({ "copy t from stdin (format binary)" }, marked).stdout) -- no marker in binary
        fails(2, "line 2 .* would be lost", sql({ "copy t (b) from stdin csv quote ''''" }, "x\n\\.\ny\n"))
    end)

    it("writes the complete file or none", function()
        local path = folder .. "/out"
        fs.write(path, "before", 384)
        fails(1, "division", sql { "-o", "out", "select 1; select 1/0" })
        assert.equal("before", fs.read(path))
        assert.equal(0, sql({ "-t", "-o", "out", "select 1" }).code)
        assert.same({ "1\n", 384 }, { fs.read(path), fs.stat(path).mode & 511 })
        fails(1, "division", sql { "-o", "new", "select 1/0" })
        assert.is_false(fs.exists(folder .. "/new"))
        fs.write(folder .. "/new.0123456789ab.new", "of a run that was killed")
        local held <const> = fs.lock(folder .. "/new.ba9876543210.new") -- the temporary file of a running program
        assert.equal(0, sql({ "-o", "new", "select 1" }).code)
        assert.is_false(fs.exists(folder .. "/new.0123456789ab.new"))
        assert.is_true(fs.exists(folder .. "/new.ba9876543210.new"))
        held:release()
        fs.unlink(folder .. "/new.ba9876543210.new")
        fails(1, "nowhere", sql { "-o", "nowhere/x", "insert into t values (1)" })
        assert.equal(0, pg:value "select count(*) from t")
        fs.symlink("out", folder .. "/link")
        sql { "-t", "-o", "link", "select 2" }
        assert.same({ "2\n", "link" }, { fs.read(path), fs.stat(folder .. "/link", true).kind })
        assert.equal("3\n", sql({ "-t", "-o", "/dev/stdout", "select 3" }).stdout)
        assert.equal(0, sql({ "-o", "/dev/null", "select 3" }).code)
        assert.equal("device", fs.stat("/dev/null").kind)
        for _, name in ipairs(fs.list(folder)) do assert.is_nil(name:find "%.new$") end
    end)

    it("only reads on a protected database without --target", function()
        local name <const> = pg:value "select current_database()"
        local env = { DBRUN_PROTECTED = "spec_*" }
        assert.equal("1\n", sql({ "-t", "select 1" }, nil, env).stdout)
        for _, text in ipairs { "insert into t values (1)", "begin read write; insert into t values (1); commit",
            "set default_transaction_read_only = off; insert into t values (1)",
            "reset all; discard all; insert into t values (1)",
            "select set_config('default_transaction_read_only', 'off', false); insert into t values (1)" } do
            local result = sql({ text }, nil, env)
            assert.is_true(result.code > 0, text)
            assert.matches("%-%-target " .. name, result.stderr)
            local words <const> = { core.options.program, "--no-env", "--read-only", "sql", text }
            words.env = { DATABASE_URL = url }
            result = process.run(words)
            assert.is_true(result.code > 0, text)
            assert.matches("read%-only", result.stderr)
        end
        assert.equal(0, pg:value "select count(*) from t")
        assert.equal(0, sql({ "--target", name, "insert into t values (1)" }, nil, env).code)
        assert.equal(1, pg:value "select count(*) from t")
        fails(2, "not 'other'", sql { "--target", "other", "delete from t" })
        assert.equal(1, pg:value "select count(*) from t")
    end)

    it("sends notices to stderr", function()
        local result = sql { "do $$ begin raise notice 'hello'; end $$" }
        assert.same({ "DO\n", "NOTICE:  hello\n" }, { result.stdout, result.stderr })
    end)

    it("is refused without anything to run", function()
        fails(2, "'%-f' must be used at most 1 time", sql { "-f", "a.sql", "-f", "b.sql" })
        fails(2, "'%-o' must be used at most 1 time", sql { "-o", "a", "-o", "b", "select 1" })
        fails(2, "no SQL", sql { "" })
        fails(2, "no SQL", sql { " ; -- nothing" })
        fails(2, "no SQL", sql({}, ""))
        fails(2, "an argument and with", sql { "-f", "x.sql", "select 1" })
        fails(1, "no such file", sql { "-f", "nosuch.sql" })
        fails(2, "format", sql { "--format", "xml", "select 1" })
        fails(2, "leave out one", sql { "-t", "--format", "json", "select 1" })
        assert.equal(0, sql({ "--help" }).code)
    end)

    it("cancels on the server when it is interrupted", function()
        local child <close> = process.start(scripts.command("sql", { "begin; insert into t values (1); select "
            .. "pg_sleep(600); commit" }, { DATABASE_URL = url }, { stdout = "null", stderr = "null" }))
        local asleep = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' "
            .. "and pid <> pg_backend_pid()"
        local deadline <const> = task.now() + 30
        local function wait_for(n)
            while pg:value(asleep) ~= n and task.now() < deadline do task.sleep(0.02) end
            assert.equal(n, pg:value(asleep))
        end
        wait_for(1)
        child:kill "INT"
        assert.equal(130, child:wait(30).code)
        wait_for(0)
        assert.equal(0, pg:value "select count(*) from t")
    end)

    it("streams large results, and ends silently when its reader ends", function()
        local dbrun <const> = ("%s --no-env %s/sql.lua"):format(core.options.program, fs.realpath "scripts")
        local large <const> = "select g, repeat('x', 1000) from generate_series(1, 200000) g"
        -- The address sanitizer uses much address space.
        local limit <const> = os.getenv "ASAN_OPTIONS" and "unlimited" or "600000"
        local shell <const> = ([[ulimit -v %s; %s -t "%s" | tail -c 5; %s -t "%s" | head -n 1 | head -c 5; echo
            %s -t "%s" | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}]]):format(limit, dbrun, large,
            dbrun, large, dbrun, large)
        local result = process.run { "bash", "-c", shell, env = { DATABASE_URL = url }, timeout = 100 }
        assert.same({ "xxxx\n1|xxx\n141\n", "" }, { result.stdout, result.stderr })
    end)
end)
