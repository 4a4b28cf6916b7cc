--- Redis: a client whose tasks share one connection with automatic pipelining; pools, pipelines, transactions, and
--- dedicated connections for blocking commands.
---
---     local redis = require "dbrun.redis"
---     local r = redis.get()
---     r:set("greeting", "hello", "EX", 60)
---     print(r:get("greeting"))
---
--- Raises an error of kind `config` when a setting is wrong.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"

local M = {}

---@class dbrun.redis.Pool
---Raises nothing else.
---@field close fun(self: dbrun.redis.Pool) closes idle connections now, and others when they are released
---```lua
---local pool = redis.pool { url = config.redis_url, max_connections = 5 }
---pool:close()
---print(pool:closed())  --> true
---```
---@field closed fun(self: dbrun.redis.Pool): boolean whether it was closed
---```lua
---local pool = redis.pool { url = config.redis_url, max_connections = 5 }
---print(pool:closed())  --> false
---pool:close()
---```
---@field stats fun(self: dbrun.redis.Pool): table<string, number|string>
---counts: connections, waiting tasks, queued bytes
---```lua
---local pool = redis.pool { url = config.redis_url, max_connections = 5 }
---print(math.type(pool:stats().max_connections))  --> integer
---pool:close()
---```
---@field invalidate fun(self: dbrun.redis.Pool) connections opened before now get no more commands: the shared one of
---  each client is replaced, dedicated ones are closed when they come back
---```lua
---local pool = redis.pool { url = config.redis_url, max_connections = 5 }
---pool:invalidate() -- after a failover
---pool:close()
---```

---@class dbrun.redis.WithOptions
---@field timeout? number seconds for each command
---@field idempotent? boolean commands that may have run are sent again
---@field typed? boolean replies keep the server's types and shape: a status reply is {status = "OK"}, nil in a list is
---  db.null; does not apply to pipelines and transactions
---@field wait? {replicas: integer?, timeout: number?, aof: true|{primary: integer?, replicas: integer?}|nil} writes
---  return when so many replicas have them, and raise an error with code `WAIT` after the timeout

---@alias dbrun.redis.PageOptions {match: string|number?, count: integer?}

---A client. Any command of Redis is a method: `r:get(key)`, `r:hset(key, {field = value})`. Arguments are
---strings, numbers, and flat tables of those; nil is refused. An error reply is raised as an error of
---kind `redis` with its first word in `code`.
---@class dbrun.redis.Client
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field call fun(self: dbrun.redis.Client, name: string, ...): any a command by its name: `r:call("CLIENT", "LIST")`
---```lua
---print(r:call("ECHO", "hello"))  --> hello
---```
---@field acquire fun(self: dbrun.redis.Client): dbrun.redis.Connection takes a dedicated connection from the pool
---```lua
---local c <close> = r:acquire() -- for commands that block
---print(c:blpop("example:empty", 0.05))  --> nil
---```
---@field with fun(self: dbrun.redis.Client, opts: dbrun.redis.WithOptions): dbrun.redis.Client
---the same client with other options
---@field closed fun(self: dbrun.redis.Client): boolean whether it was closed
---```lua
---print(r:closed())  --> false
---```
---@field package watched fun(self: dbrun.redis.Client, opts: table, fn: function, hooks: table?): any[]
---@field package links fun(self: dbrun.redis.Client): integer, integer, userdata, integer serials of connections; the
---  pool; the number of the database
---@field package __until fun(self: dbrun.redis.Client, stop: number?): dbrun.redis.Client, number the same client with
---  the deadline `stop` (on the clock of task.now()) for all its commands; default: the deadline of a call that begins
---  now
---@field package batch fun(self: dbrun.redis.Client, transaction: boolean): dbrun.redis.Pipeline
---@field hscan fun(self, key: string|number, opts: dbrun.redis.PageOptions?): fun(): string?, string?
---fields and values of a hash, a page at a time
---```lua
---r:hset("example:h", { a = 1 })
---for field, value in r:hscan "example:h" do print(field, value) end  --> a  1
---r:del "example:h"
---```
---@field sscan fun(self, key: string|number, opts: dbrun.redis.PageOptions?): fun(): string?
---members of a set, a page at a time
---```lua
---r:sadd("example:s", "a")
---for member in r:sscan "example:s" do print(member) end  --> a
---r:del "example:s"
---```
---@field zscan fun(self, key: string|number, opts: dbrun.redis.PageOptions?): fun(): string?, number?
---members of a sorted set with their scores, a page at a time
---```lua
---r:zadd("example:z", 1.5, "a")
---for member, score in r:zscan "example:z" do print(member, score) end  --> a  1.5
---r:del "example:z"
---```
---@field [string] fun(self: dbrun.redis.Client, ...): any

