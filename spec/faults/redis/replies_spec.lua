-- Replies that break the protocol, or announce elements that cannot come: the command fails at once, and the
-- connection is replaced.
local bad_server = require "spec.support.bad_server"
local errors = require "dbrun.error"
local fails = require "spec.support.fails"
local redis = require "dbrun.redis"
local task = require "dbrun.task"

--- A server whose answer to GET is `reply`, and stays open; it answers ECHO and PING correctly. `before` is
--- perl that runs for each connection first.
local function start(reply, before)
    return bad_server.start((before or "") .. [[
        my $all = "";
        while (sysread $c, my $x, 65536) {
            $all .= $x;
            while ($all =~ s/^\*(\d+)\r\n((?:\$\d+\r\n[^\r]*\r\n)+)//) {
                my ($n, @words) = ($1, split /\r\n/, $2);
                if ($words[1] eq "GET") { print $c qq{]] .. reply .. [[} }
                elsif ($words[1] eq "ECHO") { print $c "$words[2]\r\n$words[3]\r\n" }
                elsif ($words[1] eq "HELLO") { print $c "-ERR unknown command 'HELLO'\r\n" }
                else { print $c "+PONG\r\n" }
            }
        }]])
end

local REPLIES <const> = {
    [ [[*2147483647\r\n]] ] = "more elements were announced than fit",
    [ [[*2147483647\r\n:1\r\n]] ] = "more elements were announced than fit",
    [ [[*2\r\n:1\r\n*2147483647\r\n]] ] = "more elements were announced than fit",
    [ [[*60000000\r\n*60000000\r\n]] ] = "more elements were announced than fit",
    [ [[*99999999999999999999\r\n]] ] = "Bad multi%-bulk length",
    [ [[*-2\r\n]] ] = "length out of range",
    [ [[*1\r\n*-2\r\n]] ] = "length out of range",
    [ [[\$-2\r\n]] ] = "length out of range",
    [ [[\$536870913\r\n]] ] = "more than 512 MiB",
    [ [[\$9223372036854775807\r\nabc]] ] = "more than 512 MiB",
    [ [[*3\r\n\$536870912\r\nabc\r\n]] ] = false, -- can still be completed
    [ [[\$3\r\nabcdef\r\n]] ] = "longer than announced",
    [ [[:12x\r\n]] ] = "integer",
    [ [[^1\r\n]] ] = "reply type",
}

describe("a Redis server that answers", function()
    for reply, says in pairs(REPLIES) do
        it(reply .. (says and " breaks the protocol" or " is waited for"), function()
            local bad <close> = start(reply)
            for _, idempotent in ipairs { false, true } do
                local r <const> = redis.client { url = bad.url, command_timeout = says and 20 or 0.3,
                    idempotent = idempotent }
                local e <const> = fails(says and "protocol" or "timeout", r.get, r, "k")
                if says then
                    assert.matches(says, e.message)
                end
                assert.equal("unknown", e.outcome)
                assert.is_false(e.retryable)
                if says then
                    assert.equal("hello", r:echo "hello")
                end
                r:close()
            end
        end)
    end

    it("one of many commands with too many elements fails those that follow, and is replaced", function()
        local bad <close> = start [[*2147483647\r\n]]
        local r <const> = redis.client { url = bad.url, command_timeout = 20, idempotent = true }
        local got <const> = {}
        do
            local g <close> = task.group()
            for i = 1, 50 do
                g:spawn(function()
                    local ok, reply = pcall(i == 25 and r.get or r.echo, r, "hello " .. i)
                    got[i] = ok and reply or reply.kind
                end)
            end
            g:wait()
        end
        for i = 1, 50 do
            assert.equal(i == 25 and "protocol" or "hello " .. i, got[i])
        end
        r:close()
    end)

    --- Echoes of 20 tasks, while a hundred replies to GET break the protocol. Returns how many echoes were right, and
    --- how many failed.
    local function storm(r, replies)
        local right, failed, stop = 0, 0, false
        local g <close> = task.group()
        for i = 1, 20 do
            g:spawn(function()
                local n = 0
                while not stop do
                    n = n + 1
                    local nonce <const> = i .. ":" .. n
                    local ok <const>, reply <const> = pcall(r.echo, r, nonce)
                    if ok then
                        assert.equal(nonce, reply)
                        right = right + 1
                    else
                        assert(errors.is(reply, "protocol") or errors.is(reply, "connect"), tostring(reply))
                        assert.equal("unknown", reply.outcome)
                        failed = failed + 1
                    end
                end
            end)
        end
        for _ = 1, 100 do
            task.sleep(math.random() * 0.004)
            local ok <const>, e <const> = pcall(r.get, r, math.random(0, replies - 1))
            assert.is_false(ok)
            assert(errors.is(e, "protocol") or errors.is(e, "connect"), tostring(e))
            assert.equal("unknown", e.outcome)
        end
        stop = true
        g:wait()
        assert.equal("hello", r:echo "hello")
        assert.equal(1, r:stats().open)
        return right, failed
    end

    it("like this a hundred times at random moments mixes up no reply, and loses no command silently", function()
        local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() * 1000 + math.random(999)
        math.randomseed(seed)
        local list <const> = {}
        for reply, says in pairs(REPLIES) do
            if says then
                list[#list + 1] = "qq{" .. reply .. "}"
            end
        end
        table.sort(list)
        local bad <close> = start("$R[$words[3]]", "my @R = (" .. table.concat(list, ",") .. ");")
        for _, idempotent in ipairs { false, true } do
            local r <const> = redis.client { url = bad.url, idempotent = idempotent, command_timeout = 30 }
            local right <const>, failed <const> = storm(r, #list)
            assert.is_true(right > 100, "DBRUN_TEST_SEED=" .. seed)
            assert.equal(not idempotent, failed > 0, "DBRUN_TEST_SEED=" .. seed)
            r:close()
        end
    end)

    it("with too many elements gives an error with a hint how to request fewer", function()
        local bad <close> = start [[*2147483647\r\n]]
        local r <const> = redis.client { url = bad.url, command_timeout = 20 }
        local e <const> = fails("protocol", r.get, r, "k")
        assert.matches("less at a time", e.hint)
        assert.is_true(errors.is(e))
        r:close()
    end)
end)
