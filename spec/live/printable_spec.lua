--- Texts from a server can contain control characters: errors and notices keep them, but none is printed raw.
local fs = require "dbrun.fs"
local core = require "dbrun.core"
local json = require "dbrun.json"
local migrations = require "spec.support.migrations"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local report = require "dbrun.verify.report"
local scripts = require "spec.support.scripts"
local terminal = require "spec.support.terminal"
local tty = require "dbrun.tty"

--- Clears the screen, sets the title, returns to the line's start, begins a sequence with the 8-bit character.
local EVIL <const> = "\27[2J\27]0;title\7\r\u{9b}2J\u{202e}\127end"

local function check_clean(text)
    assert.truthy(utf8.len(text), text)
    for _, pattern in ipairs { "[%z\1-\8\11-\31\127]", "\xc2[\x80-\x9f]", "\xe2\x80[\xaa-\xae]" } do
        assert.is_nil(text:find(pattern), ("%q"):format(text))
    end
end

local RAISE <const> = ([[do $do$ begin raise exception using message = 'm' || x, detail = 'd' || x, hint = 'h' || x,
    column = 'c' || x from (select '%s' as x) t; end $do$]]):format(EVIL):gsub(" from %b() t", "")
    :gsub("'(%a)' || x", function(letter) return "'" .. letter .. EVIL .. "'" end)

it("are kept by an error, and escaped by its text", function()
    pg.on_both(function(_, fn) fn() end, function(_, open)
        local e <close> = open { size = 1 }
        local problem = pg.raised(e.exec, e, RAISE)
        assert.equal("m" .. EVIL, problem.message)
        assert.equal("d" .. EVIL, problem.detail)
        assert.equal("h" .. EVIL, problem.hint)
        check_clean(tostring(problem))
        assert.truthy(tostring(problem):find("m\\x1b[2J\\x1b]0;title\\x07\\x0d\\u009b2J\\u202e\\x7fend", 1, true))
        e:exec(("create temp table t (\"%s\" int)"):format(EVIL))
        assert.equal(EVIL, e:query "select * from t".columns[1].name)
    end)
end)

