-- M1: the cost of a task that waits for a connection: 10,000 tasks wait for 20 connections. All are served, first come,
-- first served, and many rounds take no more memory than the first few. And 100,000 tasks that sleep at the same time:
-- their memory, and how many begin and end in a second.
local contender <const> = require "bench.lib.contender"
local shell <const> = require "bench.lib.shell"

local TASKS <const>, CONNECTIONS <const>, WARM <const> = 10000, 20, 15
-- The allowed growth in bytes from the first rounds to the last: the phase of Lua's collector can cause half of it; a
-- leak of 20 bytes for each task would exceed it.
local GROWTH <const> = 16 * 1024 * 1024

local function resident()
    local f <close> = assert(io.open("/proc/self/statm"))
    return math.tointeger(f:read "a":match "^%d+ (%d+)") * 4096
end

--- Checks out all connections of the pool.
local function hold(engine)
    local held = {}
    for i = 1, CONNECTIONS do held[i] = engine:acquire() end
    return held
end

local function release(held)
    for _, c in ipairs(held) do c:release() end
end

--- One round; returns how many were served out of turn, and the resident memory while all waited.
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

local function measure(seconds)
    local rounds <const> = seconds < 1 and 30 or 100
    local config <const> = require "dbrun.config"
    local db <const> = require "dbrun.db"
    local task <const> = require "dbrun.task"
    local engine <close> = db.engine {
        url = config.async_database_url, size = CONNECTIONS, overflow = 0, timeout = 300,
    }
    release(hold(engine)) -- opens the connections, so that they do not count
    collectgarbage()
    local before <const>, begin <const>, cpu <const> = resident(), task.now(), os.clock()
    local errors, full, settled = 0, nil, nil
    for i = 1, rounds do
        local wrong <const>, waiting <const> = round(engine, task)
        errors = errors + wrong
        full = full or waiting -- of the first round only: later rounds reuse its memory
        if i == WARM then
            collectgarbage()
            settled = resident()
        end
    end
    collectgarbage()
    if resident() > settled + GROWTH then errors = errors + 1 end
    return {
        ops = TASKS * rounds, checks = TASKS * rounds, errors = errors, seconds = task.now() - begin,
        cpu = os.clock() - cpu, bytes = (full - before) // TASKS,
    }
end

local SLEEPERS <const> = 100000

--- Starts the sleepers, so that all sleep at the same time, and waits until they end.
local function sleep()
    local task <const> = require "dbrun.task"
    collectgarbage()
    local before <const>, begin <const>, cpu <const> = resident(), task.now(), os.clock()
    local began, ended, peak = 0, 0
    do
        local g <close> = task.group()
        for _ = 1, SLEEPERS do
            g:spawn(function()
                began = began + 1
                task.sleep(3)
                ended = ended + 1
            end)
        end
        repeat task.sleep(0) until began == SLEEPERS
        if ended > 0 then ended = -SLEEPERS end -- they did not sleep at the same time
        peak = resident()
        g:wait()
    end
    return {
        ops = SLEEPERS, checks = SLEEPERS, errors = math.abs(SLEEPERS - ended), seconds = task.now() - begin,
        cpu = os.clock() - cpu, bytes = peak - before,
    }
end

--- Tasks that begin, sleep no longer than a turn of the loop, and end: 10,000 at a time.
local function start()
    local task <const> = require "dbrun.task"
    local begin <const>, cpu <const>, ended = task.now(), os.clock(), 0
    local count <const> = 5 * SLEEPERS
    for _ = 1, count // TASKS do
        local g <close> = task.group()
        for _ = 1, TASKS do
            g:spawn(function()
                task.sleep(0)
                ended = ended + 1
            end)
        end
        g:wait()
    end
    return {
        ops = count, checks = count, errors = count - ended, seconds = task.now() - begin, cpu = os.clock() - cpu,
    }
end

--- The minimum memory of a waiting task: its coroutine.
local stock <const> = {
    name = "coroutines of stock Lua", kind = "floor",
    missing = function()
        if not shell.which "lua5.4" then return "lua5.4" end
    end,
    run = function(ctx)
        local out <const>, runs <const> = ctx:measure { "lua5.4", ctx.home .. "/floor/coroutines.lua", TASKS }
        return contender.sample(out, runs[1])
    end,
}

return {
    id = "M1", order = 30, title = "10,000 tasks wait for 20 connections, each", metric = "memory", pairs = 3,
    round = 14,
    measure = { wait = measure, sleep = sleep, start = start },
    ours = {
        contender.ours("dbrun", "wait", 180), contender.ours("dbrun, 100,000 sleep", "sleep"),
        contender.ours("dbrun, begin and end", "start"),
    },
    others = { stock },
    targets = {
        { metric = "memory", limit = 1536 },
        { metric = "memory", ours = "dbrun, 100,000 sleep", limit = 200 << 20 },
        { metric = "rate", ours = "dbrun, begin and end", limit = 200000 },
    },
}
