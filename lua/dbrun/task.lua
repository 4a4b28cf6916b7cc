--- Tasks: sequential code that runs concurrently. Structured concurrency: a task belongs to a group, an error in one
--- cancels the others of its group, and no task outlives its group.
---
--- Raises an error of kind `cancelled` where a task that was cancelled waits, and what the called function raises.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local ctask <const> = core.task

---@class dbrun.Task
---Raises the error of the task, and `cancelled` when the task that calls is cancelled.
---@field join fun(self: dbrun.Task): ... waits for its end: returns what its function returned, or raises its error
---```lua
---local t = task.spawn(function(a, b) return a + b end, 1, 2)
---print(t:join())  --> 3
---```
---@field cancel fun(self: dbrun.Task) raises an error of kind `cancelled` where it waits
---```lua
---local t = task.spawn(task.sleep, 60)
---t:cancel()
---print(select(2, pcall(t.join, t)).kind)  --> cancelled
---```
---@field status fun(self: dbrun.Task): "ready"|"running"|"waiting"|"done"|"failed"|"cancelled" where it is
---```lua
---local t = task.spawn(task.sleep, 0.01)
---t:join()
---print(t:status())  --> done
---```

---@class dbrun.Group
---Raises the first error of its tasks, and `cancelled` when the task that calls is cancelled.
---@field spawn fun(self: dbrun.Group, fn: function, ...): dbrun.Task starts a task in this group: `fn(...)`
---```lua
---do
---    local group <close> = task.group()
---    group:spawn(function(name) print(name) end, "Ada")  --> Ada
---end
---```
---@field wait fun(self: dbrun.Group) waits until all its tasks have ended; raises the first error
---```lua
---local group <close> = task.group()
---local t = group:spawn(function() return 42 end)
---group:wait()
---print(t:join())  --> 42
---```
---@field cancel fun(self: dbrun.Group) cancels all its tasks
---```lua
---do
---    local group <close> = task.group()
---    group:spawn(task.sleep, 60)
---    group:cancel()
---end
---print "cancelled"  --> cancelled
---```

local M = {}

---Starts a task in the group of the task that calls.
---@type fun(fn: function, ...): dbrun.Task
---```lua
---local t = task.spawn(function(name) return "hello " .. name end, "Ada")
---print(t:join())  --> hello Ada
---```
M.spawn = ctask.spawn

---A group: `local g <close> = task.group()`. The end of the block waits for its tasks. A task that is not of the group
---may close it too (`local _ <close> = g`): each task that waits wakes at the end and raises the group's error. In a
---coroutine that is closed from outside (`coroutine.close`; `coroutine.wrap` after an error inside) nothing can wait:
---there the tasks are cancelled, and the group around this one waits for them.
---@type fun(): dbrun.Group
---```lua
---do
---    local group <close> = task.group()
---    for i = 1, 3 do group:spawn(task.sleep, i / 100) end
---end -- waits for all three
---print "done"  --> done
---```
M.group = ctask.group

---Waits `seconds`; other tasks run meanwhile.
---@type fun(seconds: number)
---```lua
---local before = task.now()
---task.sleep(0.02)
---print(task.now() - before >= 0.02)  --> true
---```
M.sleep = ctask.sleep

---Calls `fn(...)` and raises an error of kind `timeout` inside it when it takes longer than `seconds`.
---@type fun(seconds: number, fn: function, ...): ...
---```lua
---print(task.timeout(1, function(a) return a * 2 end, 21))  --> 42
---print(select(2, pcall(task.timeout, 0.01, task.sleep, 1)).kind)  --> timeout
---```
M.timeout = ctask.timeout

---Calls `fn(...)`; a cancellation from outside waits until it has returned. A wait that nothing can end (a deadlock)
---raises an error there, too.
---@type fun(fn: function, ...): ...
---```lua
---local t = task.spawn(task.shield, function()
---    task.sleep(0.02)
---    print "finished"  --> finished
---end)
---task.sleep(0)
---t:cancel()
---pcall(t.join, t)
---```
M.shield = ctask.shield

---Seconds on the monotonic clock.
---@type fun(): number
---```lua
---local before = task.now()
---print(task.now() - before < 1)  --> true
---```
M.now = ctask.now