---A dedicated connection: `local c <close> = r:acquire()`.
---@class dbrun.redis.Connection: dbrun.redis.Client
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field close fun(self: dbrun.redis.Connection) releases it
---```lua
---local c = r:acquire()
---print(c:ping())  --> PONG
---c:close() -- gives it back; `local c <close>` does it at the end of the block
---```
---@field discard fun(self: dbrun.redis.Connection) closes it for good
---```lua
---local c = r:acquire()
---c:discard() -- closes it for good
---```
---@field package links fun(self: dbrun.redis.Connection): integer, integer, userdata, integer
---@field package __until fun(self: dbrun.redis.Connection, stop: number?): dbrun.redis.Connection, number itself
---@field package raw fun(self: dbrun.redis.Connection, name: string, ...): any
---@field package listen fun(self: dbrun.redis.Connection, ...): any
---@field package lost fun(self: dbrun.redis.Connection): boolean
---@field package certificates fun(self): number?, number? seconds until the server's ends, and the own one
---@field package next fun(self: dbrun.redis.Connection, ...): any
---@field package post fun(self: dbrun.redis.Connection, ...): any

---Commands that are sent together. Each command is a method that queues it; `#p` is their number.
---@class dbrun.redis.Pipeline
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field call fun(self: dbrun.redis.Pipeline, name: string, ...): dbrun.redis.Pipeline queues a command by its name
---```lua
---local p = r:pipeline()
---p:call("ECHO", "a")
---p:call("ECHO", "b")
---print(#p, p:execute()[2])  --> 2  b
---```
---@field clear fun(self: dbrun.redis.Pipeline) removes the queued commands
---```lua
---local p = r:pipeline()
---p:ping()
---p:clear()
---print(#p)  --> 0
---```
---@field package send fun(self: dbrun.redis.Pipeline, undo: dbrun.redis.Pipeline?, stop: number?): table|nil
---@field package asking fun(self: dbrun.redis.Pipeline): dbrun.redis.Pipeline
---@field package post fun(self: dbrun.redis.Pipeline): boolean sends the commands, for which nothing waits
---@field package last fun(self: dbrun.redis.Pipeline): table|nil the result of the last execute
---@field package told fun(self: dbrun.redis.Pipeline): table|nil, integer, table in a dry run: the commands that are
---  not sent, how many are sent, and the client
---@field [string] fun(self: dbrun.redis.Pipeline, ...): any

--- A table of methods that makes a method for each command of Redis at its first use.
local function with_commands(kind)
    local methods <const> = core.redis.class(kind).__index
    return setmetatable(methods, {
        __index = function(t, name)
            if type(name) ~= "string" or not name:find "^%a[%w_.:-]*$" then
                return nil
            end
            names.check_command(kind, name)
            local command <const> = core.redis.command(kind, name)
            rawset(t, name, command)
            return command
        end,
    })
end

