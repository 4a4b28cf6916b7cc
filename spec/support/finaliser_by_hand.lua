--- dbrun spec/support/finaliser_by_hand.lua URL: calls __gc, through the metatable, of Redis handles on which a task
--- waits.

local errors <const> = require "dbrun.error"
local redis <const> = require "dbrun.redis"
local task <const> = require "dbrun.task"

local client <const> = redis.client { url = arg[1] }

--- Runs fn(handle) in a task and calls __gc(handle) meanwhile; returns what the task got.
local function disturbed(handle, fn)
    local g <close> = task.group()
    local got
    g:spawn(function() got = table.pack(pcall(fn, handle)) end)
    task.sleep(0.05)
    getmetatable(handle).__gc(handle)
    g:wait()
    return table.unpack(got, 1, got.n)
end

local function check_closed(ok, e)
    assert(not ok and errors.is(e, "pool") and e.message:find "closed", tostring(e))
end

check_closed(disturbed(client:acquire(), function(c) return c:blpop("nothing", 5) end))
check_closed(disturbed(redis.client { url = arg[1] }, function(r) return r:call("debug", "sleep", 0.2) end))
do
    local c <const> = client:acquire()
    c:listen()
    c:post("subscribe", "nothing")
    c:next(5)
    check_closed(disturbed(c, function() return c:next(5) end))
end
do
    local other <const> = redis.client { url = arg[1] }
    local p <const> = other:pipeline()
    p:call("debug", "sleep", 0.2)
    local ok <const>, replies <const> = disturbed(p, function() return p:execute() end)
    assert(ok and replies[1] == "OK", tostring(replies))
end
assert(client:ping() == "PONG")
