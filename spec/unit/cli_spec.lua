-- Command lines of scripts: how cli.run uses a specification and parses arguments.
local cli = require "dbrun.cli"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local parse = require "dbrun.cli.parse"
local process = require "dbrun.process"
local specs = require "dbrun.cli.spec"

local function run() return 0 end

--- The arguments that run would get; or nil and the error's message with its hint.
local function parsed(options, argv, more)
    local spec = { options = options, run = run }
    for key, value in pairs(more or {}) do spec[key] = value end
    local ok, result = pcall(parse.parse, specs.read(spec), argv)
    if ok then return result.args, result end
    assert.is_true(errors.is(result, "usage"), tostring(result))
    return nil, result.message .. (result.hint and " | " .. result.hint or "")
end

describe("a value of a type", function()
    local dir
    setup(function()
        dir = fs.mkdtemp()
        fs.write(dir .. "/there", "")
    end)
    teardown(function() fs.rmtree(dir) end)

    for _, case in ipairs {
        { "integer", "5", 5 }, { "integer", "-5", -5 }, { "integer", "+7", 7 },
        { "integer", "9223372036854775807", math.maxinteger }, { "integer", "-9223372036854775808", math.mininteger },
        { "number", "1.5", 1.5 }, { "number", "-2e3", -2000.0 }, { "number", ".5", 0.5 }, { "number", "7", 7 },
        { "seconds", "90", 90 }, { "seconds", "90s", 90 }, { "seconds", "5m", 300 }, { "seconds", "2h", 7200 },
        { "seconds", "1d", 86400 }, { "seconds", "1w", 604800 }, { "seconds", "1h30m", 5400 },
        { "seconds", "250ms", 0.25 }, { "seconds", "1.5h", 5400 }, { "seconds", "0.5", 0.5 }, { "seconds", "0", 0 },
        { "bytes", "4096", 4096 }, { "bytes", "10k", 10240 }, { "bytes", "5MiB", 5 << 20 }, { "bytes", "5M", 5 << 20 },
        { "bytes", "5MB", 5000000 }, { "bytes", "1.5G", 3 << 29 }, { "bytes", "2 KiB", 2048 }, { "bytes", "7b", 7 },
        { "bytes", "1TiB", 1 << 40 }, { "bytes", "10kb", 10000 },
        { "date", "2024-02-29", "2024-02-29" }, { "date", "2000-02-29", "2000-02-29" },
        { "string", "", "" }, { "string", "a,b", "a,b" },
    } do
        it(("is read: %s %q"):format(case[1], case[2]), function()
            local got = assert(parsed({ { "x", case[1] } }, { "--x=" .. case[2] }))
            assert.equal(case[3], got.x)
            assert.equal(math.type(case[3]), math.type(got.x))
        end)
    end

    for _, case in ipairs {
        { "integer", "", "1.0", "0x10", "1e3", "9223372036854775808", "ten", " 5", "--5" },
        { "number", "", "nan", "inf", "0x1", "1e999", "1..2", ".", "1,5" },
        { "seconds", "", "-1", "5x", "m", "5m3", "1 h", "inf", "5M" },
        { "bytes", "", "-1", "1.5.2k", "5x", "5kk", "5bb", "k", "9999999999G", "5kB5" },
        { "date", "", "2026-02-29", "1900-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "2026-1-1", "0000-01-01",
            "2026-01-31T00:00", "today" },
    } do
        it("is refused when it is not " .. case[1], function()
            for i = 2, #case do
                local got, why = parsed({ { "x", case[1] } }, { "--x=" .. case[i] })
                assert.is_nil(got, case[i])
                assert.matches("^%-%-x: expected a.*, got '", why)
            end
        end)
    end

    it("is an existing file that can be read", function()
        local file = { { "x", "file" } }
        assert.equal(dir .. "/there", parsed(file, { "--x", dir .. "/there" }).x)
        assert.matches("a file that exists", select(2, parsed(file, { "--x", dir .. "/not" })))
        assert.matches("a file, not a folder", select(2, parsed(file, { "--x", dir })))
        assert.matches("a file that exists, got '/no'", select(2, parsed({ { "x", "file", default = "/no" } }, {})))
    end)

    it("is one of the choices, otherwise an error with a suggestion", function()
        local choice = { { "x", "choice", choices = { "fast", "slow" } } }
        assert.equal("slow", parsed(choice, { "--x", "slow" }).x)
        assert.equal("--x: expected one of fast, slow, got 'fats' | did you mean 'fast'?",
            select(2, parsed(choice, { "--x", "fats" })))
        assert.equal(5, parsed({ { "x", "integer", choices = { 5, 7 } } }, { "--x", "5" }).x)
        assert.matches("one of 5, 7, got '6'", select(2, parsed({ { "x", "integer", choices = { 5, 7 } } },
            { "--x", "6" })))
    end)

    it("is a list, in one word or in several", function()
        assert.same({ "a", "b", "c" }, parsed({ { "x", "list" } }, { "--x", "a, b", "--x=c" }).x)
        assert.same({ 1, 2 }, parsed({ { "x", "list", of = "integer" } }, { "--x=1,2" }).x)
        assert.same({}, parsed({ { "x", "list" } }, { "--x=" }).x)
        assert.matches("each element a whole number, got '1,b'", select(2, parsed({ { "x", "list", of = "integer" } },
            { "--x=1,b" })))
        assert.matches("without empty elements", select(2, parsed({ { "x", "list" } }, { "--x=a,,b" })))
        assert.is_nil(parsed({ { "x", "list", of = "choice", choices = { "a" } } }, { "--x=a,b" }))
    end)

    it("is within its limits", function()
        local days = { { "days", "integer", min = 1, max = 30 } }
        assert.equal("--days: expected a whole number from 1 to 30, got '31'", select(2, parsed(days, { "--days=31" })))
        assert.equal("--w: expected a time of at least 60 seconds, got '5s'",
            select(2, parsed({ { "w", "seconds", min = "1m" } }, { "--w=5s" })))
        assert.equal("--d: expected a date of at most 2026-01-01, got '2026-01-02'",
            select(2, parsed({ { "d", "date", max = "2026-01-01" } }, { "--d=2026-01-02" })))
        assert.is_nil(parsed({ { "x", "list", of = "integer", max = 3 } }, { "--x=1,4" }))
    end)

    it("comes from the default, a fresh list each time", function()
        local options = { { "wait", "seconds", default = "5m" }, { "on", "flag", default = true }, { "off", "flag" },
            { "ids", "list", of = "integer", default = { 1, 2 } }, { "none" } }
        local first = parsed(options, {})
        assert.same({ wait = 300, on = true, off = false, ids = { 1, 2 } }, first)
        first.ids[1] = 9
        assert.same({ 1, 2 }, parsed(options, {}).ids)
    end)
end)