local Client <const> = with_commands "client"
with_commands "connection"
local Pipeline <const> = with_commands "pipeline"
names.answer("pool", core.redis.class "pool".__index)
names.add_client(core.redis.class "client")
core.redis.on_unknown(names.hint_for)
core.redis.on_reading(function(...) return require "dbrun.redis.keys".only_reads(...) end)

-- ---- pools and clients ----

--- The pool that a client made, and closes when it is closed.
local own_pool <const> = setmetatable({}, { __mode = "k" })

--- The settings of each pool, and the function that ends the tasks that watch it.
local settings_of <const> = setmetatable({}, { __mode = "k" })
local stop <const> = setmetatable({}, { __mode = "k" })

---Makes a pool of connections, which are opened when needed.
---@param opts? table
---  url: default REDIS_URL; max_connections: 50; timeout: seconds to wait for a connection (20);
---  on_full: "error" raises at once when all are in use; also host, port, path, db, username, password, tls,
---  ca_file, ca_dir, cert_file, key_file, server_name, verify, verify_hostname, min_version ("TLSv1.2" or
---  "TLSv1.3"), ping_idle; client_name (CLIENT SETNAME); lib_name, lib_ver (CLIENT SETINFO; dbrun and its version;
---  lib_name = "" sends none); no_evict, no_touch = true (CLIENT NO-EVICT, NO-TOUCH);
---  alive_timeout: seconds that the server may be silent, and not answer a PING on another connection, before its
---  connections are closed (10; 0 = no limit); max_queued: bytes that may be queued on a connection before commands
---  wait for room, within their deadline (64 MiB)
---@return dbrun.redis.Pool
---Raises errors of kind `config` and `usage`.
---```lua
---local pool = redis.pool { url = config.redis_url, max_connections = 5 }
---local client = redis.client { pool = pool }
---print(client:ping())  --> PONG
---client:close()
---pool:close()
---```
function M.pool(opts)
    local settings <const> = options.pool(opts, "redis.pool")
    local pool <const> = core.redis.pool_new(settings)
    settings_of[pool] = settings
    return pool
end

--- The client of a sentinel is not watched, because its listener sends PINGs.
local with_own_pool

--- Watches a pool once it has a client (see lua/dbrun/redis/failover.lua).
local function watch(pool, settings)
    if stop[pool] then
        return
    end
    local watcher <const> = core.redis.guard.watch(pool, settings.sentinels ~= nil or settings.look ~= nil)
    local weak <const> = setmetatable({ pool = pool }, { __mode = "v" })
    local listening
    if settings.sentinels then
        settings.look, listening = require("dbrun.redis.sentinel").watch(watcher, settings, with_own_pool)
    end
    local watching <const> = require("dbrun.redis.failover").watch(watcher, settings, function()
        if weak.pool then
            stop[weak.pool] = nil
        end
    end)
    stop[pool] = function()
        watching:cancel()
        if listening then
            listening()
        end
    end
end

function with_own_pool(settings, client_opts)
    local pool <const> = core.redis.pool_new(settings)
    local client <const> = core.redis.client_new(pool, client_opts or {})
    own_pool[client] = pool
    if not settings.unguarded then
        watch(pool, settings)
    end
    return client, pool
end

---Makes a client, with a new pool (`url=` and the options of redis.pool) or on an existing one (`pool=`). Closing the
---client closes only a pool that it made.
---@param opts? table pool=, or the options of redis.pool; command_timeout= seconds a command may take (30);
---  idempotent=true: commands whose connection was lost are sent again even when they may have run; read_from=
---  "replica" in a cluster: commands that only read go to replicas, which may be behind
---@return dbrun.redis.Client
---```lua
---local client <close> = redis.client { url = config.redis_url, client_name = "importer" }
---print(client:client "GETNAME")  --> importer
---```
function M.client(opts)
    local settings <const>, client_opts <const> = options.pool(opts, "redis.client")
    if opts and opts.pool then
        local client <const> = core.redis.client_new(opts.pool, client_opts)
        watch(opts.pool, settings_of[opts.pool])
        return client
    end
    if settings.cluster then
        settings.command_timeout, settings.comeback = client_opts.timeout, 0
        return require("dbrun.redis.cluster").new(settings, settings.cluster, function(of_node)
            return with_own_pool(of_node, client_opts)
        end)
    end
    return (with_own_pool(settings, client_opts))
