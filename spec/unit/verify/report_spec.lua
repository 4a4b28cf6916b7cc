-- Verification without a server: the choice of checks, their dependencies, failures, and the report.
local diagnose = require "dbrun.verify.diagnose"
local errors = require "dbrun.error"
local expect = require "dbrun.verify.expect"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local pace = require "spec.support.pace"
local report = require "dbrun.verify.report"
local runner = require "dbrun.verify.runner"
local task = require "dbrun.task"
local verify = require "dbrun.verify"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok, "it was accepted")
    assert.is_true(errors.is(e), tostring(e))
    return e
end

local function run(checks, opts)
    opts = opts or {}
    local deadline = opts.deadline or 5
    return runner.run(checks, {
        strict = opts.strict or false, deadline = task.now() + deadline, options = { deadline = deadline },
    })
end

local function statuses(results)
    local list = {}
    for i, result in ipairs(results) do list[i] = result.status end
    return table.concat(list, " ")
end

describe("checks", function()
    it("return their results in the order of the list, whichever ends first", function()
        local results = run {
            { name = "slow", run = function() task.sleep(0.02); return "late" end },
            { name = "fast", run = function() return "early" end },
        }
        assert.equal("slow", results[1].name)
        assert.equal("late", results[1].text)
        assert.equal("PASS PASS", statuses(results))
        assert.is_true(results[1].seconds >= 0.02 and results[2].seconds < results[1].seconds)
    end)

    it("run in parallel", function()
        local checks = {}
        for i = 1, 20 do checks[i] = { name = "c" .. i, run = function() task.sleep(0.05); return "" end } end
        pace.takes(0.05, 0.5, function() run(checks) end)
    end)

    it("with an incomplete result are WARN, and FAIL in a strict run", function()
        local checks = { { name = "a", run = function() return { status = "INCOMPLETE", text = "x" } end } }
        assert.equal("WARN", statuses(run(checks)))
        assert.equal("FAIL", statuses(run(checks, { strict = true })))
    end)

    it("that need a failed one are not run, and name the root of it", function()
        local ran = false
        local results = run {
            { name = "root", run = function() errors.raise { kind = "connect", message = "no way" } end },
            { name = "middle", needs = { "root" }, run = function() ran = true; return "" end },
            { name = "leaf", needs = { "middle" }, run = function() ran = true; return "" end },
            { name = "other", run = function() return "" end },
        }
        assert.is_false(ran)
        assert.equal("FAIL SKIP SKIP PASS", statuses(results))
        assert.equal("root", results[2].blocked_by)
        assert.equal("root", results[3].blocked_by)
        assert.matches("needs root", results[3].text)
    end)

    it("that are eager run in parallel with their requirement, and are silent when both fail", function()
        local function checks(ok)
            return {
                { name = "root", run = function()
                    task.sleep(0.05)
                    if not ok then errors.raise { kind = "connect", message = "no way" } end
                    return ""
                end },
                { name = "eager", needs = { "root" }, eager = true, run = function()
                    task.sleep(0.05)
                    if not ok then errors.raise { kind = "connect", message = "no way" } end
                    return ""
                end },
            }
        end
        pace.takes(0.05, 0.095, function()
            assert.equal("PASS PASS", statuses(run(checks(true))))
        end)
        local results = run(checks(false))
        assert.equal("FAIL SKIP", statuses(results))
        assert.equal("root", results[2].blocked_by)
    end)

    it("that are only ordered after a failed one are run", function()
        local results = run {
            { name = "a", run = function() errors.raise { kind = "connect", message = "x" } end },
            { name = "b", after = { "a" }, run = function() return "" end },
        }
        assert.equal("FAIL PASS", statuses(results))
    end)

    it("end at the deadline, all together", function()
        local began = task.now()
        local results = run({
            { name = "a", run = function() task.sleep(60) end },
            { name = "b", run = function() task.sleep(60) end },
            { name = "c", run = function() return "" end },
        }, { deadline = 0.1 })
        assert.is_true(task.now() - began < 10)
        assert.equal("FAIL FAIL PASS", statuses(results))
        assert.matches("deadline of 0.1 s", results[1].cause)
        assert.equal("time", results[1].layer)
    end)

    it("that raise an error fail without affecting others", function()
        local results = run {
            { name = "a", run = function() local t = nil; return t.x end },
            { name = "b", run = function() return "" end },
        }
        assert.equal("FAIL PASS", statuses(results))
        assert.matches("index a nil value", results[1].cause)
    end)

    it("that meet a wrong configuration leave it to the check that reports it", function()
        local results = run {
            { name = "configuration", run = function() errors.raise { kind = "config", message = "PORT: x" } end },
            { name = "a", after = { "configuration" }, run = function()
                errors.raise { kind = "config", message = "PORT: x" }
            end },
        }
        assert.equal("configuration", results[1].layer)
        assert.equal("configuration", results[2].blocked_by)
    end)
end)

