-- The display of batch jobs: drawings, shares, the status, the progress of a run.
local drawing = require "dbrun.batch.show.drawing"
local json = require "dbrun.json"
local share = require "dbrun.batch.show.share"
local status = require "dbrun.batch.show.status"
local tell = require "dbrun.batch.show.tell"
local words = require "dbrun.batch.show.words"
local wrap = require "dbrun.batch.show.wrap"

describe("a drawing of numbers", function()
    local function text(n) return ("%g s"):format(n) end

    it("has a scale from 0, so that a steady row looks steady", function()
        assert.equal("████  1 s", drawing.row({ 1, 1, 1, 1 }, true, text))
        assert.equal("▁▂▄▆█  0 s to 8 s", drawing.row({ 0, 2, 4, 6, 8 }, true, text))
        assert.equal("▁▁  0 s", drawing.row({ 0, 0 }, true, text))
        assert.equal("", drawing.row({}, true, text))
    end)

    it("is the last numbers without block characters", function()
        assert.equal("3 s 4 s 5 s 6 s 7 s 8 s 9 s 10 s", drawing.row({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, false, text))
    end)
end)

describe("words", function()
    it("round a share neither to 100% nor to 0%", function()
        local shown = {}
        for i, one in ipairs { 0, 0.0004, 0.004, 0.419, 0.99, 0.9999, 1 } do shown[i] = words.share(one) end
        assert.same({ "0 %", "<0.1 %", "0.4 %", "41 %", "99 %", "99.9 %", "100 %" }, shown)
        assert.equal("-", words.share(nil))
    end)

    it("quote a name in a command for a shell, and escape control characters in a key", function()
        assert.equal("dbrun batch run ./a-b.lua", words.command("run", "./a-b.lua"))
        assert.equal("dbrun batch run 'it'\\''s'", words.command("run", "it's"))
        assert.equal("(2024-01-01, a\\x1b[31m)", words.key { "2024-01-01", "a\27[31m" })
        assert.equal("42", words.key { "42" })
        assert.equal("the start", words.key(nil))
    end)

    it("put a long list on lines of a width, and cut a text", function()
        assert.same({ "one, two,", "three" }, wrap.list({ "one", "two", "three" }, 10))
        assert.equal("select 1 f…", wrap.short("select 1\n  from t", 11))
        assert.equal("a\\x1bb", wrap.short("a\27b", 20))
    end)
end)

describe("the share that is done", function()
    local function range(first, position, last, looked, state)
        return { pass = 1, first = first, position = position, last = last, looked = looked, state = state or "open" }
    end
    local job = { state = "running", pass = 1, estimate = 1000, identity = { types = { "bigint" } } }

    it("is computed from the key's position when it is a number", function()
        -- Keys begin at 1,000,000, which the start of the first range does not show.
        local done, left = share.of(job, {
            range(nil, { "1000100" }, { "1000100" }, 100, "done"),
            range({ "1000100" }, { "1000200" }, { "1001100" }, 100),
        })
        assert.near(900, left, 0.001)
        assert.near(200 / 1100, done, 0.0001)
    end)

    it("or a time", function()
        local by_time = { state = "running", pass = 1, identity = { types = { "timestamp(3) with time zone" } } }
        local done = share.of(by_time, {
            range({ "2024-01-01 00:00:00+00", "7" }, { "2024-01-02 00:00:00+00", "7" },
                { "2024-01-05 00:00:00+00", "7" }, 100),
        })
        assert.near(0.25, done, 0.0001)
    end)

    it("otherwise from the rows in the statistics", function()
        local by_text = { state = "running", pass = 1, estimate = 1000, identity = { types = { "text" } } }
        local done, left = share.of(by_text, { range({ "1" }, { "2" }, { "9" }, 400) })
        assert.near(0.4, done, 0.0001)
        assert.equal(600, left)
        assert.is_nil((share.of({ state = "running", pass = 1 }, { range({ "a" }, { "b" }, { "z" }, 400) })))
        assert.near(0.05, share.of(job, { range(nil, { "50" }, { "100" }, 50) }), 0.0001)
    end)

    it("is that of the current pass, and 100% for a job that is done", function()
        local old = range({ "0" }, { "100" }, { "100" }, 100, "done")
        assert.near(0.5, share.of({ state = "running", pass = 2, identity = job.identity }, { old, { pass = 2,
            first = { "0" }, position = { "50" }, last = { "100" }, looked = 50, state = "open" } }), 0.0001)
        assert.equal(1, (share.of({ state = "done", pass = 1 }, {})))
    end)
end)

describe("the status of a job", function()
    local function plain(text) return text end
    local style = { bold = plain, dim = plain, red = plain, green = plain, yellow = plain, cyan = plain }

    local function facts(more)
        local all = {
            name = "orders-cents", source = "orders", state = "running", pass = 1, started = 1000, now = 1724,
            definition = { where = "cents is null", run = "update orders\n set cents = 1 where :chunk" },
            estimate = 1000, share = 0.41, left = 80, rate = 9120.4,
            totals = { rows = 410, chunks = 3, looked = 410, failed = 0, retried = 2, worked = 8,
                waited = { replication_lag = 1.5, lock = 0.5 } },
            workers = {}, failed = {}, values = {
                { name = "size", value = "500", from = "set" }, { name = "target", value = "1", from = "file" },
                { name = "min", value = "10", from = "default" },
            },
        }
        for key, value in pairs(more or {}) do all[key] = value end
        return all
    end

    local function lines(more, blocks)
        return table.concat(status.lines(facts(more), { width = 80, style = style, blocks = blocks or false }), "\n")
    end

    it("shows its progress, its waits, and the source of each value", function()
        local text = lines()
        assert.matches("^orders%-cents  running  started [^\n]+, 12 min 04 s ago\n", text)
        assert.matches("\n  where     cents is null\n  run       update orders set cents = 1 where :chunk\n", text, 1,
            true)
        assert.matches("\n  done      41 %, 410 rows in 3 chunks, 410 keys looked at of ~1,000,\n"
            .. "            about 1 min 20 s left\n", text, 1, true)
        assert.matches("\n  rate      9,120 rows/s while chunks run\n", text, 1, true)
        assert.matches("worked 80 %, waited 15 % for replication_lag, waited 5 % for lock,\n"
            .. "            2 chunks tried again", text, 1, true)
        assert.matches("\n  set       size = 500\n  file      target = 1\n  default   min = 10$", text)
        assert.matches("workers   none is at work: dbrun batch run orders-cents", text, 1, true)
    end)

    it("lists the workers with their last chunks and waits, without control characters", function()
        local worker = { owner = "db1:42/1", range = 7, chunk = 1205, since = 0.2, here = true,
            waiting = "row locked by \27[31mcrm", durations = { 0.2, 0.4 }, sizes = { 10, 20 } }
        local gone = { owner = "db2:1/1", range = 8, chunk = 1, since = 99, here = false, durations = {}, sizes = {} }
        local text = lines({ workers = { worker, gone } }, true)
        assert.matches("  workers   db1:42/1  range 7  chunk 1,205 since 200 ms\n", text, 1, true)
        assert.matches("waiting: row locked by \\x1b[31mcrm\n", text, 1, true)
        assert.matches("time  ▄█  200 ms to 400 ms\n              rows  ▄█  10 to 20\n", text, 1, true)
        assert.matches("\n  left      1 range of workers that have ended", text)
        assert.is_nil(text:find "none is at work")
    end)

    it("says why a job is paused, how to resume it, and what failed", function()
        local totals = facts().totals
        totals.failed = 2
        local text = lines { state = "paused", reason = "standby b is 99 s behind", totals = totals, found = 12 }
        assert.matches("  reason    standby b is 99 s behind\n  go on     dbrun batch resume orders-cents\n", text, 1,
            true)
        assert.matches("failed    2 ranges: dbrun batch errors orders-cents", text, 1, true)
        assert.matches("found     12 rows came after the last pass, does the application write them?", text, 1, true)
    end)
end)

describe("the progress of a run", function()
    local function sheet()
        local out = { text = "" }
        function out.write(_, ...)
            out.text = out.text .. table.concat({ ... })
            return out
        end
        function out.flush() end
        return out
    end

    local function teller(terminal)
        local out, now = sheet(), 0
        local t = tell.text("job", { out = out, terminal = terminal, clock = function() return now end, fd = -1 })
        return t, out, function(at) now = at end
    end

    it("is one line on a terminal: share, rate, size, wait, remaining time without waits", function()
        local t, out, at = teller(true)
        local function last() return out.text:match "\r([^\r\27]*)[^\r]*$" end
        t.on { what = "begin", name = "job", total = 1000, workers = 2, pass = 1, looked = 0, rows = 0 }
        at(1)
        t.on { what = "chunk", worker = 1, rows = 100, size = 100, keys = 100 }
        assert.equal("job:  10 %  100/~1,000 rows  100/s  9.0 s left  size 100", last())
        t.on { what = "wait", worker = 1, text = "standby b is 12 s behind\27[31m" }
        assert.equal("job:  10 %  100/~1,000 rows  waiting: standby b is 12 s behind\\x1b[31m", last())
        at(100)
        t.on { what = "go", worker = 1 }
        at(101)
        t.on { what = "chunk", worker = 2, rows = 1, size = 50, keys = 100 }
        t.on { what = "chunk", worker = 2, rows = 0, size = 50, keys = 70, pass = 2 } -- counted in pass 1
        assert.equal("job:  20 %  200/~1,000 rows  100/s  8.0 s left  101 changed  size 50", last())
        t.on { what = "retry", worker = 2, text = "no lock", holder = "row locked by pid 8", sqlstate = "55P03" }
        assert.equal("job:  20 %  200/~1,000 rows  waiting: row locked by pid 8 (SQLSTATE 55P03)", last())
        at(102)
        t.on { what = "look", rows = 400, looked = 400, pass = 1 } -- also from other machines
        assert.equal("job:  40 %  400/~1,000 rows  waiting: row locked by pid 8 (SQLSTATE 55P03)", last())
        t.on { what = "failed", key = { "7\n" }, sqlstate = "22003", message = "out\27 of range" }
        assert.matches("\r\27[Kjob: failed: key 7\\x0a: out\\x1b of range (SQLSTATE 22003)\n", out.text, 1, true)
        t.on { what = "end", state = "done" }
        assert.equal("job:  40 %  400/~1,000 rows  200/s  in 1:42", last())
        assert.is_nil(out.text:find "\27%[31m")
    end)

    it("is plain lines without a terminal, at once when its state changes", function()
        local t, out, at = teller(false)
        t.on { what = "begin", total = 1000, workers = 1, pass = 1, resumed = true, looked = 500, rows = 500 }
        at(1)
        t.on { what = "chunk", worker = 1, rows = 100, size = 100, keys = 100 }
        t.on { what = "wait", worker = 1, text = "a lock" }
        t.on { what = "go", worker = 1 }
        t.on { what = "retry", worker = 1, text = "row locked by pid 812", sqlstate = "55P03", pause = 0.5 }
        t.on { what = "pass", pass = 2 }
        t.on { what = "message", text = "the standby b is gone" }
        t.close(t)
        assert.equal("job goes on where it was\n"
            .. "job:  60 %  600/~1,000 rows  waiting: a lock\n"
            .. "job:  60 %  600/~1,000 rows  100/s  4.0 s left  size 100\n"
            .. "job: pass 2, over late rows\njob: the standby b is gone\n"
            .. "job:  60 %  600/~1,000 rows  100/s  in 1.0 s\n", out.text)
    end)

    it("is JSON with one line per event", function()
        local written, original = {}, io.stdout
        local ok, e = pcall(function()
            io.stdout = setmetatable({}, { __index = { write = function(_, ...) -- luacheck: ignore 122
                written[#written + 1] = table.concat { ... }
                return true
            end, flush = function() return true end } })
            tell.json().on { what = "chunk", worker = 1, rows = 3, first = { "a\27" }, run = print }
        end)
        io.stdout = original -- luacheck: ignore 122
        assert.is_true(ok, e)
        local text = table.concat(written)
        assert.matches("^{[^\n]*}\n$", text)
        assert.same({ event = "chunk", worker = 1, rows = 3, first = { "a\27" } }, json.decode(text))
    end)
end)
