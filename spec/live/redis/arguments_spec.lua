--- Wrong arguments, unknown options and names: errors of kind usage at the caller's line, and nothing is sent.
local errors = require "dbrun.error"
local redis = require "dbrun.redis"
local redis_cluster = require "spec.support.redis_cluster"
local redis_server = require "spec.support.redis_server"

--- Message and hint of a usage error, in one line.
local function problem(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "usage"), tostring(e))
    assert.matches("arguments_spec.lua", e.where, 1, true)
    assert.is_nil(e.message:find "dbrun/")
    return e.message .. (e.hint and " | " .. e.hint or "")
end

local function told(text, fn, ...)
    assert.matches(text, problem(fn, ...), 1, true)
end

--- Values of wrong types for any argument.
local function things()
    return ipairs { 5, "text", true, {}, { 1 }, { nothing_of_it = 1 }, print, coroutine.create(print) }
end

local function get(o, name) return o[name] end

--- The calls that clients of one server and of a cluster share.
local function check_client(r)
    told("with: unknown option 'timeot' | did you mean 'timeout'?", r.with, r, { timeot = 1 })
    told("with: timeout must be a number of seconds of at least 0, got -1", r.with, r, { timeout = -1 })
    told("with: the options must be a table, got nil", r.with, r)
    told("call: the name of the command must be a string, got 5", r.call, r, 5)
    told("multi: unknown option 'watched' | did you mean 'watch'?", r.multi, r, { watched = "k" }, print)
    told("multi: watch must be a key or a list of keys, got true", r.multi, r, { watch = true }, print)
    told("multi: retry must be a whole number of at least 0, got -1", r.multi, r, { watch = "k", retry = -1 }, print)
    told("multi: the function to call must be a function, got nil", r.multi, r)
    told("multi: got 5 after the function", r.multi, r, print, 5)
    told("pipeline: the function to call must be a function, got true", r.pipeline, r, true)
    local p <const> = r:pipeline()
    told("execute: unknown option 'rais' | did you mean 'raise'?", p.execute, p, { rais = true })
    told("execute: raise must be a boolean, got 1", p.execute, p, { raise = 1 })
    told("call: the name of the command must be a string, got nil", p.call, p)
    told("execute: must be called on a pipeline, got nil", p.execute)
    told("get: must be called on a pipeline, got a string", p.get, "k")
    told("scan: unknown option 'pattern' | the options are count, match, type", r.scan, r, { pattern = "a*" })
    told("scan: count must be a whole number of at least 1, got 0", r.scan, r, { count = 0 })
    told('scan: the options must be a table, got a number | its iterator passes the cursor on: r:scan{match = ...}',
        r.scan, r, 0)
    told("hscan: unknown option 'type'", r.hscan, r, "k", { type = "hash" })
    told("zscan: the key must be a string or a number, got nil", r.zscan, r)
    told("lock: unknown option 'timeout' | the options are auto_extend, fence, ttl, wait", r.lock, r, "l",
        { timeout = 5 })
    told("lock: ttl must be a number of seconds from 0.003 to 1e12, got 0", r.lock, r, "l", { ttl = 0 })
    told("lock: the name must be a string or a number, got nil", r.lock, r)
    told("script: the source must be a string, got 5", r.script, r, 5)
    local f <const> = r:script "return KEYS"
    told("script: its keys must be a list of strings and numbers, got a string", f, "k")
    told("script: its keys must be a list of strings and numbers, got a table", f, { keys = { "k" } })
    told("script: is called with a list of keys and a list of arguments, got 5", f, {}, {}, 5)
    told("subscribe: expected the name of a channel", r.subscribe, r)
    told("psubscribe: a channel's name must be a string, got 5", r.psubscribe, r, "a", 5)
    told("subscribe: the channels must be a list of strings", r.subscribe, r, { "a", timeout = 1 })
    for name in ("get with call scan hscan sscan zscan script lock subscribe psubscribe ssubscribe pipeline multi "
        .. "stats closed close acquire"):gmatch "%S+" do
        for _, self in things() do
            assert.matches(name .. ": must be called on a client, got ", problem(r[name], self), 1, true)
        end
        told(name .. ": must be called on a client, got nil", r[name])
    end
    told("a client has no 'delete' | r:del(key)", get, r, "delete")
    told("a client has no 'scan_iter' | for key in r:scan{", get, r, "scan_iter")
    told("a client has no 'execute_command' | r:call(", get, r, "execute_command")
    told("a pipeline has no 'sync' | p:execute()", get, p, "sync")
    assert.is_nil(r.__name)
    assert.is_nil(r[1])
end

