-- A server's replies to a new connection, and the resulting errors.
local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local pace = require "spec.support.pace"
local redis = require "dbrun.redis"
local redis_server = require "spec.support.redis_server"
local task = require "dbrun.task"

--- Runs a command on a new client.
local function asked(opts, ...)
    local r <close> = redis.client(opts)
    return r:call(...)
end

--- The error of connecting with these options.
local function refused(opts, ...)
    local ok, e = pcall(asked, opts, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e), tostring(e))
    return e
end

--- A task that runs an endless script; returns once the server replies BUSY to others.
local function run_endless(url)
    local r <const> = redis.client { url = url }
    local running <const> = task.spawn(function()
        local _, e = pcall(r.eval, r, "while true do end", 0)
        r:close()
        return e
    end)
    assert.is_true(redis_server.wait_until(10, function()
        local ok, e = pcall(asked, { url = url }, "GET", "k")
        return not ok and e.code == "BUSY"
    end))
    return running, r
end

describe("a user without a password", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end, { tcp = true })

    it("is the user of the connection, not the default user", function()
        r:acl("SETUSER", "open", "on", "nopass", "~*", "+@all")
        local host <const> = "127.0.0.1:" .. server.port
        for _, opts in ipairs {
            { url = ("redis://open@%s"):format(host) }, { url = ("redis://open:@%s/1"):format(host) },
            { path = server.socket, username = "open" }, { path = server.socket, username = "open", password = "" },
        } do
            assert.equal("open", asked(opts, "ACL", "WHOAMI"))
        end
        assert.equal("default", asked({ path = server.socket, username = "default" }, "ACL", "WHOAMI"))
    end)

    it("and without a name is the default user", function()
        assert.equal("default", asked({ path = server.socket, username = "", password = "" }, "ACL", "WHOAMI"))
    end)

    it("is refused when the user does not exist, has a password, or is off", function()
        r:acl("SETUSER", "closed", "on", ">pass", "~*", "+@all")
        r:acl("SETUSER", "off", "off", "nopass", "~*", "+@all")
        for _, user in ipairs { "nobody", "closed", "off" } do
            local e <const> = refused({ path = server.socket, username = user }, "PING")
            assert.same({ "connect", "WRONGPASS", "authentication", false, "not_sent" },
                { e.kind, e.code, e.context, e.retryable, e.outcome })
            assert.matches("REDIS_USERNAME", e.hint)
        end
    end)

    it("gets an error that says that an old server has no users", function()
        local old <close> = bad_server.start [[while (sysread $c, my $x, 4096) {
            print $c qq{-ERR wrong number of arguments for 'auth' command\r\n} for $x =~ /AUTH/;
            print $c qq{+OK\r\n} for $x =~ /PING/;
        }]]
        local e <const> = refused({ url = old.url, username = "open" }, "PING")
        assert.matches("older than Redis 6", e.hint)
        assert.is_false(e.retryable)
    end)
end)

describe("a wrong password", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("raises at once, with its code, and ends the wait for a restarting server", function()
        r:acl("SETUSER", "app", "on", ">first", "~*", "+@all")
        local app <close> = redis.client { path = server.socket, username = "app", password = "first" }
        app:ping()
        r:acl("SETUSER", "app", "resetpass", ">second")
        server:cli("client", "kill", "user", "app")
        assert.is_true(redis_server.wait_until(5, function() return app:stats().losses == 1 end))
        local e <const> = pace.takes(0, 0.5, function()
            return select(2, pcall(app.ping, app))
        end)
        assert.same({ "connect", "WRONGPASS", false, "not_sent" }, { e.kind, e.code, e.retryable, e.outcome })
    end)

    it("raises at once when one is required and none was given", function()
        local locked <const> = redis_server.start { args = { "--requirepass", "pass" } }
        local e = refused({ url = locked.url }, "PING")
        assert.same({ "NOAUTH", "authentication", false }, { e.code, e.context, e.retryable })
        e = refused({ url = locked.url .. "?db=2&client_name=me" }, "PING")
        assert.same({ "NOAUTH", "authentication", false }, { e.code, e.context, e.retryable })
        locked:stop()
    end)
end)

