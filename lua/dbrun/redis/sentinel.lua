--- Watches the sentinels while a client is open: a task listens to each, and when a server is silent they are asked.
--- When they name another master, the client leaves the old one, which may still run and accept writes that will be
--- lost.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local failover <const> = require "dbrun.redis.failover"
local task <const> = require "dbrun.task"

local guard <const> = core.redis.guard

local M = {}

local LOOK_EVERY <const> = 5 -- seconds between checks whether the pool still has clients
local ANSWER_WITHIN <const> = 10 -- seconds of silence after a PING: then the sentinel counts as lost
local PAUSE <const> = 1 -- seconds before a lost sentinel is tried again
local ASK_EVERY <const> = 5 -- seconds between two checks without events: events can get lost
local FIRST_CHECK <const>, CHECK_EVERY <const> = 0.02, 1 -- seconds between checks of where the connections go
local DOUBT <const> = 5 -- seconds that a failover can take after a replica is told to become the master

--- The sentinel that leads a failover announces it before the replica becomes the master; the sentinels learn up to a
--- second later that it has become the master. Writes that the old master accepts meanwhile are lost.
local PROMOTES <const>, ABORTED <const> = "+failover-state-send-slaveof-noone", "-failover-abort-*"

---@class dbrun.redis.Sentinels
---@field service string
---@field list {index: integer, settings: table, client: dbrun.redis.Client?}[]
---@field connect fun(settings: table): dbrun.redis.Client
---@field known? string the last known address of the master
---@field epoch integer the configuration epoch of that address
---@field doubt? {address: string, ends: number} a replica that may become the master at any moment

-- ---- moving ----

--- The master is at this address: closes the pool's connections to other addresses.
local function move(self, watcher, host, port, index)
    local address <const> = ("%s %d"):format(host, port)
    if self.doubt and self.doubt.address == address then
        self.doubt = nil
    end
    local elsewhere <const> = guard.elsewhere(watcher, host, port)
    if not elsewhere and self.known == address then
        return false
    end
    local first <const> = self.known == nil
    self.known = address
    if elsewhere or not first or guard.silence(watcher) > failover.LOOK_TIMEOUT then
        guard.condemn(watcher, {
            host = host, port = port, sentinel = index,
            reason = ("the sentinels have another master now: %s port %d"):format(host, port),
            hint = "what was in flight to the old one may have run there, and may be lost",
        })
        return true
    end
    return false
end

-- ---- asking ----

local function client_of(self, sentinel)
    if not sentinel.client or sentinel.client:closed() then
        sentinel.client = self.connect(sentinel.settings)
    end
    return sentinel.client
end

local function config_epoch(fields)
    for i = 1, type(fields) == "table" and #fields or 0, 2 do
        if fields[i] == "config-epoch" then
            return tonumber(fields[i + 1])
        end
    end
    return type(fields) == "table" and tonumber(fields["config-epoch"]) or 0
end

local function ask_one(self, sentinel)
    local replies <const> = client_of(self, sentinel):with { timeout = failover.LOOK_TIMEOUT }:pipeline(function(p)
        p:call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        p:call("SENTINEL", "MASTER", self.service)
    end)
    local address <const> = replies[1]
    if type(address) ~= "table" or errors.is(address) then
        errors.fail("redis", "the sentinel does not know the master")
    end
    return { host = address[1], port = math.tointeger(address[2]), epoch = config_epoch(replies[2]) }
end

local function is_where_we_are(watcher, said)
    return guard.address(watcher) and not guard.elsewhere(watcher, said.host, said.port)
end

--- The highest configuration epoch wins, as it does among the sentinels. Among equal epochs the majority wins, and in a
--- tie the address of the present connections, because a server can have two names. A sentinel with an old epoch has
--- been cut off from the others, unless the majority has it: then the master was set up again. Nil: no answer can be
--- trusted.
local function best_of(self, watcher, answers)
    local best, votes <const>, here <const> = nil, {}, {}
    for _, said in ipairs(answers) do
        local name <const> = ("%d %s %d"):format(said.epoch, said.host, said.port)
        votes[name] = (votes[name] or 0) + 1
        said.name, here[name] = name, is_where_we_are(watcher, said)
    end
    local function is_better(a, b)
        if a.epoch ~= b.epoch then
            return a.epoch > b.epoch
        elseif votes[a.name] ~= votes[b.name] then
            return votes[a.name] > votes[b.name]
        end
        return here[a.name] and not here[b.name]
    end
    for _, said in ipairs(answers) do
        if not best or is_better(said, best) then
            best = said
        end
    end
    local most <const> = best and votes[best.name] * 2 > #self.list
    return best and (most or best.epoch >= self.epoch) and best or nil
end

