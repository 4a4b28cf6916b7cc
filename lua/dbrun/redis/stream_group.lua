--- A consumer group of a stream, as one of its consumers sees it: pending messages, claiming messages of others,
--- acknowledging, making the group again.
local errors <const> = require "dbrun.error"

local PAGE <const> = 100

---@class dbrun.redis.StreamMessage
---@field id string
---@field fields table<string, string|string[]> a field that comes again has the list of its values
---@field stream string
---@field deliveries? integer how often it was delivered, including this time (only with max_deliveries=)

---@class dbrun.redis.StreamGroup
---@field package client dbrun.redis.Client
---@field key string the stream
---@field package name string
---@field package consumer string
---@field package from string where a new group begins: an ID, or "$"
---@field package floor? string where it began when this program made it
---@field package last? string the newest message that this consumer got
---@field package last_text? string and its fields
---@field done table<string, true> handled, but not acknowledged yet
local Group <const> = {}
Group.__index = Group

---@return dbrun.redis.StreamGroup
function Group.new(client, key, name, consumer, from)
    return setmetatable({
        client = client, key = key, name = name, consumer = consumer, from = from, done = {}, old = false,
    }, Group)
end

-- ---- IDs ----

--- The decimal number before this one, which is not 0. An ID is two unsigned 64-bit numbers, which do not fit a Lua
--- integer.
local function decrement(digits)
    local less <const> = digits:gsub("([1-9])(0*)$", function(digit, zeros)
        return string.char(digit:byte() - 1) .. ("9"):rep(#zeros)
    end)
    return (less:gsub("^0+(%d)", "%1"))
end

--- The greatest ID that is less than this one.
local function before(id)
    local time <const>, number <const> = id:match "^(%d+)%-(%d+)$"
    if number ~= "0" then
        return time .. "-" .. decrement(number)
    end
    return decrement(time) .. "-18446744073709551615"
end

-- ---- the group ----

local function last_of_stream(self)
    if self.client:call("EXISTS", self.key) == 0 then
        return "0-0"
    end
    return self.client:call("XINFO", "STREAM", self.key)["last-generated-id"]
end

local function text_of(fields)
    local words = {}
    for name, value in pairs(fields) do
        words[#words + 1] = ("%q=%q"):format(name, type(value) == "table" and table.concat(value, "\0") or value)
    end
    table.sort(words)
    return table.concat(words)
end

--- Where a missing group has to begin. If the stream still has the last message that was read, only the group is gone:
--- the new one begins after that message. Otherwise the stream is new.
local function beginning(self)
    if not self.floor then
        self.floor = self.from == "$" and (self.last or last_of_stream(self)) or self.from
    end
    local entry <const> = self.last and self.client:call("XRANGE", self.key, self.last, self.last)[1]
    if entry and text_of(entry[2]) == self.last_text then
        return self.last
    end
    return self.floor
end

---Records how far this consumer has read.
---@param entry {[1]: string, [2]: table} the newest one
function Group:came_to(entry)
    self.last, self.last_text = entry[1], text_of(entry[2])
end

---Makes the group and the stream unless they exist.
function Group:make()
    local ok, e = pcall(self.client.call, self.client, "XGROUP", "CREATE", self.key, self.name, beginning(self),
        "MKSTREAM")
    if not ok and not (errors.is(e, "redis") and e.code == "BUSYGROUP") then
        error(e, 0)
    end
end

-- ---- pending messages ----

--- A page of the pending messages from `start` on: {id, consumer, milliseconds idle, deliveries}.
local function page(self, start, consumer)
    local list <const> = self.client:call("XPENDING", self.key, self.name, start, "+", PAGE + 1, { consumer })
    if list[1] and list[1][1] == start then
        table.remove(list, 1) -- servers before 6.2 have no exclusive ranges
    end
    return list
end

---Iterates over the pending messages, those of one consumer or of all.
---@param consumer? string
---@return fun(): string?, integer? the ID, and the milliseconds since it was delivered
function Group:pending(consumer)
    local list, at, start = {}, 0, "-"
    return function()
        at = at + 1
        if not list[at] and start then
            list, at = page(self, start, consumer), 1
            start = #list >= PAGE and list[#list][1] or nil
        end
        if list[at] then
            return list[at][1], list[at][3]
        end
    end
end

local function is_unknown_command(e)
    return errors.is(e, "redis") and e.code == "ERR" and e.message:find "unknown command" ~= nil
end

--- XAUTOCLAIM for servers before 6.2.
local function claim_old(self, idle, count)
    local ids = {}
    for id, milliseconds in self:pending() do
        if milliseconds >= idle then
            ids[#ids + 1] = id
            if #ids == count then
                break
            end
        end
    end
    if #ids == 0 then
        return ids, nil
    end
    -- When others were faster, fewer come back: the next round shows whether there are more.
    return self.client:call("XCLAIM", self.key, self.name, self.consumer, idle, ids, "JUSTID"), #ids == count and "-"
        or nil
end

---Claims up to `count` messages that were delivered `idle` milliseconds ago or earlier, to this consumer or to others.
---They are only marked: Group:fetch delivers them.
---@param idle integer
---@param count integer
---@param cursor string "0-0" at first
---@return string[] ids
---@return string? cursor of the next page; nil: that was the last one
function Group:claim(idle, count, cursor)
    if not self.old then
        local ok, reply = pcall(self.client.call, self.client, "XAUTOCLAIM", self.key, self.name, self.consumer, idle,
            cursor, "COUNT", count, "JUSTID")
        if ok then
            return reply[2], reply[1] ~= "0-0" and reply[1] or nil
        elseif not is_unknown_command(reply) then
            error(reply, 0)
        end
        self.old = true
    end
    return claim_old(self, idle, count)
end

---Marks messages as delivered now, if they are this consumer's and were delivered `idle` milliseconds ago or earlier.
---@param ids string[]
---@param idle integer
---@return table<string, true> lost those that are not this consumer's any more
function Group:renew(ids, idle)
    local p <const> = self.client:pipeline()
    for _, id in ipairs(ids) do
        p:call("XPENDING", self.key, self.name, id, id, 1, self.consumer)
    end
    local own, lost = {}, {}
    for i, entries in ipairs(p:execute { raise = true }) do
        if #entries > 0 then
            own[#own + 1] = ids[i]
        else
            lost[ids[i]] = true
        end
    end
    if #own > 0 then
        self.client:call("XCLAIM", self.key, self.name, self.consumer, idle, own, "JUSTID")
    end
    return lost
end

---Delivers pending messages of this consumer, one by one: a deleted message has no fields, and XAUTOCLAIM before 7.0
---does not report this.
---@param ids string[]
---@param counted boolean with the number of deliveries
---@return dbrun.redis.StreamMessage[] messages
---@return string[] deleted IDs that are pending and no message has
function Group:fetch(ids, counted)
    local p <const> = self.client:pipeline()
    for _, id in ipairs(ids) do
        p:call("XREADGROUP", "GROUP", self.name, self.consumer, "COUNT", 1, "STREAMS", self.key, before(id))
        if counted then
            p:call("XPENDING", self.key, self.name, id, id, 1)
        end
    end
    local replies <const> = p:execute { raise = true }
    local messages, deleted, step = {}, {}, counted and 2 or 1
    for i, id in ipairs(ids) do
        local reply <const> = replies[(i - 1) * step + 1]
        local entry <const> = reply and reply[self.key] and reply[self.key][1]
        local count <const> = counted and replies[i * step][1]
        if entry and entry[1] == id and entry[2] == nil then
            deleted[#deleted + 1] = id
        elseif entry and entry[1] == id then -- else it was acknowledged or claimed meanwhile
            messages[#messages + 1] = {
                id = id, fields = entry[2], stream = self.key, deliveries = count and count[4] or nil,
            }
        end
    end
    return messages, deleted
end

---@param ids string|string[]
function Group:acknowledge(ids)
    self.client:call("XACK", self.key, self.name, ids)
end

return Group