describe("a server with too many clients", function()
    local server
    setup(function()
        server = redis_server.start { tcp = true, args = { "--requirepass", "pass" } }
    end)
    teardown(function() server:stop() end)

    it("says so with and without a password, over TCP and unix sockets", function()
        local keeper <close> = redis.client { path = server.socket, password = "pass" }
        keeper:config("SET", "maxclients", 1)
        for _ = 1, 20 do
            for _, opts in ipairs {
                { path = server.socket }, { path = server.socket, password = "pass" },
                { host = "127.0.0.1", port = server.port, password = "pass" },
                { host = "127.0.0.1", port = server.port, password = "pass", username = "default", db = 3,
                    client_name = "me" },
            } do
                local e <const> = refused(opts, "PING")
                assert.matches("max number of clients reached", e.message)
                assert.not_matches("authentication", e.message)
                assert.matches("maxclients", e.hint)
                assert.same({ "connect", true, "not_sent" }, { e.kind, e.retryable, e.outcome })
            end
        end
        keeper:config("SET", "maxclients", 500)
    end)
end)

describe("a server in protected mode", function()
    it("is named in the error", function()
        local denied <close> = bad_server.start "print $c qq{-DENIED running in protected mode\\r\\n}; close $c"
        for _, password in ipairs { "", "pass" } do
            local e <const> = refused({ url = denied.url, password = password }, "PING")
            assert.same({ "connect", "DENIED", false, "not_sent" }, { e.kind, e.code, e.retryable, e.outcome })
            assert.matches("protected mode", e.hint)
        end
    end)
end)

describe("a server that runs a long script", function()
    local server
    setup(function() server = redis_server.start { args = { "--busy-reply-threshold", "20" } } end)
    teardown(function() server:stop() end)

    local function while_busy(fn)
        local running <const>, r <const> = run_endless(server.url)
        local ok, e = pcall(fn, r)
        r:call("SCRIPT", "KILL")
        assert.matches("Script killed", running:join().message)
        assert(ok, e)
    end

    it("raises BUSY at once, for any options of the connection", function()
        while_busy(function()
            for _, opts in ipairs {
                { url = server.url }, { url = server.url .. "?db=5" }, { url = server.url .. "?client_name=me" },
                { url = server.url .. "?db=5", username = "default" },
            } do
                local e <const> = pace.takes(0, 1, function() return refused(opts, "GET", "k") end)
                assert.same({ "BUSY", true }, { e.code, e.retryable })
                assert.matches("SCRIPT KILL", e.hint)
                assert.equal(e.kind == "connect" and "not_sent" or "failed", e.outcome)
            end
        end)
    end)

    it("gets no command on a connection without its database", function()
        local r <close> = redis.client { url = server.url .. "?db=5" }
        while_busy(function()
            local e <const> = select(2, pcall(r.set, r, "k", "five"))
            assert.same({ "connect", "BUSY", true, "not_sent", "database" },
                { e.kind, e.code, e.retryable, e.outcome, e.context })
        end)
        assert.equal("OK", r:set("k", "five"))
        assert.is_nil(asked({ url = server.url }, "GET", "k"))
    end)

    it("raises BUSY at once after a connection was lost, too", function()
        local r <close> = redis.client { url = server.url .. "?db=5" }
        r:ping()
        server:cli("client", "kill", "type", "normal")
        while_busy(function()
            local e <const> = pace.takes(0, 1, function() return select(2, pcall(r.get, r, "k")) end)
            assert.equal("BUSY", e.code)
        end)
    end)

    it("can be freed by a client of another database, with a name, or with a full pool", function()
        for _, opts in ipairs {
            { url = server.url .. "?db=7" }, { url = server.url .. "?client_name=me&db=2" },
            { url = server.url, max_connections = 1 },
        } do
            local r <close> = redis.client(opts)
            local used <close> = opts.max_connections and r:acquire() or nil -- luacheck: ignore 211
            local running <const> = run_endless(server.url)
            local e <const> = pace.takes(0, 1, function() return select(2, pcall(r.call, r, "FUNCTION", "STATS")) end)
            assert.equal("BUSY", e.code) -- it means functions, not scripts
            assert.equal("OK", pace.takes(0, 1, function() return r:call("SCRIPT", "KILL") end))
            assert.matches("Script killed", running:join().message)
        end
    end)

    it("can be shut down when the script has written and cannot be killed", function()
        local own <const> = redis_server.start { args = { "--busy-reply-threshold", "20" } }
        local r <close> = redis.client { url = own.url .. "?db=1" }
        local running <const> = task.spawn(function()
            return select(2, pcall(r.eval, r, "redis.call('set', 'k', 1) while true do end", 0))
        end)
        local e
        assert.is_true(redis_server.wait_until(10, function()
            e = select(2, pcall(r.call, r, "SCRIPT", "KILL"))
            return e.code ~= "NOTBUSY"
        end))
        assert.same({ "UNKILLABLE", false, "failed" }, { e.code, e.retryable, e.outcome })
        assert.matches("SHUTDOWN NOSAVE", e.hint)
        pcall(r.shutdown, r, "NOSAVE")
        assert.same({ "connect", "unknown" }, { running:join().kind, running:join().outcome })
        assert.equal(0, own.child:wait(5).code)
        own:stop()
    end)
end)

