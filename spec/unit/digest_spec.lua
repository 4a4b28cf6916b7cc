-- Checksums of files, and the names of scripts on a Redis server.
local core = require "dbrun.core"
local process = require "dbrun.process"

describe("core.digest", function()
    it("matches the standards' examples", function()
        assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", core.digest("sha256", ""))
        assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", core.digest("sha256", "abc"))
        assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", core.digest("sha1", "abc"))
    end)

    it("matches sha1sum and sha256sum, around block boundaries and for any bytes", function()
        local texts <const> = { ("a"):rep(1000), "\0\1\xff\0" }
        for length = 54, 66 do
            texts[#texts + 1] = ("x"):rep(length)
        end
        for _, text in ipairs(texts) do
            for _, name in ipairs { "sha1", "sha256" } do
                local said <const> = process.run({ name .. "sum", stdin = text }).stdout:match "^%x+"
                assert.equal(said, core.digest(name, text))
            end
        end
    end)

    it("refuses other names and other values", function()
        assert.error_matches(function() core.digest("md5", "a") end, "invalid option 'md5'")
        assert.error_matches(function() core.digest("sha1", {}) end, "string expected, got table")
    end)
end)
