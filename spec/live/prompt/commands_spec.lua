--- The commands of the prompt, its pager, its history and the Tab key, under a terminal of 24 rows.

local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local servers <const> = require "spec.support.servers"
local task <const> = require "dbrun.task"
local terminal <const> = require "spec.support.terminal"

describe("at the prompt", function()
    local url, redis_url, folder, term

    setup(function()
        url, redis_url = servers.database(), servers.redis_db()
        folder = fs.mkdtemp(fs.join(fs.tempdir(), "dbrun-prompt-commands-"))
    end)
    teardown(function() fs.rmtree(folder) end)
    after_each(function() term:close() end)

    local function start(environment)
        term = terminal.start(("sh -c \"stty rows 24 cols 80; exec env DATABASE_URL='%s' REDIS_URL='%s' HOME=%s "
            .. "XDG_STATE_HOME= %s lua\""):format(url, redis_url, folder, environment or "DBRUN_HISTORY="))
        term:expect "to end%.\n.-=> "
    end

    local function answers(line, pattern)
        term:line(line)
        return term:expect(pattern)
    end

    it("output higher than the screen goes to PAGER, and other output does not", function()
        fs.write(fs.join(folder, "pager"), "#!/bin/sh\necho paged; wc -l; echo over\n")
        start(("TERM=xterm DBRUN_HISTORY= PAGER='sh %s/pager'"):format(folder))
        answers("select generate_series(1, 10);", "%(10 rows%)\n")
        term:expect "Time"
        assert.is_nil(term:text():find("paged\n", 1, true))
        answers("select generate_series(1, 50);", "paged\n%s*53\nover\n.-Time")
        answers("('line\\n'):rep(30)", "paged\n%s*%d+\nover\n")
    end)

    it("cuts a table to the screen's width, but not in a file", function()
        local file <const> = fs.join(folder, "out.txt")
        start()
        answers("select repeat('x', 200) as wide;", "xxx…\n%(1 row%)\n.-=> ")
        answers("\\o " .. file, "=> ")
        answers("select repeat('x', 200) as wide;", "Time.-=> ")
        answers("\\o", "=> ")
        assert.truthy(fs.read(file):find(("x"):rep(200) .. "\n(1 row)\n", 1, true))
        answers("\\o /nowhere/at/all", "\\o: /nowhere/at/all: No such file.-=> ")
        answers("\\o /dev/full", "=> ")
        answers("select 40 + 2;", "\\o: cannot write to the file: No space left on device; results go to the terminal "
            .. "again\n.-42\n.-=> ")
        answers("select 40 + 3;", "43\n.-=> ")
    end)

    it("\\e runs the text that the editor saves", function()
        fs.write(fs.join(folder, "editor"), "#!/bin/sh\necho \"select 'edited', 6 * 7;\" > \"$1\"\n")
        start(("DBRUN_HISTORY= VISUAL= EDITOR='sh %s/editor'"):format(folder))
        answers("\\e", "edited.-42\n.-=> ")
        fs.write(fs.join(folder, "editor"), "exit 3\n")
        answers("\\e", "status 3; nothing is run\n.-=> ")
    end)

    it("\\redis parses a command as redis-cli does", function()
        start()
        answers([[\redis set greeting "a \"b\""]], "\nOK\n.-=> ")
        answers("\\redis get greeting", [[get greeting
"a \"b\""
.-=> ]])
        answers("hgetall user:7", "As a command of Redis: \\redis hgetall user:7\n.-=> ")
        answers("\\redis", "which command%?.-=> ")
        answers("\\redis get 'a", "usage error: \\redis.-=> ")
        answers("\\redis nonsense", "ERR unknown command.-=> ")
        answers("= r:get 'greeting'", "\na \"b\"\n.-=> ")
    end)

    it("results have their columns by name, and are shown by position", function()
        start()
        answers("select 7 as id, 8 as id, null as none, 1.50 as price, E'a\\tb' as tab;",
            "7 |%s+8 | NULL |%s+1%.50 | a\\tb\n%(1 row%)\n.-=> ")
        answers("= _[1].price + 1, _[1].none, _[1][2]", "\n2%.5\tNULL\t8\n.-=> ")
        answers("\\plan", "\n *Result.-=> ")
    end)

    it("commands refuse unknown arguments", function()
        start()
        answers("\\watch soon", "expected seconds.-=> ")
        answers("\\d nothing", "no relation nothing.-=> ")
        answers("\\dtt", "no command \\dtt.-=> ")
        answers("\\?", "\\redis CMD.-one line per column.-Ctrl%-D ends%.\n.-=> ")
        answers("selct 1;", "did you mean that%?\n.-=> ")
        answers("\\x maybe", "expected on or off.-=> ")
        answers("\\help prompt", "SQL and Lua in one place.-=> ")
    end)

    it("keeps a statement of several lines as one history entry, and none with a secret", function()
        start "EDITOR="
        answers("select 'one',", "%-> ")
        answers("'two';", "two\n.-=> ")
        answers("alter role nobody password 'hidden-secret';", "=> ")
        answers("'postgresql://app:hidden-secret@db/shop'", "=> ")
        for _, login in ipairs { "auth hidden-secret", "ACL setuser z >hidden-secret",
            "config set masterauth hidden-secret", "config set RequirePass hidden-secret",
            "sentinel set m auth-pass hidden-secret" } do
            term:line("\\redis -" .. login) -- without a command: nothing is sent
            term:expect "not a command of Redis.-=> "
        end
        term:type "\4"
        term:ends(0)
        local path <const> = fs.join(folder, ".local/state/dbrun/history")
        local text <const> = fs.read(path)
        assert.truthy(text:find("select 'one',\\n'two';\n", 1, true))
        assert.is_nil(text:find("hidden", 1, true))
        assert.equal(tonumber("600", 8), fs.stat(path).mode & tonumber("777", 8))
    end)

    it("keeps no history when DBRUN_HISTORY is empty", function()
        fs.rmtree(fs.join(folder, ".local"))
        start()
        answers("select 'unkept';", "unkept\n.-=> ")
        term:type "\4"
        term:ends(0)
        assert.is_false(fs.exists(fs.join(folder, ".local")))
        assert.is_string(core.options.program)
    end)

    it("Tab completes the candidates' common prefix, and lists them at the second press", function()
        start()
        answers("begin; create table shelves (id int, width int); create table shelves_old (id int); commit;",
            "COMMIT\n.-=> ")
        repeat -- until the names have been read in the background
            term:type "\21select * from shel\t"
            local typed <const> = term:expect "select %* from shel\7?[v\8]?"
        until typed:sub(-1) == "v"
        term:expect "es"
        term:type "\t\t"
        term:expect "\nshelves      shelves_old\n"
        term:expect "select %* from shelves"
        term:type " where wid\t"
        term:expect "th"
        term:type "= 1;\n"
        term:expect "%(0 rows%)\n.-=> "
        term:type "= json.enc\t"
        term:expect "ode"
        term:type "{ 1 }\n"
        term:expect "\n%[1%]\n.-=> "
        term:type "\\tim\t"
        term:expect "ing"
        term:type "\3"
        term:expect "=> "
    end)

    it("Ctrl-C stops the typed statement, whatever other tasks do", function()
        start()
        answers("task.spawn(function() while true do for _ = 1, 1e5 do end task.sleep(0) end end)", "=> ")
        answers("task.sleep(60)", "60%)\n")
        term:type "\3"
        term:expect "interrupted!\n.-=> "
        answers("'still here'", "\nstill here\n.-=> ")
        answers("task.spawn(function() while true do end end)", "dbrun.task.-=> ")
        repeat -- the first one is for the prompt, which does not get its turn
            term:type "\3"
            task.sleep(0.02)
        until term:text():sub(term.at):find "interrupted!"
        answers("'again'", "\nagain\n.-=> ")
    end)
end)