describe("the output of --watch", function()
    it("is changed, new, and no longer applicable results", function()
        local changes = require("dbrun.verify.watch").changes
        local function result(name, status) return { name = name, status = status, text = "", seconds = 0 } end
        local before = { a = result("a", "PASS"), b = result("b", "WARN"), c = result("c", "FAIL") }
        local told = {}
        for i, change in ipairs(changes(before, { result("a", "PASS"), result("b", "FAIL"), result("d", "WARN") })) do
            told[i] = ("%s %s %s"):format(change.result.name, change.was, change.result.status)
        end
        assert.same({ "b WARN FAIL", "d new WARN", "c FAIL SKIP" }, told)
    end)
end)

describe("the choice of checks", function()
    local function chosen(only, skip)
        local names = {}
        for i, check in ipairs(verify.select(verify.checks(), only, skip)) do names[i] = check.name end
        return names
    end

    it("is all of them, under stable names", function()
        assert.same({
            "configuration", "postgres.async", "postgres.concurrency", "postgres.sync", "postgres.server",
            "postgres.version", "postgres.capacity", "postgres.pooler", "postgres.writable", "postgres.replication",
            "postgres.clock", "postgres.encoding", "postgres.timezone", "postgres.transactions", "postgres.wraparound",
            "postgres.dead_rows", "postgres.invalid_indexes", "postgres.locks", "postgres.prepared_transactions",
            "postgres.xmin_horizon", "postgres.sequences", "postgres.end_of_life", "postgres.archiving",
            "postgres.checksums", "postgres.settings", "postgres.pending_restart", "postgres.collation",
            "postgres.unchecked", "postgres.autovacuum", "postgres.replica_identity", "postgres.encryption",
            "postgres.members", "postgres.certificates", "postgres.timescale", "postgres.citus",
            "postgres.citus_shards", "redis", "redis.round_trip", "redis.version",
            "redis.rights", "redis.memory", "redis.eviction", "redis.persistence", "redis.clients",
            "redis.replication", "redis.latency", "redis.cluster", "redis.sentinels", "redis.certificates",
            "schema.migrations", "schema.tables", "schema.columns",
            "schema.indexes", "schema.privileges", "schema.extensions", "schema.time_partitioning",
            "schema.hypertables", "schema.aggregates", "schema.distribution",
        }, chosen())
    end)

    it("includes the requirements of the chosen ones", function()
        assert.same({ "postgres.async", "postgres.server", "postgres.clock" }, chosen { "postgres.clock" })
        assert.same({ "redis", "redis.round_trip" }, chosen { "redis.round_trip" })
        assert.same({ "postgres.async", "schema.tables" }, chosen { "schema.tables" })
    end)

    it("can leave some out", function()
        assert.same({ "configuration", "redis", "redis.round_trip", "redis.latency" }, chosen({}, { "postgres",
            "schema", "redis.version", "redis.rights", "redis.memory", "redis.eviction", "redis.persistence",
            "redis.clients", "redis.replication", "redis.cluster", "redis.sentinels", "redis.certificates" }))
    end)

    it("leaves out checks that require one that is left out", function()
        assert.same({ "configuration" }, chosen({}, { "redis", "postgres.async" }))
    end)

    it("refuses names that no check has", function()
        assert.matches("%-%-only: no check is called 'postgre'", failure(chosen, { "postgre" }).message)
        assert.matches("%-%-skip", failure(chosen, {}, { "x" }).message)
    end)
end)

