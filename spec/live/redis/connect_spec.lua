-- How a client connects to its server: addresses, users, databases, TLS, and its errors.
local certificates = require "spec.support.certificates"
local errors = require "dbrun.error"
local bad_server = require "spec.support.bad_server"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"
local url = require "dbrun.url"

local SECRET <const> = "s3cret@/:%#'\\ üß"

--- The error of connecting with these options.
local function refused(opts)
    local r <const> = redis.client(opts)
    local ok, e = pcall(r.ping, r)
    r:close()
    assert.is_false(ok)
    assert.is_true(errors.is(e), tostring(e))
    assert.not_matches("s3cret", tostring(e), 1, true)
    for _, v in pairs(e) do
        assert.not_matches("s3cret", tostring(v), 1, true)
    end
    return e
end

local function works(opts, ...)
    local r <const> = redis.client(opts)
    local result <const> = r:call(...)
    r:close()
    return result
end

describe("connecting to Redis", function()
    local server

    setup(function()
        server = redis_server.start { tcp = true }
        local r <const> = redis.client { url = server.url }
        r:acl("setuser", "app", "on", ">" .. SECRET, "~*", "+@all")
        r:acl("setuser", "narrow", "on", ">narrowpass", "~*", "+get", "+set")
        r:close()
    end)
    teardown(function()
        server:stop()
    end)

    local function tcp(rest)
        return "redis://" .. rest:gsub("HOST", "127.0.0.1:" .. server.port)
    end

    it("works over unix sockets and TCP, by address and by name", function()
        assert.equal("PONG", works({ url = server.url }, "PING"))
        assert.equal("PONG", works({ path = server.socket }, "PING"))
        assert.equal("PONG", works({ url = tcp "HOST" }, "PING"))
        assert.equal("PONG", works({ url = ("redis://localhost:%d/0"):format(server.port) }, "PING"))
        assert.equal("PONG", works({ host = "127.0.0.1", port = server.port }, "PING"))
    end)

    it("uses the database that the URL names", function()
        assert.equal("OK", works({ url = tcp "HOST/3" }, "SET", "in three", 1))
        assert.equal("1", works({ url = server.url .. "?db=3" }, "GET", "in three"))
        assert.is_nil(works({ url = server.url }, "GET", "in three"))
        local e <const> = refused { url = tcp "HOST/99" }
        assert.equal("connect", e.kind)
        assert.equal("database", e.context)
        assert.matches("out of range", e.message)
    end)

    it("names the connection", function()
        assert.equal("worker-7", works({ url = tcp "HOST/0?client_name=worker-7" }, "CLIENT", "GETNAME"))
    end)

    it("logs in as a user whose password has every special character", function()
        local encoded <const> = url.encode(SECRET)
        assert.equal("app", works({ url = tcp("app:" .. encoded .. "@HOST") }, "ACL", "WHOAMI"))
        assert.equal("app", works({ path = server.socket, username = "app", password = SECRET }, "ACL", "WHOAMI"))
    end)

    it("logs in as a user with few rights", function()
        local opts <const> = { url = tcp "narrow:narrowpass@HOST" }
        assert.equal("OK", works(opts, "SET", "k", "v"))
        local r <const> = redis.client(opts)
        local _, e = pcall(r.del, r, "k")
        assert.equal("NOPERM", e.code)
        r:close()
    end)

    it("says that the password is wrong, and never prints one", function()
        local e <const> = refused { url = tcp "app:s3cret-but-wrong@HOST" }
        assert.equal("connect", e.kind)
        assert.equal("authentication", e.context)
        assert.equal("not_sent", e.outcome)
        assert.matches("WRONGPASS", e.message)
        assert.matches("REDIS_PASSWORD", e.hint)
        assert.matches("127.0.0.1:" .. server.port, e.message, 1, true)
    end)

    it("says that a password is required", function()
        local locked <const> = redis_server.start { args = { "--requirepass", "s3cret-pass" } }
        local e <const> = refused { url = locked.url }
        assert.equal("authentication", e.context)
        assert.matches("NOAUTH", e.message)
        assert.equal("PONG", works({ path = locked.socket, password = "s3cret-pass" }, "PING"))
        locked:stop()
    end)

    describe("without a server", function()
        it("says which layer failed, where, and what to do", function()
            local e = refused { url = "redis://:s3cret@127.0.0.1:1" }
            assert.equal("connect", e.kind)
            assert.equal("TCP", e.context)
            assert.matches("127.0.0.1:1: TCP: Connection refused", e.message, 1, true)
            assert.is_true(e.retryable)
            assert.is_string(e.hint)
            e = refused { url = "unix:///nonexistent/redis.sock" }
            assert.equal("unix socket", e.context)
            assert.matches("No such file", e.message)
            e = refused { url = "redis://no-such-host.invalid:6379" }
            assert.equal("name", e.context)
            assert.matches("no%-such%-host.invalid", e.message)
            e = refused { path = "/" .. ("x"):rep(120) }
            assert.equal("config", e.kind)
            assert.matches("107 bytes", e.message)
        end)

        it("ends at the deadline when the address does not answer", function()
            local e <const> = pace.takes(0, 0.4, function()
                return refused { host = "192.0.2.1", connect_timeout = 0.3 }
            end)
            assert.equal("TCP", e.context)
        end)
    end)

    describe("to a server that is not Redis", function()
        it("ends at the deadline when it sends nothing", function()
            local mute <close> = bad_server.start "sleep 60"
            local e <const> = pace.takes(0.29, 0.4, function()
                return refused { url = mute.url, connect_timeout = 0.3 }
            end)
            assert.equal("connect", e.kind)
            assert.matches("the server did not answer before the deadline", e.message)
            assert.equal("not_sent", e.outcome)
        end)

        it("ends at the deadline when it sends one byte a second", function()
            local slow <close> = bad_server.start "for my $b (split //, '+PONGPONGPONG') { print $c $b; sleep 1 }"
            assert.equal("connect", pace.takes(0.29, 0.4, function()
                return refused { url = slow.url, connect_timeout = 0.3 }
            end).kind)
        end)

        it("does not block the loop meanwhile", function()
            local mute <close> = bad_server.start "sleep 60"
            local worst <const> = pace.ticking(function() refused { url = mute.url, connect_timeout = 0.4 } end)
            assert.is_true(worst < 0.1, worst .. " s")
        end)

        it("says so when it speaks another protocol, closes the connection, or is full", function()
            local http <close> = bad_server.start "sysread $c, my $x, 99; print $c qq{HTTP/1.1 400 Bad\\r\\n\\r\\n}"
            local e = refused { url = http.url }
            assert.equal("protocol", e.kind)
            assert.matches("is it a Redis server", e.hint)
            local closed <close> = bad_server.start "close $c"
            e = refused { url = closed.url }
            assert.equal("connect", e.kind)
            assert.matches("closed the connection", e.message)
            local full <close> = bad_server.start "print $c qq{-ERR max number of clients reached\\r\\n}"
            e = refused { url = full.url }
            assert.equal("connect", e.kind)
            assert.matches("max number of clients", e.message)
            assert.matches("maxclients", e.hint)
            assert.is_true(e.retryable)
        end)

        it("waits for a server that is still loading", function()
            local loading <close> = bad_server.start [[
                my $n = 0;
                while (sysread $c, my $x, 4096) {
                    print $c ++$n < 4 ? qq{-LOADING Redis is loading the dataset in memory\r\n} : qq{+PONG\r\n};
                }]]
            assert.equal("PONG", works({ url = loading.url }, "PING"))
            local for_ever <close> = bad_server.start(
                "while (sysread $c, my $x, 4096) { print $c qq{-LOADING busy\\r\\n} }")
            local e
            pace.long_enough(0.2, function(seconds)
                e = refused { url = for_ever.url, connect_timeout = seconds }
                return e.message:find "LOADING"
            end)
            assert.matches("LOADING", e.message)
            assert.is_true(e.retryable)
        end)
    end)

    it("refuses wrong options and URLs with a hint", function()
        local function usage(opts)
            local ok, e = pcall(redis.client, opts)
            assert.is_false(ok)
            return e
        end
        assert.matches("did you mean 'max_connections'", usage { max_conections = 5 }.hint)
        assert.matches("timeout must be a number of seconds of at least 0, got a string",
            usage { url = server.url, timeout = "5" }.message)
        assert.equal("config", usage { url = "http://x" }.kind)
        for _, address in ipairs { "redis+sentinel://:s3cret@h:1", "redis+cluster://:s3cret@h:1/2" } do
            local e <const> = usage { url = address }
            assert.equal("config", e.kind)
            assert.not_matches("s3cret", tostring(e))
        end
        for _, opts in ipairs {
            { url = server.url, read_from = "replica" }, { url = "redis://h/?read_from=replica" },
            { url = "redis+sentinel://h:1/name", read_from = "replica" }, { read_from = "replica", host = "h" },
        } do
            local e <const> = usage(opts)
            assert.equal("redis.client: read_from = \"replica\" is for a cluster", e.message)
            assert.equal(opts.read_from and "usage" or "config", e.kind)
        end
        local primary <close> = redis.client { url = server.url, read_from = "primary" }
        assert.equal("PONG", primary:ping())
        assert.matches("not both", usage { url = server.url, pool = redis.pool { url = server.url } }.message)
    end)
end)

