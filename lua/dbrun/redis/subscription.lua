--- Subscriptions: messages as an iterator, on a dedicated connection that reconnects when it is lost.
local args <const> = require "dbrun.args"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local task <const> = require "dbrun.task"

local QUIET <const> = 15 -- seconds of silence after which the server is pinged
local CONFIRM <const> = 10 -- seconds to wait for its answer, and for a subscription to be confirmed
local LEAST_WAIT <const> = 0.02 -- seconds: what came while the program did something else is still to be read

--- The kinds of messages, and the positions of channel, payload and pattern in them.
local MESSAGES <const> = {
    message = { channel = 2, payload = 3 },
    smessage = { channel = 2, payload = 3 },
    pmessage = { pattern = 2, channel = 3, payload = 4 },
}

---@class dbrun.redis.Message
---@field kind "message"|"gap" gap: after a reconnect; messages may have been missed
---@field channel? string
---@field payload? string
---@field pattern? string of a psubscribe
---@field reason? string of a gap
---@field channels? string[] of a gap: the channels (or patterns) whose messages may have been missed

---`local s <close> = r:subscribe("news")`
---@class dbrun.redis.Subscription
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field package client dbrun.redis.Client
---@field package command string
---@field package channels string[]
---@field package adding {channels: string[], left: integer}[] channels that the server has not answered yet
---@field package connection dbrun.redis.Connection|false
---@field package lost string|false why the connection was lost, until a gap is told
---@field package reopening boolean a task does so
---@field package heard number when the server said something (counts across calls, which may have less time)
---@field package asked number|false when it was sent a PING that is not answered yet
local Subscription <const> = {}
local Metatable <const> = { __index = names.answer("subscription", Subscription), __name = "dbrun.redis.subscription" }

local function on_subscription(method, self)
    args.self(method, self, Metatable, "a subscription", "s")
end