end

local close_line <const> = Client.close

---Closes the client: commands in progress fail, its connection goes back to the pool. A pool that was passed in stays
---open.
---```lua
---local client = redis.client { url = config.redis_url }
---print(client:ping())  --> PONG
---client:close()
---print(client:closed())  --> true
---```
function Client:close()
    names.on_client("close", self)
    close_line(self)
    local pool <const> = own_pool[self]
    if pool then
        own_pool[self] = nil
        if stop[pool] then
            stop[pool]()
            stop[pool] = nil
        end
        pool:close()
    end
end

core.redis.class("client").__close = Client.close

local with <const> = Client.with

--- Checked here, because the C code ignores unknown options.
---```lua
---print(r:with({ timeout = 0.5 }):get "example:nobody")  --> nil
---```
function Client:with(opts)
    names.on_client("with", self)
    local checked <const>, want <const> = options.with(opts)
    local client <const> = with(self, checked)
    return want and require("dbrun.redis.confirmed").new(client, want) or client
end

local singleton

---The client for the default address. When nothing answers there, its error names a running private stack, or what a
---spec of `dbrun test` uses instead.
local function unconfigured(opts)
    local settings <const>, client_opts <const> = options.pool(opts, "redis.client")
    local nowhere <const> = settings.path == require "dbrun.url".NOWHERE
    settings.advice = nowhere and require "dbrun.testing.environment".HINT or require "dbrun.stack.hint".of "redis"
    return with_own_pool(settings, client_opts)
end

---The client that all parts of a program share, made at the first call from the configuration (REDIS_URL and
---REDIS_MAX_CONNECTIONS).
---@return dbrun.redis.Client
---```lua
---local r = redis.get()
---r:set("example:greeting", "hello", "EX", 60)
---print(r:get "example:greeting")  --> hello
---r:del "example:greeting"
---```
function M.get(...)
    args.no_more("redis.get", "gives the shared client and takes no arguments", "redis.get():get(key) reads a key", ...)
    if not singleton or singleton:closed() then
        local config <const> = require "dbrun.config"
        local opts <const> = { url = config.redis_url, max_connections = config.REDIS_MAX_CONNECTIONS }
        local chosen <const> = config.source "redis_url" ~= "default"
            and not opts.url:find("unix://" .. require "dbrun.url".NOWHERE, 1, true)
        singleton = chosen and M.client(opts) or unconfigured(opts)
    end
    return singleton
end

---Closes the shared client and its pool; the next redis.get() makes new ones. Harmless when there is none.
---```lua
---redis.close() -- the next redis.get() makes a new client
---print(redis.get():ping())  --> PONG
---```
function M.close()
    local client <const> = singleton
    singleton = nil
    if client then
        client:close()
    end
end

-- ---- commands that block ----

--- BLPOP and similar commands would block the shared connection.
core.redis.class("client").__blocking = function(client, name, ...)
    local connection <close> = client:__until():__acquire(name) -- one deadline for both, plus the blocking time
    return connection:call(name, ...)
end

--- SCRIPT KILL and similar commands must not wait: not behind the script that they end, not for a free connection of
--- the pool, and not for SELECT, which a server that runs a long script refuses.
core.redis.class("client").__overtaking = function(client, name, ...)
    local pool <close>, timeout <const>, typed <const> = core.redis.pool_bare(client)
    local other <close> = core.redis.client_new(pool, { timeout = timeout, typed = typed })
    local connection <close> = other:__until(select(2, client:__until())):__acquire(name)
    return connection:call(name, ...)
end

-- ---- pipelines ----