local COUNT <const> = args.whole(1)

---Runs all functions concurrently.
---@param list function[]
---@return table results the first value that each returned, in the order of the list; `n` = their number
---```lua
---local results = task.all { function() return 1 end, function() return 2 end }
---print(results[1], results[2])  --> 1  2
---```
function M.all(list)
    args.list("task.all", "list", list, "function")
    local results = { n = #list }
    local g <close> = ctask.group()
    for i, fn in ipairs(list) do
        g:spawn(function()
            results[i] = fn()
        end)
    end
    g:wait()
    return results
end

---Calls `fn(item, index)` for each item, at most `n` at a time.
---@param list any[]
---@param n integer
---@param fn fun(item: any, index: integer): any
---@return table results in the order of the list
---```lua
---print(table.concat(task.map({ 1, 2, 3 }, 2, function(n) return n * n end), " "))  --> 1 4 9
---```
function M.map(list, n, fn)
    args.check("task.map", "list", list, "table")
    args.check("task.map", "n", n, COUNT)
    args.check("task.map", "fn", fn, "function")
    args.no_holes("task.map", "item", list)
    local results, at, count = { n = #list }, 0, #list
    local g <close> = ctask.group()
    for _ = 1, math.min(n, count) do
        g:spawn(function()
            while at < count do
                at = at + 1
                local i = at
                results[i] = fn(list[i], i)
            end
        end)
    end
    g:wait()
    return results
end

---Runs all functions concurrently until the first one ends, and cancels the others.
---@param list function[]
---@return any ... the results of the first (or its error is raised)
---```lua
---print(task.race {  --> quick
---    function() task.sleep(1) return "slow" end,
---    function() return "quick" end,
---})
---```
function M.race(list)
    args.list("task.race", "list", list, "function")
    if #list == 0 then
        errors.usage("task.race", "expected at least one function")
    end
    local winner
    local g <close> = ctask.group()
    local done <const> = ctask.condition()
    for _, fn in ipairs(list) do
        g:spawn(function()
            local result = table.pack(pcall(fn))
            if not winner then
                winner = result
                done:notify()
            end
        end)
    end
    if not winner then
        done:wait()
    end
    g:cancel()
    g:wait()
    if not winner[1] then
        error(winner[2], 0)
    end
    return table.unpack(winner, 2, winner.n)
end

---@class dbrun.Queue
---Raises an error of kind `cancelled` when the task that waits is cancelled.
local Queue = {}
Queue.__index = Queue

---A queue between tasks. With a size, `push` waits while it is full.
---@param size? integer
---@return dbrun.Queue
---```lua
---local queue = task.queue(10)
---task.spawn(function() queue:push "work" queue:close() end)
---for item in queue:items() do print(item) end  --> work
---```
function M.queue(size)
    args.optional("task.queue", "size", size, COUNT)
    return setmetatable({ size = size or math.huge, first = 1, last = 0, closed = false,
        filled = ctask.condition(), emptied = ctask.condition() }, Queue)
end

function Queue:__len()
    return self.last - self.first + 1
end

---Appends a value, which must not be nil.
---@param value any
---```lua
---local queue = task.queue(1)
---task.spawn(function() for i = 1, 3 do queue:push(i) end queue:close() end) -- waits while it is full
---print(queue:pop(), queue:pop(), queue:pop())  --> 1  2  3
---```
function Queue:push(value)
    if type(self) ~= "table" or self.filled == nil then -- cheaper than args.self
        args.self("push", self, Queue, "a queue", "queue")
    end
    if value == nil then
        errors.usage("queue:push", "nil cannot be queued")
    end
    while not self.closed and #self >= self.size do
        self.emptied:wait()
    end
    if self.closed then
        errors.fail("usage", "queue:push: the queue is closed", "Close a queue when no task pushes into it any more.")
    end
    self.last = self.last + 1
    self[self.last] = value
    self.filled:notify()
end

---Takes the first value, waiting for one; nil when the queue is closed and empty, or after `seconds`.
---@param seconds? number
---@return any
---```lua
---local queue = task.queue()
---print(queue:pop(0.01)) -- nothing came  --> nil
---queue:push "a"
---print(queue:pop())  --> a
---```
function Queue:pop(seconds)
    if type(self) ~= "table" or self.filled == nil then
        args.self("pop", self, Queue, "a queue", "queue")
    end
    if seconds ~= nil then
        args.check("queue:pop", "seconds", seconds, args.limit)
    end
    local deadline <const> = seconds and ctask.now() + seconds
    while #self == 0 do
        if self.closed then
            return nil
        end
        local left = deadline and deadline - ctask.now()
        if left and left <= 0 then
            return nil
        end
        self.filled:wait(left)
    end
    local value = self[self.first]
    self[self.first] = nil
    self.first = self.first + 1
    self.emptied:notify()
    return value
end

---Closes the queue: `pop` returns the remaining values, then nil.
---```lua
---local queue = task.queue()
---queue:push(1)
---queue:close()
---print(queue:pop(), queue:pop())  --> 1  nil
---```
function Queue:close()
    args.self("close", self, Queue, "a queue", "queue")
    self.closed = true
    self.filled:notify(math.maxinteger)
    self.emptied:notify(math.maxinteger)
end

---Iterates until the queue is closed and empty: `for value in q:items() do`.
---@return fun(): any
---```lua
---local queue = task.queue()
---task.spawn(function() for i = 1, 3 do queue:push(i) end queue:close() end)
---for value in queue:items() do print(value) end  --> 1
-----> 2
-----> 3
---```
function Queue:items()
    args.self("items", self, Queue, "a queue", "queue")
    return function()
        return self:pop()
    end
end

---@class dbrun.Semaphore
---Raises an error of kind `cancelled` when the task that waits is cancelled.
local Semaphore = {}
Semaphore.__index = Semaphore

---A semaphore: at most `n` holders at a time, first in, first out.
---@param n integer
---@return dbrun.Semaphore
---```lua
---local semaphore, most, now = task.semaphore(2), 0, 0
---task.map({ 1, 2, 3, 4 }, 4, function()
---    local permit <close> = semaphore:acquire()
---    now = now + 1
---    most = math.max(most, now)
---    task.sleep(0.01)
---    now = now - 1
---end)
---print(most)  --> 2
---```
function M.semaphore(n)
    args.check("task.semaphore", "n", n, COUNT)
    return setmetatable({ free = n, size = n, turn = ctask.condition() }, Semaphore)
end

---@class dbrun.Permit
---Raises nothing else.
local Permit = { __index = {} }

---Releases the permit; further calls do nothing.
---```lua
---local semaphore = task.semaphore(1)
---local permit = semaphore:acquire()
---permit:release()
---print(semaphore:try_acquire() ~= nil)  --> true
---```
function Permit.__index:release()
    if type(self) ~= "table" or self.semaphore == nil then
        args.self("release", self, Permit, "a permit", "permit")
    end
    local s = self.semaphore
    if not s then
        return
    end
    self.semaphore = false
    -- The permit passes to the first waiter directly, so that a later task cannot take it first.
    if s.turn:notify() == 0 then
        s.free = s.free + 1
    end
end
Permit.__close = Permit.__index.release

---Waits for a permit: `local permit <close> = sem:acquire()`. With a time limit: nil when it has passed.
---@param seconds? number
---@return dbrun.Permit|nil permit ended by permit:release() or `<close>`
---```lua
---local semaphore = task.semaphore(2)
---do
---    local permit <close> = semaphore:acquire()
---    print "at most two are here"  --> at most two are here
---end
---```
function Semaphore:acquire(seconds)
    if type(self) ~= "table" or self.turn == nil then
        args.self("acquire", self, Semaphore, "a semaphore", "semaphore")
    end
    if seconds ~= nil then
        args.check("semaphore:acquire", "seconds", seconds, args.limit)
    end
    -- Made before it counts: nothing may fail between taking and returning it.
    local permit <const> = setmetatable({ semaphore = false }, Permit)
    if self.free > 0 then
        self.free = self.free - 1
    elseif not self.turn:wait(seconds) then
        return nil
    end
    permit.semaphore = self
    return permit
end

---Takes a permit if one is free, without waiting.
---@return dbrun.Permit|nil
---```lua
---local semaphore = task.semaphore(1)
---local permit <close> = semaphore:try_acquire()
---print(semaphore:try_acquire())  --> nil
---```
function Semaphore:try_acquire()
    args.self("try_acquire", self, Semaphore, "a semaphore", "semaphore")
    if self.free == 0 then
        return nil
    end
    return self:acquire()
end

---Calls `fn(...)` while holding a permit.
---@param fn function
---@param ... any its arguments
---@return any ...
---```lua
---local semaphore = task.semaphore(1)
---print(semaphore:with(math.max, 1, 2))  --> 2
---```
function Semaphore:with(fn, ...)
    args.self("with", self, Semaphore, "a semaphore", "semaphore")
    args.check("semaphore:with", "fn", fn, "function")
    local _ <close> = self:acquire()
    return fn(...)
end

---Calls `fn(name)` each time the signal comes. SIGINT, SIGTERM and SIGHUP then no longer end the program.
---@param name string "SIGHUP", "SIGUSR1", ...
---@param fn fun(name: string)
---@return dbrun.Task task task:cancel() stops that
---```lua
---local heard = task.queue()
---local listening = task.on_signal("SIGUSR1", function(name) heard:push(name) end)
---process.kill(process.pid(), "USR1")
---print(heard:pop(5))  --> SIGUSR1
---listening:cancel()
---```
function M.on_signal(name, fn)
    args.check("task.on_signal", "name", name, "string")
    args.check("task.on_signal", "fn", fn, "function")
    local listening <const> = ctask.signal(name)
    return ctask.daemon(function()
        local signal <close> = listening
        while true do
            signal:wait()
            fn(name)
        end
    end)
end

args.answer_for_names(ctask.task_methods, "a task", {
    wait = "t:join()", await = "t:join()", result = "t:join() gives what its function returned", get = "t:join()",
    kill = "t:cancel()", stop = "t:cancel()", abort = "t:cancel()", state = "t:status()", done = "t:status()",
})
args.answer_for_names(ctask.group_methods, "a group", {
    join = "g:wait()", wait_all = "g:wait()", start = "g:spawn(fn, ...)", add = "g:spawn(fn, ...)",
    go = "g:spawn(fn, ...)", run = "g:spawn(fn, ...)", create_task = "g:spawn(fn, ...)",
    start_soon = "g:spawn(fn, ...)", close = "`local g <close> = task.group()` ends with its block",
})
args.answer_for_names(Queue, "a queue", {
    put = "q:push(value)", send = "q:push(value)", add = "q:push(value)", enqueue = "q:push(value)", get = "q:pop()",
    recv = "q:pop()", receive = "q:pop()", take = "q:pop()", dequeue = "q:pop()", iter = "q:items()", len = "#q",
    length = "#q", qsize = "#q",
})
args.answer_for_names(Semaphore, "a semaphore", {
    release = "permit:release(), or `local permit <close> = sem:acquire()`", wait = "sem:acquire()",
    lock = "sem:acquire()", take = "sem:acquire()", post = "permit:release()", unlock = "permit:release()",
})

local SPAWN <const>, ALL <const>, RACE <const> = "task.spawn(fn, ...)", "task.all{fn, ...}", "task.race{fn, ...}"

return args.answer_for_names(M, "task", {
    channel = "task.queue(size)", chan = "task.queue(size)", create = SPAWN, go = SPAWN, start = SPAWN, run = SPAWN,
    create_task = SPAWN, thread = SPAWN, gather = ALL, wait_all = ALL, parallel = ALL, any = RACE, first = RACE,
    select = RACE, wait = "task.sleep(seconds), or t:join() of a task", join = "t:join()", cancel = "t:cancel()",
    yield = "task.sleep(0)", wait_for = "task.timeout(seconds, fn, ...)", nursery = "task.group()",
    with_timeout = "task.timeout(seconds, fn, ...)", taskgroup = "task.group()", mutex = "task.semaphore(1)",
    lock = "task.semaphore(1)", clock = "task.now()", time = "task.now()", signal = "task.on_signal(name, fn)",
})
