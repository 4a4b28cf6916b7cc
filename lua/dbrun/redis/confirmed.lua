--- The client that r:with{wait = ...} returns: its writes return when replicas have them.
local args <const> = require "dbrun.args"
local confirm <const> = require "dbrun.redis.confirm"
local confirm_aof <const> = require "dbrun.redis.confirm_aof"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local writes_of <const> = require "dbrun.redis.writes"

local M = {}

--- A blocking command that returns nil has timed out and written nothing.
local function is_something(reply)
    return reply ~= nil
end

---@class dbrun.redis.Confirmed: dbrun.redis.Client
---@field package inner dbrun.redis.Client
---@field package want dbrun.redis.Wait
local Confirmed <const> = {}
local Metatable <const> = {}

local function on_client(method, self)
    args.self(method, self, Metatable, "a client", "r")
end

-- ---- writes ----

local function prepare(connection, want)
    if want.aof then
        confirm_aof.prepare(connection, want)
        return nil
    end
    return confirm.prepare(connection)
end

--- Confirms the writes of a connection that no other task uses.
local function settle(self, connection, before, reply)
    connection:__until(math.huge) -- the write is answered: from here on the time limit of `wait` counts
    if self.want.aof then
        confirm_aof.confirm(connection, self.want, reply)
    else
        local _ <const>, written <const> = connection:links()
        confirm.confirm(self.inner, written, before, self.want, reply)
    end
end

-- The query for the server process on a new connection and the write share one deadline, the client's for commands: in
-- all, a confirmed write can take that time plus the time of `wait`.

--- Runs `write(connection)` on a dedicated connection, and confirms it.
local function run_alone(self, write, wrote)
    local connection <close> = self.inner:__until():__acquire "the write"
    local before <const> = prepare(connection, self.want)
    local reply <const> = write(connection)
    if not wrote or wrote(reply) then
        settle(self, connection, before, reply)
    end
    return reply
end

--- Runs `write(client, stop)` on the shared connection, and confirms it on another one.
local function run_shared(self, write, wrote)
    local inner <const>, stop <const> = self.inner:__until()
    local before <const> = confirm.prepare(inner)
    local reply <const> = write(inner, stop)
    local _ <const>, written <const> = inner:links()
    if not wrote or wrote(reply) then
        confirm.confirm(inner, written, before, self.want, reply)
    end
    return reply
end

local function run(self, name, ...)
    if not writes_of.to_confirm(name, ...) then
        return self.inner:call(name, ...)
    end
    local given <const> = table.pack(...)
    local function write(handle)
        return handle:call(name, table.unpack(given, 1, given.n))
    end
    local fact <const> = core.redis.fact(name:upper())
    local blocks <const> = fact and fact.blocks
    if self.want.aof or blocks then
        return run_alone(self, write, blocks and is_something or nil)
    end
    return run_shared(self, write)
end

---The same client with the deadline `stop` for the replies to its writes; default: the deadline of a call that begins
---now. The time of `wait` comes on top.
---@param stop? number on the clock of task.now()
---@return dbrun.redis.Confirmed
---@return number stop
---@package
function Confirmed:__until(stop)
    local inner <const>, at <const> = self.inner:__until(stop)
    return M.new(inner, self.want), at
end

---Runs `write(handle)`, which returns one value, and waits when `wrote(value)` is true: for work of several commands.
---@param write fun(handle: dbrun.redis.Client|dbrun.redis.Connection): any
---@param wrote fun(reply: any): boolean
---@return any
---@package
function Confirmed:confirming(write, wrote)
    if self.want.aof then
        return run_alone(self, write, wrote)
    end
    return run_shared(self, write, wrote)
end

---A command by its name.
---@param name string
---@return any
function Confirmed:call(name, ...)
    on_client("call", self)
    args.check("call", "the name of the command", name, "string")
    return run(self, name, ...)
end

-- ---- pipelines and transactions ----

