--- Methods of a Redis client that use several commands: iterators, scripts, locks.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.redis.names"
local options <const> = require "dbrun.redis.options"
local task <const> = require "dbrun.task"

--- A lock has a random token, so that only its holder can release it.
local RELEASE <const> = [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) end
return 0]]
local EXTEND <const> = [[
if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("pexpire", KEYS[1], ARGV[2]) end
return 0]]

---@class dbrun.redis.Lock
---@field name string
---@field token string
local Lock <const> = {}
local Metatable <const> = { __index = names.answer("lock", Lock), __name = "dbrun.redis.lock" }

local function on_lock(method, self)
    args.self(method, self, Metatable, "a lock", "l")
end

---Releases the lock. Harmless when it has expired or was released already.
---@return boolean held false when it had expired
function Lock:release()
    on_lock("release", self)
    if self.released then
        return false
    end
    self.released = true
    return self.scripts.release({ self.name }, { self.token }) == 1
end

---Extends the lock to `ttl` seconds from now.
---@param ttl? number default: as given to lock
---@return boolean held false when it has expired, and another client may hold it
function Lock:extend(ttl)
    on_lock("extend", self)
    args.optional("extend", "the time", ttl, args.some_seconds)
    local ms <const> = math.ceil((ttl or self.ttl) * 1000)
    return not self.released and self.scripts.extend({ self.name }, { self.token, ms }) == 1
end

Metatable.__close = function(self)
    self:release()
end

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

local LOCK <const> = { ttl = args.some_seconds, wait = args.any_seconds }

---@param Client dbrun.redis.Client the table of methods to add to
return function(Client)
    ---All keys, a page at a time: `for key in r:scan{match = "user:*"} do`. A key may come twice.
    ---@param opts? {match: string|number?, count: integer?, type: string?}
    ---@return fun(): string?
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
    function Client:script(source)
        names.on_client("script", self)
        args.check("script", "the source", source, "string")
        local sha <const> = core.digest("sha1", source)
        return function(keys, values, ...)
            args.optional("script", "its keys", keys, options.KEYS)
            args.optional("script", "its arguments", values, options.KEYS)
            args.no_more("script", "is called with a list of keys and a list of arguments", nil, ...)
            keys, values = keys or {}, values or {}
            local ok, reply = pcall(self.call, self, "EVALSHA", sha, #keys, keys, values)
            if not ok then
                if not errors.is(reply, "redis") or reply.code ~= "NOSCRIPT" then
                    error(reply, 0)
                end
                return self:call("EVAL", source, #keys, keys, values)
            end
            return reply
        end
    end

    ---Takes a lock that all users of this Redis respect: `local l <close> = r:lock("report", {ttl = 30})`. It expires
    ---after `ttl` seconds unless it is extended (l:extend()) or released (l:release()).
    ---@param name string|number
    ---@param opts? {ttl: number?, wait: number?} ttl: 10; wait: seconds to wait for it (0 = do not)
    ---@return dbrun.redis.Lock
    ---Raises an error of kind `timeout` when another client holds it for longer than `wait`.
    function Client:lock(name, opts)
        names.on_client("lock", self)
        args.check("lock", "the name", name, options.KEY)
        opts = args.options("lock", opts, LOCK)
        local ttl <const>, wait <const> = opts.ttl or 10, opts.wait or 0
        local token <const> = core.redis.random_token()
        local give_up <const> = task.now() + wait
        local pause = 0.01
        while self:call("SET", name, token, "NX", "PX", math.ceil(ttl * 1000)) ~= "OK" do
            local left <const> = give_up - task.now()
            if left <= 0 then
                errors.raise {
                    kind = "timeout", outcome = "not_sent", retryable = true,
                    message = ("redis: the lock '%s' is held by another client (waited %g s)"):format(name, wait),
                }
            end
            -- With jitter, so that two waiters do not collide again and again.
            task.sleep(math.min(left, pause * (0.5 + math.random())))
            pause = math.min(pause * 1.5, 0.25)
        end
        local scripts <const> = { release = self:script(RELEASE), extend = self:script(EXTEND) }
        return setmetatable({ name = name, token = token, ttl = ttl, scripts = scripts, released = false }, Metatable)
    end
end