--- A server that answers every command, does not know CLIENT SETINFO, and replies to GET with the commands that it has
--- received. Built with hiredis 1.x a client also requests RESP3; the server ignores that.
local LISTENER <const> = [[
    my ($heard, $rest) = ("", "");
    while (sysread $c, my $x, 4096) {
        $rest .= $x;
        while ($rest =~ s/^\*(\d+)\r\n((?:\$\d+\r\n[^\r]*\r\n)+?)(?=\*|$)//) {
            my $words = join " ", map { (split /\r\n/)[1] } split /(?=\$\d+\r\n)/, $2;
            $heard .= "$words; " unless $words =~ /^HELLO/;
            print $c $words =~ /SETINFO/ ? qq{-ERR Unknown subcommand\r\n}
                : $words =~ /GET/ ? "+$heard\r\n" : qq{+OK\r\n};
        }
    }]]

describe("the name that a connection sets", function()
    local server, r
    redis_server.around(_ENV, function(...) server, r = ... end)

    it("is the library's, unless another is given; a server that does not support it works nevertheless", function()
        local listener <close> = bad_server.start(LISTENER)
        assert.matches("^CLIENT SETINFO LIB%-NAME dbrun; CLIENT SETINFO LIB%-VER %d+%.%d+%.%d+; PING; GET k; $",
            asked({ path = listener.socket }, "GET", "k"))
        assert.matches("^CLIENT SETINFO LIB%-NAME mine; PING; ",
            asked({ path = listener.socket, lib_name = "mine" }, "GET", "k"))
        assert.matches("^CLIENT SETINFO LIB%-NAME mine; CLIENT SETINFO LIB%-VER 2; PING; ",
            asked({ url = "unix://" .. listener.socket .. "?lib_name=mine&lib_version=2" }, "GET", "k"))
        assert.matches("^PING; ", asked({ path = listener.socket, lib_name = "" }, "GET", "k"))
        assert.matches("^SELECT 2; CLIENT SETNAME me; CLIENT NO%-EVICT on; CLIENT NO%-TOUCH on; PING; ", asked({
            path = listener.socket, db = 2, client_name = "me", no_evict = true, no_touch = true, lib_name = "",
        }, "GET", "k"))
        assert.equal("PONG", asked({ path = server.socket }, "PING"))
    end)

    it("is set on every connection of a client", function()
        local c <close> = redis.client { url = server.url .. "?client_name=me", no_evict = true }
        local connection <close> = c:acquire()
        assert.equal("me", connection:call("CLIENT", "GETNAME"))
        assert.equal("me", c:call("CLIENT", "GETNAME"))
        assert.matches("flags=%a*e", connection:call("CLIENT", "INFO"))
    end)

    it("is an error when the server does not support a requested one", function()
        local old <close> = bad_server.start [[while (sysread $c, my $x, 4096) {
            print $c qq{-ERR Unknown subcommand or wrong number of arguments for 'NO-TOUCH'\r\n+PONG\r\n};
        }]]
        local e <const> = refused({ url = old.url, no_touch = true }, "PING")
        assert.same({ "connect", "not_sent", false }, { e.kind, e.outcome, e.retryable })
        assert.matches("NO%-TOUCH", e.message)
    end)

    it("is an option, and its command is refused on a shared connection", function()
        local connection <close> = r:acquire()
        for _, each in ipairs {
            { "client_name", "CLIENT", "SETNAME", "x" }, { "lib_name", "client", "setinfo", "lib-name", "x" },
            { "no_evict", "CLIENT", { "NO-EVICT", "on" } }, { "no_touch", "CLIENT", "NO-TOUCH", "on" },
            { "read_from", "READONLY" }, { "read_from", "READWRITE" }, { "HTTP", "POST" }, { "HTTP", "Host:" },
            { "the state of", "CLIENT", "CAPA", "redirect" }, { "the state of", "CLIENT", "IMPORT-SOURCE", "on" },
            { "the state of", "CLIENT", "TRACKING", "on" }, { "the state of", "CLIENT", "CACHING", "yes" },
        } do
            for _, where in ipairs { r, connection, r:pipeline() } do
                local ok, e = pcall(where.call, where, table.unpack(each, 2))
                assert.is_false(ok, each[2])
                assert.is_true(errors.is(e, "usage"), tostring(e))
                assert.matches(each[1], e.hint, 1, true)
                assert.matches("shared or pooled", e.message)
            end
        end
        assert.equal("PONG", r:ping())
    end)

    it("has no blanks, which would break the server's lists", function()
        local function told(opts)
            return select(2, pcall(redis.client, opts))
        end
        for _, name in ipairs { "client_name", "lib_name" } do
            assert.matches(name .. " must be a text of ASCII without blanks",
                told({ url = server.url, [name] = "a b" }).message)
        end
        local e <const> = told { url = server.url .. "?client_name=a%20b" }
        assert.equal("config", e.kind)
        assert.matches("client_name must be a text of ASCII without blanks", e.message)
        assert.matches("lib_name, which is missing", told({ url = server.url, lib_ver = "1" }).message)
    end)
end)

