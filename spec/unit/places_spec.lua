--- The lines of a file on which the table that it returns is written.
local fs = require "dbrun.fs"
local places = require "dbrun.places"

local TEXT <const> = [==[
-- return { wrong = 1 }
local function helper() return { other = 2, } end
return {
    { table = "a", columns = { "x", "y" } },
    "a string, with { a brace", --[[ , ]]
    {
        check = "b", run = function(ctx, more) return { status = "PASS" }, helper() end,
        abuot = [[ , { ]],
    }, { limit = "c",
        wran = 1 },
}
]==]

describe("the lines of a table in a file", function()
    it("are those of its elements, and of the keys in them", function()
        local found = places.of(TEXT)
        assert.equal(4, found.elements[1])
        assert.equal(5, found.elements[2])
        assert.equal(6, found.elements[3])
        assert.equal(9, found.elements[4])
        assert.equal(4, found.keys[1].columns)
        assert.equal(8, found.keys[3].abuot)
        assert.equal(10, found.keys[4].wran)
    end)

    it("are those of a table without a list", function()
        assert.equal(3, places.of("return {\n  run = f,\n  aftre = {} }").keys[0].aftre)
    end)

    it("are not known for a table that is computed", function()
        local dir <const> = fs.mkdtemp()
        local file <const> = dir .. "/x.lua"
        fs.write(file, "local t = {}\nreturn t")
        assert.equal(file, places.name(file, 1, "key"))
        fs.write(file, "return {\n { a = 1,\n b = 2 } }")
        assert.equal(file .. ":3", places.name(file, 1, "b"))
        assert.equal(file .. ":2", places.name(file, 1))
        assert.equal(file, places.name(file, 2))
        fs.rmtree(dir)
    end)
end)
