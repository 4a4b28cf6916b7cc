-- The benchmark harness: computations, output, refusals. No server and no program is needed: contenders are tables
-- with a `run` function that returns known numbers.
package.path = "spec/?.lua;" .. package.path

local contender <const> = require "bench.lib.contender"
local metrics <const> = require "bench.lib.metrics"
local picture <const> = require "bench.lib.picture"
local plan <const> = require "bench.lib.plan"
local report <const> = require "bench.lib.report"
local rivals <const> = require "bench.lib.rivals"
local runner <const> = require "bench.lib.runner"
local shell <const> = require "bench.lib.shell"
local spec <const> = require "bench.lib.spec"
local stats <const> = require "bench.lib.stats"
local svg <const> = require "bench.lib.svg"
local targets <const> = require "bench.lib.targets"

local FACTS <const> = {
    date = "2026-01-31", machine = "A & B <cpu>, 2 cores", versions = "PostgreSQL 15.20, Redis 7.0.15",
    pairs = 3, seconds = 1,
}

local function silent() end

--- A contender that returns these rates, one after the other.
local function racer(name, kind, rates, extra)
    local i, calls = 0, {}
    return {
        name = name, kind = kind, calls = calls,
        run = function()
            i = i + 1
            calls[i] = true
            local sample <const> = { rate = rates[i], time = 1 / rates[i], cpu = 1e-6, memory = 1024 }
            for k, v in pairs(extra or {}) do sample[k] = v end
            return sample
        end,
    }
end

local function workload(fields)
    local w <const> = {
        id = "X1", order = 1, title = "a workload", metric = "rate", file = "x1.lua",
        ours = { racer("dbrun", "ours", { 100, 300, 200 }) },
        others = { racer("peer", "peer", { 100, 100, 100 }) },
        targets = { { metric = "rate", against = "peer", at_least = 1.5 } },
    }
    for k, v in pairs(fields or {}) do w[k] = v end
    return w
end

local function race(w, pairs)
    return runner.run({}, w, { pairs = pairs or 3, note = silent })
end

describe("medians and ratios", function()
    it("takes the middle value, or the mean of the two in the middle", function()
        assert.equal(2, stats.median { 3, 1, 2 })
        assert.equal(2.5, stats.median { 4, 1, 3, 2 })
        assert.is_nil(stats.median {})
    end)

    it("leaves the caller's list in its order", function()
        local list <const> = { 3, 1, 2 }
        stats.median(list)
        assert.same({ 3, 1, 2 }, list)
    end)

    it("is not affected by one disturbed run", function()
        assert.equal(10, stats.median { 10, 10.1, 9.9, 10, 1000 })
    end)

    it("compares pair by pair", function()
        assert.same({ 2.0, 0.5 }, stats.ratios({ 10, 10 }, { 5, 20 }))
        assert.has_error(function() stats.ratios({ 1 }, { 1, 2 }) end)
    end)
end)