--- Asks up to three at once.
local function look(self, watcher)
    local list <const> = table.move(self.list, 1, #self.list, 1, {})
    for i = #list, 2, -1 do
        local j <const> = math.random(i)
        list[i], list[j] = list[j], list[i]
    end
    for from = 1, #list, failover.MOST_ASKED do
        local some <const> = table.move(list, from, from + failover.MOST_ASKED - 1, 1, {})
        local answers <const> = {}
        for _, answer in ipairs(failover.ask(some, function(sentinel) return ask_one(self, sentinel) end)) do
            if answer[1] then
                answer[2].index = answer.of.index
                answers[#answers + 1] = answer[2]
            end
        end
        local best <const> = best_of(self, watcher, answers)
        if best then
            self.epoch = best.epoch
            local doubted <const> = self.doubt ~= nil
            local moved <const> = move(self, watcher, best.host, best.port, best.index)
            if self.doubt and task.now() < self.doubt.ends then
                guard.hold(watcher) -- also those that were opened since
                return "doubt"
            end
            self.doubt = nil
            return moved and "moved" or "same", doubted
        end
    end
    return nil
end

--- Checks when there is a connection that no check has seen, and now and then: a connect accepts the answer of the
--- first sentinel if that server says that it is a master, and events can get lost.
local function check(self, watcher)
    local pause, due, seen = FIRST_CHECK, 0, nil
    while guard.in_use(watcher) do
        task.sleep(pause)
        pause = math.min(pause * 2, CHECK_EVERY)
        local host <const>, port <const> = guard.address(watcher)
        local there <const> = host and ("%s %d"):format(host, port)
        if there and not self.doubt and (there ~= seen or task.now() >= due) then
            seen, due = there, task.now() + ASK_EVERY * (0.75 + math.random() / 2)
            look(self, watcher)
        end
    end
end

-- ---- listening ----

local function hear(self, watcher, sentinel, event)
    if event[2] == "+switch-master" and event[1] == "message" then
        local name <const>, host <const>, port <const> = event[3]:match "^(%S+) %S+ %S+ (%S+) (%d+)"
        if name == self.service then
            move(self, watcher, host, math.tointeger(port), sentinel.index)
        end
    elseif event[2] == PROMOTES and event[1] == "message" then
        local host <const>, port <const>, name <const> = event[3]:match "^slave %S+ (%S+) (%d+) @ (%S+)"
        if name == self.service and self.known ~= host .. " " .. port then
            self.doubt = { address = host .. " " .. port, ends = task.now() + DOUBT }
            guard.hold(watcher)
            guard.due(watcher, 0)
        end
    elseif event[1] == "pmessage" and event[4]:match "^master (%S+)" == self.service and self.doubt then
        self.doubt.ends = task.now()
    end
end

--- Waits for events on a connection to one sentinel until the pool has no clients; raises when the connection is lost.
local function listen(self, watcher, sentinel, connection)
    local quiet = 0
    while true do
        local event <const> = connection:next(LOOK_EVERY)
        if not guard.in_use(watcher) then
            return
        elseif event == nil then
            quiet = quiet + LOOK_EVERY
            if quiet > LOOK_EVERY + ANSWER_WITHIN then
                errors.fail("connect", "the sentinel does not answer")
            end
            connection:post "PING"
        else
            quiet = 0
            hear(self, watcher, sentinel, event)
        end
    end
end

local function watch_one(self, watcher, sentinel)
    local missed = false
    while guard.in_use(watcher) do
        local ok <const>, e <const> = pcall(function()
            local connection <close> = client_of(self, sentinel):acquire()
            connection:listen()
            connection:post("SUBSCRIBE", "+switch-master", PROMOTES)
            connection:post("PSUBSCRIBE", ABORTED)
            if missed then
                look(self, watcher) -- events may have been missed
            end
            missed = true
            listen(self, watcher, sentinel, connection)
            connection:discard()
        end)
        if not ok and errors.is(e, "cancelled") then
            return
        end
        -- A lost sentinel is not an error: tasks listen to the others, and each connect asks all.
        task.sleep(PAUSE)
    end
end

local OWN <const> = {
    "ca_file", "ca_dir", "cert_file", "key_file", "verify", "verify_hostname", "tls13", "lib_name", "lib_ver",
}

---Starts the listening tasks. They end when the pool has no clients, or by the returned function.
---@param watcher userdata of the pool
---@param settings table with service and sentinels
---@param connect fun(settings: table): dbrun.redis.Client
---@return fun(watcher: userdata): "moved"|"same"|nil look
---@return fun() cancel
function M.watch(watcher, settings, connect)
    local self <const> = { service = settings.service, list = {}, connect = connect, epoch = 0 }
    local tasks <const> = {}
    for i, server in ipairs(settings.sentinels) do
        local own <const> = { host = server.host, port = server.port, max_connections = 2, unguarded = true }
        for _, name in ipairs(OWN) do
            own[name] = settings[name]
        end
        own.username, own.password = settings.sentinel_username, settings.sentinel_password
        own.tls = settings.tls
        if settings.sentinel_tls ~= nil then
            own.tls = settings.sentinel_tls
        end
        self.list[i] = { index = i, settings = own }
        tasks[i] = core.task.daemon(watch_one, self, watcher, self.list[i])
    end
    tasks[#tasks + 1] = core.task.daemon(check, self, watcher)
    return function() return look(self, watcher) end, function()
        for _, t in ipairs(tasks) do
            t:cancel()
        end
        for _, sentinel in ipairs(self.list) do
            if sentinel.client then
                sentinel.client:close()
            end
        end
    end
end

return M