describe("a command line", function()
    local options <const> = { { "days", "integer", short = "d" }, { "force", "flag", short = "f" },
        { "all", "flag", short = "a" }, { "dry_run", "flag" }, { "name" } }

    it("accepts the usual forms", function()
        assert.same({ days = 5, force = true, all = true, dry_run = false }, parsed(options, { "-fad5" }))
        assert.same({ days = 5, force = true, all = false, dry_run = true },
            parsed(options, { "-d", "5", "--dry-run", "--force" }))
        assert.equal(7, parsed(options, { "--days=5", "--days", "7" }).days)
        assert.is_false(parsed(options, { "--force", "--no-force" }).force)
        assert.equal(-5, parsed(options, { "--days", "-5" }).days)
        assert.equal("-x", parsed(options, { "--name=-x" }).name)
        assert.equal("a=b", parsed(options, { "--name=a=b" }).name)
        assert.equal("-", parsed(options, { "--name", "-" }).name)
    end)

    for _, case in ipairs {
        { "--dyas", "unknown option '--dyas' | did you mean '--days'?" },
        { "--no-focre", "unknown option '--no-focre' | did you mean '--no-force'?" },
        { "--no-days", "unknown option '--no-days' | did you mean '--days'?" },
        { "-x", "unknown option '-x'" }, { "-days", "--days: expected a whole number, got 'ays'" },
        { "-fx", "unknown option '-x'" },
        { "--days", "--days needs a value" }, { "-d", "--days needs a value" },
        { "--force=1", "--force takes no value | write --force, or --no-force" },
        { "5", "unexpected argument '5' | it takes options only" },
        { "--read-only", "unknown option '--read-only' | it is an option of dbrun: write it before the script's name" },
        { "--target", "unknown option '--target' | it is an option of dbrun: write it before the script's name" },
        { "-C", "unknown option '-C' | it is an option of dbrun: write it before the script's name" },
        { "--=x", "unknown option '--=x'" }, { "--day\27[2J", "unknown option '--day\\x1b[2J'" },
    } do
        it(("is refused: %q"):format(case[1]), function()
            assert.equal(case[2], select(2, parsed(options, { case[1] })))
        end)
    end

    it("does not mistake an option for a value", function()
        assert.equal("--name needs a value, but '--force' follows | "
            .. "a value that begins with '-' is written --name=--force",
            select(2, parsed(options, { "--name", "--force" })))
    end)

    it("has arguments by position, before, between and after options", function()
        local more = { args = { { "table" }, { "ids", "integer", variadic = true, optional = true } } }
        assert.same({ table = "t", ids = { 1, -2 }, days = 5, force = false, all = false, dry_run = false },
            parsed(options, { "t", "1", "--days", "5", "-2" }, more))
        assert.same({}, parsed(options, { "t" }, more).ids)
        assert.equal("--days", parsed(options, { "--", "--days" }, more).table)
        assert.equal("missing: TABLE", select(2, parsed(options, {}, more)))
        assert.equal("IDS: expected a whole number, got 'x'", select(2, parsed(options, { "t", "x" }, more)))
        assert.equal("unexpected argument 'b'", select(2, parsed({}, { "a", "b" }, { args = { { "one" } } })))
        assert.equal("z", parsed({}, {}, { args = { { "one", default = "z" } } }).one)
    end)

    it("names everything that is missing", function()
        assert.equal("missing: FILE, --to, --key (or KEY_OF_TESTS)", select(2, parsed({ { "to", required = true },
            { "key", required = true, env = "KEY_OF_TESTS" } }, {}, { args = { { "file" } } })))
    end)

    it("has commands with their own options and the script's", function()
        local more = { commands = {
            { "add", options = { { "n", "integer" } }, args = { { "who" } } },
            { "drop", commands = { { "all" }, { "one" } } },
        } }
        local got, result = parsed(options, { "--force", "add", "--n", "3", "x", "--days=2" }, more)
        assert.same({ command = "add", n = 3, who = "x", days = 2, force = true, all = false, dry_run = false }, got)
        assert.equal("add", result.level.name)
        assert.equal("drop one", parsed(options, { "drop", "one" }, more).command)
        assert.equal("unknown command 'ad' | did you mean 'add'?", select(2, parsed(options, { "ad" }, more)))
        assert.equal("unknown option '--n'", select(2, parsed(options, { "--n", "3", "add" }, more)))
        more.run = nil
        local ok, e = pcall(parse.parse, specs.read { commands = { { "add", run = run }, { "drop", run = run } } }, {})
        assert.is_false(ok)
        assert.equal("missing: a command one of add, drop", e.message .. " " .. e.hint)
    end)
end)

