-- Error replies: their code, a hint, whether anything was done, and whether a retry can help.
local errors = require "dbrun.error"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

--- The error reply to a command.
local function refused(r, ...)
    local ok, e = pcall(r.call, r, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "redis"), tostring(e))
    return e
end

--- Checks code, outcome, retryability and the hint.
local function told(e, hint)
    assert.matches(hint, e.hint)
    return { e.code, e.outcome, e.retryable }
end

describe("an error reply of Redis", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("of a group says whether it exists", function()
        assert.same({ "NOGROUP", "failed", false },
            told(refused(r, "XREADGROUP", "GROUP", "g", "me", "STREAMS", "s", ">"), "XGROUP CREATE .*MKSTREAM"))
        r:xgroup("CREATE", "s", "g", "$", "MKSTREAM")
        assert.same({ "BUSYGROUP", "failed", false },
            told(refused(r, "XGROUP", "CREATE", "s", "g", "$"), "exists already"))
    end)

    it("of RESTORE says that the key exists", function()
        r:set("k", "v")
        assert.same({ "BUSYKEY", "failed", false }, told(refused(r, "RESTORE", "k", 0, r:dump "k"), "REPLACE"))
    end)

    it("of too few replicas says that nothing was written", function()
        r:config("SET", "min-replicas-to-write", 1)
        local e <const> = refused(r, "SET", "k", "v")
        local _, aborted = pcall(r.multi, r, function(tx) tx:set("k", "v") end)
        local scripted <const> = refused(r, "EVAL", "return redis.call('set', KEYS[1], 1)", 1, "k")
        r:config("SET", "min-replicas-to-write", 0)
        assert.same({ "NOREPLICAS", "failed", true }, told(e, "nothing was written"))
        assert.same({ "EXECABORT", "failed", true }, told(aborted, "none of the transaction"))
        assert.matches("^NOREPLICAS", aborted.detail)
        assert.same({ "NOREPLICAS", "failed", true }, told(scripted, "nothing was written"))
        assert.is_nil(r:get "k")
    end)

    it("of a transaction has the cause, which says whether to retry", function()
        local _, e = pcall(r.multi, r, function(tx)
            tx:set("k", "v")
            tx:call("NONSENSE")
        end)
        assert.same({ "EXECABORT", "failed", false }, told(e, "none of the transaction"))
        assert.matches("unknown command", e.detail)
        assert.is_nil(r:get "k")
    end)

    it("of EXEC itself has the cause, too", function()
        local other <const> = redis_server.start { args = { "--busy-reply-threshold", "20" } }
        local c <const> = redis.client { url = other.url }
        local running <const> = task.spawn(function()
            return pcall(c.eval, c, "while true do end", 0)
        end)
        local e
        assert.is_true(redis_server.wait_until(10, function()
            local second <close> = redis.client { url = other.url }
            local ok
            ok, e = pcall(second.multi, second, function(tx) tx:set("k", "v") end)
            return not ok
        end))
        assert.same({ "EXECABORT", "failed", true }, told(e, "none of the transaction"))
        assert.matches("^BUSY", e.detail)
        c:call("SCRIPT", "KILL")
        assert.is_false(running:join())
        c:close()
        other:stop()
    end)

    it("of MULTI says whether the commands have run without it", function()
        local function told_as(rights, fn)
            r:del "k"
            r:call("ACL", "SETUSER", "few", "reset", "on", "nopass", "~*", "+@all", table.unpack(rights))
            local few <close> = redis.client { path = server.socket, username = "few" }
            local _, e = pcall(few.multi, few, fn)
            assert.equal("MULTI", e.context)
            return e, r:get "k"
        end
        local function write(tx) tx:set("k", "v") end
        local function half(tx) tx:eval("redis.call('set', KEYS[1], 'v') return redis.call('nonsense')", 1, "k") end
        for _, rights in ipairs { { "-multi" }, { "-multi", "-exec" } } do
            for _, fn in ipairs { write, half } do
                local e, value = told_as(rights, fn)
                assert.same({ "NOPERM", "unknown", false }, told(e, "no transaction: the server refused MULTI"))
                assert.equal("v", value)
            end
            local e, value = told_as({ "-set", table.unpack(rights) }, write)
            assert.same({ "NOPERM", "failed", false }, told(e, "ACL does not allow"))
            assert.is_nil(value)
        end
    end)

    it("from a script has an unknown outcome, because the script may have written", function()
        r:set("text", "v")
        local e = refused(r, "EVAL", "redis.call('incr', 'n') return redis.call('lpush', 'text', 1)", 0)
        assert.same({ "WRONGTYPE", "unknown", false }, told(e, "TYPE"))
        assert.equal("1", r:get "n")
        e = refused(r, "EVAL", "redis.call('incr', 'n') error 'mine'", 0)
        assert.same({ "ERR", "unknown" }, { e.code, e.outcome })
        e = refused(r, "EVAL", "no Lua", 0)
        assert.same({ "ERR", "failed" }, { e.code, e.outcome })
        e = refused(r, "EVAL", "return redis.error_reply 'MINE no'", 0)
        assert.same({ "MINE", "failed" }, { e.code, e.outcome })
    end)

    it("of a disk that cannot be written stops only writes", function()
        r:set("k", "old")
        server:cli("config", "set", "save", "3600 1")
        server:cli("debug", "set-active-expire", "0")
        assert(os.execute(("mkdir %s/dump.rdb"):format(server.dir))) -- a folder where the file would be
        server:cli("bgsave")
        assert.is_true(redis_server.wait_until(10, function()
            return server:cli("info", "persistence"):find "rdb_last_bgsave_status:err"
        end))
        local e <const> = refused(r, "SET", "k", "new")
        assert.same({ "MISCONF", "failed", false }, told(e, "reads work"))
        local new <const> = redis.client { url = server.url .. "?db=1" } -- a new connection does not write
        assert.is_nil(new:get "k")
        assert.equal("MISCONF", refused(new, "SET", "k", "v").code)
        new:close()
        assert.equal("old", r:get "k")
        assert(os.execute(("rmdir %s/dump.rdb"):format(server.dir)))
        server:cli("config", "set", "save", "")
    end)

    it("has a hint for every code", function()
        local FACTS <const> = { -- whether it may work later, and the outcome when it is not "failed"
            ASK = { true }, BUSY = { true }, BUSYGROUP = { false }, BUSYKEY = { false }, CLUSTERDOWN = { true },
            CROSSSLOT = { false }, DENIED = { false }, EXECABORT = { false }, INPROG = { true },
            INVALIDOBJ = { false }, IOERR = { true, "unknown" }, LOADING = { true }, MASTERDOWN = { true },
            MISCONF = { false }, MOVED = { false }, NOAUTH = { false }, NOGOODSLAVE = { true }, NOGROUP = { false },
            NOMASTERLINK = { true }, NOPERM = { false }, NOPROTO = { false }, NOQUORUM = { true },
            NOREPLICAS = { true }, NOSCRIPT = { true }, NOSUB = { false }, NOTBUSY = { false }, OOM = { true },
            READONLY = { false }, REDIRECT = { false }, TRYAGAIN = { true }, UNBLOCKED = { true },
            UNKILLABLE = { false }, WRONGPASS = { false }, WRONGTYPE = { false },
        }
        for code, fact in pairs(FACTS) do
            local e <const> = refused(r, "DEBUG", "ERROR", code .. " some text")
            assert.same({ code, fact[2] or "failed", fact[1] }, told(e, "%a"), code)
        end
        local e <const> = refused(r, "DEBUG", "ERROR", "IOERR error or timeout connecting to the client")
        assert.equal("failed", e.outcome)
    end)
end)
