-- The output of --trace: the work on servers as events in lanes, for any order of events.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local rounds = require("spec.support.rounds").of
local servers = require "spec.support.servers"
local task = require "dbrun.task"
local trace = require "spec.support.trace_check"

local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(0, 999)

local WORK <const> = [[
local db, redis, task = require "dbrun.db", require "dbrun.redis", require "dbrun.task"
local engine = db.engine { url = os.getenv "DATABASE_URL", size = 1, overflow = 0 }
engine:query("select $1::int as n, $2::text, 'password=hush1234' from generate_series(1, 3)", 5, "geheim1") -- line 3
pcall(engine.query, engine, "select 1/0") -- line 4
pcall(engine.query, engine, "select $1::int", "geheim2") -- an error whose message has the value
for _ in engine:rows("select generate_series(1, 7) + $1", 1) do end
pcall(task.timeout, 0.05, engine.query, engine, "select pg_sleep(9)")
task.all { function() engine:query "select pg_sleep(0.02)" end, function() engine:query "select 'second'" end }
engine:transaction(function(tx)
    tx:exec "create temp table t (a text)"
    tx:execute_many("insert into t values ($1)", { { "geheim3" }, { "geheim4" } })
    tx:copy_in("t", nil, { { "geheim5" } })
    for _ in tx:copy_out("select a from t where a > $1", {}, "geheim1") do end
    tx:pipeline(function(p) p:query("select $1", "geheim6") p:query "select 2" end)
    for _ in tx:cursor("select a from t where a <> $1", "geheim7") do end
    for _ = 1, 2 do tx:transaction(function() end) end
end)
pcall(engine.transaction, engine, function(tx) tx:query "select 'back'" error "away" end)
local shared = db.engine { url = os.getenv "DATABASE_URL", pipeline = 10 }
for _ = 1, 3 do shared:query("select 'shared', $1::text", "geheim8") end
db.sync:query("select 'sync'")
engine:query("select '</script><!--\\\1\t\"\127\u{202e}', '" .. ("ä"):rep(1500) .. "'")
pcall(engine.query, engine, "select '\xff'")
local r = redis.get()
r:set("geheim9", "geheim10") -- line 25
pcall(r.lpush, r, "geheim9", "geheim11")
r:pipeline(function(p) p:get "geheim9" p:get "k" end)
do local c <close> = r:acquire() c:ping() end
task.sleep(0.002)]]

