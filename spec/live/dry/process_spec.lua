-- Child processes in a dry run: they are reported, and not run.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"

describe("a dry run", function()
    local folder
    setup(function() folder = fs.mkdtemp() end)
    teardown(function() fs.rmtree(folder) end)

    --- `made` is a file that no script may make; lines behind `-->` are what it prints.
    local function run(script, code)
        local expected <const> = {}
        for line in script:gmatch "%-%->%s*([^\n]*)" do expected[#expected + 1] = line .. "\n" end
        fs.write(folder .. "/script.lua", ([[
            local process, fs, made = require "dbrun.process", require "dbrun.fs", %q
        ]]):format(folder .. "/made") .. script)
        local result <const> = process.run {
            core.options.program, "--no-env", "--dry-run", folder .. "/script.lua", timeout = 20, cwd = folder,
        }
        assert.equal(table.concat(expected), result.stdout, result.stderr)
        assert.equal(code or 0, result.code, result.stderr)
        assert.is_false(fs.exists(folder .. "/made"))
        return result.stderr
    end

    it("runs no child; each seems to succeed without output", function()
        local told <const> = run [[
            local done = process.run { "sh", "-c", "touch " .. made .. "; echo hi; exit 3" }
            print(done.ok, done.code, done.signal, #done.stdout) --> true	0	nil	0
            print(process.run { "echo", "hi", stdout = { file = made } }.stdout) --> nil
            process.run { "sort", stdin_from = "/etc/passwd", stdout = { append = made }, stderr = made .. " x" }
            local child <close> = process.start { "tee", made, stdin_from = "pipe", stdout = "capture" }
            child:write "text"
            child:close_stdin()
            print(child:running(), child:read_line(1)) --> false	nil	end
            print(child:wait().code, child:kill()) --> 0	false
            print(process.kill(child.pid), process.alive(child.pid)) --> false	false
            process.run { "gzip", "-9", "export.csv" } process.run { "gzip", "-9", "export.csv" }
        ]]
        assert.match("dry run: process: gzip -9 export.csv\n", told, 1, true)
        assert.match("\n  processes  gzip -9 export.csv  2 times\n", told, 1, true)
        assert.match("process: echo hi > [%w/.-]+/made\n", told)
        assert.match("process: sort < /etc/passwd >> [%w/.-]+/made 2> '[%w/.-]+/made x'\n", told)
        assert.match("process: sh %-c 'touch [^\n]*made; echo hi; exit 3'", told)
    end)

    it("runs a child that is declared as read-only", function()
        local told <const> = run [[
            print(process.run { "echo", "hi", dry_run = "run" }.stdout:match "%a+") --> hi
            local child <close> = process.start { "sleep", "60", dry_run = "run" }
            print(process.kill(child.pid, "TERM"), child:wait().signal) --> true	TERM
            print((select(2, pcall(process.run, { "echo", dry_run = "yes" })).message:match "dry_run.*"))
            --> dry_run must be "run", or false, got "yes"
        ]]
        assert.equal("dry run: nothing would have changed\n", told)
    end)

    it("handles os.execute and io.popen in the same way", function()
        local told <const> = run [[
            print(os.execute(), os.execute("touch " .. made)) --> true	true	exit	0
            local f = io.popen("echo hi > " .. made) print(#f:read "a", f:close()) --> 0	true	exit	0
            f = io.popen("cat > " .. made, "w") print(f:write "text" == f, f:close()) --> true	true	exit	0
            local _, e = pcall(io.popen, "echo", "r+")
            print((e:match "bad.*")) --> bad argument #2 to 'popen' (invalid mode)
            print((select(2, pcall(os.execute, {})):match "bad.*d")) --> bad argument #1 to 'execute' (string expected
        ]]
        assert.match("process: cat > ", told, 1, true)
        assert.match("process: touch ", told, 1, true)
    end)

    it("sends signals only to its own children", function()
        local victim <close> = process.start { "sleep", "60" }
        local told <const> = run(([[
            print(process.kill(%d, "TERM"), process.kill(%d, 0)) --> true	true
            print(process.kill((1 << 22) - 1, "TERM")) --> false
        ]]):format(victim.pid, victim.pid))
        assert.is_true(victim:running())
        assert.match(("process: kill -TERM %d"):format(victim.pid), told, 1, true)
    end)

    it("ends where exec would replace the program", function()
        local told <const> = run [[
            process.exec { "touch", made }
            print "not here"
        ]]
        assert.match("process: exec touch ", told, 1, true)
    end)

    it("prints its summary when the script has saved os.exit, too", function()
        fs.write(folder .. "/kept.lua", [[
            local exit, execute = os.exit, os.execute
            return require "dbrun.cli".run { about = "x", run = function() execute "true" exit(3) end }]])
        local result <const> = process.run { core.options.program, "--no-env", folder .. "/kept.lua", "--dry-run" }
        assert.equal(3, result.code)
        assert.match("dry run: rolled back\n  processes  true\n", result.stderr, 1, true)
    end)

    it("leaves the private stack alone", function()
        run [[
            local stack = require "dbrun.stack"
            for _, name in ipairs { "up", "down", "reset" } do
                print(name, select(2, pcall(stack[name])).message:match ": (.*)")
                --> up	a dry run starts, stops and removes no servers
                --> down	a dry run starts, stops and removes no servers
                --> reset	a dry run starts, stops and removes no servers
            end
        ]]
        assert.is_false(fs.exists(folder .. "/.dbrun"))
    end)

    it("refuses a program that could not be started", function()
        run [[
            local function why(...) return (select(2, pcall(process.run, { ... })).message:match "cannot.*") end
            print(why "no-such-program") --> cannot run 'no-such-program': No such file or directory
            print(why "./no-such-program") --> cannot run './no-such-program': No such file or directory
            print(why "/etc/passwd") --> cannot run '/etc/passwd': Permission denied
            print(why "/etc") --> cannot run '/etc': Permission denied
            local _, e = pcall(process.run, { "true", cwd = "/nowhere" })
            print(e.message) --> cannot run 'true' in the folder '/nowhere': No such file or directory
            _, e = pcall(process.run, { "true", stdin_from = { file = "/nowhere" } })
            print(e.message) --> cannot open '/nowhere' for 'true': No such file or directory
            _, e = pcall(process.run, { "true", stdout = { file = "/nowhere/x" } })
            print(e.message) --> cannot open '/nowhere/x' for 'true': No such file or directory
            local child <close> = process.start { "cat", stdin_from = "pipe" }
            child:close_stdin()
            print(select(2, pcall(child.write, child, "x")).message) --> process: the standard input of 'cat' is closed
            local plain <close> = process.start { "cat" }
            print(select(2, pcall(plain.write, plain, "x")).kind) --> usage
        ]]
    end)

    it("renames no file that a child would have written", function()
        fs.write(folder .. "/old.part", "of an earlier run")
        fs.write(folder .. "/old", "whole")
        fs.write(folder .. "/mine", "text")
        local told <const> = run [[
            local gzip <close> = process.start { "gzip", "-c", stdin_from = "pipe", stdout = { file = "made.part" } }
            gzip:write "text"
            gzip:close_stdin()
            fs.rename("made.part", "made")
            process.run { "echo", "hi", stdout = "./old.part" }
            print(os.rename("old.part", "old"), fs.read "old", fs.read "old.part") --> true	whole	of an earlier run
            fs.rename("mine", "yours")
            print(fs.exists "yours", (os.rename("nothing", "x"))) --> true	nil
        ]]
        assert.match("process: gzip -c > made.part\ndry run: process: rename made.part made\n", told, 1, true)
    end)

    it("says once that there is no output to read, and lists at most fifty", function()
        local told <const> = run [[
            process.run { "true", stdout = "inherit" }
            for i = 1, 70 do process.run { "echo", i } end
            print(select("#", io.popen "echo a")) --> 1
        ]]
        local _, hints <const> = told:gsub("its output is empty", "")
        assert.equal(1, hints)
        assert.match("process: echo 1 (not run, its output is empty; process.run", told, 1, true)
        local _, lines <const> = told:gsub("dry run: process: ", "")
        assert.equal(51, lines)
        assert.match("\ndry run: process: more of them, which the end counts\n", told, 1, true)
        assert.match("\n  processes  and 22 more\n", told, 1, true)
    end)

    it("prints no secret, and no control character", function()
        local told <const> = run [[
            process.run { "cat", "postgresql://ada:geheim@db/app", "--password", "geheim", "-c", "say '\27[2J'" }
            os.execute "PGPASSWORD=geheim pg_dump --token geheim | gzip"
            process.run { "true", env = { TOKEN = "geheim" } }
            process.run { "true", "-u", "ada:geheim" }
            for _, line in ipairs { "mysql -pgeheim app", "redis-cli -a geheim", "sudo sshpass -p geheim ssh x" } do
                os.execute(line)
                process.run { "sh", "-c", line }
            end
        ]]
        assert.is_nil(told:find("geheim", 1, true))
        assert.is_nil(told:find("\27", 1, true))
        assert.match([[cat postgresql://***@db/app --password *** -c 'say '\''\x1b[2J'\''']], told, 1, true)
        assert.match("*** pg_dump --token *** | gzip", told, 1, true)
        assert.match("true -u ada:***\n", told, 1, true)
        assert.match("process: mysql -p*** app\n", told, 1, true)
        assert.match("process: sh -c 'sudo sshpass -p *** ssh x'\n", told, 1, true)
    end)
end)
