-- The reports for monitors: all have the same counts, and no text of a server breaks their format.
local json = require "dbrun.json"
local monitors = require "dbrun.verify.monitors"
local report = require "dbrun.verify.report"
local runner = require "dbrun.verify.runner"
local errors = require "dbrun.error"
local task = require "dbrun.task"

local function lost() errors.raise { kind = "connect", message = "no way to it | at, all: 5%" } end
local function service() return { name = "postgres", source = "DATABASE_URL (environment)", server = {} } end

---One of each outcome, as the runner returns them.
local function outcome()
    local results = runner.run({
        { name = "good", run = function() return "fine" end },
        { name = "root", service = service, run = lost },
        { name = "leaf", needs = { "root" }, run = lost },
        { name = "twin", service = service, run = lost },
        { name = "of the project", own = true, run = lost },
        { name = "odd", run = function() return { status = "WARN", text = "a\nb", cause = "c::d" } end },
        { name = "nothing", run = function() return { status = "SKIP", text = "there is none" } end },
    }, { strict = false, deadline = task.now() + 5, options = { deadline = 5 } })
    return results, { strict = false, seconds = 0.25, status = 1,
        measured = { ["postgres.clock"] = { value = 1e-7, warn = 1, fail = 60 } } }
end

describe("one cause", function()
    it("is reported once, also when several parallel checks met it", function()
        local results = outcome()
        local told = {}
        for i, result in ipairs(results) do told[i] = result.status .. " " .. result.text end
        assert.same({ "PASS fine", "FAIL cannot be reached (network)", "SKIP needs root", "SKIP the same as root",
            "SKIP the same as root", "WARN a\nb", "SKIP there is none" }, told)
    end)

    it("is counted equally in all formats", function()
        local results, run = outcome()
        assert.matches("1 of 7 passed, 1 warning, 1 failed, 3 blocked by a failure, 1 skipped",
            report.text(results, run))
        local decoded = json.decode(report.json(results, run))
        assert.same({ 1, 1, 1, 3, 1 },
            { decoded.passed, decoded.warned, decoded.failed, decoded.blocked, decoded.skipped })
        assert.matches('tests="7" failures="1" errors="0" skipped="4"', report.junit(results, run))
        local tap = report.tap(results, run)
        assert.equal(1, select(2, tap:gsub("\nnot ok", "")))
        assert.equal(4, select(2, tap:gsub("# SKIP", "")))
        assert.matches("passed=1;;;0 warned=1;;;0 failed=1;;;0 blocked=3;;;0 skipped=1;;;0",
            monitors.nagios(results, run))
        assert.matches("1 passed, 1 warned, 1 failed, 3 blocked, 1 skipped", monitors.github(results, run))
        for name, count in pairs { passed = 1, warned = 1, failed = 1, blocked = 3, skipped = 1 } do
            assert.matches(('dbrun_verify_checks{outcome="%s"} %d'):format(name, count),
                monitors.prometheus(results, run), 1, true)
        end
    end)
end)

describe("the report for Nagios", function()
    it("has the worst status, and its bar only before the values", function()
        local results, run = outcome()
        local lines = {}
        for line in monitors.nagios(results, run):gmatch "[^\n]+" do lines[#lines + 1] = line end
        assert.matches("^DBRUN CRITICAL %- 1 passed.*: root: cannot be reached %(network%); odd: a b | time=0.25s;;;0 ",
            lines[1])
        assert.matches("'postgres.clock'=0;1;60$", lines[1])
        run.measured = { ["redis.certificates"] = { value = 12.5, warn = 30, fail = 7, below = true } }
        assert.matches("'redis.certificates'=12.5;30:;7:$", (monitors.nagios(results, run):match "[^\n]*"))
        for i = 2, #lines do assert.not_matches("|", lines[i], 1, true) end
        assert.equal(2, monitors.nagios_status(results, run))
    end)

    it("is OK, WARNING or UNKNOWN", function()
        local function status(code, ...)
            local list = {}
            for i, word in ipairs { ... } do list[i] = { name = "x", status = word, seconds = 0, text = "" } end
            return monitors.nagios_status(list, { status = code, seconds = 0 })
        end
        assert.equal(0, status(0, "PASS", "SKIP"))
        assert.equal(1, status(0, "PASS", "WARN"))
        assert.equal(2, status(1, "PASS", "WARN")) -- --fail-on warn
        assert.equal(3, status(2, "FAIL", "PASS"))
        assert.equal(3, status(0, "SKIP"))
    end)
end)

describe("the report for Prometheus", function()
    it("has a line for each check, and each value that has a limit", function()
        local text = monitors.prometheus(outcome())
        for line in text:gmatch "[^\n]+" do
            assert.is_true(line:find '^# %u+ [%w_]+ ' ~= nil or line:find '^[%w_]+ [%d.e-]+$' ~= nil
                or line:find '^[%w_]+{%w+="[^"]*"} [%d.e-]+$' ~= nil, line)
        end
        assert.matches('check_status{check="root"} 2', text, 1, true)
        assert.matches('check_status{check="leaf"} -1', text, 1, true)
        assert.matches('value{limit="postgres.clock"} 9', text, 1, true)
    end)
end)

describe("the report for Prometheus of names that are not UTF-8", function()
    it("is UTF-8", function()
        local text = monitors.prometheus({ { name = 'a\xff"', status = "PASS", seconds = 0, text = "" } },
            { seconds = 0, status = 0 })
        assert.is_truthy(utf8.len(text))
        assert.matches([[check_status{check="a\\xff\""} 0]], text, 1, true)
    end)
end)

describe("the annotations for GitHub", function()
    it("are one line each, for any text", function()
        local text = monitors.github(outcome())
        assert.equal(3, select(2, text:gsub("\n", "")))
        assert.equal("::error title=dbrun verify%3A root::cannot be reached (network)%0Ano way to it | at, all: 5%25",
            text:match "^(.-)%%0Akey")
        assert.matches("\n::warning title=dbrun verify%3A odd::a%0Ab%0Ac::d\n", text, 1, true)
    end)
end)