describe("a server that loads its data", function()
    it("makes a client wait, whose connection then has its database", function()
        local server <const> = redis_server.start {
            args = { "--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024" },
        }
        local r <close> = redis.client { url = server.url }
        r:call("DEBUG", "POPULATE", 700, "key", 100)
        asked({ url = server.url .. "?db=3" }, "SET", "k", "three")
        local reload <const> = task.spawn(function() return r:call("DEBUG", "RELOAD") end)
        local other <close> = redis.client { url = server.url .. "?db=3&client_name=me" }
        local e
        assert.is_true(redis_server.wait_until(10, function()
            return server:cli("get", "k"):find "LOADING"
        end))
        e = refused({ url = server.url, connect_timeout = 0.7 }, "GET", "k")
        assert.same({ "connect", "LOADING", true, "not_sent" }, { e.kind, e.code, e.retryable, e.outcome })
        assert.equal("three", other:get "k")
        assert.equal("me", other:call("CLIENT", "GETNAME"))
        assert.equal("OK", reload:join())
        server:stop()
    end)

    it("gets the commands again that it refused meanwhile", function()
        local loading <close> = bad_server.start [[
            my ($n, $db) = (0, 0);
            while (sysread $c, my $x, 4096) {
                for my $word ($x =~ /(SELECT|PING|GET)/g) {
                    if ($n < 4) { $n++; print $c qq{-LOADING loading\r\n}; next }
                    $db = 1 if $word eq "SELECT";
                    print $c $word eq "GET" ? ":$db\r\n" : "+OK\r\n";
                }
            }]]
        assert.equal(1, asked({ url = loading.url .. "&db=3" }, "GET", "k"))
    end)
end)