describe("a failure", function()
    local function explain(fields, source, server)
        return diagnose.explain(errors.new(fields), {
            name = server and server.redis and "redis" or "postgres", source = source or "default",
            server = server or {},
        })
    end

    it("names its layer and the key that causes it", function()
        local parts = "POSTGRES_HOST (environment), POSTGRES_PASSWORD (.env line 4)"
        local cases = {
            { { kind = "connect", layer = "name", message = "x" }, "name", "POSTGRES_HOST (environment)" },
            { { kind = "connect", layer = "authentication", message = "x" }, "authentication",
                "POSTGRES_USER (not set), POSTGRES_PASSWORD (.env line 4)" },
            { { kind = "connect", layer = "database", message = "x" }, "database", "POSTGRES_DB (not set)" },
            { { kind = "timeout", message = "x" }, "time", "POSTGRES_HOST (environment), POSTGRES_PORT (not set)" },
        }
        for _, case in ipairs(cases) do
            local found = explain(case[1], parts)
            assert.equal(case[2], found.layer)
            assert.equal(case[3], found.key)
            assert.equal(case[3] and "DATABASE_URL (environment)", explain(case[1], "DATABASE_URL (environment)").key)
        end
    end)

    it("says when nothing was configured", function()
        assert.matches("DATABASE_URL is not set", explain({ kind = "connect", layer = "network", message = "x" }).key)
        assert.matches("REDIS_URL is not set", explain({ kind = "connect", message = "refused" }, "default",
            { redis = true }).key)
    end)

    it("gives commands that can be typed, with any characters in names", function()
        local found = explain({ kind = "connect", layer = "database", message = "x" }, "x",
            { host = "db.example", port = 5433, user = "o'neil", dbname = "my db" })
        assert.equal([[createdb -h db.example -p 5433 -U 'o'\''neil' 'my db']], found.remedy[1])
        found = explain({ kind = "redis", code = "WRONGPASS", message = "x" }, "x",
            { redis = true, path = "/tmp/r.sock", username = "app" })
        assert.equal("authentication", found.layer)
        assert.equal("redis-cli -s /tmp/r.sock --user app --askpass ping", found.remedy[1])
    end)

    it("keeps SQLSTATE, detail and the server's hint", function()
        local found = explain({ kind = "connect", layer = "server", sqlstate = "53300", message = "too many clients",
            hint = "raise max_connections" }, "x")
        assert.matches("too many clients %(SQLSTATE 53300%)", found.cause)
        assert.same({ "raise max_connections" }, found.remedy)
    end)
end)

describe("the expectations", function()
    local root

    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function load_text(text)
        fs.write(root .. "/expect.lua", text)
        return expect.load(root .. "/expect.lua")
    end

    it("are a list of facts", function()
        assert.same({ { table = "a" }, { table = "s.b", time_partitioned = "t" } },
            (load_text "return { { table = 'a' }, { table = 's.b', time_partitioned = 't' } }").tables)
        local all = load_text [[return {
            { postgresql = ">= 14", encoding = "UTF8" }, { extension = "x", version = "1.2" },
            { limit = "postgres.clock", warn = 5 }, { check = "own", run = print },
        }]]
        assert.equal(">= 14", all.postgresql)
        assert.same({ warn = 5 }, all.limits["postgres.clock"])
        assert.equal("own", all.own[1].check)
    end)

    it("compare versions part by part", function()
        for _, case in ipairs {
            { "15.10", ">= 14", true }, { "15.10", "15", true }, { "15.10", "15.1", false },
            { "15.10", "= 15.10", true }, { "15.10", "< 15.9", false }, { "9.6", ">= 10", false },
            { "7.0.15", "> 7.0", true }, { "7.0", "<= 7.0", true }, { "7.0", "> 7.0", false },
            { "17beta1", ">= 17", true },
        } do
            assert.equal(case[3], expect.version_fits(case[1], case[2]), table.concat({ case[1], case[2] }, " "))
        end
        assert.is_nil(expect.version_pattern "soon")
        assert.is_nil(expect.version_pattern "=> 1")
    end)

    it("that are invalid are refused with file and fact", function()
        for text, message in pairs {
            ["return { { table = 'a' }, { tabel = 'b' } }"] = "fact 2 has 'tabel'",
            ["return { 'a' }"] = "fact 1 is a string",
            ["return { { table = 1 } }"] = "fact 1: `table` is a number",
            ["return { {} }"] = "fact 1 is empty",
            ["return { { table = '' } }"] = "fact 1 names no table",
            ["return { { table = 'Odd Name' } }"] = "'Odd Name' is not the name of a table as SQL writes it",
            ["return { { table = 'a.b.c' } }"] = "'a.b.c' is not the name of a table",
            ["return { { table = 'a.' } }"] = "'a.' is not the name of a table",
            [ [[return { { table = 'x"y' } }]] ] = "is not the name of a table",
            ["return { { aggregate = 'a b' } }"] = "'a b' is not the name of a table",
            ["return { { table = 't', distributed_by = '' } }"] = "`distributed_by` names no column",
            ["return { { table = 't', distributed_by = 'a', reference = true } }"] = "a reference table has no column",
            ["return { { table = 'a', privileges = 'select, fly' } }"] = "'fly' is not a privilege",
            ["return { { postgresql = 'new' } }"] = "not a version",
            ["return { { check = 'a' } }"] = "has no `run`",
            ["return { { table = 'a', columns = { 1 } } }"] = "entry 1 of `columns`",
            ["return { { limit = 'postgres.clok', warn = 1 } }"] = "no check has the limit 'postgres.clok'",
            ["return 5"] = "returns a number",
            [""] = "returns nothing",
            ["error {}"] = "raises a table",
            ["return { postgresql = '>= 14' }"] = "'postgresql' is beside the facts",
            ["return { { table = 'a' }, nil, { table = 'b' } }"] = "fact 2 is nil",
            ["return { { table = 'a', aggregate = 'b' } }"] = "fact 1 has `aggregate` and `table`",
            ["return { { table = 'My Table' } }"] = "is not the name of a table as SQL writes it",
            ["return { { aggregate = 'a', refreshed_within = -5 } }"] = "not a number above 0",
            ["return { { limit = 'postgres.clock', warn = 0/0 } }"] = "`warn` is not a number",
            ["return { { limit = 'postgres.clock' } }"] = "neither `warn` nor `fail`",
            ["return { { limit = 'postgres.clock', warn = 61 } }"] = "fails from 60 on (the default)",
            ["return { { limit = 'redis.certificates', warn = 5 } }"] = "fails from 7 on (the default)",
            ["return { { limit = 'postgres.clock', warn = 5, fail = 4 } }"] = "warn from 5 on, and fails from 4 on",
            ["return {"] = "expect.lua:1:",
            ["error 'boom'"] = "boom",
        } do
            local e = failure(load_text, text)
            assert.equal("config", e.kind)
            assert.matches("expect.lua", e.message, 1, true)
            assert.matches(message, e.message, 1, true)
        end
        local e = failure(load_text, "return {\n    { table = 'a' },\n    { table = 'b',\n      coulmns = {} } }")
        assert.matches("expect.lua:4: fact 2 has 'coulmns'", e.message, 1, true)
        assert.equal("did you mean 'columns'?", e.hint)
        assert.equal("did you mean 'table'?", failure(load_text, "return { { tabel = 'b' } }").hint)
        for _, text in ipairs { [['"My ""Odd"" Table"']], "'app.orders'", [['app."x.y"']], "' a . b '", "'größe$1'" } do
            assert.equal(1, #load_text("return { { table = " .. text .. ", privileges = 'select, maintain' } }").tables)
        end
        load_text "return { { limit = 'postgres.clock', warn = 61, fail = math.huge } }"
        assert.matches("no such file", failure(expect.load, root .. "/none.lua").message)
        assert.equal([[write it with quotes: '"Odd Name"']],
            failure(load_text, "return { { table = 'Odd Name' } }").hint)
        assert.equal(5, #load_text [=[return { { table = 'a' }, { table = 'a$1.ö_2' }, { table = '"Odd ""x"" .Name"' },
            { table = 'a."B c"' }, { table = [["it's"."x"]] } }]=].tables)
    end)
end)

describe("a cause that a server names", function()
    local find = require("dbrun.verify.causes").find

    it("has its remedy, with names quoted", function()
        local cause = find({ kind = "connect", sqlstate = "57P05",
            message = "terminating connection due to idle-session timeout" }, { user = "App" })
        assert.equal("idle_session_timeout is too short", cause.text)
        assert.matches('alter role "App" reset idle_session_timeout;', cause.remedy[2], 1, true)
        cause = find({ kind = "redis", code = "NOPERM", message = "NOPERM No permissions to access a channel" }, {})
        assert.matches("acl setuser default '&PATTERN'", cause.remedy[1], 1, true)
        assert.is_nil(find({ kind = "query", sqlstate = "42704",
            message = 'unrecognized configuration parameter "x"' }, {}))
        cause = find({ sqlstate = "42501", message = "permission denied for foreign server My Box" }, {})
        assert.equal('grant usage on foreign server "My Box" to ROLE;', cause.remedy[1])
    end)
end)

describe("the report", function()
    local RESULTS <const> = {
        { name = "a", status = "PASS", seconds = 0.0012, text = "all well" },
        { name = "bb", status = "FAIL", seconds = 3, text = "cannot log in", cause = "password\nwrong", layer = "x",
            key = "DATABASE_URL (environment)", remedy = { "try", "again" } },
        { name = "c", status = "SKIP", seconds = 0, text = "needs bb", blocked_by = "bb", remedy = {} },
        { name = "d", status = "WARN", seconds = 0.5, text = "3 of 4", cause = "one is missing",
            remedy = { "make it" } },
    }

    it("for people has a line for each check, and below it the cause, the key, and the remedy", function()
        local text = report.text(RESULTS, { strict = true, seconds = 3.01 })
        assert.equal([[
PASS  a   1.2 ms  all well
FAIL  bb  3.00 s  cannot log in
      cause  password
             wrong
      key    DATABASE_URL (environment)
      do     try
             again
SKIP  c   0.0 ms  needs bb
WARN  d   500 ms  3 of 4
      cause  one is missing
      do     make it

1 of 4 passed, 1 warning, 1 failed, 1 blocked by a failure, in 3.01 s (strict)
]], text)
    end)

    it("has one line for a headline, and no directive in a name", function()
        local odd = { { name = "a # SKIP b", status = "FAIL", seconds = 0, text = "c\nPASS  d" } }
        assert.equal("FAIL  a # SKIP b  0.0 ms  c PASS  d", report.text(odd, { seconds = 0 }):match "^[^\n]+")
        assert.matches("not ok 1 - a \\# SKIP b: c PASS  d\n", report.tap(odd), 1, true)
    end)

    it("for programs is JSON with the same contents", function()
        local decoded = json.decode(report.json({ { name = "\xff", status = "PASS", seconds = 0, text = "ü",
            facts = { ["\xfe"] = "\xfd" } } }, { strict = false, seconds = 0, status = 1 }))
        assert.same({ false, "\\xff", "ü", "\\xfd" }, { decoded.ok, decoded.checks[1].name, decoded.checks[1].text,
            decoded.checks[1].facts["\\xfe"] })
        decoded = json.decode(report.json(RESULTS, { strict = false, seconds = 3 }))
        assert.is_false(decoded.ok)
        assert.equal(1, decoded.passed)
        assert.equal(1, decoded.failed)
        assert.equal(1, decoded.blocked)
        assert.equal(0, decoded.skipped)
        assert.equal("bb", decoded.checks[2].name)
        assert.same({ "try", "again" }, { table.unpack(decoded.checks[2].remedy) })
        assert.is_true(json.is_array(decoded.checks[3].remedy))
        assert.equal("bb", decoded.checks[3].blocked_by)
    end)
end)

describe("the measured concurrency", function()
    local overlap = require("dbrun.verify.checks_pg").overlap

    it("is the greatest number of statements at one moment", function()
        assert.equal(0, overlap {})
        assert.equal(1, overlap { { began = 0, ended = 1 }, { began = 1, ended = 2 } })
        assert.equal(2, overlap { { began = 0, ended = 3 }, { began = 1, ended = 2 }, { began = 2, ended = 4 } })
        assert.equal(3, overlap { { began = 0, ended = 3 }, { began = 1, ended = 3 }, { began = 2, ended = 4 } })
    end)
end)
