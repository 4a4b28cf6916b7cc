-- Networks and peers that drop packets, cut connections, or never finish what they have begun. Most of it runs in
-- separate network namespaces, so it needs root.
local core = require "dbrun.core"
local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local fs = require "dbrun.fs"
local pace = require "spec.support.pace"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local namespaces <const> = process.uid() == 0
    and process.run { "unshare", "-n", "-m", "ip", "link", "add", "near0", "type", "veth", "peer", "name",
        "far0" }.ok

--- Runs a script in a separate dbrun, with these words in front of its command line.
local function script(words, env, source)
    local spec <const> = { table.unpack(words) }
    table.move({ core.options.program, "--no-env", "-" }, 1, 3, #spec + 1, spec)
    spec.stdin, spec.env, spec.timeout = source, env, 60
    local result <const> = process.run(spec)
    result.text = result.stdout .. result.stderr
    return result
end

-- ---- connects that block inside libpq ----

--- Connecting takes forever: on the async engine the loop does not notice, on both engines the deadline holds, and the
--- program ends although a thread is still connecting.
local STUCK <const> = [[
local db, redis, task = require "dbrun.db", require "dbrun.redis", require "dbrun.task"
local url <const>, redis_url <const> = os.getenv "URL", os.getenv "REDIS"
local limit <const> = 1

local function failed(what, fn, ...)
    local began <const> = task.now()
    local ok <const>, problem = pcall(fn, ...)
    local took <const> = task.now() - began
    assert(not ok and took >= limit - 0.05 and took < limit + 5, ("%s after %.2f s"):format(problem, took))
    assert(problem.outcome == "not_sent" and problem.retryable, problem.outcome)
    print(what, problem.kind, problem.layer)
    print(problem.message)
    print(problem.hint)
end

local function postgres(mode)
    local e <close> = db.engine { url = url, mode = mode, size = 2, timeout = 10, connect_timeout = limit }
    failed(mode, e.value, e, "select 1")
end

local ticks, worst, last, done = 0, 0, task.now(), false
local g = task.group()
g:spawn(function()
    while not done do
        task.sleep(0.01)
        local now = task.now()
        ticks, worst, last = ticks + 1, math.max(worst, now - last), now
    end
end)
g:spawn(function()
    postgres "async"
    if redis_url then
        local r <close> = redis.client { url = redis_url, connect_timeout = limit }
        failed("redis", r.ping, r)
    end
    done = true
end)
g:wait()
-- Where the loop stands still, there is one tick and a pause as long as the limit.
assert(ticks > 20 and worst < limit / 2, ("%d ticks, the longest pause was %.2f s"):format(ticks, worst))
postgres "sync"
]]

--- The arguments of a script: the server, the host, and the resolver for the host's name.
local function told(what, server, host, variable)
    return ([[
%s	timeout	name
cannot connect to %s at %s in time: the name of the host could not be resolved, or the login did not end
Check the host in %s, and the name servers of this machine; a numeric address needs none.
]]):format(what, server, host, variable)
end

local function stuck(words, url, host, redis_host)
    local env <const> = { URL = url, REDIS = redis_host and "redis://" .. redis_host }
    local took, result
    pace.kept(function() -- its loop turns when the machine lets it
        took, result = pg.timed(script, words, env, STUCK)
        assert.equal(0, result.code, result.text)
    end)
    local variable <const> = "DATABASE_URL (or POSTGRES_HOST)"
    assert.equal(told("async", "PostgreSQL", host, variable)
        .. (redis_host and told("redis", "Redis", redis_host, "REDIS_URL (or REDIS_HOST)") or "")
        .. told("sync", "PostgreSQL", host, variable), result.stdout, result.text)
    assert(took < 30, took)
end

it("a server that asks for two thousand million rounds of SCRAM blocks nothing else", function()
    local server <close> = bad_server.start [[
        my $take = sub { sysread $c, my $data, 65536; return $data };
        my $auth = sub { my ($kind, $data) = @_; print $c "R" . pack("NN", length($data) + 8, $kind) . $data };
        $take->();
        $auth->(10, "SCRAM-SHA-256\0\0");
        my ($nonce) = $take->() =~ /r=([^,]+)/;
        $auth->(11, "r=${nonce}more,s=c2FsdHNhbHRzYWx0,i=2147483647");
        sleep 30;]]
    local dir <const> = fs.mkdtemp()
    assert(process.run { "ln", "-s", server.socket, dir .. "/.s.PGSQL.5432" }.ok)
    stuck({ "env" }, "postgresql://joe:secret@/d?host=" .. dir, dir .. " (port 5432)")
    fs.rmtree(dir)
end)

it("a name server that does not answer blocks nothing else", function()
    if not namespaces then return pending "takes root, and network namespaces" end
    local dir <const> = fs.mkdtemp()
    fs.write(dir .. "/resolv.conf", "nameserver 127.0.0.1\n")
    fs.write(dir .. "/nsswitch.conf", "hosts: dns\n")
    -- The socket outlives perl: packets for port 53 are received, and never answered.
    local mute <const> = [[use Socket; $^F = 100; socket(S, PF_INET, SOCK_DGRAM, 0);
        bind(S, sockaddr_in(53, INADDR_LOOPBACK)) or die $!; exec @ARGV or die $!]]
    local inside <const> = [[dir=$1 mute=$2; shift 2; ip link set lo up &&
        mount --bind "$dir/resolv.conf" /etc/resolv.conf && mount --bind "$dir/nsswitch.conf" /etc/nsswitch.conf &&
        exec perl -e "$mute" -- "$@"]]
    stuck({ "unshare", "-n", "-m", "sh", "-c", inside, "sh", dir, mute }, "postgresql://joe:secret@db.example.com/d",
        "db.example.com:5432", "cache.example.com:6379")
    fs.rmtree(dir)
end)

-- ---- packets that do not arrive ----

--- A network of two: 10.99.0.1 is the program, 10.99.0.2 the peer, in the namespace of the process $PEER.
local WIRE <const> = [[
ip link set lo up &&
ip link add near0 type veth peer name far0 netns $PEER &&
ip addr add 10.99.0.1/24 dev near0 && ip link set near0 up &&
nsenter -t $PEER -n sh -c 'ip link set lo up; ip addr add 10.99.0.2/24 dev far0; ip link set far0 up' &&
exec "$@"
]]

local LOST <const> = [[
local db, process, task = require "dbrun.db", require "dbrun.process", require "dbrun.task"
local mode <const>, peer <const> = os.getenv "MODE", os.getenv "PEER"

--- What the peer's side of the network does: now, or after some seconds.
local function at_peer(command, seconds)
    local line <const> = ("sleep %f; exec nsenter -t %s -n %s"):format(seconds or 0, peer, command)
    if seconds then
        return process.start { "sh", "-c", line, stdout = "inherit", stderr = "inherit" }
    end
    local result <const> = process.run { "sh", "-c", line }
    assert(result.ok, result.stderr)
end
local HOLE <const>, NO_HOLE <const> = "ip route add blackhole 10.99.0.1/32", "ip route del blackhole 10.99.0.1/32"
local KILL <const> = "ss -K dst 10.99.0.1 >/dev/null 2>&1"

local function engine(opts, params)
    local all = { url = "postgresql://dbrun@10.99.0.2:5432/postgres?" .. (params or ""), mode = mode, size = 2,
        connect_timeout = 5, command_timeout = 20 }
    if mode == "async" then all.overflow = 0 end
    for key, value in pairs(opts) do all[key] = value end
    return db.engine(all)
end

--- fn fails in this way, not before `least`, and well before TCP itself would give up.
local function fails(what, kind, outcome, least, fn, ...)
    local ticks, done = 0, false
    local ticker = mode == "async" and task.spawn(function()
        while not done do task.sleep(0.01); ticks = ticks + 1 end
    end)
    local began <const> = task.now()
    local ok <const>, problem = pcall(fn, ...)
    local took <const> = task.now() - began
    done = true
    if ticker then ticker:join() end
    assert(not ok, what .. " worked")
    assert(problem.kind == kind, ("%s: %s"):format(what, problem))
    assert(problem.outcome == outcome, ("%s: %s, %s"):format(what, problem.outcome, problem))
    assert(took >= least - 0.05 and took < least + 12, ("%s took %.2f s"):format(what, took))
    assert(not ticker or ticks >= took * 10, ("%s: %d ticks in %.2f s"):format(what, ticks, took))
    print(what)
end

do -- a statement into a black hole ends at its deadline; so does connecting
    local e <close> = engine { command_timeout = 0.5, pre_ping_idle = 3600 }
    local other <close> = engine { connect_timeout = 0.5 }
    assert(e:value "select 1" == 1)
    at_peer(HOLE)
    fails("statement", "timeout", "unknown", 0.5, e.value, e, "select 2")
    fails("connect", "timeout", "not_sent", 0.5, other.value, other, "select 3")
    at_peer(NO_HOLE)
    assert(e:value "select 4" == 4)
    assert(other:value "select 5" == 5)
    -- A connection whose packets came through after all may be used again; none keeps its place for nothing.
    local limit <const> = task.now() + 10
    local function at_rest()
        local st <const> = e:stats()
        return st.leased + st.opening + st.resetting == 0 and st.open == st.idle
    end
    while mode == "async" and not at_rest() and task.now() < limit do task.sleep(0.01) end
    assert(at_rest(), "lost connections still count in the pool")
end

do -- without a deadline: TCP's own limits, for what is not acknowledged and for silence
    local e <close> = engine({ pre_ping_idle = 3600 }, "tcp_user_timeout=600")
    assert(e:value "select 1" == 1)
    at_peer(HOLE)
    fails("not acknowledged", "connect", "unknown", 0.5, e.value, e, "select 2")
    at_peer(NO_HOLE)
    local k <close> = engine({}, "keepalives_idle=1&keepalives_interval=1&keepalives_count=1&tcp_user_timeout=1500")
    assert(k:value "select 1" == 1)
    local later <const> = at_peer(HOLE, 0.3)
    fails("silence", "connect", "unknown", 1, k.value, k, "select pg_sleep(60)")
    assert(later:wait(5))
    later:close()
    at_peer(NO_HOLE)
    assert(k:value "select 3" == 3)
end

do -- half open: the peer has forgotten the connection, and we were not told
    local e <close> = engine { pre_ping_idle = 0 }
    local careless <close> = engine { pre_ping_idle = 3600 }
    for _ = 1, 3 do
        assert(e:value "select 1" == 1 and careless:value "select 1" == 1)
        at_peer(HOLE)
        at_peer(KILL)
        at_peer(NO_HOLE)
        assert(e:value "select 2" == 2) -- noticed at the checkout: the caller sees nothing
        -- Without a round trip the statement is what finds out, unless word of the end has come meanwhile.
        local ok <const>, problem = pcall(careless.value, careless, "select 3")
        assert(ok and problem == 3 or problem.kind == "connect" and problem.outcome == "unknown", tostring(problem))
        assert(careless:value "select 4" == 4)
        print "half open"
    end
end

do -- a reset under a statement
    local e <close> = engine {}
    assert(e:value "select 1" == 1)
    local later <const> = at_peer(KILL, 0.3)
    fails("reset", "connect", "unknown", 0.2, e.value, e, "select pg_sleep(60)")
    assert(later:wait(5))
    later:close()
    assert(e:value "select 2" == 2)
    assert(e:stats().leased == 0 and e:stats().open == 1)
end
]]

for _, mode in ipairs { "async", "sync" } do
    it("[" .. mode .. "] lost packets, half-open and reset connections are errors in time", function()
        if not namespaces then return pending "takes root, and network namespaces" end
        local peer <close> = fake.proxy { to = servers.shared_postgres(), own_network = true, listen = "any:5432" }
        local result <const> = script({ "unshare", "-n", "sh", "-c", WIRE, "sh" },
            { MODE = mode, PEER = tostring(peer.child.pid) }, LOST)
        assert.equal(0, result.code, result.text)
        assert.equal("statement\nconnect\nnot acknowledged\nsilence\n" .. ("half open\n"):rep(3) .. "reset\n",
            result.stdout, result.text)
    end)
end

-- ---- peers that break the protocol ----

--- A message of the server.
local function message(kind, body)
    return kind .. string.pack(">I4", #body + 4) .. body
end

local READY <const> = message("Z", "I")
local HELLO <const> = message("R", "\0\0\0\0") .. message("S", "client_encoding\0UTF8\0")
    .. message("S", "DateStyle\0ISO, MDY\0") .. message("S", "standard_conforming_strings\0on\0")
    .. message("K", "\0\0\0\1\0\0\0\2") .. READY
local COLUMN <const> = message("T", "\0\1c\0" .. string.pack(">I4I2I4i2i4I2", 0, 0, 25, -1, -1, 0))
local ROW <const> = message("D", "\0\1\0\0\3\232" .. ("x"):rep(1000))

--- The most additional memory that a spec can take; a sanitizer keeps freed memory.
local ROOM <const> = (os.getenv "ASAN_OPTIONS" and 1024 or 100) << 20

--- Peak memory of this program, in bytes.
local function peak()
    return tonumber(fs.read "/proc/self/status":match "VmHWM:%s*(%d+)") * 1024
end

pg.on_both(describe, function(mode, open)
    --- An engine on a peer that sends HELLO, and then `reply` to each statement.
    local function engine_on(peer, opts)
        local all <const> = { url = "postgresql://joe@/d?host=" .. peer.dir, size = 1, connect_timeout = 5,
            command_timeout = 0.5, statement_cache = 0 }
        for key, value in pairs(opts or {}) do all[key] = value end
        return open(all)
    end

    it("replies that are garbage, cut off or absurdly long are errors, in bounded memory", function()
        local replies <const> = {
            "garbage\0\1\2\3 that goes on", message("1", "") .. "\255\255\255\255\255", "D\127\255\255\255",
            message("1", "") .. message("2", "") .. COLUMN .. "D\127\255\255\255\0\1", "D\0\0\0\1", "T\0\0\0\6\255\255",
            COLUMN .. message("D", "\0\1\127\255\255\255x"), COLUMN .. message("D", "\0\9"),
            COLUMN .. message("D", "\255\255"), message("C", "no end"), message("E", "no end"), message("E", ""),
            message("E", "Mno state\0\0"), message("G", "\0\0\1\0\0"), message("t", "\255\255"),
            message("A", "\0"), message("S", "a"), message("V", "\0\0\0\1"), "\0\0\0\0\0", ("Z"):rep(5000),
        }
        local before <const> = peak()
        for i, reply in ipairs(replies) do
            local peer <close> = fake.say { HELLO, reply, reply, reply }
            local e <close> = engine_on(peer, { command_timeout = 0.2 })
            local took <const>, ok <const>, problem <const> = pg.timed(pcall, e.value, e, "select 1")
            assert.is_true(not ok and errors.is(problem), ("%d: %s"):format(i, problem))
            assert(utf8.len(tostring(problem)), ("%d: %q"):format(i, tostring(problem)))
            assert(took < 10, ("%d took %.2f s"):format(i, took))
        end
        assert(peak() - before < ROOM, ("%d MB more"):format((peak() - before) >> 20))
    end)

    it("an ERROR without SQLSTATE is an error of the statement with its text", function()
        local reply <const> = message("E", "SERROR\0Mnobody knows\0\0") .. READY
        local peer <close> = fake.say { HELLO, reply, reply }
        local e <close> = engine_on(peer)
        local problem <const> = pg.raised(e.exec, e, "select 1")
        assert.is_true(errors.is(problem), tostring(problem))
        assert.matches("nobody knows", tostring(problem))
    end)

    it("endless rows stream in bounded memory, can be left, and stop at a time limit", function()
        local head <const> = message("1", "") .. message("2", "") .. COLUMN .. ROW
        local described <const> = message("1", "") .. message("t", "\0\0") .. COLUMN .. READY
        local peer <close> = fake.drown { HELLO, described, head, ROW:rep(20) }
        local e <close> = engine_on(peer, { command_timeout = 2 })
        local before <const> = peak()
        for _ = 1, 2 do
            local n = 0
            for row in e:rows "select c from endless" do
                n = n + 1
                assert(#row.c == 1000)
                if n == 5000 then break end
            end
            assert.equal(5000, n)
        end
        if mode == "async" then
            local took <const>, problem <const> = pg.timed(pg.raised, task.timeout, 1, function()
                local n = 0
                for _ in e:rows "select c from endless" do
                    n = n + 1
                    assert(n < 3000000, "the time limit was not kept")
                end
            end)
            assert.is_true(errors.is(problem, "timeout"), tostring(problem))
            assert(took >= 0.9 and took < 15, took)
        end
        assert(peak() - before < ROOM, ("%d MB more"):format((peak() - before) >> 20))
    end)
end)
