--- os.exit(code, true) while tasks wait on statements: they are cancelled on the server, transactions are rolled back.

local core <const> = require "dbrun.core"
local pg <const> = require "spec.support.pg"
local process <const> = require "dbrun.process"

local SCRIPT <const> = [[
    local db <const>, task <const> = require "dbrun.db", require "dbrun.task"
    local engine <const> = db.engine { url = os.getenv "URL", mode = os.getenv "MODE", size = 6, overflow = 0 }
    local main <close> = setmetatable({}, { __close = function(_, e) print("main", e) end })
    local function wait() return engine:query "/* exit_spec */ select pg_sleep(60)" end
    local function transaction()
        engine:transaction(function(tx)
            tx:exec "insert into exit_spec values (1)"
            tx:query "/* exit_spec */ select pg_sleep(60)"
        end)
    end
    local function rows()
        for _ in engine:rows "/* exit_spec */ select pg_sleep(0.001), n from generate_series(1, 100000) n" do end
    end
    local function quit() task.sleep(0.2) pcall(os.exit, 21, true) end
]]

describe("os.exit(code, true) while tasks wait on statements", function()
    local engine

    before_each(function()
        engine = pg.engine()
        engine:exec "drop table if exists exit_spec; create table exit_spec (n int)"
    end)
    after_each(function() engine:close() end)

    local function ends(code, mode)
        local r = process.run { core.options.program, "--no-env", "-", stdin = SCRIPT .. code, timeout = 60,
            env = { URL = pg.url(), MODE = mode or "async" } }
        assert.equal("", r.stderr)
        assert.equal("main\tnil\n", r.stdout)
        assert.equal(21, r.code)
        local left
        for _ = 1, 200 do -- a terminated server process needs a moment to end
            left = engine:value "select count(*) from pg_stat_activity where query like '/* exit_spec%' \z
                and state = 'active'"
            if left == 0 then break end
            engine:exec "select pg_sleep(0.02)"
        end
        assert.equal(0, left)
        assert.equal(0, engine:value "select count(*) from exit_spec")
    end

    it("of several tasks, by one that does not", function()
        ends "for _ = 1, 4 do task.spawn(wait) end task.spawn(transaction) task.spawn(quit) task.sleep(60)"
    end)

    it("of the main task, by a child", function()
        ends "task.spawn(quit) wait()"
        ends "task.spawn(quit) pcall(wait) print 'caught'"
        ends "task.spawn(quit) pcall(transaction) print 'caught'"
        ends "task.spawn(quit) rows()"
        ends "task.spawn(quit) coroutine.wrap(rows)()"
        ends "local g <close> = task.group() g:spawn(wait) g:spawn(transaction) g:spawn(quit)"
    end)

    it("and for a connection of the pool", function()
        ends "for _ = 1, 12 do task.spawn(wait) end task.spawn(quit) task.sleep(0.05) wait()"
    end)

    it("inside of a transaction", function()
        local code = "engine:transaction(function(tx) tx:exec 'insert into exit_spec values (1)' os.exit(21, true) end)"
        ends(code)
        ends(code, "sync")
    end)

    it("inside of a loop over rows", function()
        ends "for _ in engine:rows 'select generate_series(1, 100000)' do os.exit(21, true) end"
        ends("for _ in engine:rows 'select generate_series(1, 100000)' do os.exit(21, true) end", "sync")
    end)
end)
