-- The evaluation of signals, with a simulated clock: limits, hysteresis, critical, our own list of WAL positions,
-- standbys that disappear, our own latency; and the syntax of limits.
local fails = require "spec.support.fails"
local judge = require "dbrun.batch.signals.judge"
local latency = require "dbrun.batch.signals.latency"
local signals = require "dbrun.batch.signals"
local standbys = require "dbrun.batch.signals.standbys"
local wal = require "dbrun.batch.signals.wal"
local words = require "dbrun.batch.signals.words"

local function show(limit) return ("%g"):format(limit) end

local function reading(value) return { value = value, text = ("it is %g"):format(value) } end

describe("a signal", function()
    it("waits above its limit and continues below three quarters of it", function()
        local j <const> = judge.new()
        local told <const> = {}
        for i, value in ipairs { 3, 4, 5, 5.1, 4, 3.75, 3.7, 4 } do
            j:look(reading(value), 5, show)
            told[i] = ("%s %s"):format(j.waiting, j.near)
        end
        assert.same({ "false false", "false true", "false true", "true true", "true true", "true true", "false false",
            "false true" }, told)
    end)

    it("says how far above its limit it is, and where it continues", function()
        local j <const> = judge.new()
        j:look(reading(12), 5, show)
        assert.equal("it is 12, limit 5", j.text)
        j:look(reading(4), 5, show)
        assert.equal("it is 4, limit 5, goes on below 3.75", j.text)
        j:look(reading(1), 5, show)
        assert.is_nil(j.text)
    end)

    it("with a limit of 0 continues at 0", function()
        local j <const> = judge.new()
        j:look(reading(1), 0, show)
        assert.is_true(j.waiting)
        j:look(reading(0), 0, show)
        assert.is_false(j.waiting)
    end)

    it("is critical when it was above for five seconds, and not while the job waits already", function()
        local j <const> = judge.new()
        local function look(now, value, counts) j:look_critical(reading(value), 10, show, now, counts ~= false) end
        look(0, 11)
        look(4.9, 11)
        assert.is_nil(j.critical)
        look(5, 11)
        assert.equal("it is 11, critical above 10", j.critical)
        look(6, 9)
        assert.is_nil(j.critical)
        look(7, 11)
        look(9, 9) -- once below: counts from the start
        look(12, 11)
        assert.is_nil(j.critical)
        look(16, 11, false)
        look(17, 11)
        assert.is_nil(j.critical)
        look(22, 11)
        assert.is_truthy(j.critical)
    end)
end)

