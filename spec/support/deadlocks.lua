--- Deadlocks in a stock lua5.4: an error ends each; the main thread and tasks outside of the deadlock go on.

local task <const> = require "dbrun.task"

local q <const> = task.queue()

local function close(fn)
    local g <close> = task.group()
    g:spawn(fn)
end

local function forever()
    while true do
        pcall(q.pop, q)
    end
end

local idle <const> = task.spawn(q.pop, q)

for _, fn in ipairs {
    function() q:pop() end,
    function() task.shield(q.pop, q) end,
    function() close(function() q:pop() end) end,
    function() close(function() task.shield(q.pop, q) end) end,
    function() close(forever) end,
    function() task.shield(close, forever) end,
} do
    local ok, e = pcall(fn)
    assert(not ok and e.kind == "cancelled" and tostring(e):find "deadlock", e)
end
task.sleep(0.001)
assert(idle:status() == "waiting")
q:push(1)
assert(idle:join() == 1)
