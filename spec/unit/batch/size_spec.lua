-- The number of rows of a chunk, with simulated row times: wide and narrow ones, many and few matching ones.
local sizes = require "dbrun.batch.work.size"

local SEED <const> = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()
local TARGET <const>, TIMEOUT <const> = 0.5, 2.0
local KEY <const> = 2e-7 -- seconds to read a key
local CHUNK <const> = 0.002 -- seconds for claim, mark and commit

print(("# DBRUN_TEST_SEED=%d"):format(SEED))

local function limits(more)
    local all <const> = { size = 1000, min = 10, max = 20000, look = 100000, target = TARGET }
    for key, value in pairs(more or {}) do all[key] = value end
    return all
end

--- A factor around 1: most chunks take a little more or less than computed, a few take much more.
local function noise()
    local x = 0.9 + 0.2 * math.random()
    if math.random(50) == 1 then x = x * 1.5 end
    return x
end

---@class spec.World
---@field keys integer
---@field fits fun(key: integer): boolean
---@field cost fun(key: integer): number seconds

--- Simulates a worker: a step, then the chunk; a chunk that takes too long is halved.
local function walk(world, size)
    local chunks, cancelled, position = {}, {}, 0
    local function step(after)
        local rows, key, wanted <const> = {}, after, size.rows
        while key < world.keys and key - after < size.look and #rows < wanted do
            key = key + 1
            if world.fits(key) then rows[#rows + 1] = key end
        end
        local seconds <const> = (key - after) * KEY * noise()
        size:stepped(seconds)
        return rows, key, wanted, seconds
    end
    while position < world.keys do
        local rows <const>, upto <const>, wanted <const>, looked <const> = step(position)
        local n = #rows
        while n > 0 do
            local seconds = CHUNK
            for i = 1, n do seconds = seconds + world.cost(rows[i]) end
            seconds = seconds * noise()
            local last <const> = rows[n]
            if seconds <= TIMEOUT then
                chunks[#chunks + 1] = {
                    key = last, rows = n, wanted = wanted, seconds = seconds + looked, size = size.rows,
                }
                size:done(n, wanted, seconds + looked, true)
                position = n == #rows and upto or last
                break
            end
            cancelled[#cancelled + 1] = last
            size:too_long()
            n = math.max(1, n // 2)
        end
        if n == 0 then position = upto end
    end
    return chunks, cancelled
end

local function sorted(list, field)
    local values <const> = {}
    for i, item in ipairs(list) do values[i] = item[field] end
    table.sort(values)
    return values
end

--- Full chunks of a range of keys, without the first twenty.
local function steady(chunks, from, to)
    local list, n = {}, 0
    for _, chunk in ipairs(chunks) do
        if chunk.key > from and chunk.key <= to then
            n = n + 1
            if n > 20 and chunk.rows >= 0.9 * chunk.wanted then list[#list + 1] = chunk end
        end
    end
    return list
end

--- Checks a range: the median of its times, their 99th percentile, and the variation of sizes.
local function check(name, chunks, cancelled, from, to)
    local list <const> = steady(chunks, from, to)
    assert(#list >= 20, ("%s: %d chunks"):format(name, #list))
    local seconds <const>, rows <const> = sorted(list, "seconds"), sorted(list, "size")
    local median <const> = seconds[(#seconds + 1) // 2]
    local p99 <const> = seconds[math.ceil(0.99 * #seconds)]
    local swing <const> = rows[#rows] / rows[1]
    local text <const> = ("%s: %d chunks, median %.3f s, p99 %.3f s, sizes %d to %d"):format(name, #list, median, p99,
        rows[1], rows[#rows])
    print("# " .. text)
    assert(median >= 0.75 * TARGET and median <= 1.25 * TARGET, text)
    assert(p99 <= 3 * TARGET, text)
    assert(swing <= 1.5, text)
    for _, key in ipairs(cancelled) do
        assert(key <= list[1].key or key > to, ("%s: a chunk was cancelled at %d"):format(name, key))
    end
end

--- Seconds for a row with this number of bytes.
local function cost_of(bytes) return 1e-4 + bytes * 1e-7 end

local function always() return true end

describe("the size of a chunk", function()
    before_each(function() math.randomseed(SEED) end)

    it("follows rows that go from 100 bytes to 10 KB and back, at once", function()
        local size <const> = sizes.new(limits())
        local narrow <const>, wide <const> = 300000, 30000
        local world <const> = {
            keys = 2 * narrow + wide, fits = always,
            cost = function(key)
                return cost_of((key <= narrow or key > narrow + wide) and 100 or 10000)
            end,
        }
        local chunks <const>, cancelled <const> = walk(world, size)
        check("narrow", chunks, cancelled, 0, narrow)
        check("wide", chunks, cancelled, narrow, narrow + wide)
        check("narrow again", chunks, cancelled, narrow + wide, world.keys)
        assert(#cancelled <= 5, #cancelled)
    end)

    it("follows rows that grow and shrink gradually, without a cancelled chunk", function()
        local size <const> = sizes.new(limits())
        local world <const> = {
            keys = 400000, fits = always,
            cost = function(key) return cost_of(100 * 100 ^ (1 - math.abs(key / 200000 - 1))) end,
        }
        local chunks <const>, cancelled <const> = walk(world, size)
        assert.same({}, cancelled)
        local list <const> = {}
        for i = 21, #chunks do list[#list + 1] = chunks[i] end
        local seconds <const> = sorted(list, "seconds")
        local median <const>, p99 <const> = seconds[#seconds // 2], seconds[math.ceil(0.99 * #seconds)]
        assert(median >= 0.75 * TARGET and median <= 1.25 * TARGET, median)
        assert(p99 <= 3 * TARGET, p99)
    end)

    it("does not grow in ranges with few matching rows, nor stall in the block after them", function()
        local size <const> = sizes.new(limits())
        local block <const> = 200000
        local world <const> = {
            keys = 10 * block,
            fits = function(key) return (key // block) % 2 == 0 or key % 5000 == 0 end,
            cost = function() return 1e-4 end,
        }
        local chunks <const>, cancelled <const> = walk(world, size)
        assert.same({}, cancelled)
        for n = 0, 8, 2 do check("block " .. n, chunks, cancelled, n * block, (n + 1) * block - 1) end
        local worst = 0
        for i = 21, #chunks do worst = math.max(worst, chunks[i].seconds) end
        assert(worst <= 3 * TARGET, worst)
    end)

    it("goes down to one row when necessary, and recovers", function()
        local size <const> = sizes.new(limits { min = 10 })
        local world <const> = {
            keys = 250000, fits = always,
            cost = function(key) return key > 30000 and key <= 30020 and 1.5 or 1e-4 end,
        }
        local chunks, cancelled = walk(world, size)
        local least = math.huge
        for _, chunk in ipairs(chunks) do least = math.min(least, chunk.rows) end
        assert.equal(1, least)
        assert(#cancelled <= 20, #cancelled)
        check("behind", chunks, {}, 60000, world.keys)
    end)
end)
