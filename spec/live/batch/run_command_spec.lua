-- `dbrun batch run` on a real server: its output, its exit statuses, and its control while it runs.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local FILES <const> = {
    ["fill_n.lua"] = [[return require("dbrun.batch").job { name = "fill", table = "t", where = "n is null",
        run = "update t set n = id where :chunk", size = 100, max = 100 }]],
    ["slow.lua"] = [[return require("dbrun.batch").job { name = "slow", table = "t", size = 10, max = 10,
        run = "update t set n = id from (select pg_sleep(0.15)) s where :chunk" }]],
    ["odd.lua"] = [[return require("dbrun.batch").job { name = "odd", table = "t", size = 500, on_error = "split",
        run = "update t set n = 1000 / (id - 42) where :chunk" }]],
    ["none.lua"] = [[return require("dbrun.batch").job { name = "none", table = "nothing",
        run = "delete from nothing where :chunk" }]],
    ["typo.lua"] = [[return require("dbrun.batch").job { name = "typo", table = "t",
        run = "update t set m = 1 where :chunk" }]],
}

--- Errors in a job's own function, and the expected messages.
local FUNCTIONS <const> = {
    { 'tx:query "selct 1"', "at or near \"selct\" %(SQLSTATE 42601%)\n  at: FILE:2\n  context: a chunk of the job" },
    { 'return tx:query "selct 1"', "at or near \"selct\" %(SQLSTATE 42601%)\n  at: FILE:2\n" },
    { 'error "boom"', "^batch: FILE:2: boom\n$" },
    { 'require "dbrun.task".sleep "x"', "task.sleep: [^\n]*\n  at: FILE:2\n", 2 },
    { "os.exit(0)", "the batch job 'mine' called os.exit, [^\n]*\n  at: FILE:2\n", 2 },
}

