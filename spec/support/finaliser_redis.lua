--- dbrun spec/support/finaliser_redis.lua URL WHAT: uses a Redis client while a finaliser disturbs it, at every moment
--- and in every way. Each reply must be right or an error.

local errors <const> = require "dbrun.error"
local finaliser <const> = require "spec.support.finaliser"
local redis <const> = require "dbrun.redis"

local M = {}

--- Each gets x (client, conn = its dedicated connection, pool, helper = another client) and a nonce.
M.done = {
    { "a command", function(x, nonce) return x.client:echo(nonce) end },
    { "a command by name", function(x, nonce) return x.client:call("echo", nonce) end },
    { "a command that nobody knows yet", function(x, nonce)
        local ok <const>, e <const> = pcall(x.client.call, x.client, nonce .. "_UNKNOWN", "a")
        if not ok and not (errors.is(e, "redis") and e.message:find(nonce, 1, true)) then
            error(e, 0)
        end
        return nonce
    end },
    { "a command of a connection of its own", function(x, nonce) return x.conn:echo(nonce) end },
    { "a table", function(x, nonce)
        x.client:hset("h", { a = nonce, b = nonce })
        local h <const> = x.client:hgetall "h"
        return h.a == h.b and h.a
    end },
    { "a command that blocks", function(x, nonce)
        x.client:rpush("l" .. nonce, nonce)
        local value <const> = x.client:blpop("l" .. nonce, 5)
        return value[2]
    end },
    { "a pipeline", function(x, nonce)
        local replies <const> = x.client:pipeline(function(p)
            p:echo(nonce)
            p:hset("ph", { a = nonce })
            p:hgetall "ph"
            p:zadd("pz", { [nonce] = 1.5 })
            p:call("echo", nonce)
            x.queue = p
        end)
        assert(replies[3].a == nonce and replies[5] == nonce)
        return replies[1]
    end },
    { "a transaction", function(x, nonce)
        return x.client:multi(function(tx)
            tx:set("m", nonce)
            tx:get "m"
            x.queue = tx
        end)[2]
    end },
    { "a transaction that watches", function(x, nonce)
        return x.client:multi({ watch = "w" }, function(tx)
            tx:set("w", nonce)
            tx:get "w"
        end)[2]
    end },
    { "acquire", function(x, nonce)
        local c <close> = x.client:acquire()
        return c:echo(nonce)
    end },
    { "another client of the pool", function(x, nonce)
        local c <const> = redis.client { pool = x.pool }
        local reply <const> = c:echo(nonce)
        c:close()
        return reply
    end },
    { "other settings", function(x, nonce) return x.client:with({ timeout = 10 }):echo(nonce) end },
    { "stats", function(x, nonce)
        return x.client:stats().commands and x.pool:stats().server and nonce
    end },
    { "a subscription", function(x, nonce)
        local s <close> = x.client:subscribe("c" .. nonce)
        x.subscription = s
        x.helper:publish("c" .. nonce, nonce)
        local message <const> = s:messages()()
        return message and message.payload
    end },
}

M.acts = {
    ["close the client"] = function(x) x.client:close() end,
    ["close the connection"] = function(x) x.conn:close() end,
    ["discard the connection"] = function(x) x.conn:discard() end,
    ["close the pool"] = function(x) x.pool:close() end,
    ["queue more"] = function(x)
        x.queue:hgetall "ph"
        x.queue:echo "more"
    end,
    ["close the subscription"] = function(x) x.subscription:close() end,
    command = function(x) x.seen = x.client:echo(x.nonce) end,
    ["command on the connection"] = function(x) x.seen = x.conn:echo(x.nonce) end,
    ["__gc of the connection by hand"] = function(x) getmetatable(x.conn).__gc(x.conn) end,
}

---@param url string
---@param what string one of M.done
function M.try(url, what)
    local entry
    for _, candidate in ipairs(M.done) do
        entry = candidate[1] == what and candidate or entry
    end
    local fn <const> = entry[2]
    local helper <const> = redis.client { url = url }
    local nonces = 0
    for name, act in pairs(M.acts) do
        finaliser.at_every_moment {
            prepare = function()
                nonces = nonces + 1
                local pool <const> = redis.pool { url = url, timeout = 20 }
                local x <const> = { pool = pool, client = redis.client { pool = pool, command_timeout = 20 },
                    helper = helper, nonce = "n" .. nonces }
                x.conn = x.client:acquire()
                return x
            end,
            run = function(x) return fn(x, x.nonce) end,
            act = act,
            check = function(x, ok, result)
                local ended <const> = result == nil and name == "close the subscription"
                if ok and result ~= x.nonce and not ended then
                    error(("%s, %s: got %s instead of %s"):format(what, name, result, x.nonce))
                elseif not ok and not errors.is(result) then
                    error(("%s, %s: %s"):format(what, name, result))
                end
                assert(x.seen == nil or x.seen == x.nonce, "the finaliser's own reply is wrong")
                x.conn:close()
                x.client:close()
                x.pool:close()
            end,
        }
    end
    helper:close()
end

if arg and arg[0] and arg[0]:find "finaliser_redis" then
    M.try(arg[1], arg[2])
end

return M