describe("wrong arguments of Redis", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("are refused by every method of a client", function()
        check_client(r)
        told("acquire: takes no arguments, got a table", r.acquire, r, { timeout = 1 })
    end)

    it("are refused by connections, locks and subscriptions", function()
        local c <close> = r:acquire()
        told("close: must be called on a connection, got nil", c.close)
        told("a connection has no 'pipeline' | a client has it", get, c, "pipeline")
        local l <close> = r:lock("lock", { ttl = 5 })
        told("extend: the time must be a number of seconds from 0.003 to 1e12, got -1", l.extend, l, -1)
        told("release: must be called on a lock, got nil", l.release)
        told("a lock has no 'unlock' | l:release()", get, l, "unlock")
        local s <close> = r:subscribe "a"
        told("messages: takes no arguments, got 5", s.messages, s, 5)
        told("subscribe: a channel's name must be a string, got true", s.subscribe, s, true)
        told("unsubscribe: expected the name of a channel", s.unsubscribe, s)
        told("a subscription has no 'get_message' | for m in s:messages()", get, s, "get_message")
        for _, name in ipairs { "messages", "subscribe", "unsubscribe", "close" } do
            told(name .. ": must be called on a subscription, got a string", s[name], "x")
        end
        s:close()
        told("this subscription has been closed", s.subscribe, s, "b")
    end)

    it("are refused by the functions of the module", function()
        told("redis.get: gives the shared client and takes no arguments, got a string | redis.get():get(key)",
            redis.get, "key")
        told("redis.client: unknown option 'hots' | did you mean 'host'?", redis.client, { hots = "x" })
        told("redis.client: the options must be a table, got a string", redis.client, "redis://x")
        told("redis.client: port must be a whole number from 1 to 65535, got 0", redis.client,
            { host = "x", port = 0 })
        told("redis.client: db must be a whole number", redis.client, { host = "x", db = -1 })
        told('redis.client: on_full must be "wait" or "error", got "raise"', redis.client,
            { host = "x", on_full = "raise" })
        told("redis.client: pool must be a pool of redis.pool{...}, got an object", redis.client, { pool = r })
        told("redis.pool: unknown option 'pool'", redis.pool, { pool = 1 })
        local pool <close> = redis.pool { path = server.socket }
        told("redis.client: db is an option of a pool, and the pool is given | redis.pool{db = ...}", redis.client,
            { pool = pool, db = 3 })
        told("redis.client: give either a pool or an address, not both", redis.client, { pool = pool, host = "x" })
        told("stats: must be called on a pool, got nil", pool.stats)
        told("a pool has no 'get_connection' | redis.client{pool = pool}:acquire()", get, pool, "get_connection")
    end)

    it("name commands of the module: they are methods of a client", function()
        told("redis has no 'set' | commands are methods of a client: redis.get():set(...)", get, redis, "set")
        told("redis has no 'hgetall' | commands are methods of a client", get, redis, "hgetall")
        told("redis has no 'connect' | redis.get() is the client", get, redis, "connect")
        told("redis has no 'Redis' | redis.get() is the client", get, redis, "Redis")
        told("redis has no 'clint' | did you mean 'client'?", get, redis, "clint")
        assert.is_nil(redis.something_newer)
        assert.is_nil(redis.__name)
    end)

    it("of any type are never a plain error of Lua", function()
        local function check(name, fn, ...)
            local ok, why = pcall(fn, ...)
            assert.is_true(ok or errors.is(why), ("%s: %s"):format(name, tostring(why)))
        end
        for name in ("with call scan hscan sscan zscan script pipeline multi acquire get set"):gmatch "%S+" do
            for _, a in things() do
                check(name, r[name], r, a)
                for _, b in things() do
                    check(name, r[name], r, a, b)
                end
            end
        end
        for _, a in things() do
            check("pool", redis.pool, a)
            check("client", redis.client, a)
            check("lock", r.lock, r, "of_any_type", a)
            check("subscribe", r.subscribe, r, true, a)
        end
    end)

    it("a command that the server does not know gives an error with a suggestion", function()
        local ok, e = pcall(r.hgetal, r, "k")
        assert.is_false(ok)
        assert.same({ "redis", "ERR", "did you mean 'HGETALL'?" }, { e.kind, e.code, e.hint })
        ok, e = pcall(r.call, r, "DELETE", "k")
        assert.is_false(ok)
        assert.equal("r:del(key)", e.hint)
        ok, e = pcall(r.call, r, "NOTHING.LIKE.IT")
        assert.is_false(ok)
        assert.is_nil(e.hint)
    end)
end)

describe("wrong arguments of a Redis cluster", function()
    it("are refused by every method of its client", function()
        local cluster <const> = redis_cluster.start()
        local _ <close> = setmetatable({}, { __close = function() cluster:stop() end })
        local r <close> = redis.client { url = cluster.url }
        check_client(r)
        told("with: read_from must be \"primary\" or \"replica\", got \"any\"", r.with, r, { read_from = "any" })
        told("acquire: the key must be a string or a number, got true", r.acquire, r, true)
        told("nodes: must be called on a client, got nil", r.nodes)
        told("ssubscribe: the channels must be a list of strings", r.ssubscribe, r, { 5 })
    end)
end)
