--- Libraries of functions that run on the server (Redis 7.0 and later): r:library(source).
local args <const> = require "dbrun.args"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local task <const> = require "dbrun.task"

---@class dbrun.redis.Library
---Raises errors of kind `redis` (an error reply: `code` is its first word), `connect`, `pool`, `timeout` and
---`cancelled`; `outcome` says whether the command may have run.
---@field name string from the first line of the source
---@field package client dbrun.redis.Client
---@field package source string
---@field package functions table<string, boolean>|nil true: it only reads; nil: not loaded yet
local Library <const> = {}
local Metatable <const> = { __index = names.answer("library", Library), __name = "dbrun.redis.library" }

local function on_library(method, self)
    args.self(method, self, Metatable, "a library", "lib")
end

local function says(e, words)
    return errors.is(e, "redis") and e.code == "ERR" and e.message:find(words, 1, true) ~= nil
end

local function too_old(self, e)
    return errors.new {
        kind = "redis", code = e.code, outcome = "not_sent", retryable = false,
        message = ("redis: the library '%s' cannot be loaded: the server has no functions"):format(self.name),
        hint = "functions need Redis 7.0 or Valkey; r:script(source) runs Lua on older servers", detail = e.message,
    }
end

-- A call may have to load the library first. Both share one deadline: `client` is the library's client with that
-- deadline.

--- The functions of the library that the server has, and its source.
local function listed(self, client)
    local untyped <const> = client:with { typed = false }
    local found <const> = untyped:call("FUNCTION", "LIST", "LIBRARYNAME", self.name, "WITHCODE")[1]
    if not found then
        return nil
    end
    local functions = {}
    for _, one in ipairs(found.functions) do
        functions[one.name] = false
        for _, flag in ipairs(one.flags) do
            functions[one.name] = functions[one.name] or flag == "no-writes"
        end
    end
    return functions, found.library_code
end

local function load(self, client)
    local ok, e = pcall(client.call, client, "FUNCTION", "LOAD", "REPLACE", self.source)
    if not ok and says(e, "unknown command") then
        error(too_old(self, e), 0)
    elseif not ok and not (errors.is(e, "usage") or e.code == "READONLY" or e.code == "NOPERM") then
        if errors.is(e, "redis") and e.code == "ERR" then
            e.hint = ("the library '%s' was not loaded"):format(self.name) .. (says(e, "already exists")
                and "; another library has this function, as all share their names: FUNCTION LIST shows it" or "")
        end
        error(e, 0)
    end
    local functions <const>, source <const> = listed(self, client)
    -- A replica, or a program that only reads, can use the loaded library if it is this one.
    if not ok and source ~= self.source then
        error(e, 0)
    end
    self.functions = functions
end

local function late_error(self)
    return errors.new {
        kind = "timeout", outcome = "not_sent", retryable = true,
        message = ("redis: the library '%s' was not loaded before the deadline: another task still loads it"):format(
            self.name),
    }
end

--- Loads the library unless it was loaded since `seen`. One task loads it, others wait.
local function make_sure(self, seen, client, stop)
    local permit <close> = self.gate:acquire(math.max(0, stop - task.now()))
    if not permit then
        error(late_error(self), 0)
    elseif self.functions == seen then
        load(self, client)
    end
end

---Loads the library now, on all primaries of a cluster. (The first call does that, too.)
---```lua
---local library = r:library "#!lua name=hello\nredis.register_function('hello', function() return 'hi' end)"
---library:load() -- now, and not at the first call
---print(library:call "hello")  --> hi
---r["function"](r, "DELETE", library.name)
---```
function Library:load()
    on_library("load", self)
    make_sure(self, self.functions, self.client:__until())
end

local function unknown(self, name)
    local known = {}
    for one in pairs(self.functions or {}) do
        known[#known + 1] = one
    end
    table.sort(known)
    errors.fail("usage", ("call: the library '%s' has no function '%s'"):format(self.name, name),
        #known > 0 and "it has " .. table.concat(known, ", ") or nil)
end

local function call(self, client, name, keys, values)
    local reads <const> = (self.functions or {})[name]
    if reads == nil then
        unknown(self, name)
    end
    return client:call(reads and "FCALL_RO" or "FCALL", name, #keys, keys, values)
end

---Calls a function of the library: FCALL_RO when it has the flag `no-writes`, so that it may run on a replica, else
---FCALL. Loads the library when the server does not know it.
---@param name string
---@param keys? (string|number)[]
---@param values? (string|number)[] the other arguments
---@return any
function Library:call(name, keys, values, ...)
    on_library("call", self)
    args.check("call", "the name of the function", name, "string")
    args.optional("call", "the keys", keys, options.KEYS)
    args.optional("call", "the arguments", values, options.KEYS)
    args.no_more("call", "takes a name, a list of keys and a list of arguments", nil, ...)
    keys, values = keys or {}, values or {}
    local began <const>, seen <const> = task.now(), self.functions
    local client, stop = self.client, nil
    if not seen then
        client, stop = client:__until()
        make_sure(self, nil, client, stop)
    end
    local known <const> = self.functions
    local ok, reply = pcall(call, self, client, name, keys, values)
    if ok then
        return reply
    elseif not errors.is(reply, "redis") or reply.message ~= "ERR Function not found" then
        error(reply, 0)
    end
    -- The function did not run: the server was flushed, or is a new one after a failover.
    if not stop then
        stop = select(2, client:__until()) - (task.now() - began)
        client = client:__until(stop)
    end
    make_sure(self, known, client, stop)
    -- A replica may get the library only later.
    return call(self, self.on_cluster and client:with { read_from = "primary" } or client, name, keys, values)
end

local SOURCE <const> = {
    function(v) return type(v) == "string" and v:match "^#![^\n]*%sname=[%w_]+[^%S\n]*[\n\r ]" ~= nil end,
    'a string whose first line is "#!lua name=NAME"',
}

---@param Client dbrun.redis.Client the table of methods to add to
---@param on_cluster? boolean
return function(Client, on_cluster)
    ---A library of functions that run on the server (Redis 7.0): `local lib = r:library(source)`, then
    ---`lib:call("name", {key}, {argument})`. The first call loads it and replaces a library of the same name.
    ---@param source string its first line is `#!lua name=NAME`
    ---@return dbrun.redis.Library
    function Client:library(source, ...)
        names.on_client("library", self)
        args.check("library", "the source", source, SOURCE)
        args.no_more("library", "takes a source", nil, ...)
        return setmetatable({
            client = self, source = source, name = source:match "^#![^\n]*%sname=([%w_]+)", gate = task.semaphore(1),
            on_cluster = on_cluster,
        }, Metatable)
    end
end