--- The names of channels, from arguments or one list.
local function names_of(fn, ...)
    local given = table.pack(...)
    if given.n == 1 and type(given[1]) == "table" then
        args.check(fn, "the channels", given[1], args.strings)
        local list <const> = given[1]
        given = table.move(list, 1, #list, 1, { n = #list })
    end
    for i = 1, given.n do
        args.check(fn, "a channel's name", given[i], "string")
    end
    if given.n == 0 then
        errors.usage(fn, "expected the name of a channel")
    end
    return table.move(given, 1, given.n, 1, {})
end

local function to_message(event)
    local at <const> = MESSAGES[event[1]]
    if not at then
        return nil
    end
    return {
        kind = "message", channel = event[at.channel], payload = event[at.payload],
        pattern = at.pattern and event[at.pattern],
    }
end

--- Waits until the server has confirmed `n` channels; keeps messages that arrive meanwhile.
local function await_confirmation(self, connection, n)
    local give_up <const> = task.now() + CONFIRM
    while n > 0 do
        local event <const> = connection:next(math.max(0, give_up - task.now()))
        if event == nil then
            errors.raise { kind = "timeout", message = "redis: the subscription was not confirmed", retryable = true }
        elseif errors.is(event) then
            error(event, 0)
        elseif event[1] == self.confirmation then
            n = n - 1
        else
            self.early[#self.early + 1] = to_message(event)
        end
    end
end

local function open(self)
    self.adding = {}
    local connection <const> = self.client:acquire()
    self.connection = connection
    connection:listen()
    if #self.channels > 0 then
        connection:post(self.command, self.channels)
        await_confirmation(self, connection, #self.channels)
    end
    self.heard, self.asked = task.now(), false
end

local function drop_connection(self)
    local connection <const> = self.connection
    self.connection = false
    if connection then
        connection:discard()
    end
end

local function is_loss(e)
    return errors.is(e, "connect") or errors.is(e, "protocol")
end

--- Whether the client looks for the node of a channel's slot (cluster_subscription.lua). One of a single node never
--- gets a channel back that has moved.
local function follows(self)
    return type(self.client) == "table" and rawget(self.client, "cluster") ~= nil
end

local function is_passing(self, e)
    return errors.is(e) and e.kind ~= "cancelled" and (e.retryable or e.code == "MOVED" and follows(self))
end

--- Reconnects until it succeeds or fails for good. (When it is interrupted, the next call of the iterator goes on.)
local function reopen(self)
    local pause = 0.02
    while not self.closed do
        drop_connection(self)
        self.early = {} -- what an attempt got that failed then: messages were missed behind it, too
        local ok, e = pcall(open, self)
        if ok and self.closed then -- closed while there was no connection
            drop_connection(self)
        elseif ok then
            return true
        elseif not is_passing(self, e) then
            error(e, 0)
        end
        task.sleep(pause * (0.5 + math.random()))
        pause = math.min(pause * 2, 1)
    end
    return false
end

local function has(list, name)
    for _, one in ipairs(list) do
        if one == name then
            return true
        end
    end
    return false
end

--- The next of the channels that were added has an answer.
local function answered(self)
    local first <const> = self.adding[1]
    if first then
        first.left = first.left - 1
        if first.left == 0 then
            table.remove(self.adding, 1)
        end
    end
end

--- Adds names to, or removes them from, the list for a reconnect.
local function change(self, channels, keep)
    local kept, given = {}, {}
    for _, name in ipairs(channels) do
        given[name] = true
    end
    for _, name in ipairs(self.channels) do
        if not given[name] then
            kept[#kept + 1] = name
        end
    end
    if keep then
        table.move(channels, 1, #channels, #kept + 1, kept)
    end
    self.channels = kept
end

--- The server refused channels that were added: a reconnect must not ask for them again. In a cluster their slot may
--- be another node's by now.
local function refused(self, e)
    if e.retryable or (e.code == "MOVED" and follows(self)) then
        errors.fail("connect", "redis: channels could not be added here: " .. e.message)
    end
    local first <const> = table.remove(self.adding, 1)
    if first then
        change(self, first.channels, false)
    end
    error(e, 0)
end

--- The next message, nil when the subscription was closed. Raises when the connection is lost.
local function next_message(self)
    while not self.closed do
        if #self.early > 0 then
            return table.remove(self.early, 1)
        end
        local due <const> = self.asked and self.asked + CONFIRM or self.heard + QUIET
        local event <const> = self.connection:next(math.max(LEAST_WAIT, due - task.now()))
        if event ~= nil then
            self.heard, self.asked = task.now(), false
            if errors.is(event) and not event.message:find "'ping'" then -- a PING that is refused is answered, too
                refused(self, event)
            end
            local message <const> = to_message(event)
            if message then
                return message
            elseif event[1] == self.confirmation then
                answered(self)
            elseif event[1] == "sunsubscribe" and has(self.channels, event[2]) then
                errors.fail("connect", "redis: the channel moved to another node of the cluster")
            end
        elseif self.asked then
            errors.fail("connect", "redis: the server of a subscription does not answer")
        else
            self.connection:post "PING"
            self.asked = task.now()
        end
    end
    return nil
end

---Iterates over messages: `for m in s:messages() do print(m.channel, m.payload) end`. Ends when the subscription is
---closed. After a lost connection it reconnects, and the next element has kind `gap`.
---@return fun(): dbrun.redis.Message?
---```lua
---local s <close> = r:subscribe "example:news"
---r:publish("example:news", "hello")
---for message in s:messages() do print(message.kind, message.payload) break end  --> message  hello
---```
function Subscription:messages(...)
    on_subscription("messages", self)
    args.no_more("messages", "takes no arguments", "a time limit: task.timeout(seconds, fn)", ...)
    return function()
        if self.closed then
            return nil
        elseif not self.lost then
            local ok, result = pcall(next_message, self)
            if ok then
                return result
            elseif self.closed then
                return nil
            elseif not is_loss(result) then
                error(result, 0)
            end
            self.lost = result.message
        end
        if self.reopening then
            errors.fail("usage", "redis: another task is already waiting for a message of this subscription")
        end
        self.reopening = true
        local well <const>, open_again <const> = pcall(reopen, self)
        self.reopening = false
        if not well then
            error(open_again, 0)
        elseif not open_again then
            return nil
        end
        local channels <const> = table.move(self.channels, 1, #self.channels, 1, {})
        local gap <const> = { kind = "gap", reason = self.lost, channels = channels }
        self.lost = false
        return gap
    end
end

local function check_open(self)
    if self.closed then
        errors.fail("usage", "this subscription has been closed")
    end
end

--- When the connection is lost, messages() opens a new one with the channels of that moment.
local function tell_server(self, command, channels)
    local connection <const> = self.connection
    local ok, e = pcall(function()
        if connection then
            connection:post(command, channels)
        end
    end)
    if not ok and not is_loss(e) then
        error(e, 0)
    end
end

---Adds channels (patterns, for a psubscribe). If the server refuses them, the loop over the messages raises the error.
---@param ... string
---```lua
---local s <close> = r:subscribe "example:news"
---s:subscribe "example:more" -- counts from when the server has read it
---```
function Subscription:subscribe(...)
    on_subscription("subscribe", self)
    check_open(self)
    local channels <const> = names_of("subscribe", ...)
    change(self, channels, true)
    self.adding[#self.adding + 1] = { channels = channels, left = #channels }
    tell_server(self, self.command, channels)
end

---Unsubscribes from channels.
---@param ... string
---```lua
---local s <close> = r:subscribe("example:news", "example:more")
---s:unsubscribe "example:more" -- counts from when the server has read it
---```
function Subscription:unsubscribe(...)
    on_subscription("unsubscribe", self)
    check_open(self)
    local channels <const> = names_of("unsubscribe", ...)
    change(self, channels, false)
    tell_server(self, (self.command:gsub("SUB", "UNSUB", 1)), channels)
end

---Closes the subscription; a loop over its messages ends. Idempotent.
---```lua
---local s = r:subscribe "example:news"
---s:close()
---```
function Subscription:close()
    on_subscription("close", self)
    self.closed = true
    drop_connection(self)
end

Metatable.__close = Subscription.close

local function subscribe(client, command, ...)
    names.on_client(command:lower(), client)
    local self <const> = setmetatable({
        client = client, command = command, confirmation = command:lower(), channels = names_of(command:lower(), ...),
        connection = false, early = {}, adding = {}, lost = false, reopening = false, heard = task.now(), asked = false,
        closed = false,
    }, Metatable)
    local ok, e = pcall(open, self)
    if not ok then
        self:close()
        error(e, 0)
    end
    return self
end

---@param Client dbrun.redis.Client the table of methods to add to
return function(Client)
    ---Subscribes to channels; `s:messages()` iterates over what is published from now on.
    ---@param ... string
    ---@return dbrun.redis.Subscription
    ---```lua
    ---local s <close> = r:subscribe "example:news"
    ---r:publish("example:news", "hello")
    ---for message in s:messages() do print(message.channel, message.payload) break end  --> example:news  hello
    ---```
    function Client:subscribe(...)
        return subscribe(self, "SUBSCRIBE", ...)
    end

    ---The same for patterns (`news.*`).
    ---@param ... string
    ---@return dbrun.redis.Subscription
    ---```lua
    ---local s <close> = r:psubscribe "example:*"
    ---r:publish("example:news", "hello")
    ---for m in s:messages() do print(m.pattern, m.channel, m.payload) break end  --> example:*  example:news  hello
    ---```
    function Client:psubscribe(...)
        return subscribe(self, "PSUBSCRIBE", ...)
    end

    ---The same for sharded channels.
    ---@param ... string
    ---@return dbrun.redis.Subscription
    ---```lua
    ---local ok, e = pcall(function()
    ---    local s <close> = r:ssubscribe "example:news" -- of one slot of a cluster; Redis 7
    ---    r:spublish("example:news", "hello")
    ---    for message in s:messages() do return message.payload end
    ---end)
    ---print(ok and e == "hello" or e.kind == "redis")  --> true
    ---```
    function Client:ssubscribe(...)
        return subscribe(self, "SSUBSCRIBE", ...)
    end
end
