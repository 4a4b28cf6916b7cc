--- dbrun's own command line, and how it finds the installed scripts and modules.

local core <const> = require "dbrun.core"
local run <const> = require "spec.support.command".run

describe("the command line of dbrun", function()
    local function usage(command, words, files)
        local r = run(command, files)
        assert.equal("", r.out)
        assert.equal(2, r.code, r.err)
        assert.equal(1, select(2, r.err:gsub("\n", "")), "one line: " .. r.err)
        assert.matches("^lua: ", r.err)
        assert.truthy(r.err:find(words, 1, true), r.err)
    end

    it("refuses an unknown option with one line that names it", function()
        usage("lua --nope", "unrecognized option '--nope'")
        usage("lua --nope=secret", "unrecognized option '--nope'")
        usage("lua -x", "unrecognized option '-x'")
        usage("lua -vv", "unrecognized option '-vv'")
        usage("lua -Ei", "unrecognized option '-Ei'")
    end)

    it("refuses an option without its value", function()
        usage("lua -e", "'-e' needs argument")
        usage("lua -l -v", "'-l' needs argument")
        usage("lua --timeout", "'--timeout' needs a value")
        usage("lua --stack=yes", "'--stack' takes no value")
    end)

    it("refuses an invalid value", function()
        usage("lua --timeout never", "'never'")
        usage("lua --timeout=-1 -e 'x = 1'", "'-1'")
        usage("lua --log loud", "'loud'")
        usage("lua --log-format=xml", "'xml'")
        usage("lua --env-file no.env -e 'x = 1'", "no.env")
    end)

    it("refuses a script that does not exist", function()
        usage("lua no.lua", "cannot open no.lua")
        usage("lua scripts/no.lua", "cannot open scripts/no.lua")
        usage("lua no-such-name",
            "cannot open no-such-name, nor scripts/no-such-name.lua here or in the installation: No")
    end)

    it("says why there are no servers for --stack, without internal details", function()
        local r = run("lua --stack -e 'print(1)'", { [".dbrun"] = "a file where the folder should be" })
        assert.equal("", r.out)
        assert.equal(1, r.code)
        assert.matches("cannot make the folder '.*/%.dbrun", r.err)
        assert.not_matches("traceback", r.err)
    end)

    it("accepts its own options between lua's, and leaves them in arg", function()
        local r = run("lua --no-env -e 'x = 1' --timeout=9 --log debug a.lua --stack", { ["a.lua"] =
            "local o = require 'dbrun.core'.options print(x, o.no_env, o.timeout, o.log, o.stack, arg[-1], arg[1])" })
        assert.equal("1\ttrue\t9.0\tdebug\tfalse\tdebug\t--stack\n", r.out, r.err)
        assert.equal(0, r.code)
    end)

    it("runs scripts/NAME.lua when no file NAME exists", function()
        local make = "mkdir scripts && echo 'print(\"script\", arg[0], ...)' > scripts/hello.lua && "
        assert.equal("script\tscripts/hello.lua\tx\n", run(make .. "lua hello x").out)
        assert.equal("a file wins\n", run(make .. "lua hello", { hello = "print 'a file wins'" }).out)
    end)

    it("runs the installed scripts by name, also when the installation was moved", function()
        local r = run("mkdir -p p/bin p/share/dbrun/scripts && cp $(readlink -f $(command -v lua)) p/bin/dbrun && "
            .. "echo 'print \"installed\"' > p/share/dbrun/scripts/tool.lua && p/bin/dbrun tool")
        assert.equal("installed\n", r.out, r.err)
    end)

    it("prints the versions of its libraries, as text and as JSON", function()
        local text = run("lua version")
        assert.matches("^dbrun +%d+%.%d+%.%d+\nLua +5%.4%.%d+\nlibpq +%d+%.%d+\nhiredis +%d", text.out, text.err)
        assert.matches("\nOpenSSL +OpenSSL %d", text.out)
        local all = require "dbrun.json".decode(run("lua version --json").out)
        assert.equal(core.options.version, all.dbrun)
        assert.matches("^%d+%.%d+%.%d+$", all.libraries.libuv.compiled)
        assert.matches("^%d+%.%d+%.%d+$", all.libraries.libuv.running)
        assert.matches("Did you mean '%-%-json'", run("lua version --jsno").err)
    end)

    describe("without libpq", function()
        local missing <const> = "mkdir lib && : >lib/libpq.so.5 && LD_LIBRARY_PATH=lib "
        local connect <const> = [[lua --no-env -e 'local _, e = pcall(function()
            require "dbrun.db".engine { url = "postgresql:///x?host=/nowhere", mode = "$" }:value "select 1"
        end) print(e.kind, e.message, e.hint)']]

        it("starts, and names the missing library when a script connects", function()
            assert.equal("1\n", run(missing .. "lua -e 'print(1)'").out)
            for _, mode in ipairs { "async", "sync" } do
                local r = run(missing .. connect:gsub("%$", mode))
                assert.matches("^config\tPostgreSQL's client library cannot be used: [^\n]*libpq%.so%.5[^\n]*"
                    .. "\tinstall libpq", r.out, r.err)
            end
            assert.matches("\nlibpq +missing +compiled against %d", run(missing .. "lua version").out)
        end)

        it("opens it when a descriptor is free again", function()
            local r = run("ulimit -n 64; lua --no-env a.lua", { ["a.lua"] = [[
                local e, held = require "dbrun.db".engine { url = "postgresql:///x?host=/nowhere" }, {}
                for i = 1, 2 do
                    for f in function() return i == 1 and io.open "/dev/null" or nil end do held[#held + 1] = f end
                    local _, problem = pcall(e.value, e, "select 1")
                    print(problem.kind, problem.message, problem.hint)
                    for _, f in ipairs(held) do f:close() end
                end]] })
            assert.matches("^connect\t[^\n]*libpq%.so%.5[^\n]*Too many open files\t[^\n]*ulimit %-n[^\n]*\n"
                .. "connect\tcannot connect to PostgreSQL at /nowhere", r.out, r.err)
        end)

        it("does not open it before", function()
            local mapped <const> = [[local function opened()
                return io.open "/proc/self/maps":read "a":find "/libpq%.so" ~= nil
            end ]]
            local r = run("lua --no-env -e '" .. mapped .. [[local before = opened()
                pcall(require "dbrun.db".engine { url = "postgresql:///x?host=/nowhere" }.value, nil, "select 1")
                local engine = require "dbrun.db".engine { url = "postgresql:///x?host=/nowhere" }
                local unused = opened() pcall(engine.value, engine, "select 1") print(before, unused, opened())']])
            assert.equal("false\tfalse\ttrue\n", r.out, r.err)
        end)
    end)

    it("says so when there are no file descriptors for it", function()
        for limit = 6, 11 do
            local r = run(("ulimit -n %d; exec lua --no-env -e 'print(1)'"):format(limit))
            assert.equal(r.code == 0 and "1\n" or "", r.out)
            assert.matches(r.code == 0 and "^$" or "no file descriptors are left.*ulimit %-n", r.err)
            assert.is_true(r.code == 0 or r.code == 1, r.code)
        end
    end)

    it("--help and --version", function()
        local help = run "lua --help"
        assert.equal(0, help.code)
        for _, option in ipairs { "-e stat", "--env-file", "--no-env", "--stack", "--timeout", "--log", "--version" } do
            assert.truthy(help.out:find(option, 1, true), option)
        end
        assert.matches("^dbrun %d+%.%d+%.%d+ %(Lua 5%.4%.%d+%)\n$", run("lua --version").out)
    end)

    it("--log and --log-format control the output of log.write", function()
        local write = [[-e 'require "dbrun.core".log.write("info", "told")']]
        assert.equal("", run("lua " .. write).err)
        assert.matches("INFO +told\n$", run("lua --log info " .. write).err)
        assert.matches('^{.*"message":"told"}\n$', run("lua --log info --log-format json " .. write).err)
    end)

    it("exits with 2 for an uncaught error of usage or configuration, without a traceback", function()
        for kind, code in pairs { usage = 2, config = 2, io = 1, query = 1 } do
            local r = run(([[lua -e 'require "dbrun.error".raise{kind = "%s", message = "told"}']]):format(kind))
            assert.equal(code, r.code)
            assert.matches("told", r.err)
            assert.equal(code == 1, r.err:find("stack traceback", 1, true) ~= nil, r.err)
        end
    end)

    it("never prints a password of a URL in an error", function()
        local r = run([[lua -e 'error("cannot reach postgres://me:hunter2hunter2@host/db")']])
        assert.is_nil(r.err:find("hunter2", 1, true))
        assert.truthy(r.err:find("postgres://me:", 1, true))
    end)

    it("loads the modules of dbrun from DBRUN_LUA_DIR", function()
        local r = run("mkdir -p d/dbrun && echo 'return {from = \"disk\"}' > d/dbrun/new.lua && "
            .. "DBRUN_LUA_DIR=d lua -e 'print(require \"dbrun.new\".from, package.loaded[\"dbrun.error\"])'")
        assert.equal("disk\tnil\n", r.out, r.err)
    end)

    it("starts without loading any of its own modules", function()
        local r = run [[lua -e 'for name in pairs(package.loaded) do if name:find "^dbrun" then print(name) end end']]
        assert.equal("dbrun.core\n", r.out)
    end)
end)

local PWD <const> = assert(os.getenv "PWD")

describe("a stock lua5.4", function()
    it("gets the same modules from dbrun/core.so", function()
        local build = core.options.program:match "^(.*)/"
        if build:find "/asan$" then
            return -- stock lua5.4 does not contain the sanitizers' runtime
        end
        local root = PWD
        local r = run(([[LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;' LUA_CPATH='%s/lib/?.so;;' lua -e '
            local dbrun = require "dbrun"
            dbrun.task.sleep(0.01) print(dbrun.json.encode({1, 2}), dbrun.task.all{function() return 1 end}[1])']])
            :format(root, root, build), nil, "theirs")
        assert.same({ out = "[1,2]\t1\n", err = "", code = 0 }, r)
    end)
end)
