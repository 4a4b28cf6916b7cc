--- COPY that is cut short at random moments: none of its rows stay, and the pool recovers. Row 23 of the faults.

local errors = require "dbrun.error"
local pg = require "spec.support.pg"
local task = require "dbrun.task"

local ROUNDS <const> = require "spec.support.faults.rounds".count
local WARM <const> = math.max(1, ROUNDS // 5)
local ROWS <const> = 3000

local seed <const> = math.tointeger(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(0, 999)
math.randomseed(seed)
print("# DBRUN_TEST_SEED=" .. seed)

--- Rows; `fault` makes row number `at`. Each is long enough that a COPY takes several blocks.
local function rows_with(at, fault)
    local i = 0
    return function()
        i = i + 1
        if i == at then return fault(i) end
        if i <= ROWS then return { i, ("x"):rep(200) } end
    end
end

--- Once for each engine.
local function on_all(block)
    for _, kind in ipairs(require "spec.support.faults.world".ALL) do
        describe("[" .. kind .. "]", function()
            block(kind, function(opts)
                local mode <const> = kind == "sync" and "sync" or "async"
                return pg.engine { mode = mode, size = opts.size, pipeline = kind == "shared" and 8 or nil }
            end)
        end)
    end
end

on_all(function(kind, open)
    local function rounds(fault)
        local e <close> = open { size = 2 }
        local t = pg.table(e, "i int8 primary key, s text")
        e:value "select 1"
        local pid = e:value "select pg_backend_pid()"
        local descriptors
        for round = 1, ROUNDS do
            local at <const> = round == 1 and 1 or math.random(ROWS) -- 1: the fault comes before anything is sent
            fault(e, t, at)
            assert.equal(0, e:value(("select count(*) from %s"):format(t)))
            local open_connections = pg.settled(e).open -- first: a cancel request has its own descriptor
            local others = pg.descriptors() - open_connections
            if round == WARM then descriptors = others end
            if round == ROUNDS then assert.equal(descriptors, others) end
        end
        return e:value "select pg_backend_pid()" == pid
    end

    describe("a COPY, at random moments,", function()
        it("whose producer raises ends cleanly and its connection is used again", function()
            local same_backend = rounds(function(e, t, at)
                local problem = { at = at }
                local rows = rows_with(at, function() error(problem) end)
                assert.equal(problem, pg.raised(e.copy_in, e, t, { "i", "s" }, rows))
            end)
            assert.is_true(same_backend)
        end)

        it("that the server refuses ends cleanly and its connection is used again", function()
            local same_backend = rounds(function(e, t, at)
                local bad = at == 1 and { nil, "no key" } or { 1, "twice" }
                local err = pg.raised(e.copy_in, e, t, { "i", "s" }, rows_with(at, function() return bad end))
                assert.matches("^2350[25]$", err.sqlstate)
            end)
            assert.is_true(same_backend)
        end)

        it("whose backend is killed gives a structured error, and the next one works", function()
            local killer <close> = pg.engine { size = 1 }
            rounds(function(e, t, at)
                local c <close> = e:acquire()
                local pid = c:backend_pid()
                local ok, err = pcall(c.copy_in, c, t, { "i", "s" }, rows_with(at, function(i)
                    killer:query("select pg_terminate_backend($1, 5000)", pid)
                    return { i, "after" }
                end))
                assert.is_false(ok)
                assert.is_true(errors.is(err, "connect"), tostring(err))
                if at > 1 or err.outcome ~= "not_sent" then -- the lost connection was noticed before it was used
                    assert.equal("failed", err.outcome)
                end
            end)
        end)

        it("out, left at a row, leaves no descriptor or memory", function()
            rounds(function(e, _, at)
                for row in e:copy_out(("select i, repeat('y', 300) as s from generate_series(1, %d) i"):format(ROWS)) do
                    if row.i == at then break end
                end
            end)
        end)

        if kind ~= "sync" then
            it("whose task is cancelled is rolled back", function()
                rounds(function(e, t, at)
                    local err = pg.raised(task.timeout, math.random() * 0.01, e.copy_in, e, t, { "i", "s" },
                        rows_with(at, function()
                            task.sleep(1)
                            return { 0, "never" }
                        end))
                    assert.is_true(errors.is(err, "timeout"), tostring(err))
                end)
                end)
        end
    end)
end)
