-- Names of commands: those that a server has renamed or does not have, and invalid names.
local fails = require "spec.support.fails"
local redis_server = require "spec.support.redis_server"

describe("the name of a command", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end, {
        args = { "--rename-command", "LOLWUT", "", "--rename-command", "ECHO", "0f3e-echo",
            "--rename-command", "TIME", "_TIME" },
    })

    it("can be the server's new name: a hash, or a name with a prefix", function()
        assert.equal("hello", r:call("0f3e-echo", "hello"))
        assert.equal(2, #r:call "_time")
        assert.equal("hello", r:pipeline(function(p) p:call("0F3E-ECHO", "hello") end)[1])
        assert.is_nil(r._time)
    end)

    it("that is right and unknown to the server is not guessed", function()
        local e <const> = fails("redis", r.lolwut, r)
        assert.matches("newer server", e.hint)
        assert.is_nil(e.hint:find("did you mean", 1, true))
        assert.matches("did you mean 'LOLWUT'", fails("redis", r.lolwutt, r).hint)
    end)

    it("SCRIPT is also a method, which does not mistake the command's arguments for a source", function()
        for _, words in ipairs { { "LOAD", "return 1" }, { "exists", "x" }, { "FLUSH" }, { "KILL" } } do
            local e <const> = fails("usage", r.script, r, table.unpack(words))
            assert.equal(('the command is r:call("SCRIPT", "%s", ...)'):format(words[1]:upper()), e.hint)
        end
        assert.matches("takes the source", fails("usage", r.script, r, "return 1", { "k" }).message)
        assert.matches('p:call%("SCRIPT"', fails("usage", r.pipeline, r, function(p)
            p:script("LOAD", "return 1")
        end).hint)
        assert.equal(1, r:script "return 1" ())
    end)

    it("is one word", function()
        local e = fails("usage", r.call, r, "CONFIG GET", "maxmemory")
        assert.is_truthy(e.hint:find('r:call("CONFIG", "GET"', 1, true))
        assert.equal("not_sent", e.outcome)
        for _, name in ipairs { "", "GET\0", "GET\r\n", "-GET", "é", ("x"):rep(65), ("x"):rep(1000000) } do
            e = fails("usage", r.call, r, name)
            assert.matches("is not the name of a command", e.message)
            assert.is_true(#e.message < 200)
        end
        assert.equal("PONG", r:ping())
    end)
end)
