-- Commands of servers newer than the installed one, simulated by a script: the shapes of their replies.
local bad_server = require "spec.support.bad_server"
local core = require "dbrun.core"
local fails = require "spec.support.fails"
local process = require "dbrun.process"
local redis = require "dbrun.redis"

--- A server that answers each command with the perl text for its name, and all others with OK.
local function start(replies)
    local list = {}
    for name, reply in pairs(replies) do
        list[#list + 1] = ("%q => qq{%s}"):format(name, reply)
    end
    return bad_server.start("my %R = (" .. table.concat(list, ",") .. [[);
        my $all = "";
        while (sysread $c, my $x, 65536) {
            $all .= $x;
            while ($all =~ s/^\*(\d+)\r\n((?:\$\d+\r\n[^\r]*\r\n)+)//) {
                my ($n, @words) = ($1, split /\r\n/, $2);
                if (exists $R{$words[1]}) { print $c $R{$words[1]} }
                elsif ($words[1] eq "HELLO") { print $c "-ERR unknown command 'HELLO'\r\n" }
                else { print $c "+OK\r\n" }
            }
        }]])
end

describe("VSIM WITHSCORES WITHATTRIBS of a newer Redis", function()
    -- RESP3 has a map of lists, here as hiredis reads it; RESP2 has three strings for each element.
    for protocol, reply in pairs {
        RESP2 = [[*6\r\n+a\r\n+0.5\r\n\$-1\r\n+b\r\n+1\r\n\$2\r\n{}\r\n]],
        RESP3 = [[*4\r\n+a\r\n*2\r\n+0.5\r\n\$-1\r\n+b\r\n*2\r\n+1\r\n\$2\r\n{}\r\n]],
    } do
        it("is rows with a number and the attributes in " .. protocol, function()
            local server <close> = start { VSIM = reply }
            local r <close> = redis.client { url = server.url }
            local rows <const> = r:vsim("v", "ELE", "e", "WITHSCORES", "WITHATTRIBS")
            assert.equal(2, #rows)
            assert.same({ "a", 0.5 }, { rows[1][1], rows[1][2] })
            assert.equal(3, #rows[1])
            assert.is_nil(rows[1][3])
            assert.same({ "b", 1.0, "{}" }, rows[2])
            assert.equal("float", math.type(rows[2][2]))
            assert.same({ "b", 1.0, "{}" }, r:pipeline(function(p)
                p:vsim("v", "ELE", "e", "withattribs", "withscores")
            end)[1][2])
        end)
    end
end)

describe("a proxy that answers EXEC", function()
    for _, reply in ipairs { [[+OK\r\n]], [[:2\r\n]], [[*1\r\n+OK\r\n]], [[*3\r\n+OK\r\n+OK\r\n+OK\r\n]],
        [[*0\r\n]] } do
        it(reply .. " is not assumed to support transactions", function()
            local server <close> = start { EXEC = reply, PING = [[+PONG\r\n]] }
            local r <close> = redis.client { url = server.url }
            local e <const> = fails("protocol", r.multi, r, function(tx)
                tx:set("a", 1)
                tx:set("b", 2)
            end)
            assert.equal("redis: the reply to EXEC is not a list of 2 replies", e.message)
            assert.equal("unknown", e.outcome)
            assert.equal("PONG", r:ping())
        end)
    end
end)

describe("a command that only the server knows, in a program that only reads,", function()
    local REPLIES <const> = { ["JSON.GET"] = [[\$2\r\n{}\r\n]], GET = [[+v\r\n]] }

    local function info(flags, subcommands)
        return [[*1\r\n*10\r\n+json.get\r\n:-2\r\n]] .. flags .. [[:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n]]
            .. (subcommands or [[*0\r\n]])
    end

    local function run(command, code)
        REPLIES.COMMAND = command
        local server <close> = start(REPLIES)
        local result <const> = process.run {
            core.options.program, "--no-env", "--read-only", "-e",
            ('local r = require "dbrun.redis".client { url = %q }\n'):format(server.url) .. code,
        }
        assert(result.ok, result.stderr)
        return result.stdout
    end

    it("is sent when the server reports it as read-only", function()
        assert.equal("{}\tv\n{}\n{}\tv\n", run(info [[*2\r\n+readonly\r\n+module\r\n]], [[
            print(r:call("JSON.GET", "k"), r:get "k")
            local c <close> = r:acquire()
            print(c:call("json.get", "k"))
            local p = r:pipeline(function(p) p:call("JSON.GET", "k", "$"); p:get "k" end)
            print(p[1], p[2])]]))
    end)

    it("is refused when it writes, when the server does not know it, and when the server does not say", function()
        for _, told in ipairs { info [[*2\r\n+write\r\n+module\r\n]], [[*1\r\n*-1\r\n]], [[*0\r\n]],
            [[-NOPERM no\r\n]], [[+OK\r\n]] } do
            local out <const> = run(told, [[
                for _, f in ipairs { function() return r:call("JSON.GET", "k") end,
                    function() return r:pipeline(function(p) p:call("JSON.GET", "k") end) end } do
                    local ok, e = pcall(f)
                    print(ok, e.message, e.hint and #e.hint > 0)
                end]])
            local refusal <const> = "false\tredis: JSON.GET may write, and this program runs with --read-only\ttrue\n"
            assert.equal(refusal .. refusal, out)
        end
    end)

    it("is judged by its subcommand", function()
        local out <const> = run(info([[*0\r\n]], [[*2\r\n]]
            .. [[*6\r\n+json.get|one\r\n:-2\r\n*1\r\n+readonly\r\n:2\r\n:2\r\n:1\r\n]]
            .. [[*6\r\n+json.get|two\r\n:-2\r\n*1\r\n+write\r\n:2\r\n:2\r\n:1\r\n]]), [[
            print(pcall(r.call, r, "JSON.GET", "one", "k"))
            print((pcall(r.call, r, "JSON.GET", "TWO", "k")))
            print((pcall(r.call, r, "JSON.GET")))]])
        assert.equal("true\t{}\nfalse\nfalse\n", out)
    end)
end)
