-- Parts of dbmate's command line: Go's durations, the options.
local duration = require "dbrun.migrate.dbmate.duration"
local grammar = require "dbrun.migrate.dbmate.grammar"

describe("a duration of Go", function()
    it("is read", function()
        for text, seconds in pairs {
            ["1s"] = 1, ["1500ms"] = 1.5, ["1m0s"] = 60, ["1h2m3.5s"] = 3723.5, [".5s"] = 0.5, ["0"] = 0, ["-2s"] = -2,
            ["10us"] = 1e-5, ["10\xC2\xB5s"] = 1e-5,
        } do assert.equal(seconds, duration.parse(text)) end
        for _, text in ipairs { "", "1", "s", "1x", "1s2", "one", "1 s", "+" } do
            assert.is_nil(duration.parse(text), text)
        end
        for text, why in pairs {
            ["5"] = 'missing unit in duration "5"', ["1s2"] = 'missing unit in duration "1s2"',
            ["5x"] = 'unknown unit "x" in duration "5x"', abc = 'invalid duration "abc"', [""] = 'invalid duration ""',
        } do assert.equal("time: " .. why, select(2, duration.parse(text))) end
    end)

    it("is written", function()
        for text, seconds in pairs {
            ["0s"] = 0, ["1.5s"] = 1.5, ["2m0s"] = 120, ["1h0m0.25s"] = 3600.25, ["12.345678ms"] = 0.012345678,
            ["3.5\xC2\xB5s"] = 3.5e-6, ["7ns"] = 7e-9,
        } do assert.equal(text, duration.format(seconds)) end
    end)
end)

describe("dbmate's command line", function()
    local function parsed(...) return grammar.parse({ ... }, function() end) end

    it("has its options before the command, and those of the command after it", function()
        local p = parsed("-u", "x", "--no-dump-schema", "-d", "a,b", "-d=c", "up", "-v", "--strict=false", "rest", "-x")
        assert.equal("up", p.command[1])
        assert.same({ "a", "b", "c" }, p.values["migrations-dir"])
        assert.equal("x", p.values.url)
        assert.is_true(p.values.verbose)
        assert.is_false(p.values.strict)
        assert.same({ "rest", "-x" }, p.args)
        assert.equal("rollback", parsed("down").command[1])
        assert.same({ "--data-only" }, parsed("dump", "--", "--data-only").args)
    end)

    it("takes missing options from the environment, and treats an empty variable as unset", function()
        local env = {
            DBMATE_MIGRATIONS_TABLE = "", DBMATE_WAIT = "true", DBMATE_WAIT_TIMEOUT = "5s", DBMATE_STRICT = "1",
        }
        local p = grammar.parse({ "--wait=false", "migrate" }, function(name) return env[name] end)
        assert.equal("schema_migrations", p.values["migrations-table"])
        assert.is_false(p.values.wait)
        assert.equal(5, p.values["wait-timeout"])
        assert.is_true(p.values.strict)
    end)

    it("refuses an invalid value in the environment, even when the flag is given", function()
        local function problem(name, text, ...)
            local ok, e = pcall(grammar.parse, { ... }, function(asked) return asked == name and text or nil end)
            assert.is_false(ok)
            assert.equal("usage", e.kind)
            return e.message
        end
        assert.equal('could not parse "5" as duration value from environment variable "DBMATE_WAIT_TIMEOUT" for flag '
            .. 'wait-timeout: time: missing unit in duration "5"',
            problem("DBMATE_WAIT_TIMEOUT", "5", "--wait-timeout", "1s", "up"))
        assert.matches('"DBMATE_NO_DUMP_SCHEMA" .*strconv.ParseBool: parsing "yes": invalid syntax$',
            problem("DBMATE_NO_DUMP_SCHEMA", "yes", "--no-dump-schema", "--help"))
        assert.matches("DBMATE_STRICT", problem("DBMATE_STRICT", "x", "up", "--help"))
        assert.equal("status", grammar.parse({ "status" }, function(name)
            return name == "DBMATE_STRICT" and "x" or nil
        end).command[1])
    end)

    it("expands variables anywhere in file names", function()
        assert.same({ "a", "b", "c" }, grammar.env_files { "--env-file", "a", "up", "--env-file=b", "-env-file", "c" })
        assert.is_nil(grammar.env_files { "up" })
        assert.same({}, grammar.env_files { "--env-file", "a", "--env-file" })
    end)
end)