describe("--trace", function()
    local dir, env
    setup(function()
        dir = fs.mkdtemp()
        fs.write(dir .. "/a.lua", WORK)
        env = { DATABASE_URL = (servers.database()), REDIS_URL = (servers.redis_db()), DBRUN_LOG = false }
    end)
    teardown(function() fs.rmtree(dir) end)

    local function command(file, ...)
        local list = { core.options.program, "--no-env", "--trace", file, ... }
        list.cwd, list.env, list.stdout, list.stderr = dir, env, "capture", "capture"
        return list
    end

    local function run(file, ...) return process.run(command(file, ...)) end

    --- The events of a file, checked.
    local function events(file)
        local list, ended = trace.read(dir .. "/" .. file)
        trace.check(list)
        return list, ended
    end

    local function find(list, cat, key, text)
        for _, e in ipairs(trace.of(list, cat)) do
            if tostring(key == "name" and e.name or e.args[key]):find(text, 1, true) then return e end
        end
        error(("no %s has %s in %s"):format(cat, text, key), 2)
    end

    it("records work of every kind with its time, rows and place, without values", function()
        local result = run("a.json", "a.lua")
        assert.same({ 0, "" }, { result.code, result.stderr })
        local list, ended = events "a.json"
        assert.is_true(ended)
        local first = find(list, "postgres", "sql", "as n")
        assert.same({ 3, "a.lua:3", 1 }, { first.args.rows, first.args.place, first.args.task })
        assert.same({ 1, 1 }, { first.pid, first.tid })
        assert.equal("select $1::int as n, $2::text, 'password=***' from generate_", first.name)
        assert.is_true(first.args.conn > 0 and first.dur > 0)
        local failed = find(list, "postgres", "sqlstate", "22012")
        assert.equal("select 1/0 a.lua:4 query", failed.args.sql .. " " .. failed.args.place .. " " .. failed.args.kind)
        assert.equal("a.lua:4", find(list, "error", "sqlstate", "22012").args.place)
        assert.equal(7, find(list, "rows", "sql", "generate_series(1, 7)").args.rows)
        assert.equal("cancelled", find(list, "postgres", "sql", "pg_sleep(9)").args.kind)
        local second = find(list, "postgres", "sql", "'second'")
        local waited = 0
        for _, e in ipairs(trace.of(list, "pool")) do
            if e.tid == second.tid then waited = waited + e.dur end
        end
        assert.is_true(waited >= 20000 and second.tid > 1)
        assert.is_true(find(list, "wait", "name", "tasks").dur >= 20000)
        local tx = find(list, "transaction", "end", "COMMIT")
        assert.same({ "X", "a.lua:9" }, { tx.ph, tx.args.place })
        local many = find(list, "pipeline", "sql", "insert into t")
        assert.same({ 2, 2 }, { many.args.statements, many.args.rows })
        assert.is_true(many.ts >= tx.ts and many.ts + many.dur <= tx.ts + tx.dur)
        assert.equal(1, find(list, "copy", "name", "COPY in").args.rows)
        assert.equal("select a from t where a > $1", find(list, "copy", "name", "COPY out").args.sql)
        assert.equal(2, find(list, "pipeline", "name", "pipeline").args.statements)
        local piped = find(list, "piped", "sql", "select 2")
        assert.same({ "b", 2, tx.args.conn, 1 }, { piped.ph, piped.pid, piped.tid, piped.args.rows })
        assert.is_truthy(find(list, "transaction", "end", "ROLLBACK"))
        local counts = trace.totals(list) -- without their numbered names; the pipeline has one, too
        assert.same({ 3, 3 }, { counts.SAVEPOINT, counts["RELEASE SAVEPOINT"] })
        assert.same({ 1, 1 }, { counts["CURSOR FOR select a from t where a <> $1"], counts["FETCH FORWARD 1000"] })
        local shared = find(list, "shared", "sql", "'shared'")
        assert.same({ "b", 2, 1, 1 }, { shared.ph, shared.pid, shared.args.rows, shared.args.lane })
        assert.is_truthy(find(list, "postgres", "sql", "'sync'"))
        assert.is_truthy(find(list, "connect", "opened", "true"))
        assert.equal("a.lua:25", find(list, "redis", "name", "SET").args.place)
        assert.equal("WRONGTYPE", find(list, "redis", "name", "LPUSH").args.code)
        assert.equal(2, find(list, "redis", "name", "pipeline").args.commands)
        assert.is_true(find(list, "pool", "redis", "true").dur >= 0)
        assert.is_true(find(list, "sleep", "name", "sleep").dur >= 2000)
        local strange = find(list, "postgres", "sql", "</script><!--\\\1\t\"\127\u{202e}', 'ä")
        assert.is_true(#strange.args.sql <= 2000 and strange.args.sql:sub(-2) == "ä")
        assert.is_truthy(find(list, "postgres", "sql", "select '\u{fffd}'"))
        local totals = list[#list]
        assert.same({ "dbrun_totals", 0, 0 }, { totals.name, totals.args.status, totals.args.left_out })
        for cat, least in pairs { postgres = 70000, pool = 20000, sleep = 2000, wait = 20000, redis = 1, lua = 1 } do
            assert.is_true(totals.args.time_us[cat] >= least, cat)
        end
        local text = fs.read(dir .. "/a.json")
        for _, hidden in ipairs { "geheim", "hush", "[<\127]", "[%z\1-\9\11-\31]", "\u{202e}" } do
            assert.is_nil(text:match(hidden))
        end
        assert.is_truthy(utf8.len(text))
        assert.equal(384, fs.stat(dir .. "/a.json").mode & 511)
    end)

    it("nests, pairs and counts the random work of tasks", function()
        print("# DBRUN_TEST_SEED=" .. seed)
        local work <const> = fs.realpath "spec/support/trace_work.lua"
        local all = run("random.json", work, tostring(seed), "5", tostring(rounds(24)))
        assert.equal(0, all.code, all.stderr)
        local list = events "random.json"
        local counts, totals = trace.counts(list), trace.totals(list)
        for sql, n in pairs(json.decode(all.stdout)) do
            assert.equal(n, counts[sql], sql)
            assert.is_true(totals[sql] >= n, sql) -- those that were cut short, too
        end
        assert.equal(0, list[#list].args.left_out)
    end)

    it("keeps its size limit, and its counts are right", function()
        fs.write(dir .. "/many.lua", [[
local db, task = require "dbrun.db", require "dbrun.task"
for i = 1, 900 do db.sync:value("select $1::int -- " .. i % 9, i) end
for i = 1, 9 do db.sync:value("select pg_sleep(0.003)") end]])
        assert.equal(0, run("many.json", "--trace-limit", "64k", "many.lua").code)
        local list = events "many.json"
        local last, totals, least = list[#list].args, trace.totals(list), 0
        assert.is_true(fs.stat(dir .. "/many.json").size <= 64 * 1024)
        assert.is_true(last.left_out > 100 and last.least_us > 0)
        for i = 0, 8 do assert.equal(100, totals["select $1::int -- " .. i]) end
        assert.equal(9, totals["select pg_sleep(0.003)"])
        for _, e in ipairs(list) do
            least = e.cat == "trace" and e.args.least_us or least
            if e.ph == "X" then assert.is_true(e.dur + 1 >= least) end
        end
        assert.equal(last.least_us, least)
    end)

    it("is complete after every kind of end of the program", function()
        for script, code in pairs {
            ["return 0"] = 0, ["error 'x'"] = 1, ["os.exit(3)"] = 3, ["os.exit(4, true)"] = 4,
            ["require 'dbrun.task'.sleep(9)"] = 1, ["while true do end"] = 1,
        } do
            local result
            pace.long_enough(0.2, function(seconds)
                local limit = code == 1 and { "--timeout", ("%g"):format(seconds) } or {}
                result = run("end.json", limit[1] or "--no-env", limit[2] or "-E", "-e",
                    "require 'dbrun.db'.sync:value 'select 1' print 'asked' " .. script)
                return result.stdout:find "asked"
            end)
            assert.equal(code, result.code, result.stderr)
            local list, ended = events "end.json"
            assert.is_true(ended)
            assert.equal(code, list[#list].args.status, script)
            assert.equal("select 1", trace.of(list, "postgres")[1].args.sql)
        end
    end)

    --- Starts a script, and returns it after its first query.
    local function started(file, script)
        local child = process.start(command(file, "-e", ([[
require 'dbrun.db'.async:value 'select 1' print 'here' io.stdout:flush() %s]]):format(script)))
        assert.equal("here", child:read_line())
        return child
    end

    it("is complete after SIGINT, has its events after a second SIGINT, and its lines after SIGKILL", function()
        local killed = started("kill.json", "while true do end") -- meanwhile its lines are written
        local child = started("int.json", "require 'dbrun.task'.sleep(9)")
        child:kill "INT"
        assert.equal(130, child:wait().code)
        local list, ended = events "int.json"
        assert.same({ true, 130 }, { ended, list[#list].args.status })
        child = started("twice.json", "require 'dbrun.task'.shield(require 'dbrun.task'.sleep, 9)")
        child:kill "INT"
        task.sleep(0.05)
        child:kill "INT"
        assert.equal(130, child:wait().code)
        assert.equal(1, #trace.of((events "twice.json"), "postgres"))
        local deadline = task.now() + 10
        while not fs.read(dir .. "/kill.json"):find("select 1", 1, true) and task.now() < deadline do
            task.sleep(0.05)
        end
        killed:kill "KILL"
        killed:wait()
        list, ended = events "kill.json"
        assert.same({ false, 1 }, { ended, #trace.of(list, "postgres") })
    end)

    it("refuses a file that it cannot write before the script runs", function()
        fs.mkdir(dir .. "/folder.json")
        fs.symlink("/dev/full", dir .. "/full.json")
        fs.symlink("nowhere", dir .. "/dangling.json")
        process.run { "mkfifo", dir .. "/theirs.json" }
        local root = pcall(fs.chown, dir .. "/theirs.json", 65534, 65534) -- only root can give it away
        for file, why in pairs {
            ["theirs.json"] = root and "Operation not permitted" or nil,
            ["folder.json"] = "Is a directory", ["full.json"] = "No space left on device",
            ["none/a.json"] = "No such file or directory", ["dangling.json"] = "leads to nothing",
        } do
            local result = run(file, "-e", "print 'ran'")
            assert.same({ 2, "" }, { result.code, result.stdout })
            assert.matches("^[^\n]*%-%-trace: cannot write " .. file:gsub("%.", "%%."), result.stderr)
            assert.is_truthy(result.stderr:find(why, 1, true), result.stderr)
        end
        for _, file in ipairs { "a.txt", ".json", "a/.html" } do
            local result = run(file, "-e", "print 'ran'")
            assert.same({ 2, "" }, { result.code, result.stdout })
            assert.matches("expected FILE.json or FILE.html", result.stderr)
        end
        for _, size in ipairs { "1k", "-1", "1e6", "64kk", "inf" } do
            local result = run("a.json", "--trace-limit", size, "-e", "print 'ran'")
            assert.equal(2, result.code, size)
            assert.matches("%-%-trace%-limit: expected a size", result.stderr)
        end
        local alone = process.run {
            core.options.program, "--trace-limit", "1M", "-e", "print 'ran'", stdout = "capture", stderr = "capture",
        }
        assert.same({ 2, "" }, { alone.code, alone.stdout })
        assert.matches("%-%-trace FILE.html writes one", alone.stderr)
    end)

    it("keeps an existing file when the first lines of the new one cannot be written", function()
        fs.mkdir(dir .. "/kept")
        fs.write(dir .. "/kept/a.json", "old")
        local result = process.run { "sh", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh",
            core.options.program, "--no-env", "--trace", dir .. "/kept/a.json", "-e", "print 'ran'",
            stdout = "capture", stderr = "capture" }
        assert.same({ 2, "" }, { result.code, result.stdout })
        assert.matches("cannot write .*a.json: File too large", result.stderr)
        assert.same({ "a.json" }, fs.list(dir .. "/kept"))
        assert.equal("old", fs.read(dir .. "/kept/a.json"))
    end)

    it("replaces a file, so that readers of the old one do not see the new one, and follows a link", function()
        fs.write(dir .. "/old.json", "old")
        fs.chmod(dir .. "/old.json", 420)
        fs.symlink("old.json", dir .. "/link.json")
        local file <close> = io.open(dir .. "/old.json")
        assert.equal(0, run("link.json", "-e", "return 0").code)
        assert.equal("old", file:read "a")
        assert.equal(384, fs.stat(dir .. "/old.json").mode & 511)
        assert.is_true(select(2, events "old.json"))
    end)

    it("says once that it can no longer write, and the script continues", function()
        assert.equal(0, process.run { "mkfifo", dir .. "/pipe.json" }.code)
        local reader = process.start { "head", "-c", "2000", dir .. "/pipe.json", stdout = "capture" }
        local result = run("pipe.json", "-e",
            "for i = 1, 900 do require 'dbrun.db'.sync:value('select ' .. i) end print 'went on' os.exit(7)")
        reader:wait()
        assert.same({ 7, "went on\n" }, { result.code, result.stdout })
        local _, n = result.stderr:gsub("cannot write pipe.json: Broken pipe", "")
        assert.equal(1, n, result.stderr)
    end)

    it("can be an HTML page with the same lines", function()
        assert.equal(0, run("a.html", "a.lua").code)
        local text = fs.read(dir .. "/a.html")
        assert.equal("<!doctype html>", text:sub(1, 15):lower())
        assert.equal("\n]\n</script>\n", text:sub(-13))
        assert.equal("a.lua", events("a.html")[1].args.script)
        assert.equal(384, fs.stat(dir .. "/a.html").mode & 511)
    end)
end)
