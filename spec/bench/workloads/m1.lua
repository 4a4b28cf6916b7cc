-- M1: what a task costs that waits for a connection: 10,000 of them for 20. All are served, in the order in which
-- they came, and a hundred rounds take no more memory than the first few.
local contender <const> = require "bench.lib.contender"

local TASKS <const>, CONNECTIONS <const>, ROUNDS <const>, WARM <const> = 10000, 20, 100, 20
-- Bytes between the first rounds and the last that are no growth: where Lua is in its collecting makes half of it,
-- and 20 bytes lost with each task would make it.
local GROWTH <const> = 16 * 1024 * 1024

local function resident()
    local f <close> = assert(io.open("/proc/self/statm"))
    return math.tointeger(f:read "a":match "^%d+ (%d+)") * 4096
end

--- All connections of the pool.
local function hold(engine)
    local held = {}
    for i = 1, CONNECTIONS do held[i] = engine:acquire() end
    return held
end

local function release(held)
    for _, c in ipairs(held) do c:release() end
end

--- One round; returns how many were served out of turn, and what was resident while all waited.
local function round(engine, task)
    local held = hold(engine)
    local served, wrong = 0, 0
    local waiting
    do
        local g <close> = task.group()
        for i = 1, TASKS do
            g:spawn(function()
                local _ <close> = engine:acquire()
                served = served + 1
                wrong = wrong + (served == i and 0 or 1)
            end)
        end
        repeat task.sleep(0) until engine:stats().waiting == TASKS
        waiting = resident()
        release(held)
    end
    return wrong + (TASKS - served), waiting
end

local function measure()
    local config <const> = require "dbrun.config"
    local db <const> = require "dbrun.db"
    local task <const> = require "dbrun.task"
    local engine <close> = db.engine {
        url = config.async_database_url, size = CONNECTIONS, overflow = 0, timeout = 300,
    }
    release(hold(engine)) -- connections count before
    collectgarbage()
    local before <const>, begin <const>, cpu <const> = resident(), task.now(), os.clock()
    local errors, full, settled = 0, nil, nil
    for i = 1, ROUNDS do
        local wrong <const>, waiting <const> = round(engine, task)
        errors = errors + wrong
        full = full or waiting -- the first time: later rounds use again what it took
        if i == WARM then
            collectgarbage()
            settled = resident()
        end
    end
    collectgarbage()
    if resident() > settled + GROWTH then errors = errors + 1 end
    return {
        ops = TASKS * ROUNDS, checks = TASKS * ROUNDS, errors = errors, seconds = task.now() - begin,
        cpu = os.clock() - cpu, bytes = (full - before) // TASKS,
    }
end

return {
    id = "M1", order = 30, title = "10,000 tasks wait for 20 connections, each", metric = "memory",
    measure = { wait = measure },
    ours = { contender.ours("dbrun", "wait") },
    others = {},
    targets = {
        { metric = "memory", limit = 1536 },
    },
}