---@class dbrun.redis.ConfirmedPipeline: dbrun.redis.Pipeline
---@field package owner dbrun.redis.Confirmed
---@field package batch dbrun.redis.Pipeline
---@field package writes integer[] the places of commands that may write
---@field package replayed boolean another connection can send the commands, which are in the list
---@field package alone boolean it must be another connection
---@field package collects boolean its commands may therefore block: `batch` only checks them, as in a transaction
---@field package list (table|false)[]
---@field package watching boolean its connection has watched keys: the client's multi confirms it
---@field package last any[]? the replies of the last execution
local Pipeline <const> = {}
local PipelineMeta <const> = {}
local EXECUTE <const> = { raise = "boolean" }

local function on_pipeline(method, self)
    args.self(method, self, PipelineMeta, "a pipeline", "p")
end

---Queues a command by its name.
---@param name string
---@return dbrun.redis.ConfirmedPipeline
function Pipeline:call(name, ...)
    on_pipeline("call", self)
    self.batch:call(name, ...)
    local n <const> = self.collects and #self.list + 1 or #self.batch
    if self.replayed then
        self.list[n] = table.pack(name, ...)
    end
    if writes_of.to_confirm(name, ...) then
        self.writes[#self.writes + 1] = n
    end
    return self
end

---Queues ASKING.
---@package
function Pipeline:asking()
    if self.collects then
        self.list[#self.list + 1] = false
        return self
    end
    self.batch:asking()
    if self.replayed and self.transaction then
        self.list.asking = true
    elseif self.replayed then
        self.list[#self.batch] = false
    end
    return self
end

---Removes the queued commands.
function Pipeline:clear()
    on_pipeline("clear", self)
    self.batch:clear()
    self.writes, self.list = {}, {}
end

--- Whether one of the writes succeeded. (Without replies a watched key had changed.)
local function has_written(writes)
    return function(replies)
        for _, at in ipairs(replies and writes or {}) do
            if not errors.is(replies[at]) then
                return true
            end
        end
        return false
    end
end

local function replay(batch, list)
    if list.asking then
        batch:asking()
    end
    for _, command in ipairs(list) do
        if command then
            batch:call(table.unpack(command, 1, command.n))
        else
            batch:asking()
        end
    end
    return batch:send()
end

---Sends the queued commands, and waits if one of them has written.
---@param stop? number task.now() at the end of the call
---@return any[]? replies
---@package
function Pipeline:send(_, stop)
    local batch <const>, list <const>, writes <const> = self.batch, self.list, self.writes
    if self.watching then
        return batch:send(nil, stop)
    end
    self.writes, self.list = {}, {}
    if self.replayed and (#writes > 0 or self.alone) then
        batch:clear()
        self.last = run_alone(self.owner, function(connection)
            return replay(connection:batch(self.transaction), list)
        end, has_written(writes))
    elseif #writes > 0 then
        self.last = run_shared(self.owner, function(_, limit)
            return batch:send(nil, limit)
        end, has_written(writes))
    else
        self.last = batch:send()
    end
    return self.last
end

---Sends the queued commands and returns the replies in order; error replies are values in it.
---@param opts? {raise: boolean?}
---@return any[]
function Pipeline:execute(opts)
    on_pipeline("execute", self)
    opts = args.options("execute", opts, EXECUTE)
    local n <const> = #self.batch
    local replies <const> = self:send()
    for i = 1, opts.raise and n or 0 do
        if errors.is(replies[i]) then
            error(replies[i], 0)
        end
    end
    return replies
end

setmetatable(Pipeline, {
    __index = function(t, name)
        if type(name) ~= "string" or not name:find "^%a[%w_.:-]*$" then
            return nil
        end
        names.check_command("pipeline", name)
        local function command(self, ...)
            on_pipeline(name, self)
            return t.call(self, name, ...)
        end
        rawset(t, name, command)
        return command
    end,
})
PipelineMeta.__index = Pipeline
PipelineMeta.__len = function(self)
    return #self.batch
end

local function new_pipeline(owner, batch, fields)
    fields.owner, fields.batch, fields.writes, fields.list, fields.last = owner, batch, {}, {}, {}
    return setmetatable(fields, PipelineMeta)
end

---A pipeline that is sent on the shared connection, or with `alone` on a dedicated one.
---@package
function Confirmed:batch(transaction, alone)
    alone = alone or false
    local collects <const> = alone and not transaction
    return new_pipeline(self, self.inner:batch(transaction or collects), {
        transaction = transaction, alone = alone, collects = collects, replayed = alone or self.want.aof ~= nil,
        watching = false,
    })
end

---Runs `fn(p)`, which queues commands, and sends them in one write.
---@param fn? fun(p: dbrun.redis.ConfirmedPipeline) without it the pipeline is returned
---@return any[] replies
function Confirmed:pipeline(fn)
    on_client("pipeline", self)
    args.optional("pipeline", "the function to call", fn, "function")
    local p <const> = self:batch(false)
    if not fn then
        return p
    end
    fn(p)
    return #p > 0 and p:execute() or p.last
end

--- Hooks around the connection of a transaction with watched keys.
local function hooks_of(self)
    local want <const> = self.want
    local before
    return {
        before = function(connection)
            before = prepare(connection, want)
        end,
        batch = function(connection)
            return new_pipeline(self, connection:batch(true), {
                transaction = true, alone = true, collects = false, replayed = false, watching = true,
            })
        end,
        after = function(connection, tx, replies)
            if has_written(tx.writes)(replies) then
                settle(self, connection, before, replies)
            end
        end,
    }
end

---A transaction like the client's; it returns when replicas have it.
---@param opts? table
---@param fn fun(tx: dbrun.redis.Pipeline, connection: dbrun.redis.Connection?)
---@return any[]
function Confirmed:multi(opts, fn)
    on_client("multi", self)
    opts, fn = options.multi(opts, fn)
    if opts.watch then
        return self.inner:watched(opts, fn, hooks_of(self))
    end
    local tx <const> = self:batch(true)
    fn(tx)
    return tx:send()
end

-- ---- the rest of a client ----

---The same client with other settings.
---@param opts table
---@return dbrun.redis.Client wait=false: its writes do not wait
function Confirmed:with(opts)
    on_client("with", self)
    local checked <const>, want <const> = options.with(opts)
    local inner <const> = self.inner:with(checked)
    if want == false then
        return inner
    end
    return M.new(inner, want or self.want)
end

---Takes a dedicated connection. Its writes are not waited for: send WAIT as a command there.
---@return dbrun.redis.Connection
function Confirmed:acquire()
    on_client("acquire", self)
    return self.inner:acquire()
end

---@return table
function Confirmed:stats()
    on_client("stats", self)
    return self.inner:stats()
end

---@return boolean
function Confirmed:closed()
    on_client("closed", self)
    return self.inner:closed()
end

---Closes the client that this one was made from.
function Confirmed:close()
    on_client("close", self)
    self.inner:close()
end

require "dbrun.redis.consumer" (Confirmed)
require "dbrun.redis.extras" (Confirmed)
require "dbrun.redis.library" (Confirmed)
require "dbrun.redis.subscription" (Confirmed)

setmetatable(Confirmed, {
    __index = function(t, name)
        if type(name) ~= "string" or not name:find "^%a[%w_.:-]*$" then
            return nil
        end
        names.check_command("client", name)
        local function command(self, ...)
            on_client(name, self)
            return run(self, name, ...)
        end
        rawset(t, name, command)
        return command
    end,
})

Metatable.__index = Confirmed
Metatable.__close = Confirmed.close
Metatable.__name = "dbrun.redis.confirmed"
Metatable.__tostring = function(self)
    return tostring(self.inner)
end
names.add_client(Metatable)

---@param inner dbrun.redis.Client
---@param want dbrun.redis.Wait
---@return dbrun.redis.Confirmed
function M.new(inner, want)
    return setmetatable({ inner = inner, want = want }, Metatable)
end

return M
