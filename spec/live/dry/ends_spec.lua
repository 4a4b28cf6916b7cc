--- A dry run rolls back and prints its summary however it ends.
local dry = require "spec.support.dry"
local fs = require "dbrun.fs"
local pace = require "spec.support.pace"
local process = require "dbrun.process"
local task = require "dbrun.task"

local WORK <const> = [[
e:exec "insert into orders values (9001, '')"
db.sync:exec "insert into orders values (9002, '')"
]]
local COUNTED <const> = "dry run: rolled back\n  orders  2 inserted\n"

describe("the end of a dry run", function()
    local at

    setup(function() at = dry.database() end)
    teardown(function() at.engine:close() end)

    local function ended(result, code, stderr)
        assert.equal(code, result.code, result.stderr)
        assert.equal(stderr, result.stderr:sub(-#stderr), result.stderr)
        assert.is_true(dry.is_unchanged(at))
        return result
    end

    local function ends(code, stderr, text) return ended(dry.run(at, WORK .. text), code, stderr) end

    it("by os.exit, with and without closing, and inside of a transaction", function()
        ends(3, COUNTED, "os.exit(3)")
        ends(4, COUNTED, "os.exit(4, true)")
        ends(0, COUNTED, [[e:transaction(function(tx) tx:exec "delete from items" os.exit(true) end)]])
    end)

    it("by os.exit where tasks cannot wait: it says that it did not count", function()
        local result = ends(0, "\n", "table.sort({ 2, 1 }, function() os.exit(0) end)")
        assert.matches("dry run: rolled back\n.*  the rows in [%w_]+ are not counted: .*nothing can wait here",
            result.stderr)
    end)

    it("by os.exit while another task runs a statement", function()
        ends(0, COUNTED .. "  a statement was under way: its transaction is not counted\n", [[
            task.spawn(function() e:query "update orders set note = (pg_sleep(20) is null)::text where id = 7" end)
            task.sleep(0.1)
            os.exit(0)]])
        -- The server does not go on with it: its locks are free.
        at.engine:transaction({ timeout = 10 }, function(tx)
            tx:query "select 1 from orders where id = 7 for update"
        end)
    end)

    it("before it has begun: help and a mistyped option start no dry run", function()
        local result = dry.run(at, [[
            local cli = require "dbrun.cli"
            cli.run({ about = "Tidies.", run = print }, { "--help" })
            os.exit(cli.run({ about = "Tidies.", run = print }, { "--hlep" }))]])
        assert.equal(2, result.code)
        assert.match("Tidies.", result.stdout, 1, true)
        assert.not_match("dry run:", result.stderr)
    end)

    it("by an error, whose text comes first", function()
        local result = ends(1, COUNTED, [[e:transaction(function(tx) tx:exec "delete from items" error "boom" end)]])
        assert.matches("boom\nstack traceback:", result.stderr)
    end)

    it("by tasks that go on after the script", function()
        ends(0, "dry run: rolled back\n  orders  3 inserted\n",
            [[task.spawn(function() task.sleep(0.05) e:exec "insert into orders values (9003, '')" end)]])
    end)

    it("by --timeout, in the middle of a transaction", function()
        local text <const> = [[
            e:transaction(function(tx)
                tx:exec "delete from items"
                print "deleted"
                tx:query "select pg_sleep(600)"
            end)]]
        local result
        pace.long_enough(0.4, function(seconds)
            result = dry.run(at, WORK .. text, { "--timeout", ("%g"):format(seconds) })
            return result.stdout:find "deleted"
        end)
        ended(result, 1, COUNTED)
    end)

    ---Starts a run, and returns once it has printed a line.
    local function start(text)
        local argv = dry.command(at, WORK .. text)
        argv.stdout, argv.stderr = "capture", "capture"
        local child = process.start(argv)
        return child
    end

    ---Runs `text`, which writes the file `on`, and sends SIGINT then.
    local function interrupted(text)
        local dir = fs.mkdtemp()
        local child = start(text:format(dir .. "/on"))
        while not fs.exists(dir .. "/on") do task.sleep(0.01) end
        child:kill "INT"
        local result = child:wait(20)
        fs.rmtree(dir)
        assert.equal(130, result.code)
        assert.matches("interrupted by SIGINT\n" .. COUNTED .. "$", result.stderr)
        assert.is_true(dry.is_unchanged(at))
    end

    it("by Ctrl-C", function()
        interrupted [[
            require "dbrun.fs".write(%q, "x")
            e:transaction(function(tx) tx:exec "delete from items" tx:query "select pg_sleep(10)" end)]]
    end)

    it("by Ctrl-C, which does not interrupt the rollback and the summary", function()
        -- Simulates a slow machine: the signal is delivered repeatedly to the running Lua code.
        interrupted [[
            local dry = require "dbrun.dry"
            local finish = dry.finish
            function dry.finish()
                local began = os.clock()
                while os.clock() - began < 0.2 do end
                return finish()
            end
            require "dbrun.fs".write(%q, "x")
            task.sleep(10)]]
    end)

    it("by a lost connection: it says that nothing was kept, and stops", function()
        local dir = fs.mkdtemp()
        local child = start(([[
            local fs = require "dbrun.fs"
            fs.write(%q, (e:value "select pg_backend_pid()"))
            while fs.exists(%q) do task.sleep(0.01) end
            for _ = 1, 2 do print(fails(e.value, e, "select 1").message) end]]):format(dir .. "/new", dir .. "/pid"))
        fs.write(dir .. "/pid", "")
        while not (fs.exists(dir .. "/new") and #fs.read(dir .. "/new") > 0) do task.sleep(0.01) end
        at.engine:value("select pg_terminate_backend($1::int)", fs.read(dir .. "/new"))
        fs.unlink(dir .. "/pid")
        local result = child:wait(20)
        fs.rmtree(dir)
        assert.equal(1, result.code)
        assert.matches("^the dry run lost its transaction in [%w_]+, nothing of it was kept, and it cannot go on: .*\n"
            .. "the dry run lost its transaction", result.stdout)
        assert.matches("dry run: it did not run to its end: the transaction in [%w_]+ was lost, and nothing of it was "
            .. "kept\n", result.stderr)
        assert.is_true(dry.is_unchanged(at))
    end)
end)
