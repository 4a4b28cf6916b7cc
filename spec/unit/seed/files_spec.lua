-- Seed files, the choice of those that run, and their random numbers.
local errors = require "dbrun.error"
local files = require "dbrun.seed.files"
local fs = require "dbrun.fs"
local order = require "dbrun.seed.order"
local random = require "dbrun.seed.random"

local function failure(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok, "it was accepted")
    assert.is_true(errors.is(e), tostring(e))
    return e
end

describe("seed files", function()
    local root

    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function make(name, text)
        fs.mkdir_p(fs.dirname(root .. "/" .. name))
        fs.write(root .. "/" .. name, text or "return function() end\n")
        return { name = name:gsub("%.lua$", ""), path = root .. "/" .. name }
    end

    local function names(list)
        local result = {}
        for i, file in ipairs(list) do result[i] = file.name end
        return result
    end

    it("run in the order of their names, those of an environment last", function()
        for _, name in ipairs { "020_b.lua", "010_a.lua", "staging/005_c.lua", "notes.txt", ".hidden.lua" } do
            make(name)
        end
        assert.same({ "010_a", "020_b" }, names(files.list(root)))
        for _, env in ipairs { "staging", "staging/", "./staging//" } do
            local list = files.list(root .. "/", env)
            assert.same({ "010_a", "020_b", "005_c" }, names(list))
            assert.equal("staging/005_c", list[3].key)
        end
    end)

    it("have one name each: the record of a seed is found by it", function()
        for _, name in ipairs { "1_a.lua", "1_a.m.sql", "test/1_a.sql" } do make(name) end
        assert.same({ "1_a", "1_a.m", "1_a" }, names(files.list(root, "test")))
        make "1_a.sql"
        local e = failure(files.list, root)
        assert.equal("config", e.kind)
        assert.equal(("two seeds are called '1_a': %s/1_a.lua and %s/1_a.sql"):format(root, root), e.message)
    end)

    it("are chosen by name, with or without the number", function()
        for _, name in ipairs { "010_a.lua", "020_b.lua", "030_c.lua" } do make(name) end
        local list = files.list(root)
        assert.same({ [list[1]] = true, [list[3]] = true }, files.select(list, { "c", "010_a" }))
        local e = failure(files.select, list, { "d" })
        assert.equal("usage", e.kind)
        assert.matches("'d'; there are 010_a, 020_b, 030_c", e.message)
    end)

    it("are a configuration error when there are none, or no such environment", function()
        make "x/010_a.lua"
        assert.matches("no seeds", failure(files.list, root).message)
        assert.equal("config", failure(files.list, root .. "/nowhere").kind)
        for _, env in ipairs { ".", "/", "../x", "/tmp", "a/../b" } do
            assert.matches("names no sub%-folder of the seeds", failure(files.list, root .. "/x", env).message)
        end
        assert.matches("%-%-env prod", failure(files.list, root .. "/x", "prod").message)
    end)

    ---The names in the order in which seeds with these dependencies run: {"010_a", "c b"} depends on c and b.
    local function arranged(specs, wanted)
        local list, seeds, chosen = {}, {}, nil
        for i, spec in ipairs(specs) do
            local words = {}
            for word in spec:gmatch "%S+" do words[#words + 1] = word end
            list[i] = { name = words[1], key = words[1], path = words[1] .. ".lua" }
            seeds[i] = { after = table.move(words, 2, #words, 1, {}) }
            if wanted and wanted[words[1]] then
                chosen = chosen or {}
                chosen[list[i]] = true
            end
        end
        local files_, seeds_ = order.arrange(list, seeds, chosen)
        assert.equal(#files_, #seeds_)
        return table.concat(names(files_), " ")
    end

    it("run after their declared dependencies, otherwise by name", function()
        assert.equal("010_a 020_b 030_c", arranged { "010_a", "020_b", "030_c" })
        assert.equal("030_c 010_a 020_b", arranged { "010_a c", "020_b", "030_c" })
        assert.equal("030_c 020_b 010_a", arranged { "010_a b", "020_b 030_c", "030_c" })
        assert.equal("020_b 010_a", arranged({ "010_a b", "020_b", "030_c" }, { ["010_a"] = true }))
    end)

    it("that depend on each other, or on a missing one, are refused", function()
        local e = failure(arranged, { "010_a b", "020_b c", "030_c a" })
        assert.equal("config", e.kind)
        assert.matches("010_a after 020_b after 030_c after 010_a", e.message, 1, true)
        local missing = failure(arranged, { "010_a x" })
        assert.matches("010_a.lua: `after` names 'x', which is not a seed here", missing.message)
    end)

    it("have a checksum of their content, with any line ends", function()
        local a = files.load(make("a.lua", "return function()\nend\n")).checksum
        assert.equal(a, files.load(make("b.lua", "return function()\r\nend\r\n")).checksum)
        assert.not_equal(a, files.load(make("c.lua", "return function()\nend\n\n")).checksum)
        assert.equal(64, #a)
    end)

    it("return a function, or a table with run", function()
        assert.is_function(files.load(make("a.lua", "return function() end")).run)
        local seed = files.load(make("b.lua", "return { description = 'x', run = function() end }"))
        assert.equal("x", seed.description)
    end)

    it("that do not are refused with their path", function()
        for text, message in pairs {
            ["return 1"] = "a number", ["return {}"] = "without `run`", ["x ="] = "unexpected symbol",
            ["error 'boom'"] = "boom", [""] = "a nil",
            ["return {\n run = print,\n aftre = {} }"] = "bad.lua:3: unknown option 'aftre' (did you mean 'after'?)",
            ["return { run = print,\n always = 1 }"] = "bad.lua:2: always must be a boolean, got 1",
            ["return { run = print, after = { 1 } }"] = "bad.lua:1: after[1] must be a string, got 1",
        } do
            local e = failure(files.load, make("bad.lua", text))
            assert.matches(root .. "/bad.lua is not a seed: ", e.text, 1, true)
            assert.matches(message, e.text, 1, true)
        end
    end)
end)

describe("the random numbers of a seed", function()
    it("are the same in every run and differ from seed to seed", function()
        local a, b, c = random.new "010_a", random.new "010_a", random.new "020_b"
        local same = true
        for _ = 1, 100 do
            local x = a()
            assert.equal(x, b())
            same = same and x == c()
        end
        assert.is_false(same)
    end)

    it("stay in their range and cover it", function()
        local r, seen = random.new "x", {}
        for _ = 1, 2000 do
            local n = r(3, 7)
            assert.is_true(n >= 3 and n <= 7 and math.type(n) == "integer")
            seen[n] = true
            local f = r:float(-1, 1)
            assert.is_true(f >= -1 and f < 1)
            assert.is_true(r(6) <= 6)
        end
        for n = 3, 7 do assert.is_true(seen[n], n) end
        assert.is_true(r:pick({ "a" }) == "a")
    end)

    it("make data of all kinds, the same in every run", function()
        local function draw(r)
            return { r:boolean(), r:weighted { { "a", 9 }, { "b", 1 } }, r:shuffle { 1, 2, 3 },
                r:sample({ 1, 2, 3 }, 2), r:uuid(),
                r:bytes(5), r:time("2025-01-01", "2025-02-01"), r:word(), r:words(3), r:name(), r:email() }
        end
        local a, b = draw(random.new "kinds"), draw(random.new "kinds")
        assert.same(a, b)
        assert.matches("^%x+%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x+$", a[5])
        assert.equal(36, #a[5])
        assert.equal(5, #a[6])
        assert.matches("^2025%-01%-%d%dT", a[7])
        assert.matches("@example%.org$", a[11])
        local r, counts = random.new "weights", { a = 0, b = 0 }
        for _ = 1, 2000 do
            local x = r:weighted { { "a", 9 }, { "b", 1 } }
            counts[x] = counts[x] + 1
        end
        assert.is_true(counts.a > 1700 and counts.b > 120)
        local sum = 0
        for _, n in ipairs(r:shuffle { 1, 2, 3, 4 }) do sum = sum + n end
        assert.equal(10, sum)
    end)

    it("have the requested mean and spread", function()
        local r, sum, squares, n = random.new "normal", 0, 0, 20000
        for _ = 1, n do
            local x = r:normal(10, 2)
            sum, squares = sum + x, squares + (x - 10) ^ 2
        end
        assert.is_true(math.abs(sum / n - 10) < 0.1)
        assert.is_true(math.abs(math.sqrt(squares / n) - 2) < 0.1)
    end)

    it("of an empty or too wide range are an error", function()
        assert.has_error(function() random.new "x"(2, 1) end)
        assert.has_error(function() random.new "x"(math.mininteger, math.maxinteger) end)
    end)
end)