describe("targets", function()
    it("are met at the bound and missed below it", function()
        local t <const> = { metric = "rate", against = "peer", at_least = 2 }
        assert.is_true(targets.judge(t, { 200 }, { 100 }).met)
        assert.is_false(targets.judge(t, { 199 }, { 100 }).met)
    end)

    it("turn times into a factor of speed with at_least", function()
        local v <const> = targets.judge({ metric = "time", against = "peer", at_least = 10 }, { 0.02 }, { 0.25 })
        assert.near(12.5, v.ratio, 1e-9)
        assert.is_true(v.met and v.faster)
    end)

    it("turn times into a factor of cost with at_most", function()
        local t <const> = { metric = "cpu", against = "floor", at_most = 1.5 }
        local v <const> = targets.judge(t, { 6e-6 }, { 5e-6 })
        assert.near(1.2, v.ratio, 1e-9)
        assert.is_true(v.met)
        assert.is_false(targets.judge(t, { 8e-6 }, { 5e-6 }).met)
    end)

    it("count the median of the pairs' ratios, not the ratio of the medians", function()
        local t <const> = { metric = "rate", against = "peer", at_least = 1 }
        local v <const> = targets.judge(t, { 10, 30, 20 }, { 10, 10, 40 })
        assert.near(1, v.ratio, 1e-9)
        assert.near(0.5, v.low, 1e-9)
        assert.near(3, v.high, 1e-9)
    end)

    it("can limit ours alone", function()
        local t <const> = { metric = "memory", limit = 12 * 1024 * 1024 }
        assert.is_true(targets.judge(t, { 11 * 1024 * 1024 }, {}).met)
        assert.is_false(targets.judge(t, { 13 * 1024 * 1024 }, {}).met)
        assert.equal("<= 12.0 MiB", targets.text(t))
    end)

    it("can be met by a ratio or by a limit", function()
        local t <const> = { metric = "time", against = "peer", at_least = 14, or_limit = 0.25e-6 }
        assert.is_true(targets.judge(t, { 0.2e-6 }, { 1e-6 }).met)
        assert.is_true(targets.judge(t, { 0.3e-6 }, { 4.5e-6 }).met)
        assert.is_false(targets.judge(t, { 0.3e-6 }, { 4e-6 }).met)
        assert.equal("<= 0.25 us or >= 14 x", targets.text(t))
    end)

    it("give the ratio without a verdict when there is no bound", function()
        local v <const> = targets.judge({ metric = "rate" }, { 3 }, { 2 })
        assert.equal(1.5, v.ratio)
        assert.is_nil(v.met)
    end)

    it("that are invalid are refused", function()
        for _, t in ipairs {
            { metric = "speed", against = "p", at_least = 1 },
            { metric = "rate", against = "p" },
            { metric = "rate", against = "p", at_least = 1, at_most = 2 },
            { metric = "rate", at_least = 1 },
            { metric = "rate", against = "p", at_most = 1 },
            { metric = "time", against = "p", limit = 1 },
            { metric = "rate", against = "p", at_least = 1, or_limit = 1 },
        } do
            assert.has_error(function() targets.check(t) end)
        end
    end)
end)

