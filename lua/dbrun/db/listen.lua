--- LISTEN: notifications as an iterator, on a dedicated connection that reconnects when it is lost.
---
---     local listener <close> = db.async:listen("orders", "stock")
---     for ev in listener:events() do
---         if ev.kind == "notify" then print(ev.channel, ev.payload) else read_everything_again() end
---     end
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local object_names <const> = require "dbrun.db.names"
local task <const> = require "dbrun.task"

local QUIET <const> = 15 -- seconds of silence after which the server is pinged
local CONFIRM <const> = 10 -- seconds to wait for its answer, and for LISTEN
local POOLER <const> = 5 -- seconds to wait for the notification that shows which kind of pooler there is
local LONGEST_NAME <const> = 63 -- bytes; the server would truncate a longer name without an error
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.02, 1

---@class dbrun.Notification
---@field kind "notify"|"gap" gap: after a reconnect; notifications may have been missed
---@field channel? string
---@field payload? string
---@field pid? integer of the server process that notified
---@field reason? string of a gap

---@class dbrun.Listener
---Raises errors of kind `connect` when the server refuses for good, `query`, `timeout` and `cancelled`.
---@field private engine dbrun.Engine
---@field private channels string[]
---@field private feed table|false the connection; false while there is none
---@field private lost string|false why there is no connection
---@field private heard number when the server last sent something
---@field private asked number|false when it was pinged
---@field private taking boolean whether a task waits for events
---@field private quiet number
---@field private confirm number
---@field private changed table condition that close() notifies
local Listener <const> = {}
local Metatable <const> = { __index = object_names.answer("listener", Listener), __name = "dbrun.Listener" }

local function check_self(method, self)
    args.self(method, self, Metatable, "a listener", "listener")
end

-- ---- channels ----

local function quote(name)
    return '"' .. name:gsub('"', '""') .. '"'
end

local function statements(command, names)
    local list = {}
    for i, name in ipairs(names) do list[i] = command .. " " .. quote(name) end
    return table.concat(list, "; ")
end

