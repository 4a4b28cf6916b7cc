-- The checks of the database's contents, a team's own checks, the formats of the report, and --watch.
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

describe("dbrun verify", function()
    local root, env, database

    before_each(function()
        root = fs.mkdtemp()
        local url
        url, database = servers.database()
        env = { DATABASE_URL = url, REDIS_URL = (servers.redis_db()) }
    end)
    after_each(function() fs.rmtree(root) end)

    local function sql(text) return servers.shared_postgres():psql(text, database) end

    local function verify(facts, ...)
        fs.write(root .. "/expect.lua", "return { " .. facts .. " }")
        return scripts.run("verify", { "--expect", root .. "/expect.lua", ... }, env)
    end

    local function check(name, facts, ...)
        local result = verify(facts, "--only", name, ...)
        local status = result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " ")
        assert.equal(status == "FAIL" and 1 or 0, result.code, result.text)
        return status, result.stdout
    end

    ---Passes with the first facts; with the others warns with this cause, and fails with --strict.
    local function judges(name, good, bad, ...)
        local status, text = check(name, good, "--strict")
        assert.equal("PASS", status, text)
        status, text = check(name, bad)
        assert.equal("WARN", status, text)
        for _, cause in ipairs { ... } do assert.matches(cause, text, 1, true) end
        assert.equal("FAIL", (check(name, bad, "--strict")))
    end

    ---Warns with this cause, and fails with --strict.
    local function incomplete(name, facts, cause)
        local status, text = check(name, facts)
        assert.equal("WARN", status, text)
        assert.matches(cause, text, 1, true)
        assert.equal("FAIL", (check(name, facts, "--strict")))
    end

    it("compares columns with their types", function()
        sql [[create table t (id bigint primary key, "my name" text, at timestamptz not null, v varchar(20), a int[],
            n numeric(10,2))]]
        judges("schema.columns",
            [[{ table = "t", columns = { "id int8 not null", '"my name" text', "at timestamptz not null",
                "v varchar(20)", "a int[]", "n numeric(10,2)", "v" } }]],
            [[{ table = "t", columns = { "id integer", "v text not null", "gone", '"my name" text not null' } },
              { table = "nowhere", columns = { "x" } }]],
            "t: id is bigint, not integer", "t: v is character varying(20), not text", "t: no column gone",
            "t: my name may be null")
        local status, text = check("schema.columns", [[{ table = "nowhere", columns = { "x" } }]], "--strict")
        assert.equal("SKIP", status, text)
    end)

    it("sees a migration that was changed after it was applied, and one that is partly done", function()
        fs.mkdir(root .. "/m")
        env.DBRUN_MIGRATIONS_DIR = root .. "/m"
        fs.write(root .. "/m/1_a.sql", "-- migrate:up\ncreate table a (n int);\n-- migrate:down\ndrop table a;\n")
        assert.equal(0, scripts.run("migrate", { "up" }, env).code)
        assert.equal("PASS", (check("schema.migrations", "", "--strict")))
        fs.write(root .. "/m/1_a.sql", "-- migrate:up\r\ncreate table a (n int);\r\n-- migrate:down\r\n"
            .. "drop table a;\r\n")
        assert.equal("PASS", (check("schema.migrations", "", "--strict")))
        fs.write(root .. "/m/1_a.sql", "-- migrate:up\ncreate table a (n bigint);\n-- migrate:down\ndrop table a;\n")
        fs.write(root .. "/m/2_b.sql", "-- migrate:up transaction:false\ncreate table b (n int);\nselect 1/0;\n"
            .. "-- migrate:down\n")
        assert.equal(1, scripts.run("migrate", { "up" }, env).code)
        local status, text = check("schema.migrations", "")
        assert.equal("WARN", status, text)
        assert.matches("changed after they were applied: 1_a.sql", text, 1, true)
        assert.matches("half done: 2_b.sql (up, 1 statements)", text, 1, true)
        assert.equal("FAIL", (check("schema.migrations", "", "--strict")))
    end)

    it("compares indexes by name and by columns", function()
        sql "create table t (a int, b int); create unique index t_a on t (a); create index on t (b, a desc)"
        judges("schema.indexes", [[{ table = "t", indexes = { "t_a", "(a)", "unique (a)", "(b, a desc)" } }]],
            [[{ table = "t", indexes = { "t_b", "unique (b, a desc)", "(b)" } }]],
            "t: no index t_b", "t: no index unique (b, a desc)", "t: no index (b)")
    end)

    it("accepts an index as the expected one only when it contains all rows and is valid", function()
        sql [[create table t (a int, b text, c int); create unique index part on t (a) where c > 0;
            create index low on t (lower(b)); create index broken on t (c);
            update pg_index set indisvalid = false where indexrelid = 'broken'::regclass]]
        judges("schema.indexes", [[{ table = "t", indexes = { "unique (a) where c > 0", "(lower(b))", "part" } }]],
            [[{ table = "t", indexes = { "unique (a)", "(c)", "broken", "(lower(b)) where c > 1", "index (a)" } }]],
            "t: no index unique (a); part is only where (c > 0)", "t: no index (c): the index broken is invalid",
            "t: no index broken: the index broken is invalid",
            "t: no index (lower(b)) where c > 1; low is for all rows",
            "t: no index index (a)")
    end)

    it("recognises types by all their names", function()
        sql [[create schema app; create type app.mood as enum ('a'); create type app."My Type" as enum ('a');
            create table t (a timestamptz(3), b varchar(20)[], c time(0), d numeric(10,2), e numeric(5), f serial,
                g bigserial, h float, i float(10), j bit, k app.mood, l app."My Type", m app.mood[], n char)]]
        judges("schema.columns", [[{ table = "t", columns = { "a timestamptz(3)", "a timestamp(3) with time zone",
            "b varchar ( 20 ) []", "c time(0)", "d decimal(10, 2)", "e numeric(5)", "f serial not null", "g serial8",
            "h float", "i float(10)", "j bit", "k app.mood", 'l app."My Type"', "m app.mood array", "n char" } }]],
            [[{ table = "t", columns = { "a timestamptz", "b varchar[]", "k mood", "k nowhere.mood", "m app.mood",
                "d numeric(10)" } }]], "a is timestamp(3) with time zone, not timestamp with time zone\n",
            "b is character varying(20)[], not character varying[]", "k is app.mood, not mood",
            "k is app.mood, not nowhere.mood", "m is app.mood[], not app.mood", "not numeric(10,0)")
    end)

    it("compares privileges, of the role that connects and of others", function()
        sql "create table t (a int); create role verify_reader; grant select on t to verify_reader"
        finally(function() sql "drop owned by verify_reader; drop role verify_reader" end)
        judges("schema.privileges",
            [[{ table = "t", privileges = "select, insert" },
              { table = "t", privileges = "select", role = "verify_reader" }]],
            [[{ table = "t", privileges = "select, insert, delete", role = "verify_reader" },
              { table = "t", privileges = "select", role = "verify_nobody" }]],
            "t: verify_reader may not INSERT, DELETE", "t: the role verify_nobody does not exist")
    end)

    it("compares extensions with their versions", function()
        judges("schema.extensions", [[{ extension = "plpgsql", version = ">= 1" }]],
            [[{ extension = "plpgsql", version = "> 99" }, { extension = "no_such" }]],
            "plpgsql is 1.0, expected > 99", "no_such is not installed on the server")
    end)

    it("skips hypertables without TimescaleDB, unless the expectation requires it", function()
        local status, text = check("schema.hypertables", "")
        assert.equal("SKIP", status, text)
        assert.matches("TimescaleDB is not in this database", text)
        status, text = check("schema.hypertables", "{ table = 't', time_partitioned = 'at', chunk_interval = '1 day' }")
        assert.equal("SKIP", status, text)
        incomplete("schema.hypertables", "{ table = 't', retention = '1 day' }", "expected of it: t")
        incomplete("schema.aggregates", "{ aggregate = 'a', refreshed_within = 60 }", "expected of it: a")
    end)

    it("finds tables in a schema that the role may not use, and says so", function()
        local role = "closed_" .. database
        sql(([[create schema closed; create table closed.t (id int primary key, at date) partition by range (id);
            create role "%s" login; grant select on closed.t to "%s"]]):format(role, role))
        finally(function() sql(('drop owned by "%s"; drop role "%s"'):format(role, role)) end)
        local owner = env.DATABASE_URL
        env.DATABASE_URL = servers.shared_postgres():address { user = role, database = database }
        local grant = "grant usage on schema closed to " .. role
        incomplete("schema.tables", "{ table = 'closed.t' }, { table = 'pg_class' }", grant)
        judges("schema.columns", "{ table = 'closed.t', columns = { 'id int not null' } }",
            "{ table = 'closed.t', columns = { 'id text' } }", "id is integer, not text")
        incomplete("schema.privileges", "{ table = 'closed.t', privileges = 'select' }",
            role .. " may not use the schema closed")
        incomplete("schema.time_partitioning", "{ table = 'closed.t', time_partitioned = 'at' }",
            "closed.t is split by id, not by at")
        env.DATABASE_URL = owner
        local fact = "{ table = 'closed.t', role = '" .. role .. "', privileges = 'select' }"
        assert.equal("PASS", (check("schema.tables", fact, "--strict")))
        incomplete("schema.privileges", fact, role .. " may not use the schema closed")
    end)

    -- Debian has no TimescaleDB: tables of the names and columns of its views stand for the catalog.
    it("compares hypertables with TimescaleDB's catalog", function()
        sql [[create table t (at timestamptz); create schema timescaledb_information;
            set search_path = timescaledb_information;
            create table hypertables (hypertable_schema name, hypertable_name name, num_dimensions int,
                num_chunks bigint, compression_enabled bool);
            create table dimensions (hypertable_schema name, hypertable_name name, dimension_number int,
                column_name name, time_interval interval);
            create table jobs (job_id int, proc_name name, hypertable_name name);
            create table job_stats (job_id int, last_run_status text, total_runs bigint, total_failures bigint);
            insert into hypertables values ('public', 't', 1, 3, true);
            insert into dimensions values ('public', 't', 1, 'at', '1 month');
            insert into jobs values (1000, 'policy_compression', 't'), (1, 'policy_telemetry', null);
            insert into job_stats values (1000, 'Success', 5, 0), (1, 'Success', 1, 0)]]
        judges("schema.hypertables", [[{ table = "t", chunk_interval = "30 days", compression = true }]],
            [[{ table = "t", chunk_interval = "1 day", compression = false }, { table = "x", compression = true }]],
            "t: chunks of 1 mon, expected 1 day", "t: compression is on", "x is not a hypertable")
        sql [[update timescaledb_information.job_stats set last_run_status = 'Failed', total_failures = 2
               where job_id = 1000]]
        local status, text = check("schema.hypertables", "", "--strict")
        assert.equal("WARN", status, text)
        assert.matches("job 1000 (policy_compression of t) failed the last time, 2 of 5 runs", text, 1, true)
    end)

    it("runs a team's own checks", function()
        local function own(body, ...)
            local fact = "{ check = 'team.own', about = 'ours', run = function(ctx) %s end }"
            return check("team.own", fact:format(body), ...)
        end
        assert.equal("PASS", (own "return ctx.db:value 'select 1' .. ctx.redis:ping()"))
        assert.equal("PASS", (own ""))
        assert.equal("WARN", (own "return ctx.warn('%d orders', 5)"))
        assert.equal("SKIP", (own "return ctx.skip 'not here'"))
        for _, body in ipairs { "return false", "return ctx.fail 'bad'", "error 'boom'", "return {}",
            "return ctx.db:value 'select nothing'", "require('dbrun.task').sleep(20)" } do
            local status, text = own(body, "--deadline", "0.5")
            assert.equal("FAIL", status, text)
        end
        assert.equal("FAIL", (own("return { status = 'INCOMPLETE', text = 'x' }", "--strict")))
        assert.matches("team.own +ours", verify("{ check = 'team.own', about = 'ours', run = print }", "--list").stdout)
        local twice = verify "{ check = 'redis', run = print }"
        assert.equal(2, twice.code)
        assert.matches("FAIL  expectations", twice.text, 1, true)
        assert.equal(2, verify("{ check = 'redis', run = print }", "--list").code)
        local status, text = own("local n = 0 while true do n = n + 1 end", "--deadline", "0.5")
        assert.equal("FAIL", status, text)
        assert.matches("it did not end within the deadline of 0.5 s", text, 1, true)
        text = select(2, own "return ctx.db:value 'select 1/0'")
        assert.matches("expect.lua:%d+: division by zero", text)
        for field, value in pairs { cause = "5", remedy = "{ 1 }", facts = "{ print }", text = "7" } do
            local fields = { text = "'t'", [field] = value }
            local parts = {}
            for name, lua in pairs(fields) do parts[#parts + 1] = name .. " = " .. lua end
            text = select(2, own("return { status = 'WARN', " .. table.concat(parts, ", ") .. " }"))
            assert.matches("a table whose `" .. field .. "` is not", text, 1, true)
        end
        assert.matches("two checks are called 'redis'", twice.text)
    end)

    describe("in the format", function()
        local FACTS <const> = [[{ table = "nowhere" }, { check = "team.<&\">", run = function(ctx)
            return ctx.fail("a # b <c> & \"d\"\1\n\xff") end }]]

        it("junit is valid for readers of JUnit", function()
            local result = verify(FACTS, "--format", "junit")
            assert.equal(1, result.code)
            fs.write(root .. "/junit.xml", result.stdout)
            fs.write(root .. "/junit.xsd", fs.read "spec/support/junit.xsd")
            local lint = process.run { "xmllint", "--noout", "--schema", root .. "/junit.xsd", root .. "/junit.xml" }
            assert.equal(0, lint.code, lint.stderr .. result.stdout)
            assert.matches('tests="50" failures="1" errors="0" skipped="1"', result.stdout, 1, true)
            assert.matches("<system%-out>WARN: 0 of 1 are there&#10;missing: nowhere", result.stdout)
        end)

        it("json contains text that is not UTF-8, and the effect of --fail-on on a warning", function()
            local result = verify(FACTS, "--format", "json", "--only", "team.<&\">")
            local decoded = json.decode(result.stdout)
            assert.equal('a # b <c> & "d"\\x01\n\\xff', decoded.checks[1].text)
            result = verify("{ table = 'nowhere' }", "--format", "json", "--only", "schema.tables", "--fail-on", "warn")
            decoded = json.decode(result.stdout)
            assert.same({ 1, false, 0, 1 }, { result.code, decoded.ok, decoded.failed, decoded.warned })
        end)

        it("tap is valid for prove", function()
            local result = verify(FACTS, "--format", "tap")
            fs.write(root .. "/run.t", "cat <<'END'\n" .. result.stdout .. "END\n")
            local proved = process.run { "prove", "-e", "sh", root .. "/run.t" }
            assert.is_true(proved.code ~= 0)
            assert.matches("Failed 1/50 subtests", proved.stdout .. proved.stderr, 1, true)
            result = verify("{ table = 'pg_class' }", "--format", "tap", "--skip", "schema.migrations")
            assert.equal(0, result.code, result.text)
            fs.write(root .. "/run.t", "cat <<'END'\n" .. result.stdout .. "END\n")
            proved = process.run { "prove", "-e", "sh", root .. "/run.t" }
            assert.equal(0, proved.code, proved.stdout .. proved.stderr)
        end)
    end)

    it("--watch shows everything once and then only changes", function()
        fs.write(root .. "/expect.lua", "return { { table = 'late' } }")
        local run = scripts.watch("verify", { "--watch", "0.1", "--only", "schema.tables", "--expect",
            root .. "/expect.lua" }, env)
        run.says "schema.tables"
        sql "create table late (n int)"
        run.says "WARN -> PASS  schema.tables"
        task.sleep(0.3)
        run.child:kill "INT"
        local result = run.finish()
        assert.equal(130, result.code)
        assert.matches("^PASS  postgres.async", result.stdout)
        assert.matches("WARN -> PASS  schema.tables", result.stdout, 1, true)
        local _, lines = result.stdout:gsub("schema.tables", "")
        assert.equal(2, lines, result.stdout)
    end)

    it("refuses --only and --skip that leave no check", function()
        local result = verify("", "--only", "schema.tables", "--skip", "postgres.async")
        assert.equal(2, result.code, result.text)
        assert.matches("no check is left", result.stderr, 1, true)
        assert.equal(3, verify("", "--only", "schema.tables", "--skip", "postgres", "--format", "nagios").code)
    end)

    it("--watch reports each cause in one line, and its end", function()
        local pg <close> = servers.postgres()
        local run = scripts.watch("verify", { "--watch", "0.1", "--only", "postgres" }, { DATABASE_URL = pg.url,
            REDIS_URL = env.REDIS_URL })
        run.says " passed"
        pg:stop()
        run.says " checks blocked by postgres.async\n"
        pg:start()
        run.says " checks not blocked any more by postgres.async\n"
        run.child:kill "INT"
        local text = run.finish().stdout
        assert.matches("PASS -> FAIL  postgres.async", text, 1, true)
        assert.matches("%d+ checks blocked by postgres.async\n", text)
        assert.matches("FAIL -> PASS  postgres.async", text, 1, true)
        assert.matches("%d+ checks not blocked any more by postgres.async\n", text)
        assert.not_matches("-> SKIP", text, 1, true)
    end)
end)