describe("a specification that is wrong", function()
    local FORM <const> = [[
local cli = require "dbrun.cli"
return cli.run {
    about = "Wrong.",
    options = {
        { "ok", "flag" },
        %s,
    },
    run = function() print "it ran" end,
    %s
}
]]
    for _, case in ipairs {
        { '{ "days", "integr" }', "", 6, "option 2 ('days') has the unknown type 'integr'", "did you mean 'integer'" },
        { '{ "days", "integer", defalt = 1 }', "", 6, "has the unknown key 'defalt'", "did you mean 'default'" },
        { '{ "days", "integer", metavar = "N" }', "", 6, "has the unknown key 'metavar'", "did you mean 'argname'" },
        { '{ "days", type = "integer" }', "", 6, "has the unknown key 'type'", "the type stands second" },
        { '{ "days", "integer", default = "90" }', "", 6, "the default must be a whole number, got 90 (a string)", "" },
        { '{ "days", "integer", default = 0, min = 1 }', "", 6, "the default is outside of min and max", "" },
        { '{ "days", "integer", min = 5, max = 1 }', "", 6, "min is above max", "" },
        { '{ "days", "string", min = 5 }', "", 6, "min is for numbers, times, sizes and dates", "" },
        { '{ "ok", "string" }', "", 6, "'--ok' is the option 'ok' already", "" },
        { '{ "no-ok", "string" }', "", 6, "'--no-ok' is the option 'ok' already", "" },
        { '{ "help", "flag" }', "", 6, "'--help' is the help already", "" },
        { '{ "x", "flag", short = "h" }', "", 6, "'-h' is the help already", "" },
        { '{ "x", "choice" }', "", 6, "is a choice without choices", "" },
        { '{ "x", "choice", choices = { "a" }, default = "b" }', "", 6, "default is not one of the choices (a)", "" },
        { '{ "x", "integer", required = true, default = 1 }', "", 6, "is required: its default is never used", "" },
        { '{ "a b" }', "", 6, "has an invalid name", "" }, { '"days"', "", 6, "option 2 must be a table", "" },
        { '{ "x" }', "comands = {}", 9, "the table has the unknown key 'comands'", "did you mean 'commands'" },
        { '{ "x" }', "description = ''", 9, "the table has the unknown key 'description'", "did you mean 'about'" },
        { '{ "x" }', "args = { { 'a', optional = true }, { 'b' } }", 9, "is required, but follows", "" },
        { '{ "x" }', "args = { { 'x' } }", 9, "that name is the option 'x' already", "" },
        { '{ "x" }', "commands = { { 'go' }, { 'go' } }", 9, "the command 'go' is there twice", "" },
    } do
        it("is an error at its line: " .. case[4], function()
            local dir = fs.mkdtemp()
            fs.write(dir .. "/wrong.lua", FORM:format(case[1], case[2]))
            local result = process.run { core.options.program, "--no-env", "wrong.lua", cwd = dir }
            fs.rmtree(dir)
            assert.equal("", result.stdout)
            assert.matches(("wrong.lua:%d: usage error: cli.run: "):format(case[3]), result.stderr, 1, true)
            assert.matches(case[4], result.stderr, 1, true)
            assert.matches(case[5], result.stderr, 1, true)
            assert.equal(2, result.code)
        end)
    end
end)