---The given names without duplicates, from arguments or one list.
local function names_of(what, ...)
    local given <const> = table.pack(...)
    local list <const> = given.n == 1 and type(given[1]) == "table" and given[1] or given
    local names, seen = {}, {}
    if list ~= given then
        args.check(what, "the channels", list, args.strings)
    end
    for i = 1, list.n or #list do
        local name <const> = list[i]
        args.check(what, "a channel's name", name, "string")
        if name == "" or #name > LONGEST_NAME or name:find("\0", 1, true) then
            errors.usage(what, "a channel's name must have 1 to %d bytes and no NUL, got %q", LONGEST_NAME, name)
        end
        if not seen[name] then names[#names + 1] = name end
        seen[name] = true
    end
    if #names == 0 then errors.usage(what, "expected the name of a channel") end
    return names
end

---`list` without the names of `other`.
local function without(list, other)
    local gone, kept = {}, {}
    for _, name in ipairs(other) do gone[name] = true end
    for _, name in ipairs(list) do
        if not gone[name] then kept[#kept + 1] = name end
    end
    return kept
end

-- ---- the connection ----

local function drop(self)
    local feed <const> = self.feed
    self.feed = false
    if feed then feed:close() end
end

--- Whether there is a pooler in between: it reports a process number that the server does not have.
local function is_pooled(conn)
    return conn:value "select pg_catalog.pg_backend_pid()" ~= conn:backend_pid()
end

--- Channels of check_pooler.
local checks = 0
local mark <const> = math.random(0) & 0xffffffff

--- A transaction pooler gives the session that ran LISTEN to other clients, and drops its notifications; a session
--- pooler does not. A notification from another connection shows which one it is, before anything is missed.
local function check_pooler(self)
    checks = checks + 1
    local channel <const> = ("dbrun_check_%08x_%d"):format(mark, checks)
    self.feed:exec(statements("listen", { channel }), self.confirm)
    self.engine:query("select pg_catalog.pg_notify($1, '')", channel)
    local stop <const> = task.now() + POOLER
    repeat
        if self.feed:next(math.max(0, stop - task.now())) == channel then
            return self.feed:exec(statements("unlisten", { channel }), self.confirm)
        end
    until task.now() >= stop
    errors.raise {
        kind = "config", outcome = "not_sent",
        message = "listen: a transaction pooler in front of the server keeps the notifications (one that was sent to "
            .. "this connection did not come)",
        hint = "Give the listener a separate engine whose URL names the server itself, or a pool in session mode.",
    }
end

local function open(self)
    local pooled
    do
        local conn <close> = self.engine:acquire()
        pooled = is_pooled(conn)
        self.feed = conn:listen_feed()
    end
    self.heard, self.asked = task.now(), false
    if pooled then check_pooler(self) end
    if #self.channels > 0 then self.feed:exec(statements("listen", self.channels), self.confirm) end
end

---Whether a retry would fail again. A timeout of the task around the loop is not a timeout of the connection.
local function is_final(e)
    if not errors.is(e) or (e.kind == "timeout" and (e.outcome ~= "not_sent" or core.task.told_to_end())) then
        return true
    end
    if e.kind ~= "connect" and e.kind ~= "timeout" and e.kind ~= "pool" and e.kind ~= "io" then return true end
    local state <const> = e.sqlstate or ""
    return state:sub(1, 2) == "28" or state == "3D000" or state == "42501"
end

local function pause(self, seconds)
    if self.engine:is_sync() then
        core.pg.pause(seconds)
    else
        self.changed:wait(seconds)
    end
end

---Reconnects until it succeeds, fails for good, or the deadline passes.
---@return boolean
local function reopen(self, stop)
    local wait = FIRST_PAUSE
    while not self.closed do
        drop(self)
        local ok <const>, e <const> = pcall(open, self)
        if ok and not self.closed then return true end
        if not ok and is_final(e) then error(e, 0) end
        local left <const> = stop and stop - task.now() or math.huge
        if left <= 0 then break end
        if not self.closed then pause(self, math.min(left, wait * (0.5 + math.random()))) end
        wait = math.min(wait * 2, LONGEST_PAUSE)
    end
    drop(self)
    return false
end

-- ---- taking ----

---Pings a server that has been silent for long.
local function look_after(self)
    local feed <const>, now <const> = self.feed, task.now()
    if not feed:busy() then
        if self.asked then
            self.heard, self.asked = now, false
        elseif now - self.heard >= self.quiet then
            feed:ask()
            self.asked = now
        end
    elseif self.asked and now - self.asked >= self.confirm then
        errors.fail("connect", "the listening connection was lost: the server does not answer")
    end
end

---The next notification; nil after the deadline or when the listener was closed. Raises when the connection is lost.
local function next_notification(self, stop)
    repeat
        look_after(self)
        local now <const> = task.now()
        local until_look <const> = self.asked and self.asked + self.confirm - now or self.heard + self.quiet - now
        local left <const> = stop and stop - now or math.huge
        local channel <const>, payload <const>, pid <const> = self.feed:next(math.max(0, math.min(left, until_look)))
        if channel then
            self.heard = task.now()
            return { kind = "notify", channel = channel, payload = payload, pid = pid }
        end
    until self.closed or left <= until_look
    return nil
end

---Waits for the next event.
---@param timeout? number seconds; default: for ever
---@return dbrun.Notification|nil event nil after the timeout, or when the listener was closed
---```lua
---local listener <close> = db.async:listen "orders"
---db.async:exec "notify orders, '4711'"
---local event = listener:next(5)
---print(event.kind, event.channel, event.payload)  --> notify  orders  4711
---```
function Listener:next(timeout)
    check_self("next", self)
    args.optional("next", "the timeout", timeout, args.any_seconds)
    if self.taking then
        errors.fail("usage", "another task is taking the events of this listener",
            "Make a listener for each task, or let one task take the events and pass them on (task.queue).")
    end
    self.taking = true
    local _ <close> = setmetatable({}, { __close = function() self.taking = false end })
    local stop <const> = timeout and task.now() + timeout
    while not self.closed do
        if self.lost then
            if not reopen(self, stop) then return nil end
            local reason <const> = self.lost
            self.lost = false
            return { kind = "gap", reason = reason }
        end
        local ok <const>, result <const> = pcall(next_notification, self, stop)
        if ok then return result end
        if self.closed then return nil end
        if not errors.is(result, "connect") then error(result, 0) end
        self.lost = result.message
        core.log.write("info", "postgres: " .. result.message .. "; connecting again")
    end
    return nil
end

---Iterates over events: `for ev in listener:events() do`. Ends when the listener is closed, or after `timeout` seconds
---without an event. After a lost connection it reconnects, and the next event has the kind `gap`.
---@param timeout? number seconds of silence that end the loop; default: none
---@return fun(): dbrun.Notification?
---```lua
---local listener <close> = db.async:listen "orders"
---db.async:exec "notify orders, '4711'"
---for event in listener:events(0.2) do -- ends after 0.2 s of silence; without a number it never does
---    print(event.kind, event.payload)  --> notify  4711
---end
---```
function Listener:events(timeout)
    check_self("events", self)
    args.optional("events", "the timeout", timeout, args.any_seconds)
    return function() return self:next(timeout) end
end

-- ---- changing ----

---Runs LISTEN or UNLISTEN if there is a connection. If it is lost meanwhile, the task that takes the events reconnects.
local function change(self, sql)
    if not self.feed or self.lost then return end
    local ok <const>, e <const> = pcall(self.feed.exec, self.feed, sql, self.confirm)
    if not ok and not errors.is(e, "connect") then error(e, 0) end
end

local function check_open(self)
    if self.closed then errors.fail("usage", "this listener has been closed", "engine:listen makes another one.") end
end

---Listens to more channels.
---@param ... string
---```lua
---local listener <close> = db.async:listen "orders"
---listener:listen "stock"
---db.async:exec "notify stock, 'empty'"
---print(listener:next(5).payload)  --> empty
---```
function Listener:listen(...)
    check_self("listen", self)
    check_open(self)
    local names <const> = without(names_of("listen", ...), self.channels)
    if #names == 0 then return end
    self.channels = table.move(names, 1, #names, #self.channels + 1, self.channels)
    change(self, statements("listen", names))
end

---Stops listening to these channels.
---@param ... string
---```lua
---local listener <close> = db.async:listen "orders"
---listener:unlisten "orders"
---db.async:exec "notify orders, '4711'"
---print(listener:next(0.05))  --> nil
---```
function Listener:unlisten(...)
    check_self("unlisten", self)
    check_open(self)
    local names <const> = names_of("unlisten", ...)
    self.channels = without(self.channels, names)
    change(self, statements("unlisten", names))
end

---The server process of the connection; nil while there is none.
---@return integer|nil
---```lua
---local listener <close> = db.async:listen "orders"
---print(math.type(listener:backend_pid()))  --> integer
---```
function Listener:backend_pid()
    check_self("backend_pid", self)
    return self.feed and self.feed:backend_pid() or nil
end

---Closes the listener; a loop over its events ends. Idempotent.
---```lua
---local listener = db.async:listen "orders"
---listener:close()
---print(listener:next(0.1))  --> nil
---```
function Listener:close()
    check_self("close", self)
    self.closed = true
    drop(self)
    self.changed:notify()
end
Metatable.__close = Listener.close

local M = {}

---Makes a listener for notifications from now on.
---@param engine dbrun.Engine
---@param ... string channels
---@return dbrun.Listener
function M.new(engine, ...)
    local self <const> = setmetatable({
        engine = engine, channels = names_of("listen", ...), quiet = QUIET, confirm = CONFIRM,
        feed = false, lost = false, heard = 0, asked = false, taking = false, closed = false,
        changed = core.task.condition(),
    }, Metatable)
    local ok, e = pcall(open, self)
    if not ok and errors.is(e, "connect") and self.feed then -- the pool's connection was broken
        drop(self)
        ok, e = pcall(open, self)
    end
    if not ok then
        drop(self)
        error(e, 0)
    end
    return self
end

return M