describe("the list of WAL positions", function()
    it("says since when a standby lags", function()
        local list <const> = wal.new()
        for second = 0, 20 do list:add(second * 100, 1000 + second) end
        assert.equal(0, (list:behind(2000)))
        assert.equal(0, (list:behind(1950))) -- written since the last sample: can still be in transit
        assert.near(5, (list:behind(1500)), 1e-6)
        assert.near(5.5, (list:behind(1450)), 1e-6)
        local behind <const>, at_least <const> = list:behind(-1)
        assert.equal(20, behind)
        assert.is_true(at_least)
    end)

    it("never counts an idle standby as lagging, nor one that gets the first change after a long pause", function()
        local list <const> = wal.new()
        for second = 0, 100 do list:add(500, second) end
        assert.equal(0, (list:behind(500)))
        list:add(600, 101)
        assert.equal(0, (list:behind(500)))
        list:add(600, 102)
        assert.near(2, (list:behind(500)), 1e-6) -- now it should have arrived
    end)

    it("starts again on another server and when the clock is set back", function()
        local list <const> = wal.new()
        for second = 0, 10 do list:add(second * 100, second) end
        list:add(50, 11)
        assert.equal(1, #list.places)
        list:add(60, 5)
        assert.equal(1, #list.places)
        assert.equal(0, (list:behind(60)))
    end)

    it("stays small, and right for old positions", function()
        local list <const> = wal.new()
        for second = 0, 20000 do list:add(second * 100, second) end
        assert.is_true(#list.places <= 1200)
        assert.near(5, (list:behind(1999500)), 1e-6)
        assert.near(15000, (list:behind(500000)), 1e-6)
    end)

    it("knows the rate of the last seconds", function()
        local list <const> = wal.new()
        assert.is_nil(list:rate(5))
        for second = 0, 10 do list:add(second < 5 and 0 or (second - 5) * 1000, second) end
        assert.near(1000, list:rate(5), 1e-6)
    end)
end)

describe("standbys", function()
    local list, said
    before_each(function()
        list, said = wal.new(), {}
        for second = 0, 100 do list:add(second * 100, second) end
    end)
    local function say(text) said[#said + 1] = text end
    local function row(name, pid, replayed) return { name = name, pid = pid, replayed = replayed } end

    it("the one that lags most is reported", function()
        local s <const> = standbys.new()
        s:look({ row("a", 1, 9800), row("b", 2, 8800), row("c", 3, 10000) }, 0, say)
        local behind <const>, text <const> = s:worst(list, 0)
        assert.near(12, behind, 1e-6)
        assert.equal("standby b is 12 s behind", text)
    end)

    it("one that disappears after the start counts for 60 s, and is then left out", function()
        local s <const> = standbys.new()
        s:look({ row("a", 1, 9000), row("b", 2, 10000) }, 0, say)
        s:look({ row("b", 2, 10000) }, 10, say)
        assert.equal("standby a is 10 s behind, and gone for 20 s", (select(2, s:worst(list, 30))))
        s:look({ row("b", 2, 10000) }, 69, say)
        assert.same({}, said)
        s:look({ row("b", 2, 10000) }, 70, say)
        s:look({ row("b", 2, 10000) }, 71, say)
        assert.equal(0, (s:worst(list, 71)))
        assert.same({ "standby a has been gone for 60 s: replication_lag goes on without it" }, said)
    end)

    it("one that reconnects with another process is the same", function()
        local s <const> = standbys.new()
        s:look({ row("a", 1, 9000), row("a", 2, 9500) }, 0, say)
        s:look({ row("a", 2, 10000) }, 10, say)
        s:look({ row("a", 7, nil), row("a", 2, 10000) }, 20, say)
        assert.equal("standby a is 10 s behind", (select(2, s:worst(list, 20))))
        s:look({ row("a", 7, 10000), row("a", 2, 10000) }, 200, say)
        assert.equal(0, (s:worst(list, 200)))
        assert.same({}, said)
    end)

    it("one that connects later counts while it is connected", function()
        local s <const> = standbys.new()
        s:look({}, 0, say)
        s:look({ row("a", 1, 9000) }, 1, say)
        assert.near(10, (s:worst(list, 1)), 1e-6)
        s:look({}, 2, say)
        assert.equal(0, (s:worst(list, 2)))
    end)
end)

describe("latency", function()
    local function read(l, now, waiting) return l:read(nil, { now = now }, 10, waiting or false).value end

    it("counts when three in a row are slow, against the usual time", function()
        local l <const> = latency.new()
        for _ = 1, 50 do l:took(0.010) end
        l:took(0.5)
        l:took(0.5)
        assert.is_true(read(l, 0) < 10)
        l:took(0.5)
        assert.is_true(read(l, 0) > 10)
        l:took(0.010)
        assert.is_true(read(l, 0) < 7.5)
    end)

    it("ignores fast chunks, and the first ones", function()
        local l = latency.new()
        for _ = 1, 3 do l:took(5) end
        assert.equal(0, read(l, 0))
        l = latency.new()
        for _ = 1, 50 do l:took(0.0005) end
        for _ = 1, 3 do l:took(0.040) end
        assert.is_true(read(l, 0) < 10)
    end)

    it("allows one trial chunk after 5 s, then after 10", function()
        local l <const> = latency.new()
        for _ = 1, 50 do l:took(0.010) end
        for _ = 1, 3 do l:took(0.5) end
        assert.is_true(read(l, 0) > 10)
        assert.is_true(read(l, 1, true) > 10)
        assert.is_true(read(l, 5, true) > 10)
        assert.equal(0, read(l, 6, true))
        l:took(0.5)
        assert.is_true(read(l, 7, false) > 10)
        assert.is_true(read(l, 8, true) > 10)
        assert.is_true(read(l, 17, true) > 10)
        assert.equal(0, read(l, 18, true))
        l:took(0.010)
        assert.is_true(read(l, 19) < 7.5)
        assert.equal(5, l.pause)
    end)

    it("adapts to a permanently slow server", function()
        local l <const> = latency.new()
        for _ = 1, 50 do l:took(0.010) end
        for _ = 1, 300 do l:took(0.5) end
        assert.is_true(read(l, 0) < 2)
    end)
end)

describe("limits", function()
    it("are read from text and from values", function()
        for _, one in ipairs {
            { "replication_lag", "5", 5 }, { "replication_lag", "500ms", 0.5 }, { "throttle.blocked", "2m", 120 },
            { "slots", "10GiB", 10 << 30 }, { "critical.wal_rate", "50MiB", 50 << 20 }, { "active", "2x", "2x" },
            { "active", "20", 20 }, { "latency", "5x", 5 }, { "latency", "8", 8 }, { "dead", "20%", 0.2 },
            { "dead", "0.3", 0.3 }, { "checkpoints", "2", 2 }, { "vacuum", "true", true }, { "vacuum", "off", false },
            { "blocked", "off", false }, { "latency", "false", false },
        } do
            assert.equal(one[3], signals.parse(one[1], one[2]), one[1] .. "=" .. one[2])
        end
        signals.check("batch", { replication_lag = 5, active = "2x", blocked = false, mine = print, vacuum = true },
            { replication_lag = "1m", mine = print })
    end)

    it("that are wrong are errors that name the expected form", function()
        for name, text in pairs { replication_lag = "soon", slots = "-1", active = "x", latency = "1", dead = "2",
            checkpoints = "1.5", vacuum = "maybe", oldest_transaction = "nan" } do
            local e <const> = fails("usage", signals.parse, name, text)
            assert.matches(("batch set: throttle.%s must be "):format(name), e.message, 1, true)
            assert.matches((", or false, got %q"):format(text), e.message, 1, true)
        end
        assert.matches("got a table", fails("usage", signals.check, "batch", { slots = {} }).message)
    end)

    it("of unknown names are refused with the nearest one", function()
        local e = fails("usage", signals.parse, "replicaton_lag", "5")
        assert.matches("there is no signal 'replicaton_lag'", e.message)
        assert.equal("did you mean 'replication_lag'?", e.hint)
        e = fails("usage", signals.check, "batch", { [1] = 5 })
        assert.matches("there is no signal '1'", e.message)
        assert.matches("cannot be critical", fails("usage", signals.check, "batch", nil, { blocked = 5 }).message)
        assert.matches("unknown option 'throtle'", fails("usage", signals.new, { throtle = {} }).message)
        assert.matches("must be a list of engines", fails("usage", signals.new, { replicas = { 1 } }).message)
    end)

    it("a job's own signal can only be turned off by text", function()
        local own <const> = { mine = function() end }
        assert.is_false(signals.parse("throttle.mine", "off", own))
        fails("usage", signals.parse, "mine", "5", own)
        fails("usage", signals.parse, "mine", "off")
    end)
end)

describe("words", function()
    it("are short", function()
        assert.equal("0.4 s 5 s 12 s 5 min 3 h 20 min 4 days", table.concat({ words.seconds(0.42), words.seconds(5),
            words.seconds(12.3), words.seconds(301), words.seconds(12000), words.seconds(350000) }, " "))
        assert.equal("pid 8 (crm)", words.session(8, "crm", "app"))
        assert.equal("pid 8 (role app)", words.session(8, nil, "app"))
        assert.equal("pid 8 (\\x1b[31m\\n)", words.session(8, "\27[31m\n"))
    end)
end)
