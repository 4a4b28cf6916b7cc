--- Workers for streams: r:consume reads the messages of a consumer group, calls a function for each, and acknowledges
--- it when the function has returned. Each message is handled at least once.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local Group <const> = require "dbrun.redis.stream_group"
local names <const> = require "dbrun.redis.names"
local redirect <const> = require "dbrun.redis.redirect"
local task <const> = require "dbrun.task"

local LONGEST_BLOCK <const> = 2 -- seconds that one read waits at the server
local ANSWER_WITHIN <const> = 5 -- seconds beyond that: then the connection counts as lost
local FIRST_PAUSE <const>, LONGEST_PAUSE <const> = 0.02, 1

local NAME <const> = {
    function(v) return (type(v) == "string" and v ~= "") or math.type(v) == "integer" end,
    "a string that is not empty",
}
local STREAMS <const> = {
    function(v)
        local seen <const> = {}
        for _, name in ipairs(type(v) == "table" and v or { v }) do
            if not NAME[1](name) or seen[name] then
                return false
            end
            seen[name] = true
        end
        return NAME[1](v) or (args.strings[1](v) and #v > 0)
    end, "the name of a stream or a list of different names",
}
--- The largest number of milliseconds that the server can add to its clock.
local IDLE <const> = {
    function(v) return args.some_seconds[1](v) and v <= 1e12 end, "a number of seconds above 0 and up to 1e12",
}
local FROM <const> = {
    function(v) return type(v) == "string" and (v == "$" or v:find "^%d+$" or v:find "^%d+%-%d+$") and true end,
    '"0" (all messages), "$" (those that come from now on) or an ID',
}
local OPTIONS <const> = {
    stream = STREAMS, group = NAME, consumer = NAME, handle = args.callable, count = args.whole(1, 1000000),
    claim_idle = args.or_false(IDLE), from = FROM, max_deliveries = args.whole(1), on_dead = args.callable,
    on_error = args.callable,
}

local function check(opts)
    args.check("consume", "the options", opts, "table")
    opts = args.options("consume", opts, OPTIONS)
    for _, name in ipairs { "stream", "group", "consumer", "handle" } do
        if opts[name] == nil then
            errors.usage("consume", "%s is missing", name)
        end
    end
    if (opts.max_deliveries == nil) ~= (opts.on_dead == nil) then
        errors.fail("usage", "consume: max_deliveries and on_dead must be given together",
            "on_dead = function(message) ... end gets what was delivered more often than max_deliveries, before it is "
                .. "acknowledged")
    end
    return opts
end

---@class dbrun.redis.Consumer
---@field package groups dbrun.redis.StreamGroup[] one for each stream
---@field package hand table<dbrun.redis.StreamMessage, true> messages that were delivered and are not yet acknowledged
---@field package failed table<string, number> when a message whose body raised is delivered again
---@field package importing dbrun.redis.Node? of a cluster: the streams are there already, their slot is not
---@field package fatal any an error in the program's own functions that ends the worker
local Consumer <const> = {}
Consumer.__index = Consumer

-- ---- what ends a worker, and what does not ----

--- Error replies after which the worker goes on.
local PASSING <const> = {
    NOGROUP = true, UNBLOCKED = true, MOVED = true, ASK = true, TRYAGAIN = true, CLUSTERDOWN = true, MASTERDOWN = true,
    LOADING = true, READONLY = true, BUSY = true, NOREPLICAS = true,
    WAIT = true, -- from a client with confirmed writes: the command is repeated
}

local function is_passing(self, e)
    if self.fatal or not errors.is(e) or e.kind == "cancelled" or e.kind == "usage" then
        return false
    end
    -- A login that is refused for good (WRONGPASS, DENIED) has a code; a lost connection has none.
    return e.kind == "connect" and not (e.code and e.outcome == "not_sent") or e.kind == "protocol"
        or PASSING[e.code] or e.retryable
        or (e.kind == "timeout" and e.outcome ~= nil) -- a time limit of the task has no outcome
end

--- Calls a function of the program whose error ends the worker.
local function call_own(self, fn, ...)
    local ok, e = pcall(fn, ...)
    if not ok then
        self.fatal = true
        error(e, 0)
    end
end

-- ---- one message ----

--- Calls the function in a separate task, so that its error cannot be confused with a cancellation of the worker. When
--- the worker is cancelled, it waits until the function has ended, cancelled or not.
local function run(fn, message)
    local outcome
    local whole, e = pcall(function()
        local g <close> = task.group()
        g:spawn(function()
            outcome = table.pack(pcall(fn, message))
        end)
    end)
    return outcome and outcome[1], outcome and outcome[2], not whole and { e } or nil
end

--- Acknowledges a handled message, even when the worker is being cancelled. A failed acknowledgement is retried before
--- the message can be handled again.
local function acknowledge(self, group, id)
    group.done[id] = true
    local ok, e = pcall(task.shield, group.acknowledge, group, id)
    if ok then
        group.done[id] = nil
    elseif not is_passing(self, e) then
        error(e, 0)
    end
    return ok and nil or e
end

local function tell(self, message, e)
    if self.opts.on_error then
        call_own(self, self.opts.on_error, e, message)
    else
        core.log.write("warn", ("redis: message %s of the stream '%s' was not handled and stays pending: %s"):format(
            message.id, message.stream, tostring(e)))
    end
end

local function handle(self, group, message)
    local dead <const> = self.opts.max_deliveries and message.deliveries
        and message.deliveries > self.opts.max_deliveries
    local well, e, stop = run(dead and self.opts.on_dead or self.opts.handle, message)
    local failure
    if well then
        self.hand[message] = nil
        failure = acknowledge(self, group, message.id)
    elseif not stop then
        self.hand[message] = nil
        self.failed[message.stream .. "\0" .. message.id] = task.now() + (self.idle or math.huge)
        tell(self, message, e)
    end
    if stop and failure then
        core.log.write("warn", ("redis: message %s of the stream '%s' was handled, but not acknowledged: %s"):format(
            message.id, message.stream, tostring(failure)))
    end
    if stop then
        error(stop[1], 0)
    elseif failure then
        error(failure, 0)
    end
end

--- From here on they are renewed.
local function take_in_hand(self, group, messages)
    for _, message in ipairs(messages) do
        self.hand[message] = group
    end
end

--- Handles messages one after the other, but not those that another consumer took over meanwhile.
local function handle_all(self, group, messages)
    for _, message in ipairs(messages) do
        if self.hand[message] then
            handle(self, group, message)
        end
    end
end

-- ---- pending messages ----

--- Delivers pending messages again, `count` at a time.
local function deliver(self, group, ids)
    local some = {}
    local function flush()
        local messages, deleted = group:fetch(some, self.opts.max_deliveries ~= nil)
        if #deleted > 0 then
            group:acknowledge(deleted)
        end
        some = {}
        take_in_hand(self, group, messages)
        handle_all(self, group, messages)
    end
    for _, id in ipairs(ids) do
        if group.done[id] then
            local failure <const> = acknowledge(self, group, id)
            if failure then
                error(failure, 0)
            end
        else
            self.failed[group.key .. "\0" .. id] = nil
            some[#some + 1] = id
        end
        if #some == self.opts.count then
            flush()
        end
    end
    if #some > 0 then
        flush()
    end
end

--- Messages that were delivered to this consumer before: to an earlier run of the program, or in a reply that was lost.
--- A message whose handler raised has to wait.
local function resume(self, group)
    local ids, done = {}, {}
    for id in group:pending(group.consumer) do
        done[id] = group.done[id]
        if not self.failed[group.key .. "\0" .. id] then
            ids[#ids + 1] = id
        end
    end
    group.done = done -- the others have been acknowledged
    deliver(self, group, ids)
end

--- Messages that this consumer or others have left pending for too long.
local function claim(self, group)
    for id, at in pairs(self.failed) do
        if task.now() > at + self.idle then -- another consumer has it by now
            self.failed[id] = nil
        end
    end
    local cursor = "0-0"
    while cursor do
        local ids
        ids, cursor = group:claim(math.ceil(self.idle * 1000), self.opts.count, cursor)
        deliver(self, group, ids)
    end
end

--- While handlers run, renews the claim on their messages, so that no other consumer claims them.
local function keep(self)
    local every <const> = self.idle / 3
    while true do
        task.sleep(every)
        local by_group = {}
        for message, group in pairs(self.hand) do
            by_group[group] = by_group[group] or {}
            by_group[group][message.id] = message
        end
        for group, messages in pairs(by_group) do
            local ids = {}
            for id in pairs(messages) do
                ids[#ids + 1] = id
            end
            local ok, lost = pcall(group.renew, group, ids, math.floor(every * 1000 / 2))
            if not ok and not is_passing(self, lost) then -- the worker gets the same error, and goes on
                error(lost, 0)
            end
            for id in pairs(ok and lost or {}) do
                self.hand[messages[id]] = nil
            end
        end
    end
end

-- ---- new messages ----

local function read(self)
    local opts <const> = self.opts
    if self.importing then
        self.connection:raw "ASKING"
    end
    local reply <const> = self.connection:call("XREADGROUP", "GROUP", opts.group, opts.consumer, "COUNT", opts.count,
        "BLOCK", math.ceil(self.block * 1000), "STREAMS", self.keys, self.new)
    self.pause = FIRST_PAUSE
    local by_group <const> = {}
    for _, group in ipairs(self.groups) do
        local messages <const> = {}
        for i, entry in ipairs(reply and reply[group.key] or {}) do
            messages[i] = {
                id = entry[1], fields = entry[2], stream = group.key, deliveries = opts.max_deliveries and 1 or nil,
            }
        end
        if #messages > 0 then
            group:came_to(reply[group.key][#messages])
        end
        by_group[group] = messages
        take_in_hand(self, group, messages)
    end
    for _, group in ipairs(self.groups) do
        handle_all(self, group, by_group[group])
    end
end

local function drop_connection(self)
    local connection <const> = self.connection
    self.connection = nil
    if connection then
        connection:discard()
    end
end

--- A connection for the reads: to the node that has the streams.
local function connect(self)
    local client <const> = (self.importing and self.importing.client or self.client):with { timeout = ANSWER_WITHIN }
    return client:acquire(self.on_cluster and not self.importing and self.keys[1] or nil)
end

--- The node that ASK names, until another error.
local function follow(self, e)
    self.importing = nil
    if self.on_cluster and e.code == "ASK" then
        local topology <const> = self.client.state.topology
        local shard <const> = topology:shard(core.redis.slot(self.keys[1]))
        self.importing = select(2, redirect.target(topology, e, shard and shard.primary))
    end
end

--- Works until an error, on one connection to one server, with that server's group.
local function work(self)
    self.hand = {}
    for _, group in ipairs(self.groups) do
        resume(self, group)
    end
    self.connection = connect(self)
    local claim_at = task.now()
    while true do
        if self.idle and task.now() >= claim_at then
            for _, group in ipairs(self.groups) do
                claim(self, group)
            end
            claim_at = task.now() + self.block
        end
        read(self)
    end
end

--- Makes the groups again, and waits a little longer each time that does not help.
local function recover(self, e)
    drop_connection(self)
    follow(self, e)
    if e.kind == "pool" then -- nothing else would tell why the messages are not handled
        core.log.write("warn", ("redis: the worker '%s' of the stream '%s' keeps one connection and needs a second: %s")
            :format(self.opts.consumer, self.keys[1], tostring(e)))
    end
    if e.code == "NOGROUP" or e.code == "UNBLOCKED" then
        for _, group in ipairs(self.groups) do
            group:make()
        end
    end
    task.sleep(self.pause * (0.5 + math.random()))
    self.pause = math.min(self.pause * 2, LONGEST_PAUSE)
end

local function work_on(self)
    local begun = false
    while true do
        local ok, e = pcall(work, self)
        begun = begun or self.connection ~= nil
        while not ok do
            -- At first only a missing group is expected: other errors, such as an unreachable server, are raised.
            if not is_passing(self, e) or not (begun or e.code == "NOGROUP") then
                drop_connection(self)
                error(e, 0)
            end
            ok, e = pcall(recover, self, e)
        end
    end
end

--- Ends with the worker, also after error(nil) in on_error, which a group takes for an end without an error.
local Keeper <const> = {
    __close = function(guard)
        if guard.task then
            guard.task:cancel()
        end
    end,
}

---@param Client dbrun.redis.Client the table of methods to add to
---@param on_cluster? boolean
return function(Client, on_cluster)
    ---Handles the messages of a consumer group in the calling task, until that is cancelled: `handle(message)` with
    ---message.id, .fields, .stream; when it has returned the message is acknowledged. A message whose handler raises
    ---stays pending and is delivered again after `claim_idle` seconds.
    ---@param opts table
    ---  stream: its name, or a list (in a cluster in one slot); group, consumer (a name that no other worker has);
    ---  handle: fun(message: dbrun.redis.StreamMessage); count: messages read at a time (10); claim_idle: seconds after
    ---  which messages that another consumer left are claimed (60; false: never); from: where a new group begins ("0",
    ---  or "$"); max_deliveries, on_dead: fun(message): called in place of handle for a message that was delivered more
    ---  often; on_error: fun(e, message), in place of a line in the log
    function Client:consume(opts)
        names.on_client("consume", self)
        opts = check(opts)
        -- What a replica says of a group may be behind what this worker does to it.
        local client <const> = self:with { typed = false, read_from = on_cluster and "primary" or nil }
        local self_ <const> = setmetatable({
            client = client, on_cluster = on_cluster, groups = {}, keys = {}, new = {}, hand = {}, failed = {},
            pause = FIRST_PAUSE, idle = opts.claim_idle == nil and 60 or opts.claim_idle or nil,
            opts = { count = opts.count or 10 },
        }, Consumer)
        for name, value in pairs(opts) do
            self_.opts[name] = value
        end
        self_.block = math.max(0.01, math.min(LONGEST_BLOCK, (self_.idle or math.huge) / 2))
        for i, key in ipairs(type(opts.stream) == "table" and opts.stream or { opts.stream }) do
            self_.keys[i], self_.new[i] = tostring(key), ">"
            self_.groups[i] = Group.new(client, tostring(key), opts.group, opts.consumer, opts.from or "0")
        end
        local g <close> = task.group()
        local keeper <const> = self_.idle and g:spawn(keep, self_)
        local _ <close> = setmetatable({ task = keeper }, Keeper)
        work_on(self_)
    end
end