describe("Redis over TLS", function()
    local server, dir

    local function tls_url(host, rest)
        return ("rediss://%s:%s/0?%s"):format(host, server.tls.port, (rest:gsub("DIR", dir)))
    end

    setup(function()
        server = redis_server.start { tcp = true, tls = true }
        dir = server.dir
        certificates.authority(dir, "other")
        certificates.sign(dir, "ca", "expired", "DNS:localhost", true)
        certificates.sign(dir, "ca", "elsewhere", "DNS:db.example.com")
        certificates.sign(dir, "ca", "client", "DNS:client")
    end)
    teardown(function()
        server:stop()
    end)

    it("works by name and by address, with the given authority", function()
        assert.equal("PONG", works({ url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }, "PING"))
        assert.equal("PONG", works({ url = tls_url("127.0.0.1", "ssl_ca_certs=DIR/ca.crt") }, "PING"))
    end)

    it("carries large values and many tasks", function()
        local r <const> = redis.client { url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }
        local large <const> = ("abcdefg\0"):rep(500000)
        r:set("large", large)
        assert.is_true(r:get "large" == large)
        local fns = {}
        for i = 1, 50 do
            fns[i] = function()
                for j = 1, 40 do
                    local value <const> = ("%d-%d"):format(i, j):rep(j)
                    assert(r:echo(value) == value)
                end
            end
        end
        task.all(fns)
        assert.is_nil(r:blpop("nothing", 0.1))
        task.sleep(0.1)
        assert.is_nil(r:blpop("nothing", 0.1)) -- an idle connection of the pool is reused
        assert.equal(2, r:stats().opened)
        r:close()
    end)

    it("refuses a certificate of an authority that it does not know", function()
        local e = refused { url = tls_url("localhost", "ssl_ca_certs=DIR/other.crt") }
        assert.equal("connect", e.kind)
        assert.equal("TLS", e.context)
        assert.matches("certificate", e.message)
        assert.matches("ssl_ca_certs", e.hint)
        e = refused { url = tls_url("localhost", "") }
        assert.equal("TLS", e.context)
    end)

    it("refuses a certificate for another name, unless the check is off", function()
        server:cli("config", "set", "tls-cert-file", dir .. "/elsewhere.crt", "tls-key-file", dir .. "/elsewhere.key")
        local e <const> = refused { url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }
        assert.equal("TLS", e.context)
        assert.matches("[Hh]ostname mismatch", e.message)
        local lax <const> = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt&ssl_check_hostname=false")
        assert.equal("PONG", works({ url = lax }, "PING"))
        assert.equal("PONG", works({
            host = "localhost", port = server.tls.port, tls = true, ca_file = dir .. "/ca.crt",
            server_name = "db.example.com",
        }, "PING"))
        server:cli("config", "set", "tls-cert-file", dir .. "/server.crt", "tls-key-file", dir .. "/server.key")
    end)

    it("refuses an expired certificate", function()
        server:cli("config", "set", "tls-cert-file", dir .. "/expired.crt", "tls-key-file", dir .. "/expired.key")
        local e <const> = refused { url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }
        assert.matches("expired", e.message)
        assert.equal("PONG", works({ url = tls_url("localhost", "ssl_cert_reqs=none") }, "PING"))
        server:cli("config", "set", "tls-cert-file", dir .. "/server.crt", "tls-key-file", dir .. "/server.key")
    end)

    it("sends a client certificate when the server requests one", function()
        server:cli("config", "set", "tls-auth-clients", "yes")
        local e <const> = refused { url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }
        assert.equal("connect", e.kind)
        local own <const> = "ssl_ca_certs=DIR/ca.crt&ssl_certfile=DIR/client.crt&ssl_keyfile=DIR/client.key"
        assert.equal("PONG", works({ url = tls_url("localhost", own) }, "PING"))
        server:cli("config", "set", "tls-auth-clients", "optional")
    end)

    it("requires the configured TLS version", function()
        server:cli("config", "set", "tls-protocols", "TLSv1.2")
        assert.equal("PONG", works({ url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt") }, "PING"))
        local e <const> = refused { url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt&ssl_min_version=TLSv1.3") }
        assert.equal("TLS", e.context)
        server:cli("config", "set", "tls-protocols", "")
        assert.equal("PONG", works({
            url = tls_url("localhost", "ssl_ca_certs=DIR/ca.crt"), min_version = "TLSv1.3",
        }, "PING"))
        local _, wrong = pcall(redis.client, { url = tls_url("localhost", "ssl_min_version=SSLv3") })
        assert.equal("config", wrong.kind)
        _, wrong = pcall(redis.client, { url = server.url, min_version = "TLSv1.1" })
        assert.equal("usage", wrong.kind)
    end)

    it("never falls back to plain text, and says which side does not use TLS", function()
        local e = refused { url = ("rediss://localhost:%d"):format(server.port), connect_timeout = 2 }
        assert.equal("TLS", e.context)
        assert.matches("redis:// instead of rediss://", e.hint, 1, true)
        e = refused { url = ("redis://localhost:%s"):format(server.tls.port), connect_timeout = 2 }
        assert.is_true(e.kind == "protocol" or e.kind == "connect")
    end)

    it("names the file that cannot be used", function()
        local e <const> = refused { url = tls_url("localhost", "ssl_ca_certs=/nonexistent/ca.crt") }
        assert.equal("config", e.kind)
        assert.matches("/nonexistent/ca.crt", e.message, 1, true)
    end)

    it("ends at the deadline when the other side does not shake hands", function()
        local mute <close> = bad_server.start "sleep 60"
        local e <const> = pace.takes(1.99, 2.1, function() -- much longer than reading the certificates takes
            return refused { path = mute.socket, tls = true, connect_timeout = 2 }
        end)
        assert.equal("TLS", e.context)
    end)
end)