describe("a script with cli.run", function()
    local dir
    setup(function()
        dir = fs.mkdtemp()
        fs.mkdir(dir .. "/scripts")
        fs.write(dir .. "/scripts/tidy.lua", [[
#!/usr/bin/env dbrun
local cli, db = require "dbrun.cli", require "dbrun.db"
local engine = db.async
print "begins"
return cli.run {
    about = "Deletes old notes.", examples = { "dbrun tidy --days 5" },
    options = { { "days", "integer", default = 90, min = 1, short = "d", help = "older than this", env = "TIDY_DAYS" },
        { "size", "bytes", default = "5MiB" }, { "fail", "flag" }, { "cold", "flag", default = true } },
    run = function(args)
        if args.fail then error "it failed" end
        print(args.days, args.size)
        return args.days == 7 and 7 or nil
    end,
}]])
        fs.write(dir .. "/forgets.lua", "require 'dbrun.cli'.run { run = function() return 9 end }\n")
    end)
    teardown(function() fs.rmtree(dir) end)

    local function dbrun(argv, env)
        local command = { core.options.program, table.unpack(argv) }
        command.cwd, command.env = dir, env or { TIDY_DAYS = false }
        return process.run(command)
    end

    it("shows its help", function()
        local result = dbrun { "tidy", "--help" }
        assert.equal([[
begins
usage: dbrun tidy [options]

Deletes old notes.

options:
  -d, --days N     older than this (at least 1; default 90; key TIDY_DAYS)
      --size SIZE  (default 5MiB)
      --fail
      --[no-]cold  (on unless --no-cold)
      --dry-run    keep nothing; show what would change
  -h, --help       show this help

examples:
  dbrun tidy --days 5
]], result.stdout)
        assert.equal(0, result.code)
    end)

    it("ends with the status of its result", function()
        for _, case in ipairs {
            { {}, 0, "90\t5242880", "" }, { { "-d7" }, 7, "7\t", "" },
            { { "--fail" }, 1, "", "it failed" },
            { { "--days", "0" }, 2, "", "tidy: --days: expected a whole number of at least 1, got '0' "
                .. "(help: dbrun tidy --help)\n" },
        } do
            local result = dbrun { "tidy", table.unpack(case[1]) }
            assert.equal(case[2], result.code)
            assert.matches(case[3], result.stdout, 1, true)
            assert.matches(case[4], result.stderr, 1, true)
        end
    end)

    it("has the right status also when the script forgets to return it", function()
        assert.equal(9, dbrun({ "forgets.lua" }).code)
        assert.equal(2, dbrun({ "forgets.lua", "--x" }).code)
    end)

    it("fails when run returns nil and a message, as io.open does", function()
        for code, expected in pairs { ["nil, 'no rows'"] = { 1, "why: no rows\n" },
            ["false, 'no rows'"] = { 1, "why: no rows\n" }, ["nil"] = { 0, "" }, ["false"] = { 1, "" } } do
            fs.write(dir .. "/scripts/why.lua", ([[return require "dbrun.cli".run {
                run = function() return %s end }]]):format(code))
            local result = dbrun { "why" }
            assert.same(expected, { result.code, result.stderr })
        end
        fs.write(dir .. "/scripts/why.lua", [[return require "dbrun.cli".run { run = function()
            return nil, require "dbrun.error".new { kind = "config", message = "no rows" } end }]])
        local result = dbrun { "why" }
        assert.equal(2, result.code)
        assert.matches("configuration error: no rows", result.stderr, 1, true)
    end)

    it("takes missing values from the environment, then from the .env, without showing them", function()
        assert.matches("^begins\n5\t", dbrun({ "tidy" }, { TIDY_DAYS = "5" }).stdout)
        assert.matches("^begins\n6\t", dbrun({ "tidy", "--days=6" }, { TIDY_DAYS = "5" }).stdout)
        local wrong = dbrun({ "tidy" }, { TIDY_DAYS = "geheim" })
        assert.matches("tidy: %-%-days, from TIDY_DAYS %(environment%): expected a whole number %(help", wrong.stderr)
        assert.equal(2, wrong.code)
        fs.write(dir .. "/hook.lua", [[return require "dbrun.cli".run { options = { { "token", env = "HOOK_TOKEN" } },
            run = function(args) error("refused: " .. args.token) end }]])
        assert.matches("refused: %*%*%*\n", dbrun({ "hook.lua" }, { HOOK_TOKEN = "s3cret-9f8e7d" }).stderr)
        fs.write(dir .. "/.env", "TIDY_DAYS=8\n")
        assert.matches("^begins\n8\t", dbrun({ "tidy" }).stdout)
        fs.unlink(dir .. "/.env")
    end)

    it("lists its options without being run", function()
        local told = assert(cli.describe(dir .. "/scripts/tidy.lua"))
        assert.equal("tidy", told.name)
        assert.equal("days", told.options[1].name)
        assert.equal("d", told.options[1].short)
        local shown = dbrun { "tidy", "--dbrun-options" }
        assert.equal("days", json.decode(shown.stdout:match "\n(.*)").options[1].name)
        local marker = dir .. "/marker"
        for name, code in pairs {
            acts = ("io.open(%q, 'w'):close() os.execute('touch ' .. %q)"):format(marker, marker),
            loops = "while true do end", waits = "for row in require 'dbrun.db'.async:rows 'x' do end",
            dies = "error 'no'", ends = "os.exit(0)", breaks = "math.floor = nil string.rep = nil",
        } do
            fs.write(dir .. "/other.lua", code .. " return require 'dbrun.cli'.run { run = print }\n")
            local is, why = cli.describe(dir .. "/other.lua")
            assert.equal(name == "acts" or name == "ends" or name == "breaks", is ~= nil, name .. tostring(why))
        end
        assert.is_false(fs.exists(marker))
        assert.equal(3, math.floor(3.5))
    end)
end)