--- Contenders that note their turn in `order`.
local function logging(order)
    return function(name)
        return { name = name, kind = "peer", run = function()
            order[#order + 1] = name
            return { rate = 1, time = 1, memory = 1 }
        end }
    end
end

describe("a workload's run", function()
    it("alternates ours and the other", function()
        local order <const> = {}
        local log <const> = logging(order)
        race(workload { ours = { log "dbrun" }, others = { log "peer" } })
        assert.same({ "dbrun", "peer", "dbrun", "peer", "dbrun", "peer" }, order)
    end)

    it("gives the median ratio and the verdict", function()
        local result <const> = race(workload())
        assert.is_nil(result.failure)
        assert.equal(1, #result.rows)
        assert.near(2, result.rows[1].verdict.ratio, 1e-9)
        assert.is_true(result.rows[1].verdict.met)
        assert.equal(200, runner.value(result, "dbrun"))
    end)

    it("gives the true ratio when the target is missed, which is not a failure", function()
        local result <const> = race(workload { ours = { racer("dbrun", "ours", { 10, 10, 10 }) } })
        assert.is_nil(result.failure)
        assert.near(0.1, result.rows[1].verdict.ratio, 1e-9)
        assert.is_false(result.rows[1].verdict.met)
    end)

    it("runs all contenders in turns, those that no target names three times", function()
        local order <const> = {}
        local log <const> = logging(order)
        local result <const> = race(workload { ours = { log "a" }, others = { log "peer", log "b" } }, 4)
        assert.equal("a peer b a peer b a peer b a peer", table.concat(order, " "))
        assert.equal(2, #result.rows)
    end)

    it("starts no pair that would end after the limit", function()
        local clock = 0
        local function slow(name)
            return { name = name, kind = "ours", run = function()
                clock = clock + 1
                return { rate = 1, time = 1, memory = 1 }
            end }
        end
        local result <const> = runner.run({}, workload { ours = { slow "dbrun" }, others = { slow "peer" } },
            { pairs = 9, limit = 7, now = function() return clock end, note = silent })
        assert.equal(3, result.pairs)
        assert.equal(3, #result.samples.peer)
        local late <const> = runner.run({}, workload(), { pairs = 9, limit = 0, note = silent })
        assert.equal(0, #late.rows)
        assert.same({ "X1: not measured, the time was over; --only X1 measures it" }, late.missing)
    end)

    it("shows a contender without an opponent", function()
        local result <const> = race(workload { others = {}, targets = {} })
        assert.equal(200, result.rows[1].ours_value)
        assert.is_nil(result.rows[1].other)
        assert.is_nil(result.rows[1].verdict.met)
    end)

    it("says what to install when it cannot run", function()
        local absent <const> = racer("dbrun", "ours", {})
        absent.missing = function() return "lua-busted" end
        local result <const> = race(workload { ours = { absent } })
        assert.same({ "X1: dbrun is not measured, it needs: apt-get install lua-busted" }, result.missing)
        assert.equal(0, #result.rows)
    end)

    it("reports a peer that no target names for information", function()
        local result <const> = race(workload { targets = {} })
        assert.equal("", result.rows[1].target)
        assert.is_nil(result.rows[1].verdict.met)
    end)

    it("says what to install for a missing peer, which is not a failure", function()
        local absent <const> = racer("peer", "peer", {})
        absent.missing = function() return "python3-asyncpg" end
        local result <const> = race(workload {
            others = { absent },
            targets = {
                { metric = "rate", against = "peer", at_least = 2 }, { metric = "memory", limit = 4096 },
            },
        })
        assert.is_nil(result.failure)
        assert.same({ "X1: peer is not compared, it needs: apt-get install python3-asyncpg" }, result.missing)
        assert.equal(0, #absent.calls)
        assert.equal("<= 4.00 KiB", result.rows[1].target)
        assert.is_true(result.rows[1].verdict.met)
    end)

    it("fails when a contender fails, and says why", function()
        local broken <const> = { name = "dbrun", kind = "ours", run = function() error("3 wrong answers of 9", 0) end }
        local result <const> = race(workload { ours = { broken } })
        assert.equal("3 wrong answers of 9", result.failure)
        assert.equal(0, #result.rows)
    end)

    it("refuses a target against an unknown contender", function()
        assert.has_error(function()
            runner.check(workload { targets = { { metric = "rate", against = "nobody", at_least = 1 } } })
        end, "no contender is named nobody")
    end)

    it("lists its own metric before the others", function()
        local result <const> = race(workload {
            others = { racer("floor", "floor", { 1, 1, 1 }), racer("peer", "peer", { 1, 1, 1 }) },
            ours = { racer("dbrun", "ours", { 1, 1, 1, 1, 1, 1 }) },
            targets = {
                { metric = "cpu", against = "floor", at_most = 1.5 },
                { metric = "rate", against = "peer", at_least = 1 },
            },
        })
        local seen <const> = {}
        for i, row in ipairs(result.rows) do seen[i] = row.metric .. " " .. row.other end
        assert.same({ "rate floor", "rate peer", "cpu floor" }, seen)
    end)
end)

describe("the result line of a measuring program", function()
    local RUN <const> = { wall = 1, cpu = 1, rss_kib = 2048, status = 0 }

    it("becomes rate, time, CPU and memory", function()
        local s <const> = contender.sample(
            'noise\n{"ops":10,"seconds":2,"cpu_us_per_op":5,"errors":0,"checks":10}\n', RUN)
        assert.equal(5, s.rate)
        assert.equal(0.2, s.time)
        assert.near(5e-6, s.cpu, 1e-12)
        assert.equal(2048 * 1024, s.memory)
    end)

    it("with a wrong answer is a failed run", function()
        assert.has_error(function()
            contender.sample('{"ops":10,"seconds":2,"cpu_us_per_op":5,"errors":1,"checks":10}', RUN)
        end, "1 wrong answers of 10")
    end)

    it("that checked nothing, did nothing or is missing is a failed run", function()
        for _, text in ipairs {
            '{"ops":10,"seconds":2,"cpu_us_per_op":5,"errors":0,"checks":0}',
            '{"ops":0,"seconds":2,"cpu_us_per_op":5,"errors":0,"checks":0}',
            "Segmentation fault",
        } do
            assert.has_error(function() contender.sample(text, RUN) end)
        end
    end)

    it("of redis-benchmark is the rate of SET and GET in equal parts", function()
        local csv <const> = '"test","rps","avg"\n"SET","100.00","0.2"\n"GET","300.00","0.2"\n'
        assert.near(150, rivals.redis_rate(csv), 1e-9)
        assert.is_nil(rivals.redis_rate "Could not connect")
    end)
end)

describe("a spec that measures", function()
    it("is counted, and returns its figures", function()
        local passed <const>, told <const> = spec.read "# one 1.5\nok 1 - a\n# two\nok 2 - # SKIP b\n1..2\n"
        assert.equal(1, passed)
        assert.equal("one 1.5\ntwo", told)
    end)

    it("that fails, ends too early or runs nothing is a failed run", function()
        for _, text in ipairs {
            "ok 1 - a\nnot ok 2 - b\n1..2", "ok 1 - a\n1..2", "ok 1 - a", "ok 1 - # SKIP a\n1..1",
        } do
            assert.has_error(function() spec.read(text) end)
        end
    end)
end)

describe("a plan", function()
    it("is not faster than its cores, its WAL or its workers", function()
        local costs <const> = plan.costs()
        local one <const>, many <const> = plan.simulate(costs, 1, 1000), plan.simulate(costs, 64, 1000)
        assert.is_true(one.rate < 1000 / (costs.chunk / 1e3 + 1000 * costs.row / 1e6))
        assert.equal("workers", plan.limit_of(one))
        assert.is_true(many.rate > 10 * one.rate and many.rate * costs.wal < 1.1 * costs.wal_rate * 1048576)
        assert.equal("WAL", plan.limit_of(many))
        costs.give = 1000
        assert.equal("job's row", plan.limit_of(plan.simulate(costs, 64, 1000)))
    end)
end)

describe("numbers", function()
    it("are written with a unit that reads well", function()
        assert.equal("78,123/s", metrics.list.rate.format(78123.4))
        assert.equal("0.21 us", metrics.list.time.format(0.21e-6))
        assert.equal("4.32 us", metrics.list.cpu.format(4.321e-6))
        assert.equal("256 ms", metrics.list.time.format(0.256))
        assert.equal("2.00 s", metrics.list.time.format(2))
        assert.equal("1.50 KiB", metrics.list.memory.format(1536))
        assert.equal("49.0 MiB", metrics.list.memory.format(49 * 1024 * 1024))
    end)
end)

describe("the table", function()
    it("has a line per comparison with value, ratio, target and verdict", function()
        local line <const> = report.lines({ race(workload()) })[2]
        for _, part in ipairs { "X1", "a workload", "200/s", "peer", "100/s", "2.00", ">= 1.5 x", "met" } do
            assert.truthy(line:find(part, 1, true), part .. " in " .. line)
        end
    end)

    it("shows a failed run as failed", function()
        local broken <const> = { name = "dbrun", kind = "ours", run = function() error("no", 0) end }
        assert.truthy(report.lines({ race(workload { ours = { broken } }) })[2]:find("FAILED", 1, true))
    end)

    it("is Markdown with as many cells in every line", function()
        local text <const> = report.markdown({ race(workload()) }, FACTS)
        assert.truthy(text:find("2026-01-31", 1, true))
        local lines = 0
        for line in text:gmatch "|[^\n]*|" do
            local _, bars = line:gsub("|", "")
            assert.equal(9, bars)
            lines = lines + 1
        end
        assert.equal(3, lines)
    end)

    it("is a document with every sample for programs", function()
        local doc <const> = report.document({ race(workload()) }, FACTS)
        assert.equal(3, #doc.workloads[1].samples.dbrun)
        assert.near(2, doc.workloads[1].rows[1].ratio, 1e-9)
        assert.is_true(doc.workloads[1].rows[1].met)
    end)

    it("counts the targets that were met", function()
        local good <const>, bad <const> = race(workload()), race(workload {
            ours = { racer("dbrun", "ours", { 1, 1, 1 }) },
        })
        local met <const>, all <const> = report.count { good, bad }
        assert.same({ 1, 2 }, { met, all })
    end)
end)

--- Raises unless the text is well-formed XML of the kind the writer makes; returns how many elements of
--- each name there are.
local function parse(text)
    local stack <const>, counts <const> = {}, {}
    local body <const> = assert(text:match "^<%?xml[^>]*%?>\n(.*)$", "no XML declaration")
    local at = 1
    while true do
        local from <const>, to <const>, inside = body:find("<([^<>]*)>", at)
        local between <const> = body:sub(at, (from or #body + 1) - 1)
        assert(not between:find "[<>]", "a loose bracket: " .. between)
        for entity in between:gmatch "&[^%s]*" do assert(entity:match "^&[%a#%d]+;", "a loose &: " .. entity) end
        if not from then break end
        local closing <const>, name, rest = inside:match "^(/?)([%a][%w:-]*)(.*)$"
        assert(name, "not a tag: <" .. inside .. ">")
        local empty <const> = rest:sub(-1) == "/"
        if empty then rest = rest:sub(1, -2) end
        assert(rest:gsub('%s+[%a][%w:-]*="[^"<]*"', ""):match "^%s*$", "attributes: " .. rest)
        if closing == "/" then
            assert(table.remove(stack) == name, "</" .. name .. "> closes something else")
        else
            counts[name] = (counts[name] or 0) + 1
            if not empty then stack[#stack + 1] = name end
        end
        at = to + 1
    end
    assert(#stack == 0, "left open: " .. table.concat(stack, " "))
    return counts
end

describe("the picture", function()
    it("is well-formed, with one bar per contender", function()
        local results <const> = { race(workload()), race(workload { id = "X2" }) }
        local counts <const> = parse(picture.draw(results, FACTS))
        assert.equal(1, counts.svg)
        assert.equal(1 + 3 + 4, counts.rect) -- the background, the legend, two bars for each of two workloads
        assert.equal(2, counts.circle)
    end)

    it("is well-formed for any names and titles", function()
        local nasty <const> = [[<a href="x">&'"</a>]] .. "\1\n"
        local result <const> = race(workload {
            title = nasty, others = { racer(nasty, "peer", { 1, 1, 1 }) },
            targets = { { metric = "rate", against = nasty, at_least = 1 } },
        })
        local text <const> = picture.draw({ result }, FACTS)
        assert.is_nil(parse(text).a)
        assert.truthy(text:find("&lt;a href=&quot;x&quot;&gt;&amp;&#39;&quot;&lt;/a&gt;", 1, true))
        assert.truthy(text:find("A &amp; B &lt;cpu&gt;", 1, true))
    end)

    it("draws the longest bar at full width and the others in proportion", function()
        local text <const> = picture.draw({ race(workload()) }, FACTS)
        local widths <const> = {}
        for w in text:gmatch '<rect fill="[^"]*" height="16"[^>]* width="([%d.]+)"' do
            widths[#widths + 1] = tonumber(w)
        end
        assert.equal(2, #widths)
        assert.near(0.5, widths[2] / widths[1], 0.001)
    end)

    it("says in words whether a target was met, not by colour alone", function()
        local result <const> = race(workload())
        assert.equal("2.00 x peer, target >= 1.5 x: met", picture.sentence(result, result.rows[1]))
    end)

    it("says that a time is so many times faster", function()
        local result <const> = race(workload {
            metric = "time", targets = { { metric = "time", against = "peer", at_least = 1 } },
        })
        assert.equal("2.00 x faster than peer, target >= 1 x faster: met", picture.sentence(result, result.rows[1]))
    end)

    it("has no bars for a failed run", function()
        local broken <const> = { name = "peer", kind = "peer", run = function() error("no", 0) end }
        local counts <const> = parse(picture.draw({ race(workload { others = { broken } }) }, FACTS))
        assert.equal(1 + 3, counts.rect)
    end)

    it("writes elements with their attributes escaped and in a fixed order", function()
        local e <const> = svg.element("text", { y = 2.50, x = 1, font_size = 12, 'a < "b"' })
        assert.equal('<?xml version="1.0" encoding="UTF-8"?>\n<text font-size="12" x="1" y="2.5">a &lt; &quot;b&quot;'
            .. "</text>\n", svg.render(e))
    end)
end)

describe("words for the shell", function()
    it("arrive unchanged, with any characters", function()
        local nasty <const> = "it's $HOME `id` \"x\"\n\\ *"
        assert.equal(nasty .. "|", (shell.run { "printf", "%s|", nasty }))
        assert.equal(nasty, (shell.run({ "sh", "-c", 'printf %s "$NASTY"' }, { NASTY = nasty })))
    end)

    it("return the status, also of a signal", function()
        assert.equal(3, select(2, shell.run { "sh", "-c", "exit 3" }))
        assert.equal(128 + 9, select(2, shell.run { "sh", "-c", "kill -9 $$" }))
        assert.has_error(function() shell.must { "sh", "-c", "echo why; exit 1" } end, "sh: status 1\nwhy\n")
    end)
end)