describe("dbrun batch run", function()
    local url, engine, folder

    setup(function()
        url, folder = servers.database(), scripts.folder(FILES)
        engine = db.engine { url = url, size = 2 }
        engine:exec "create table t (id int primary key, n int)"
        engine:exec "insert into t select i, null from generate_series(1, 500) i; analyze t"
    end)
    teardown(function()
        engine:close()
        fs.rmtree(folder)
    end)

    local function env(more)
        local all = { DATABASE_URL = url, DBRUN_BATCHES_DIR = folder }
        for key, value in pairs(more or {}) do all[key] = value end
        return all
    end

    local function batch(...) return scripts.run("batch", { ... }, env()) end

    it("names the line of the job's file that failed", function()
        local path <const> = folder .. "/mine.lua"
        for _, case in ipairs(FUNCTIONS) do
            fs.write(path, ('return require("dbrun.batch").job { name = "mine", table = "t", run = function(tx)\n%s\n'
                .. 'end }\n'):format(case[1]))
            local result <const> = batch("run", path)
            assert.equal(case[3] or 1, result.code, result.text)
            local told <const> = result.stderr:gsub("^mine: [^\n]*\n", ""):gsub("^mine: [^\n]*\n", "")
            assert.matches(case[2]:gsub("FILE", function() return (path:gsub("%p", "%%%0")) end), told)
            engine:exec "drop table dbrun_batch_ranges; drop table dbrun_batch_jobs"
        end
        fs.unlink(path)
    end)

    it("ends with 0 at --limit, goes on with the same line, and is done", function()
        local result = batch("run", "fill", "--limit", "200", "--count")
        assert.equal(0, result.code, result.text)
        assert.matches("^Target: [^\n]+\nfill is not finished: 40 %%, 200 rows in 2 chunks, [^\n]*\n"
            .. "  it goes on with: dbrun batch run fill\n$", result.stdout)
        assert.matches("fill:  40 %  200/500 rows", result.stderr, 1, true)
        result = batch("run", "fill-n", "--format", "json")
        assert.equal(0, result.code, result.text)
        local rows, last = 0, nil
        for line in result.stdout:gmatch "[^\n]+" do
            last = json.decode(line)
            if last.event == "chunk" then rows = rows + last.rows end
        end
        assert.equal(300, rows)
        assert.equal("end done", last.event .. " " .. last.state)
        result = batch("run", "fill")
        assert.equal(0, result.code, result.text)
        assert.matches("fill was done already; dbrun batch forget fill lets a run start anew", result.stdout, 1, true)
        result = batch("run", "fill", "--dry-run")
        assert.matches("done: a run does nothing; dbrun batch forget fill lets", result.stdout, 1, true)
    end)

    it("is done with an empty table; only the second run says that it was done already", function()
        engine:exec "create table nothing (id int primary key)"
        assert.matches("\nnone is done: 0 rows in 0 chunks, [^\n]*\n$", batch("run", "none").stdout)
        assert.matches("\nnone was done already; ", batch("run", "none").stdout)
    end)

    it("is refused when its state is in another schema", function()
        engine:exec "create schema other"
        local result = scripts.run("batch", { "run", "none" }, env { DBRUN_BATCH_SCHEMA = "other" })
        assert.equal(2, result.code, result.text)
        assert.matches("the job 'none' on this table is in the schema 'public' already %(done%): begun in \"other\", "
            .. "too, it would do each row again %(help: DBRUN_BATCH_SCHEMA=public ", result.stderr)
        engine:exec "drop schema other cascade"
    end)

    it("is not done when its ranges were removed", function()
        engine:exec "insert into nothing select generate_series(1, 3)"
        batch("forget", "none")
        assert.matches("none is not finished: ", batch("run", "none", "--limit", "1").stdout)
        engine:exec "delete from dbrun_batch_ranges where job = 'none'"
        local result = batch("run", "none")
        assert.equal(1, result.code, result.text)
        assert.matches("ranges of the job 'none' were removed [^\n]*\n  hint: dbrun batch forget none", result.stderr)
    end)

    it("ends with 1 when ranges have failed, and processes them after they are reopened", function()
        local result = batch("run", "odd")
        assert.equal(1, result.code, result.text)
        assert.matches("odd is done: 499 rows in", result.stdout, 1, true)
        assert.matches("1 range failed: dbrun batch errors odd shows why", result.stdout, 1, true)
        assert.matches("odd: failed: key 42: division by zero (SQLSTATE 22012)\n", result.stderr, 1, true)
        assert.matches("^key 42  SQLSTATE 22012", batch("errors", "odd").stdout)
    end)

    it("whose reader has gone, or whose time is over, ends and leaves the job to others", function()
        local spec <const> = scripts.command("batch", { "run", "slow", "--format", "json" }, env())
        local result <const> = process.run {
            "sh", "-c", '{ "$@"; echo "status $?" >&2; } | head -n 1', "sh", env = spec.env, timeout = 60,
            table.unpack(spec),
        }
        assert.matches("cannot write to [^\n]*\n.*status 1\n$", result.stderr)
        assert.equal("running", engine:value "select state from dbrun_batch_jobs where name = 'slow'")
        table.insert(spec, 2, "--timeout=0.5")
        local events <const> = process.run(spec)
        assert.equal(1, events.code, events.stderr)
        local last <const> = json.decode(events.stdout:match "[^\n]*\n$")
        assert.same({ "end", "interrupted" }, { last.event, last.state })
        assert.equal(0, batch("cancel", "slow").code)
        assert.equal(0, batch("forget", "slow").code)
    end)

    it("says why it stopped, and status does", function()
        local path <const> = folder .. "/typo.lua"
        local events <const> = batch("run", path, "--format", "json")
        assert.equal(1, events.code, events.text)
        local last <const> = json.decode(events.stdout:match "[^\n]*\n$")
        assert.same({ "end", "stopped", 'column "m" of relation "t" does not exist (SQLSTATE 42703)' },
            { last.event, last.state, last.why })
        local result = batch("run", path)
        assert.equal(1, result.code, result.text)
        assert.matches('column "m" of relation "t" does not exist', result.stderr, 1, true)
        local shown = batch("status", "typo").stdout
        assert.matches("typo  stopped  ", shown, 1, true)
        assert.matches("\n  reason    [^\n]*column \"m\"[^\n]*\n  go on     dbrun batch run typo\n", shown)
    end)

    it("has a dry run, a trial and a check, which change nothing", function()
        local chunks = "select n is null as empty, count(*) from t group by 1 order by 1"
        local before = engine:query(chunks)
        for _, words in ipairs { { "run", "odd", "--dry-run" }, { "run", "fill", "--try" }, { "check", "fill" } } do
            local result = batch(words[1], words[2], words[3])
            assert.is_true(result.code <= 1 and result.stdout ~= "", result.text)
            assert.same(before, engine:query(chunks))
        end
        assert.equal("table", type(json.decode(batch("run", "odd", "--dry-run", "--format", "json").stdout)))
        assert.equal(2, batch("run", "odd", "--dry-run", "--try").code)
    end)

    it("needs --target on a protected database", function()
        local result = scripts.run("batch", { "run", "fill" }, env { DBRUN_PROTECTED = "*" })
        assert.equal(2, result.code)
        assert.matches("is protected", result.stderr)
    end)

    it("waits while it is paused, says who paused it, and ends with 130 or 143 after a signal", function()
        local function start(name)
            local path = folder .. "/" .. name
            local child = process.start(scripts.command("batch", { "run", "slow" }, env(),
                { stdout = path, stderr = "stdout" }))
            return {
                expect = function(pattern)
                    local deadline = task.now() + 30
                    while not (fs.exists(path) and fs.read(path):find(pattern)) and task.now() < deadline do
                        task.sleep(0.02)
                    end
                    assert.matches(pattern, fs.read(path))
                end,
                ends = function(signal, code)
                    child:kill(signal)
                    assert.equal(code, child:wait(30).code, fs.read(path))
                end,
            }
        end
        local first = start "first"
        local function rows()
            local ok, row = pcall(engine.one, engine, "select rows from dbrun_batch_ranges where job = 'slow'")
            return ok and row and row.rows or 0
        end
        local deadline = task.now() + 30
        while rows() == 0 and task.now() < deadline do task.sleep(0.02) end
        local paused = batch("pause", "slow", "--wait", "--reason", "deploy")
        assert.equal(0, paused.code, paused.text)
        local done = rows()
        assert.is_true(done > 0 and done < 500, done)
        local second = start "second"
        second.expect "slow is paused by [^\n]+: deploy\n  it waits until: dbrun batch resume slow\n"
        second.expect "waiting: the job is paused: deploy"
        second.ends("TERM", 143)
        assert.equal(done, rows())
        first.expect "waiting: the job is paused: deploy"
        first.ends("INT", 130)
        first.expect "slow is not finished: [^\n]*\n  interrupted; it goes on with: dbrun batch run slow\n$"
    end)
end)
