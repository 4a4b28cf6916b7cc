-- Scripts with cli.run on real servers: one run at a time, and the confirmation at the terminal.
local advisory = require "dbrun.db.advisory"
local core = require "dbrun.core"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local pgbouncer = require "spec.support.pgbouncer"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local terminal = require "spec.support.terminal"

-- Its own pool has one connection. It ends when the file `stop` is there.
local SCRIPT <const> = [[
local cli, db, fs, task = require "dbrun.cli", require "dbrun.db", require "dbrun.fs", require "dbrun.task"
return cli.run {
    only_one = true, options = { { "fail", "flag" } },
    run = function(args)
        print("works " .. db.async:value "select 1")
        io.stdout:flush()
        if args.fail then error "it failed" end
        while not fs.exists "stop" do task.sleep(0.01) end
        return 3
    end,
}]]

local ASK <const> = [[
local cli = require "dbrun.cli"
return cli.run { confirm = true, run = function() print(cli.confirm "Delete 5 \27[2J rows?") end }]]

describe("a script that runs once at a time", function()
    local dir, url, engine
    setup(function()
        dir = fs.mkdtemp()
        fs.mkdir(dir .. "/scripts")
        fs.write(dir .. "/scripts/hold.lua", SCRIPT)
        fs.write(dir .. "/scripts/ask.lua", ASK)
        url = servers.database()
        engine = db.engine { url = url }
    end)
    before_each(function()
        if fs.exists(dir .. "/stop") then fs.unlink(dir .. "/stop") end
    end)
    teardown(function()
        engine:close()
        fs.rmtree(dir)
    end)

    local function command(argv, env)
        local spec = { core.options.program, "--no-env", table.unpack(argv) }
        spec.cwd, spec.timeout = dir, 60
        spec.env = { DATABASE_URL = url, DB_POOL_SIZE = 1, DB_MAX_OVERFLOW = 0, MIGRATION_DATABASE_URL = false }
        for key, value in pairs(env or {}) do spec.env[key] = value end
        return spec
    end

    local function started(argv, env)
        local spec = command(argv, env)
        spec.stdout, spec.stderr, spec.timeout = "capture", { file = dir .. "/stderr" }, nil
        local child = process.start(spec)
        assert.equal("works 1", child:read_line())
        return child
    end

    local function stop(child)
        fs.write(dir .. "/stop", "")
        return child:wait(30)
    end

    it("refuses a second run, which names the first, until the first ends", function()
        local child <close> = started { "hold" }
        local second = process.run(command { "hold" })
        assert.equal(75, second.code)
        assert.equal("", second.stdout)
        assert.matches(("^hold: it runs already: process %%d+ %%(dbrun hold on %%S+, pid %d, role .*connected since %%d"
            .. ".*Nothing was done%%.\n$"):format(child.pid), second.stderr)
        assert.equal(3, stop(child).code)
        assert.equal(3, process.run(command { "hold" }).code)
    end)

    it("can run again after a failed run", function()
        local failed = process.run(command { "hold", "--fail" })
        assert.equal(1, failed.code)
        assert.matches("it failed", failed.stderr)
        local number = advisory.hash "dbrun script hold"
        repeat until engine:transaction(function(tx) -- its session ends a moment later
            return tx:value("select pg_try_advisory_xact_lock($1)", number)
        end)
    end)

    it("gets an error when the connection with the lock is lost", function()
        local child <close> = started { "hold" }
        assert.equal(1, engine:value [[select count(pg_terminate_backend(pid)) from pg_stat_activity
            where application_name like 'dbrun hold%' and datname = current_database()]])
        local ended = child:wait(30)
        assert.equal(1, ended.code)
        assert.matches("only_one: the lock of 'hold' was lost, a second run may have begun", fs.read(dir .. "/stderr"))
    end)

    it("is refused through a pooler in transaction mode, unless MIGRATION_DATABASE_URL avoids it", function()
        if not pgbouncer.is_there() then return pending "pgbouncer is not installed" end
        local pooler <close> = pgbouncer.start(servers.shared_postgres())
        local refused = process.run(command({ "hold" }, { DATABASE_URL = pooler.url }))
        assert.equal(2, refused.code, refused.stderr)
        assert.matches("only_one: there is a pooler in transaction mode", refused.stderr)
        assert.matches("MIGRATION_DATABASE_URL", refused.stderr)
        fs.write(dir .. "/stop", "")
        local around = process.run(command({ "hold" }, { DATABASE_URL = pooler.url, MIGRATION_DATABASE_URL = url }))
        assert.equal(3, around.code, around.stderr)
    end)

    it("asks at the terminal, with any standard input; only yes is yes", function()
        local line <const> = ("env DATABASE_URL='%s' DBRUN_PROTECTED='%s' lua %s/scripts/ask.lua </dev/null")
        for _, case in ipairs { { "y", "true" }, { "YES", "true" }, { "", "false" }, { "n", "false" },
            { "yess", "false" } } do
            local term <close> = terminal.start(line:format(url, case[1] == "n" and "spec*" or "", dir))
            term:expect("Target: %S+ %(PostgreSQL [%d.]+[^\n]*%)" .. (case[1] == "n" and "  PROTECTED" or "") .. "\n")
            term:expect "Delete 5 \\x1b%[2J rows%? %[y/N%] "
            term:line(case[1])
            term:expect(case[2])
            term:ends(0)
        end
        local term <close> = terminal.start(line:format(url, "", dir))
        term:expect "y/N"
        term:type "\3"
        term:ends(130)
    end)

    it("does not ask without a terminal", function()
        local function away(...)
            return process.run { "setsid", "-w", core.options.program, "--no-env", dir .. "/scripts/ask.lua", ...,
                env = { DATABASE_URL = url } }
        end
        local refused = away()
        assert.equal(2, refused.code)
        assert.matches("cannot ask 'Delete 5 \\x1b%[2J rows%?': there is no terminal.*%-%-yes", refused.stderr)
        assert.equal("true\n", away("--yes").stdout)
    end)
end)

