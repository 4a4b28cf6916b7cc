-- Commands of servers that are newer than the one of this machine, played by a script: the shapes of their replies.
local bad_server = require "spec.support.bad_server"
local redis = require "dbrun.redis"

--- A server that answers a command with what stands for its name, as perl text, and everything else with OK.
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
