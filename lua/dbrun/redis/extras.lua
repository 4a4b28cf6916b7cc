--- Methods of a Redis client that use several commands: iterators, scripts, locks.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local task <const> = require "dbrun.task"

local function scan_options(command, opts)
    local words = {}
    opts = options.scan(command:lower(), opts)
    for _, name in ipairs { "match", "count", "type" } do
        if opts[name] then
            words[#words + 1] = name:upper()
            words[#words + 1] = opts[name]
        end
    end
    return words
end

--- An iterator over the pages of a SCAN command; `step` elements are one round, returned by `values`.
local function pages(client, command, key, opts, step, values)
    local words <const> = scan_options(command, opts)
    local cursor, list, at = "0", {}, 1
    local done = false
    return function()
        while at > #list do
            if done then
                return nil
            end
            local reply
            if key then
                reply = client:call(command, key, cursor, words)
            else
                reply = client:call(command, cursor, words)
            end
            cursor, list, at = reply[1], reply[2], 1
            done = cursor == "0"
        end
        local i <const> = at
        at = at + step
        return values(list, i)
    end
end

local function one(list, i)
    return list[i]
end

local function pair(list, i)
    return list[i], list[i + 1]
end

local function scored(list, i)
    return list[i], core.redis.float(list[i + 1])
end

--- `r:script("LOAD", source)` means the command SCRIPT LOAD: the name of a subcommand is never a valid Lua script.
local function check_source(source, ...)
    args.check("script", "the source", source, "string")
    local command <const> = core.redis.fact("SCRIPT " .. source:upper()) ~= nil
    if command or select("#", ...) > 0 then
        errors.fail("usage", "script: takes the source of a script, and returns a function(keys, args)",
            command and ('the command is r:call("SCRIPT", "%s", ...)'):format(source:upper()) or nil)
    end
end

---@param Client dbrun.redis.Client the table of methods to add to
return function(Client)
    ---All keys, a page at a time: `for key in r:scan{match = "user:*"} do`. A key may come twice.
    ---@param opts? {match: string|number?, count: integer?, type: string?}
    ---@return fun(): string?
    ---```lua
    ---r:set("example:a", 1)
    ---for key in r:scan { match = "example:*" } do print(key) end  --> example:a
    ---r:del "example:a"
    ---```
    function Client:scan(opts)
        names.on_client("scan", self)
        return pages(self, "SCAN", nil, opts, 1, one)
    end

    --- HSCAN, SSCAN and ZSCAN differ only in what one round returns.
    local function scanner(command, step, values)
        return function(self, key, opts)
            names.on_client(command:lower(), self)
            args.check(command:lower(), "the key", key, options.KEY)
            return pages(self, command, key, opts, step, values)
        end
    end

    ---Fields and values of a hash: `for field, value in r:hscan(key) do`.
    Client.hscan = scanner("HSCAN", 2, pair)
    ---Members of a set.
    Client.sscan = scanner("SSCAN", 1, one)
    ---Members and scores of a sorted set.
    Client.zscan = scanner("ZSCAN", 2, scored)

    ---A Lua script that runs on the server: `local add = r:script(source); add({key}, {1})`. Sends its hash, and the
    ---whole text when the server does not know it.
    ---@param source string
    ---@return fun(keys: (string|number)[]?, args: (string|number)[]?): any
    ---```lua
    ---local add = r:script "return redis.call('incrby', KEYS[1], ARGV[1])"
    ---print(add({ "example:n" }, { 10 }))  --> 10
    ---r:del "example:n"
    ---```
    function Client:script(source, ...)
        names.on_client("script", self)
        check_source(source, ...)
        local sha <const> = core.digest("sha1", source)
        return function(keys, values, ...)
            args.optional("script", "its keys", keys, options.KEYS)
            args.optional("script", "its arguments", values, options.KEYS)
            args.no_more("script", "is called with a list of keys and a list of arguments", nil, ...)
            keys, values = keys or {}, values or {}
            local began <const> = task.now()
            local ok, reply = pcall(self.call, self, "EVALSHA", sha, #keys, keys, values)
            if not ok then
                if not errors.is(reply, "redis") or reply.code ~= "NOSCRIPT" then
                    error(reply, 0)
                end
                -- Both commands share the deadline of the call.
                local _ <const>, stop <const> = self:__until()
                local bounded <const> = self:__until(stop - (task.now() - began))
                return bounded:call("EVAL", source, #keys, keys, values)
            end
            return reply
        end
    end

    ---Takes a lock that is shared by all clients of this Redis: `local l <close> = r:lock("report", {ttl = 30})`. It
    ---expires after `ttl` seconds unless it is extended (l:extend()) or released (l:release()). With a function it is
    ---held while that runs, which is cancelled when the lock is lost: `r:lock("report", {auto_extend = true},
    ---function(l)`.
    ---@param name string|number
    ---@param opts? {ttl: number?, wait: number?, fence: boolean?, auto_extend: boolean|number|nil}|function ttl: 10
    ---seconds; wait: seconds to wait for the lock (0 = none); fence=true: l.fence comes with the lock;
    ---auto_extend=true: extends it at a third of its ttl while the function runs, a number: every so many seconds
    ---@param fn? fun(l: dbrun.redis.Lock): ... its results are returned
    ---@return dbrun.redis.Lock|any ...
    ---Raises an error of kind `timeout` when another client holds it for longer than `wait`, and one with the code
    ---`LOCKLOST` when it was lost before the function returned.
    ---```lua
    ---do
    ---    local lock <close> = r:lock("example:report", { ttl = 30, wait = 5 })
    ---    print(lock.name)  --> example:report
    ---end
    ---```
    function Client:lock(name, opts, fn)
        names.on_client("lock", self)
        return require "dbrun.redis.lock".take(self, name, opts, fn)
    end
end
