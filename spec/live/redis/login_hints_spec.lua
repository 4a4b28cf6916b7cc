-- Hints of refused logins whose server messages are misleading.
local bad_server = require "spec.support.bad_server"
local redis = require "dbrun.redis"
local redis_sentinels = require "spec.support.redis_sentinels"
local redis_server = require "spec.support.redis_server"

local function refused(opts)
    local r <close> = redis.client(opts)
    local ok, e = pcall(r.get, r, "k")
    assert.is_false(ok)
    assert.same({ "connect", "not_sent" }, { e.kind, e.outcome }, tostring(e))
    return e
end

describe("the hint of a refused login", function()
    it("shows how to write a password alone, when a user without a password was given", function()
        local server <const> = redis_server.start { tcp = true, args = { "--requirepass", "pass" } }
        local e = refused { url = ("redis://pass@127.0.0.1:%d"):format(server.port) }
        assert.equal("WRONGPASS", e.code)
        assert.matches("redis://:[^@]+@host is a password alone", e.hint)
        e = refused { url = ("redis://default:wrong@127.0.0.1:%d"):format(server.port) }
        assert.not_matches("password alone", e.hint)
        server:stop()
    end)

    it("names the version that an option needs", function()
        for option, word in pairs { no_touch = "NO-TOUCH", no_evict = "NO-EVICT" } do
            local old <close> = bad_server.start(([[while (sysread $c, my $x, 4096) {
                print $c qq{-ERR Unknown subcommand or wrong number of arguments for '%s'\r\n+PONG\r\n};
            }]]):format(word))
            assert.matches(option .. " needs Redis 7", refused({ url = old.url, [option] = true }).hint)
        end
    end)

    it("names TLS when the server closes the connection silently", function()
        local server <const> = redis_server.start { tcp = true, tls = true }
        local port <const> = server.tls.port
        for _, user in ipairs { "", "app:pass@" } do
            local e <const> = refused { url = ("redis://%s127.0.0.1:%d/0?db=3"):format(user, port) }
            assert.matches("rediss://", e.hint, 1, true)
            assert.is_true(e.retryable)
        end
        -- A server with too many clients cannot say so before the handshake.
        local keeper <close> = redis.client { url = server.url }
        keeper:config("SET", "maxclients", 1)
        local e <const> = refused { url = ("rediss://localhost:%d?ssl_ca_certs=%s"):format(port, server.tls.ca_file) }
        assert.matches("maxclients", e.hint)
        assert.is_true(e.retryable)
        server:stop()
    end)

    it("names the sentinels' own password", function()
        local set <const> = redis_sentinels.start { password = "one", sentinel_password = "two" }
        for code, url in pairs {
            WRONGPASS = set.url:gsub("=two", "=three"), NOAUTH = set.url:gsub("%?.*", ""),
        } do
            local e <const> = refused { url = url }
            assert.equal(code, e.code)
            assert.matches("sentinel_password=", e.hint, 1, true)
        end
        local e <const> = refused { url = set.url:gsub(":one@", ":three@") }
        assert.equal("WRONGPASS", e.code)
        assert.matches("REDIS_PASSWORD", e.hint)
        set:stop()
    end)
end)
