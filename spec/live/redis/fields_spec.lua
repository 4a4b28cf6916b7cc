-- A list in place of fields with their values is refused before it is sent.
local fails = require "spec.support.fails"
local redis_server = require "spec.support.redis_server"

local function refused(fn, ...)
    assert.is_truthy(fails("usage", fn, ...).message:find("a list in place of fields", 1, true))
end

describe("a list in place of fields with their values", function()
    local r
    redis_server.around(_ENV, function(_, client) r = client end)

    it("is refused", function()
        refused(r.hset, r, "h", { "a", "b" })
        refused(r.hmset, r, "h", { "a", "b" })
        refused(r.call, r, "hset", "h", { "a", "b" })
        refused(r.xadd, r, "s", "*", { "a", "b" })
        refused(r.xadd, r, "s", "5-1", { "a", "b" })
        for _, id in ipairs { "5", 5, "5-*", 0.0 } do
            refused(r.xadd, r, "s", id, { "a", "b" })
        end
        refused(r.xadd, r, "s", "NOMKSTREAM", "maxlen", "~", 10, "limit", 5, 7, { "a", "b" })
        refused(r.xadd, r, "s", "*", "a", "b", { "c", "d" })
        refused(r.pipeline, r, function(p) p:hset("h", { "a", "b" }) end)
        assert.equal(0, r:exists("h", "s"))
    end)

    it("is accepted by ZADD, which refuses scores by member", function()
        for _, scores in ipairs { { ada = 1 }, { ["7"] = 1.5 } } do
            assert.matches("score first", fails("usage", r.zadd, r, "z", scores).message)
            assert.matches("score first", fails("usage", r.zadd, r, "z", "NX", scores).message)
        end
        assert.equal(0, r:exists "z")
        assert.equal(2, r:zadd("z", { 1, "a", 2, "b" }))
        assert.equal(1, r:zadd("z", { [2.5] = "c" }))
        assert.equal(2.5, r:zscore("z", "c"))
    end)

    it("is accepted in place of all arguments, of options or of keys with their values", function()
        assert.equal(1, r:hset { "h", "a", "b" })
        assert.equal(1, r:hset("h", { c = "d" }))
        assert.equal("5-1", r:xadd("s", { "MAXLEN", 10 }, "5-1", { a = "b" }))
        assert.equal("6-1", r:xadd("s", { "6-1", "a", "b" }))
        assert.equal("7-1", r:xadd("s", "MINID", "6-1", { "7-1", "a", "b" }))
        assert.equal("8-1", r:xadd("s", "MAXLEN", "=", 9, { "8-1", "a", "b" }))
        assert.equal("OK", r:mset { "k", 1, "l", 2 })
        assert.equal(1, r:zadd("z", { 1, "a" }))
    end)
end)
