-- `dbrun batch` on a real server: status and control of jobs, without their files.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local schema = require "dbrun.batch.state.schema"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

describe("dbrun batch", function()
    local url, engine

    local function batch(args, env, more)
        local full = { DATABASE_URL = url }
        for key, value in pairs(env or {}) do full[key] = value end
        return scripts.run("batch", args, full, more)
    end

    ---Runs it, and expects the exit status 0.
    local function out(...)
        local result = batch { ... }
        assert.equal(0, result.code, result.text)
        return result.stdout
    end

    ---The only value of a query, or nothing of a command.
    local function sql(text)
        local row = engine:query({ positional = true, text = true }, text)[1]
        return row and row[1]
    end

    local function job(name, columns, values)
        sql(([[insert into dbrun_batch_jobs (name, kind, source, definition, hash, identity, started, pass_started,
                last%s)
            values ('%s', 'run', 'orders', '{"table": "orders", "where": "cents is null"}', 'x', '{}',
            now() - interval '5 minutes', now() - interval '5 minutes', '{1000}'%s)]]):format(
            columns and ", " .. columns or "", name, values and ", " .. values or ""))
    end

    local function state(name)
        return sql(("select concat_ws(': ', state, reason) from dbrun_batch_jobs where name = '%s'"):format(name))
    end

    local function job_file(name)
        return ([[return require("dbrun.batch").job { name = "%s", table = "t", run = "delete from t where :chunk" }]])
            :format(name)
    end

    local function set_values()
        return sql "select set_values from dbrun_batch_jobs where name = 'orders-cents'"
    end

    setup(function()
        url = servers.database()
        engine = db.engine { url = url, size = 1 }
    end)
    teardown(function() engine:close() end)
    before_each(function() sql "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges" end)

    it("says when no job was ever started, and fails only for a name", function()
        assert.equal("no batch job was ever started in this database\n", out "list")
        assert.equal("no batch job was ever started in this database\n", out "status")
        assert.equal("[]\n", out("list", "--format", "json"))
        engine:exec "create schema other; create table other.dbrun_batch_jobs ()"
        assert.equal("no batch job was ever started in the schema \"public\"; those of other: "
            .. "DBRUN_BATCH_SCHEMA=other\n", out "list")
        engine:exec "drop schema other cascade"
        for _, command in ipairs { "status", "pause", "wait" } do
            local result = batch { command, "orders-cents" }
            assert.equal(1, result.code, command .. result.text)
            assert.matches("no job 'orders-cents': no batch job was ever started", result.stderr, 1, true)
        end
    end)

    it("makes the tables, or prints their SQL", function()
        local printed = out("init", "--print")
        assert.matches("create table \"public\".\"dbrun_batch_jobs\"", printed, 1, true)
        assert.equal("t", sql "select to_regclass('dbrun_batch_jobs') is null")
        engine:exec(printed)
        assert.matches("were there", out "init")
        engine:exec "drop table dbrun_batch_jobs, dbrun_batch_ranges; create schema ops"
        local result = batch({ "init" }, { DBRUN_BATCH_SCHEMA = "ops" })
        assert.equal(0, result.code, result.text)
        assert.equal("2", sql "select count(*) from pg_tables where schemaname = 'ops' and tablename ~ '^dbrun_batch'")
        sql "drop schema ops cascade"
    end)

    describe("with jobs in the database", function()
        before_each(function()
            engine:exec(schema.sql { jobs = "dbrun_batch_jobs", ranges = "dbrun_batch_ranges" })
            job("orders-cents", "estimate, set_values, file_values", [[1000, '{"size": "500"}', '{"target": 1}']])
            job("purge_logs", "state, ended", "'done', now()")
            sql [[insert into dbrun_batch_ranges (job, pass, first, position, next, last, state, owner, pid, chunks,
                    rows, looked, worked, waited, durations, sizes, waiting, error) values
                ('orders-cents', 1, null, '{400}', null, '{400}', 'done', null, null, 4,
                    40, 400, 3, '{"lock": 1}', '{}', '{}', null, null),
                ('orders-cents', 1, '{400}', '{500}', '{600}', '{1000}', 'open', 'db1:42/1', 1, 1,
                    10, 100, 1, '{}', '{0.25}', '{10}', E'locked by \x1b[31mcrm', null),
                ('orders-cents', 1, '{450}', '{450}', null, '{457}', 'failed', null, null, 0,
                    0, 0, 0, '{}', '{}', '{}', null,
                    '{"sqlstate": "22003", "message": "too \u001b[31mlarge", "key": ["453"], "attempts": 1}')]]
        end)

        it("lists them", function()
            local text = out "list"
            assert.matches("orders%-cents  running  +%d+ %%  +50  [^\n]*1 range failed\n", text)
            assert.matches("purge_logs    done     100 %", text, 1, true)
            local list = json.decode(out("list", "--format", "json"))
            assert.equal("orders-cents purge_logs", list[1].name .. " " .. list[2].name)
        end)

        it("shows one by its name (- and _ are equal) from the database alone, without control characters", function()
            local text = out("status", "orders_cents")
            assert.matches("^orders%-cents  running  started ", text)
            assert.matches("where     cents is null", text, 1, true)
            assert.matches("50 rows in 5 chunks, 500 keys looked at of ~1,000", text, 1, true)
            assert.matches("worked 80 %, waited 20 % for lock", text, 1, true)
            assert.matches("\n  set       size = 500\n  file      target = 1\n  default   min = 10, ", text, 1, true)
            assert.matches("left      1 range of workers that have ended", text, 1, true)
            assert.matches("time  250 ms\n              rows  10\n", text, 1, true)
            local one = json.decode(out("status", "orders-cents", "--format", "json"))
            assert.equal("locked by \27[31mcrm", one.workers[1].waiting)
            assert.is_false(one.workers[1].here)
            assert.equal("22003", one.failed[1].sqlstate)
            assert.same({ name = "size", value = "500", from = "set" }, one.values[1])
            assert.equal(50, one.totals.rows)
        end)

        it("shows all that have not ended when no name is given", function()
            local text = out "status"
            assert.matches("orders-cents  running", text, 1, true)
            assert.is_nil(text:find("purge_logs", 1, true))
            sql "update dbrun_batch_jobs set state = 'done'"
            assert.equal("no job is under way; dbrun batch list shows all\n", out "status")
        end)

        it("watches until the end, in plain lines without a terminal", function()
            sql "update dbrun_batch_jobs set state = 'stopped', reason = 'disk full' where name = 'orders-cents'"
            local result = batch { "status", "orders-cents", "--watch" }
            assert.equal(1, result.code, result.text)
            assert.matches("^%d%d:%d%d:%d%d  orders%-cents  stopped  [^\n]*  disk full\n$", result.stdout)
            local running = scripts.start("batch", { "status", "--watch", "--format", "json" }, { DATABASE_URL = url })
            sql "update dbrun_batch_jobs set state = 'done', reason = null"
            local ended = running.finish()
            assert.equal(ended.stdout == "[]\n" and 0 or 1, ended.code, ended.text) -- a range has failed
        end)

        it("shows failed ranges, with their key and SQLSTATE", function()
            local text = out("errors", "orders-cents")
            assert.matches("key 453  SQLSTATE 22003, tried once\n  too \\x1b[31mlarge\n", text, 1, true)
            assert.matches("dbrun batch retry orders-cents opens it again", text, 1, true)
            assert.same({ "453" }, json.decode(out("errors", "orders-cents", "--format", "json"))[1].key)
            assert.equal("no range of purge_logs has failed\n", out("errors", "purge-logs"))
        end)

        it("pauses, sets, resumes and logs who did it", function()
            local paused = out("pause", "orders-cents", "--wait", "--reason", "it's slow\27")
            assert.matches("orders-cents is paused", paused, 1, true)
            assert.equal("paused: it's slow\27", state "orders-cents")
            assert.matches("orders-cents was paused already", out("pause", "orders-cents"), 1, true)
            assert.matches("reason    it's slow\\x1b", out("status", "orders-cents"), 1, true)
            out("set", "orders-cents", "target=0.25", "size=")
            assert.equal('{"target": "0.25"}', set_values())
            assert.equal("orders-cents may go on: workers that wait take it up within a second\n",
                out("resume", "--all"))
            assert.equal("running", state "orders-cents")
            local log = out("log", "orders-cents")
            assert.matches("paused   [^\n]*it's slow\\x1b\n[^\n]*set      [^\n]*target = 0.25\n", log, 1, false)
            assert.matches("resumed[^\n]*\n$", log)
            assert.equal("paused", json.decode(out("log", "orders-cents", "--format", "json"))[1].what)
        end)

        it("pauses all", function()
            job "third"
            assert.equal("orders-cents is paused: its workers finish their chunk and wait\n"
                .. "third is paused: its workers finish their chunk and wait\n", out("pause", "--all"))
            assert.equal("no job is running\n", out("pause", "--all"))
            assert.equal(2, batch({ "pause" }).code)
            assert.equal(2, batch({ "pause", "third", "--all" }).code)
        end)

        it("refuses a wrong value, and then sets none of the values", function()
            for _, words in ipairs { { "siz=3" }, { "size=500", "target=soon" }, { "size" } } do
                local result = batch { "set", "orders-cents", table.unpack(words) }
                assert.equal(2, result.code, result.text)
            end
            assert.equal('{"size": "500"}', set_values())
        end)

        it("opens failed ranges again, cancels, waits and forgets", function()
            assert.matches("1 range of orders-cents is open again: dbrun batch run orders-cents works on it",
                out("retry", "orders-cents"), 1, true)
            assert.equal("no range of orders-cents has failed\n", out("retry", "orders-cents"))
            assert.matches("done", out("wait", "purge-logs"))
            assert.equal(2, batch({ "forget", "orders-cents" }).code)
            assert.matches("orders-cents is cancelled", out("cancel", "orders-cents"), 1, true)
            local waited = batch { "wait", "orders-cents" }
            assert.equal(1, waited.code)
            assert.equal("orders-cents was cancelled\n", waited.stdout)
            sql "update dbrun_batch_ranges set state = 'failed' where job = 'orders-cents'"
            for _, words in ipairs { { "retry" }, { "set", "size=7" }, { "resume" }, { "pause" } } do
                local refused <const> = batch { words[1], "orders-cents", words[2] }
                assert.equal(2, refused.code, refused.text)
                assert.matches("the job 'orders%-cents' %w+ cancelled", refused.stderr)
            end
            assert.matches("3 failed ranges; the job was cancelled\n$", out("errors", "orders-cents"))
            assert.equal("cancelled", state "orders-cents")
            assert.equal('{"size": "500"}', set_values())
            out("forget", "orders-cents")
            assert.equal("0", sql "select count(*) from dbrun_batch_ranges")
        end)

        it("finds a job by the name of its file, and suggests a similar name", function()
            local folder = scripts.folder { ["batches/cents.lua"] = job_file "orders-cents" }
            local env = { DBRUN_BATCHES_DIR = folder .. "/batches" }
            local result = batch({ "log", "cents" }, env)
            assert.equal(0, result.code, result.text)
            assert.equal(0, batch({ "log", folder .. "/batches/cents.lua" }).code)
            result = batch { "log", "order-cents" }
            assert.equal(1, result.code)
            assert.matches("did you mean 'orders-cents'?", result.stderr, 1, true)
            fs.rmtree(folder)
        end)
    end)

    it("finds the file of a job by its name, or lists the existing ones", function()
        local folder = scripts.folder {
            ["batches/orders_cents.lua"] = job_file "x", ["batches/b.lua"] = job_file "logs-2024",
            ["batches/broken.lua"] = "return {", ["batches/number.lua"] = "return 7", ["none/a.txt"] = "",
        }
        local env = { DBRUN_BATCHES_DIR = folder .. "/batches" }
        local function fails(pattern, ...)
            local result = batch({ "run", ... }, env)
            assert.equal(2, result.code, result.text)
            assert.matches(pattern, result.stderr)
        end
        fails("no batch job is called 'orders%-cent'; [^\n]*/batches has logs%-2024 %(b.lua%), broken, number, x "
            .. "%(orders_cents.lua%)\n  hint: did you mean 'orders_cents'", "orders-cent")
        fails("broken.lua is not a batch job: [^\n]*unexpected symbol", "broken")
        fails("number.lua is not a batch job: it returns a number instead of a job: return require", "number")
        fails("there is no file '/nowhere/job.lua'", "/nowhere/job.lua")
        env.DBRUN_BATCHES_DIR = folder .. "/none"
        fails("no batch job is called 'x': [^\n]*/none has no %*.lua", "x")
        env.DBRUN_BATCHES_DIR = folder .. "/missing"
        fails("there is no folder", "x")
        fs.rmtree(folder)
    end)
end)
