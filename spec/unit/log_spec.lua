-- The log of a script: levels, fields, text and JSON.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local log = require "dbrun.log"
local process = require "dbrun.process"

local SCRIPT <const> = [[
local log, db, errors = require "dbrun.log", require "dbrun.db", require "dbrun.error"
log.error("a\nb \27[2J \"q\" \\", { rows = 5, share = 0.5, ok = true, name = "Ada L", word = "x", empty = "",
    none = db.null, wide = "é=", bytes = "\0\xff", nan = 0/0, list = { 1, "postgres://u:hush@h/d" },
    failed = errors.new { kind = "constraint", message = "no\n good", sqlstate = "23505" } })
local mine = log.with { job = "nightly", rows = 1 }
mine.warn("warned", { rows = 2, db_password = "hush" })
mine.with { deep = 1 }.info "told"
log.debug("hidden", { secret = { password = "hush" } })
print(log.level(), log.wants "debug")]]

describe("the log of a script", function()
    local dir
    setup(function()
        dir = fs.mkdtemp()
        fs.write(dir .. "/a.lua", SCRIPT)
    end)
    teardown(function() fs.rmtree(dir) end)

    --- The lines on stderr, without their times, and the result.
    local function lines(options, env)
        local command = { core.options.program, table.unpack(options) }
        command[#command + 1] = "a.lua"
        command.cwd, command.env = dir, { DBRUN_LOG = false, DBRUN_LOG_FORMAT = false }
        for key, value in pairs(env or {}) do command.env[key] = value end
        local result, list = process.run(command), {}
        for line in result.stderr:gmatch "[^\n]+" do
            list[#list + 1] = line:gsub("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ ", "")
        end
        return list, result
    end

    it("is one line of text for each message, with its fields by name", function()
        local list, result = lines { "--log", "info" }
        assert.same({
            [[ERROR a\nb \x1b[2J \"q\" \\ bytes="\x00\xff" empty="" failed="no\n good (SQLSTATE 23505)" ]]
                .. [[list="[1,\"postgres://u:***@h/d\"]" name="Ada L" nan=nan none=null ok=true rows=5 share=0.5 ]]
                .. [[wide="é=" word=x]],
            "WARN  warned job=nightly db_password=*** rows=2", "INFO  told deep=1 job=nightly rows=1",
        }, list)
        assert.equal("info\tfalse\n", result.stdout)
    end)

    it("is one object a line as JSON", function()
        local list = lines { "--log=debug", "--log-format=json" }
        local first = json.decode(list[1])
        assert.matches("^%d+%-%d+%-%d+T.*Z$", first.time)
        first.time = nil
        assert.same({ level = "error", message = "a\nb \27[2J \"q\" \\", rows = 5, share = 0.5, ok = true,
            name = "Ada L", word = "x", empty = "", none = core.null, wide = "é=", bytes = "\0\u{fffd}", nan = "nan",
            list = { 1, "postgres://u:***@h/d" }, failed = "no\n good (SQLSTATE 23505)" }, first)
        assert.equal(4, #list)
        assert.is_nil(list[4]:find("hush", 1, true))
        assert.equal("hidden", json.decode(list[4]).message)
    end)

    it("has the level of the command line, otherwise of the environment, otherwise of the .env", function()
        assert.equal(2, #lines {})
        assert.equal(4, #lines({}, { DBRUN_LOG = "debug" }))
        assert.equal(1, #lines({ "--log", "error" }, { DBRUN_LOG = "debug" }))
        fs.write(dir .. "/.env", "DBRUN_LOG=info\nDBRUN_LOG_FORMAT=json\n")
        local list = lines {}
        assert.equal(3, #list)
        assert.equal("told", json.decode(list[3]).message)
        assert.equal(1, #lines({}, { DBRUN_LOG = "error" }))
        fs.write(dir .. "/.env", "DBRUN_LOG=loud\n")
        local _, result = lines {}
        assert.equal(2, result.code)
        assert.matches("DBRUN_LOG %(.env line 1%): expected one of error, warn, info, debug", result.stderr)
        fs.unlink(dir .. "/.env")
        _, result = lines({}, { DBRUN_LOG = "loud" })
        assert.equal(2, result.code)
        assert.matches("DBRUN_LOG %(environment%): expected error, warn, info or debug", result.stderr)
    end)

    it("refuses values that would break its lines", function()
        for _, case in ipairs {
            { "the message must be a string", 5 }, { "the name of a field must be", "x", { ["a b"] = 1 } },
            { "the name of a field must be", "x", { 1 } }, { "cannot be called 'level'", "x", { level = 1 } },
            { "the fields must be a table", "x", "y" },
        } do
            local ok, e = pcall(log.debug, case[2], case[3])
            assert.is_false(ok)
            assert.is_true(errors.is(e, "usage"))
            assert.matches(case[1], e.message, 1, true)
        end
        assert.is_false(pcall(log.with, { ["a=b"] = 1 }))
        assert.is_false(pcall(log.level, "loud"))
    end)
end)