local EXECUTE <const> = { raise = "boolean" }

---Sends the queued commands and returns the replies in order. Error replies are values in that list. Empties the queue,
---also when it fails, so that the next call does not run commands twice.
---@param opts? {raise: boolean?} raise=true raises the first of them instead
---@return any[]
---```lua
---local p = r:pipeline()
---p:set("example:n", 1)
---p:lpush("example:n", "x") -- an error reply is a value
---local replies = p:execute()
---print(replies[1], replies[2].code)  --> OK  WRONGTYPE
---r:del "example:n"
---```
function Pipeline:execute(opts)
    args.self("execute", self, core.redis.class "pipeline", "a pipeline", "p")
    local n <const> = args.options("execute", opts, EXECUTE).raise and #self -- the list of replies may have holes
    local replies <const> = self:send()
    if n then
        for i = 1, n do
            if errors.is(replies[i]) then
                error(replies[i], 0)
            end
        end
    end
    return replies
end

---Runs `fn(p)`, which queues commands (`p:set(k, v)`), and sends them in one write.
---@param fn? fun(p: dbrun.redis.Pipeline) without it the pipeline is returned: p:get(k); p:execute()
---@return any[] replies in order; error replies are values in it
---```lua
---local replies = r:pipeline(function(p)
---    p:set("example:n", 41)
---    p:incr "example:n"
---end)
---print(replies[2])  --> 42
---r:del "example:n"
---```
function Client:pipeline(fn)
    names.on_client("pipeline", self)
    args.optional("pipeline", "the function to call", fn, "function")
    local p <const> = self:batch(false)
    if not fn then
        return p
    end
    fn(p)
    if #p > 0 then
        return p:execute()
    end
    return p:last() or {}
end

-- ---- transactions ----

---A transaction: `fn(tx)` queues commands (`tx:incr(k)`), which then run as one (MULTI, EXEC). With `watch` they run
---only if none of these keys changes from before `fn` is called until EXEC; `fn` may read with `r` or with its second
---argument, the watching connection, and runs again when one changed.
---@param opts? {watch: string|number|string[]|nil, retry: integer?} retry: how often to run again (0), when a key
---  changed, and when the connection was lost before EXEC was sent
---@param fn fun(tx: dbrun.redis.Pipeline, connection: dbrun.redis.Connection?)
---@return any[] replies of the queued commands; error replies are values in it
---Raises an error of kind `redis` with code `WATCH` when a watched key kept changing.
---```lua
---r:set("example:n", 1)
---local replies = r:multi({ watch = "example:n", retry = 3 }, function(tx, connection)
---    tx:set("example:n", connection:get "example:n" * 2)
---    tx:get "example:n"
---end)
---print(replies[2])  --> 2
---r:del "example:n"
---```
function Client:multi(opts, fn)
    names.on_client("multi", self)
    opts, fn = options.multi(opts, fn)
    if not opts.watch then
        local tx <const> = self:batch(true)
        fn(tx)
        return tx:send()
    end
    return self:watched(opts, fn)
end

--- A transaction with watched keys. The hooks run on its connection: before(connection), batch(connection), which
--- returns the object that queues the commands, and after(connection, tx, replies).
function Client:watched(opts, fn, hooks)
    local keys <const> = type(opts.watch) == "table" and opts.watch or { opts.watch }
    return require("dbrun.redis.watch").run(self, keys, opts.retry or 0, fn, hooks)
end

require "dbrun.redis.extras" (Client)

---Methods that few programs call are loaded at their first call.
for module, methods in pairs {
    consumer = { "consume" }, library = { "library" }, subscription = { "subscribe", "psubscribe", "ssubscribe" },
} do
    for _, name in ipairs(methods) do
        Client[name] = function(...)
            require("dbrun.redis." .. module)(Client)
            return Client[name](...)
        end
    end
end

return setmetatable(M, { __index = function(_, name) return names.unknown_function(name, M) end })
