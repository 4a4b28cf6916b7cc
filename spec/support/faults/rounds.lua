--- Injects a fault repeatedly, at random moments, and checks the pool and the data after each round.
---
---     faults.describe(describe, it, { { row = 1, what = "...", run = function(kind, each) ... end }, ... })
---
--- `run` makes a world (spec.support.faults.world) and calls each(world, function(round) ... end), which makes the
--- fault, does work under it, and ends it. DBRUN_FAULT_ROUNDS is the number of rounds (`make faults`: 100);
--- DBRUN_TEST_SEED is printed.

local errors <const> = require "dbrun.error"
local pg <const> = require "spec.support.pg"
local resident <const> = require "spec.support.resident"
local task <const> = require "dbrun.task"
local world <const> = require "spec.support.faults.world"

local M <const> = {}

local SANITIZED <const> = os.getenv "ASAN_OPTIONS" ~= nil

--- The number of rounds of each fault: a tenth of `make faults`, and fewer under the sanitizers.
M.count = math.tointeger(tonumber(os.getenv "DBRUN_FAULT_ROUNDS" or (SANITIZED and 3 or 10)))

M.seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()

local TICK <const> = SANITIZED and 1 or 0.1 -- the longest allowed pause of the loop, in seconds

local MEMORY <const> = 16 << 20 -- the most bytes that a fault can leak in all rounds together

--- The number of descriptors other than those of connections, and the memory, when the program is idle.
local function holds(w)
    collectgarbage()
    collectgarbage()
    return pg.descriptors() - w.e:stats().open - w.control:stats().open, resident()
end

---@param w spec.World
---@param fn fun(round: integer) makes the fault, does work, ends the fault
---@param opts? {rounds: integer?, memory: integer?} memory: bytes that can leak
local function each(w, fn, opts)
    local rounds <const> = opts and opts.rounds or M.count
    local warm <const> = math.max(1, rounds // 5)
    local descriptors, memory
    for round = 1, rounds do
        local ok <const>, problem <const> = pcall(function()
            fn(round)
            w.hand:wait()
            if w.wrong then error(w.wrong, 0) end
            w:whole()
            w:verify()
            assert(w.worst <= TICK, ("the loop stood still for %.3f s"):format(w.worst))
        end)
        if not ok then
            error(("round %d: %s"):format(round, tostring(problem)), 0)
        end
        if round == warm then descriptors, memory = holds(w) end
    end
    local descriptors_after, memory_after = holds(w)
    local stop <const> = task.now() + 30 -- the thread of an abandoned connect can hold a descriptor for a while
    while descriptors_after > descriptors + 2 and task.now() < stop do
        task.sleep(0.05)
        descriptors_after, memory_after = holds(w)
    end
    assert(descriptors_after <= descriptors + 2, ("%d descriptors, %d before"):format(descriptors_after, descriptors))
    if not SANITIZED then -- the sanitizer's quarantine of freed memory counts as resident
        local most <const> = memory + (opts and opts.memory or MEMORY)
        assert(memory_after <= most, ("%d KiB, %d before"):format(memory_after >> 10, memory >> 10))
    end
    local counts <const> = {}
    for name, n in pairs(w.counts) do counts[#counts + 1] = ("%s %d"):format(name, n) end
    table.sort(counts)
    return table.concat(counts, ", ")
end

---@param fault {row: integer, what: string, run: fun(kind: string, each: function)}
---@param kind "async"|"shared"|"sync"
---@return string counts of outcomes
function M.run(fault, kind)
    math.randomseed(M.seed, fault.row)
    local counts = ""
    local ok <const>, problem <const> = pcall(fault.run, kind, function(w, fn, opts)
        w.allowed = fault.allowed
        counts = each(w, fn, opts)
    end)
    -- busted's own, such as that of pending(), are for busted.
    if not ok and type(problem) == "table" and not errors.is(problem) then error(problem, 0) end
    if not ok then error(("DBRUN_TEST_SEED=%d: row %d: %s"):format(M.seed, fault.row, tostring(problem)), 0) end
    return counts
end

--- One spec for each fault and engine.
---@param describe function busted's
---@param it function busted's
---@param list table[] faults; `only` names the engines that one applies to (default: all)
function M.describe(describe, it, list)
    print(("# DBRUN_TEST_SEED=%d, %d times each"):format(M.seed, M.count))
    for _, kind in ipairs(world.ALL) do
        describe(("[%s]"):format(kind), function()
            for _, fault in ipairs(list) do
                local applies = not fault.only
                for _, name in ipairs(fault.only or {}) do applies = applies or name == kind end
                if applies then
                    it(("%d: %s"):format(fault.row, fault.what), function()
                        print(("# %s %d: %s"):format(kind, fault.row, M.run(fault, kind)))
                    end)
                end
            end
        end)
    end
end

return M
