-- `dbrun help`: topics, functions, words; on a terminal and in a pipe.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local library = require "dbrun.manual.library"
local process = require "dbrun.process"
local terminal = require "spec.support.terminal"

local PROGRAM <const> = core.options.program

-- Answers one command line after the other, because most of the time of a `dbrun help` is reading the manual. In a
-- coroutine, where no line of this script is the place of an error, as in the program.
local MANY <const> = [[
local json, main, stdout = require "dbrun.json", require("dbrun.manual.command").main, io.stdout
local function sink(parts)
    return {
        write = function(self, ...)
            for _, text in ipairs { ... } do parts[#parts + 1] = text end
            return self
        end,
        flush = function() return true end,
    }
end
for line in io.lines() do
    local out, err = {}, {}
    io.stdout, io.stderr = sink(out), sink(err)
    local code = coroutine.wrap(main)(json.decode(line))
    stdout:write(json.encode { table.concat(out), code, table.concat(err) }, "\n"):flush()
end
]]

describe("dbrun help", function()
    local folder, many
    setup(function()
        folder = fs.mkdtemp()
        fs.mkdir(folder .. "/scripts")
        fs.write(folder .. "/scripts/help.lua", fs.read "scripts/help.lua") -- none is beside a build elsewhere
        fs.write(folder .. "/many.lua", MANY)
        many = process.start {
            PROGRAM, "--no-env", "many.lua", cwd = folder, env = { COLUMNS = "80" }, stdin_from = "pipe",
            stdout = "capture",
        }
    end)
    teardown(function()
        many:close()
        fs.rmtree(folder)
    end)

    local function help(...)
        many:write(json.encode { ... } .. "\n")
        return table.unpack(json.decode(assert(many:read_line(60), "no answer")))
    end

    local function help_program(...)
        local command = { PROGRAM, "help", ... }
        command.cwd, command.timeout, command.env = folder, 60, { COLUMNS = "80" }
        local result = process.run(command)
        return result.stdout, result.code, result.stderr
    end

    it("prints the result of its function, with its exit status", function()
        for _, words in ipairs { {}, { "lint" }, { "engine:query" }, { "migrat" }, { "--search", "xyzzyq" } } do
            assert.same({ help(table.unpack(words)) }, { help_program(table.unpack(words)) })
        end
    end)

    it("shows the commands and the topics, and so does -h", function()
        local text, code = help()
        assert.equal(0, code)
        assert.matches("^dbrun %d+%.%d+%.%d+: Lua 5%.4 with PostgreSQL and Redis\n", text)
        for _, topic in ipairs(library.topics()) do
            assert.matches("%f[%w]" .. topic:gsub("%p", "%%%0") .. "%f[^%w%-]", text)
        end
        assert.is_nil(text:find "\27")
        for line in text:gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
        assert.equal(text, process.run({ PROGRAM, "-h", cwd = folder }).stdout)
    end)

    it("shows each chapter, wrapped to the terminal's width", function()
        for _, topic in ipairs { "postgres", "night", "lua5.4" } do
            local text, code = help(topic)
            assert.equal(0, code)
            assert.equal(library.chapter(topic).title, text:match "^[^\n]+")
        end
        assert.equal((help "postgres"), (help "PostgreS"))
        assert.equal((help "lint"), (help("migrate", "lint")))
    end)

    it("finds a function by any of its names", function()
        local text, code = help "engine:query"
        assert.equal(0, code)
        for _, name in ipairs { "db.async.query", "db.sync:query", "db:query", "db.async:query(sql)" } do
            assert.equal(text, (help(name)), name)
        end
    end)

    it("shows signature, sentence, arguments, result, errors, example and related topics, in that order", function()
        local text = help "fs.read"
        local at = 0
        for _, part in ipairs { "fs.read(path)\n", "The whole file.", "Arguments\n", "`path`", "Result\n", "`string`",
            "Errors\n", "`io`", "`usage`", "Example\n", "fs.read(dir", "--> 8", "See also\n", "dbrun help modules" } do
            at = assert(text:find(part, at + 1, true), part .. "\n" .. text)
        end
    end)

    it("shows the example of a chapter with its output when the annotation has none", function()
        local text = help "r:consume"
        assert.matches("Example\n.-consume.-\n\n    .-\n\nSee also", text)
    end)

    it("lists several hits, one a line", function()
        local text, code = help "lock"
        assert.equal(0, code)
        assert.matches("\nr:lock%(name[^\n]*%) +Takes a lock", "\n" .. text)
        assert.matches("\nfs.lock%(path[^\n]*%) +Takes an exclusive lock", "\n" .. text)
    end)

    it("lists the functions of a module and of an object", function()
        for name, function_of in pairs { fs = "fs.read", ["dbrun.fs"] = "fs.read", task = "task.sleep", engine =
            "engine:query", db = "db.ident", listener = "listener:events" } do
            local text, code = help(name)
            assert.equal(0, code)
            assert.matches("\n" .. function_of .. "(", text, 1, true)
        end
    end)

    it("says that a command of Redis is a method", function()
        local text, code = help "r:hgetall"
        assert.equal(0, code)
        assert.matches("^r:hgetall%(%.%.%.%)\n", text)
        assert.equal(text, (help "hgetall"))
    end)

    it("shows a key of the configuration", function()
        assert.matches("^config.DB_POOL_SIZE\n", (help "DB_POOL_SIZE"))
    end)

    it("answers a mistyped name with a suggestion, and the status 2", function()
        for wrong, meant in pairs {
            migrat = "migrate", ["db.async.qurey"] = "db.async.query", task_sleep = "task.sleep",
            ["engine:xyz"] = false,
        } do
            local text, code, err = help(wrong)
            assert.equal(2, code, wrong)
            assert.equal("", text)
            assert.matches("there is no topic or function '" .. wrong .. "'", err, 1, true)
            if meant then assert.matches("did you mean '" .. meant .. "'?", err, 1, true) end
        end
        local _, code, err = help "a\27[31m"
        assert.equal(2, code)
        assert.is_nil(err:find "\27")
    end)

    it("suggests a search for a word that is not a topic, but is in the text", function()
        for _, word in ipairs { "cron", "migrations", "only_one", "DBRUN_LOG_FORMATS" } do
            local text, code, err = help(word)
            assert.equal(2, code, word)
            assert.equal("", text)
            local there <const> = word ~= "DBRUN_LOG_FORMATS"
            assert.equal(there, err:find("(help: dbrun help --search " .. word .. ")", 1, true) ~= nil, err)
            assert.equal(not there, err:find("did you mean", 1, true) ~= nil, err)
        end
    end)

    it("knows commands, Lua's own functions and commands of Redis of two words", function()
        for words, shown in pairs {
            ["init"] = "^%S", ["test"] = "^Testing your scripts", ["version"] = "^Installing",
            ["string.format"] = "^string.format is of Lua itself: https://.*#pdf%-string.format\n",
            ["require"] = "^require is of Lua itself", ["os.getenv"] = "^os.getenv is of Lua",
            ["FUNCTION LOAD"] = "^r:function", ["client kill"] = "^r:client",
        } do
            local list <const> = {}
            for word in words:gmatch "%S+" do list[#list + 1] = word end
            local text, code = help(table.unpack(list))
            assert.equal(0, code, words)
            assert.matches(shown, text)
        end
        assert.equal(2, select(2, help "string.nosuch"))
        assert.equal(2, select(2, help("nosuch", "kill")))
    end)

    it("finds an option of dbrun in the text", function()
        for _, word in ipairs { "--stack", "--read-only", "--log" } do
            local text, code = help(word)
            assert.equal(0, code, word)
            assert.matches("*" .. word .. "*", text, 1, true)
        end
        assert.matches("unknown option '--no-such'", select(3, help "--no-such"), 1, true)
        assert.matches("did you mean '--search'", select(3, help "--serch"):lower(), 1, true)
    end)

    it("finds a function behind a variable of a script", function()
        for word, shown in pairs {
            ["t.run"] = "testing", ["t:rollback"] = "rollback", ["ctx.upsert"] = "seed.upsert",
        } do
            local text, code = help(word)
            assert.equal(0, code, word)
            assert.matches(shown, text, 1, true)
        end
        assert.equal(2, select(2, help "json.query"))
    end)

    it("searches: topic and line with the word marked, at most 20, the best first", function()
        local text, code = help("--search", "upsert")
        assert.equal(0, code)
        assert.matches("^seed%.upsert +seed%.%*upsert%*%(", text)
        assert.matches("\nseed +[^\n]*%*upsert%*", text)
        local _, count = help("--search", "the"):gsub("\n", "")
        assert.equal(20, count)
        local both = help("--search", "advisory", "lock")
        assert.matches("*advisory*", both, 1, true)
    end)

    it("says when a search finds nothing, and refuses unknown options", function()
        local text, code, err = help("--search", "xyzzyq")
        assert.equal(1, code)
        assert.equal("", text)
        assert.matches("nothing in the manual has 'xyzzyq'", err, 1, true)
        assert.equal(2, select(2, help "--serach"))
        assert.equal(2, select(2, help("seed", "--search", "x")))
        assert.matches("--search", (help "--help"), 1, true)
    end)

    it("pages output higher than the terminal, and no other", function()
        local command <const> = "env PAGER='sed s/^/paged:/' LINES=24 TERM=xterm NO_COLOR=1 "
        do
            local term <const> = terminal.start(command .. "sh -c 'stty rows 24 cols 80; exec lua help postgres'")
            term:expect "paged:PostgreSQL"
            term:ends(0)
        end
        do -- a dry run starts no children except this one
            local term <const> = terminal.start(command
                .. "sh -c 'stty rows 24 cols 80; exec lua --dry-run help types'")
            term:expect "paged:From PostgreSQL"
            term:ends(0)
        end
        local term <const> = terminal.start(command .. "sh -c 'stty rows 24 cols 80; exec lua help DB_POOL_SIZE'")
        term:expect "\n?config.DB_POOL_SIZE"
        term:ends(0)
        assert.is_nil(term:text():find("paged:", 1, true))
    end)

    it("has colours on a terminal, and none with NO_COLOR", function()
        for no_color, has in pairs { [""] = true, ["1"] = false } do
            local command <const> = "env PAGER= TERM=xterm NO_COLOR=%s lua help DB_POOL_SIZE"
            local term <const> = terminal.start(command:format(no_color))
            term:ends(0)
            assert.equal(has, term:text():find("\27[1", 1, true) ~= nil)
        end
    end)

    it("prints all of it when the pager cannot be run", function()
        local command <const> = "env PAGER=/no/such/pager TERM=xterm "
        local term <const> = terminal.start(command .. "sh -c 'stty rows 9; exec lua help types'")
        term:expect "From PostgreSQL to Lua"
        term:ends(0)
    end)
end)