describe("are escaped", function()
    local function script(source, ...)
        local spec = { core.options.program, "--no-env", ... }
        spec[#spec + 1], spec.stdin, spec.env, spec.timeout = "-", source, { URL = pg.url() }, 60
        return process.run(spec)
    end

    it("in the message of an uncaught error, whether object or string, and in its traceback", function()
        for _, how in ipairs { "e:exec(sql)", "local _, p = pcall(e.exec, e, sql) error(p.message .. p.detail)",
            "require 'dbrun.task'.spawn(function() e:exec(sql) end)" } do
            local result = script(([[
                local db = require "dbrun.db"
                local e = db.engine { url = os.getenv "URL" }
                local sql = %q
                %s]]):format(RAISE, how))
            assert.equal(1, result.code)
            assert.truthy(result.stderr:find("\\x1b[2J", 1, true), result.stderr)
            check_clean(result.stderr)
        end
    end)

    it("in the log, as text and as JSON", function()
        for _, format in ipairs { "text", "json" } do
            local result = script(([[
                local db = require "dbrun.db"
                local e = db.engine { url = os.getenv "URL", on_notice = function(n) error(n.message) end }
                e:exec(%q)]]):format(RAISE:gsub("raise exception", "raise notice"):gsub("column = .- end %$do",
                    "errcode = '00000'; end $do")), "--log-format", format)
            assert.equal(0, result.code, result.stderr)
            assert.truthy(result.stderr:find("[2J", 1, true), result.stderr)
            check_clean(result.stderr)
        end
    end)

    it("at the prompt, in errors and in values", function()
        local term <close> = terminal.start "lua --no-env"
        term:expect "> "
        term:line "x = '\\27[2J' .. '\\u{9b}m'"
        term:expect "> "
        term:line "x"
        term:expect "\n\\x1b%[2J\\u009bm\n"
        term:line "error(x)"
        term:expect "\\x1b%[2J"
    end)

    it("in the reports of verify, in each format", function()
        local results = { { name = "pg.x", status = "FAIL", seconds = 0, text = EVIL, cause = EVIL, key = EVIL,
            remedy = { EVIL }, layer = "server" } }
        for name, format in pairs(report.formats) do
            local text = format(results, { strict = false, seconds = 0 })
            assert.truthy(text:find("end", 1, true), name)
            check_clean(text)
        end
        assert.equal(EVIL, results[1].text)
    end)

    it("in an incomplete UTF-8 character, and in every invalid byte", function()
        for i = 0, 255 do check_clean(tty.printable("a" .. string.char(i) .. "b")) end
        assert.equal("a\tb\né€\u{1f600}", tty.printable "a\tb\né€\u{1f600}")
        assert.equal("\\xe2\\x82", tty.printable "\xe2\x82")
    end)
end)

it("are escaped in the configuration as JSON, which parses to the same value", function()
    local value_set <const> = "x\127\u{9b}2J\u{202e}\u{2066}y"
    local file <const> = migrations.folder { [".env"] = ('A="%s"\n'):format(value_set) } .. "/.env"
    for _, more in ipairs { {}, { "--show", "A" } } do
        local result = process.run { core.options.program, "--env-file", file, "config", "--format", "json",
            table.unpack(more) }
        assert.equal(0, result.code, result.stderr)
        check_clean(result.stdout)
        local value
        for _, row in ipairs(json.decode(result.stdout)) do value = row.key == "A" and row.value or value end
        assert.equal(value_set, value)
    end
end)

it("are escaped in errors of the command line", function()
    for _, words in ipairs { { EVIL .. ".lua" }, { "--env-file", EVIL, "config" }, { "--log", EVIL, "x" },
        { "--" .. EVIL }, { "config", "--" .. EVIL }, { "stack", EVIL } } do
        local result = process.run { core.options.program, table.unpack(words) }
        assert.truthy(result.code ~= 0 and result.stderr:find("end", 1, true), result.stderr)
        check_clean(result.stderr)
    end
end)

describe("in migrate", function()
    local url
    migrations.around(_ENV, function(...) url = ... end)

    it("are escaped on a terminal, but dbrun's own colours are kept", function()
        -- Colours, and one that hides; clears the line; marks of the direction, a line end of Unicode.
        local evil <const> = "\27[8mX\27[31mred\27[0m\27[K\r\27[K\u{200f}\u{2028}"
        local folder <const> = migrations.folder {
            ["m/1_a" .. evil .. ".sql"] = "-- migrate:up\nselect 1;\n-- migrate:down\n",
            ["m/2_b\n[X] 3_c.sql"] = "-- migrate:up\nselect 1;\n-- migrate:down\n",
            ["s/1_a" .. evil .. ".lua"] = ("return function() return %q end"):format(evil .. "\nseeded  2_b"),
            ["x" .. evil .. ".env"] = "A=1\n",
        }
        fs.symlink(fs.cwd() .. "/scripts", folder .. "/scripts")
        for _, command in ipairs { "migrate status --dir m", "migrate plan --dir m", "migrate up --dir m",
            "migrate verify --dir m", "dbmate -d m status", "seed --dir s", "--env-file x*.env config" } do
            local result = process.run { "script", "-qefc", core.options.program .. " " .. command, "/dev/null",
                cwd = folder, timeout = 60, env = { DATABASE_URL = url, TERM = "xterm", NO_COLOR = false } }
            local text = result.stdout
            for _, raw in ipairs { "\27[8m", "\27[31mred", "\27[K\r", "\u{200f}", "\u{2028}", "\n[X] 3_c",
                "\nseeded  2_b" } do
                assert.is_nil(text:find(raw, 1, true), ("%s: %q"):format(command, text))
            end
            if command ~= "migrate verify --dir m" then assert.matches("\\x1b[8m", text, 1, true) end
            local coloured = command:find "^seed" or command:find "config"
            assert.equal(coloured and 1 or nil, coloured and text:find("\27%[%d+m") and 1, command)
        end
    end)

    it("are escaped, in a failed statement and in a recorded version", function()
        local folder = migrations.folder { ["1_a.sql"] = "-- migrate:up\n" .. RAISE .. ";\n-- migrate:down\n" }
        local result = scripts.run("migrate", { "up", "--dir", folder }, { DATABASE_URL = url })
        assert.equal(1, result.code, result.text)
        assert.truthy(result.stderr:find("\\x1b[2J", 1, true), result.text)
        check_clean(result.text)
    end)

    it("are escaped in file names and in results of seeds, into a pipe, too", function()
        local name <const> = "2_\27[2J\u{9b}.sql"
        local folder = migrations.folder { [name] = "-- migrate:up\nselect 1;\n-- migrate:down\n" }
        for _, command in ipairs { "status", "up", "status", "verify", "lint" } do
            local more = command == "lint" and { "--fail-on", "note" } or {}
            local result = scripts.run("migrate", { command, "--dir", folder, table.unpack(more) },
                { DATABASE_URL = url })
            assert.equal(command == "lint" and 1 or 0, result.code, result.text)
            check_clean(result.text)
        end
        local status = scripts.run("migrate", { "status", "--format", "json", "--dir", folder }, { DATABASE_URL = url })
        assert.equal(name, json.decode(status.stdout).files[1].name)
        check_clean(status.stdout)
        local seeds = migrations.folder { ["1_\27[2J.lua"] = ("return function() return %q end"):format(EVIL) }
        for _, more in ipairs { { "--list" }, {} } do
            local result = scripts.run("seed", { "--dir", seeds, table.unpack(more) }, { DATABASE_URL = url })
            assert.equal(0, result.code, result.text)
            assert.truthy(result.stdout:find("\\x1b[2J", 1, true), result.text)
            check_clean(result.text)
        end
    end)
end)
