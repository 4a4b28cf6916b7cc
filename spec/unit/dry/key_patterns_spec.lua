-- Many keys as a few patterns, in the summary of a dry run.
local key_patterns = require "dbrun.dry.key_patterns"

describe("key patterns", function()
    local function rows_of(names)
        local patterns <const> = key_patterns.new()
        for _, name in ipairs(names) do patterns:add(name) end
        local rows <const> = {}
        for i, row in ipairs(patterns:rows()) do rows[i] = ("%s %d %d"):format(row.pattern, row.keys, row.times) end
        return rows
    end

    local function many(n, form, value)
        local list <const> = {}
        for i = 1, n do list[i] = form:format(value(i)) end
        return list
    end

    it("are the keys themselves while they are few", function()
        assert.same({ "a 1 2", "b 1 1", "user:7 1 1" }, rows_of { "a", "b", "a", "user:7" })
    end)

    it("have a star for numbers, dates and random texts", function()
        assert.same({ "user:*:cart 3 3" }, rows_of { "user:1:cart", "user:2:cart", "user:30:cart" })
        assert.same({ "day:* 2 2" }, rows_of { "day:2026-01-01", "day:2026-01-02" })
        assert.same({ "session:* 2 2" }, rows_of {
            "session:8d969eef6ecad3c2", "session:c29a3a62-9280-e686-cf0c-3f5d5a86aff3" })
        assert.same({ "{order:*}:items 2 2", "{order:*}:total 2 2" }, rows_of {
            "{order:7}:items", "{order:7}:total", "{order:8}:items", "{order:8}:total" })
        assert.same({ "* 2 2", "greeting 1 1" }, rows_of { "1", "2", "greeting" })
    end)

    it("have a star for a number after a word at the end", function()
        assert.same({ "t* 12 12", "user* 20 20", "v1:name 1 1", "x1 1 1" }, rows_of { "v1:name", "x1",
            table.unpack(table.move(many(12, "t%d", function(i) return i end), 1, 12, 21,
                many(20, "user%d", function(i) return i end))) })
    end)

    it("have a star for many values", function()
        local names <const> = many(20, "by:%s:x", function(i) return ("n"):rep(i) end)
        names[#names + 1] = "by:other:y"
        assert.same({ "by:*:x 20 20", "by:other:y 1 1" }, rows_of(names))
        assert.equal(8, #rows_of(many(8, "by:%s", function(i) return ("n"):rep(i) end)))
    end)

    it("report a new pattern once", function()
        local patterns <const> = key_patterns.new()
        assert.is_true(patterns:add "user:1")
        assert.is_false(patterns:add "user:2")
        assert.is_true(patterns:add "user:ada")
        assert.is_false(patterns:add "user:ada")
    end)

    it("stay few, for any keys", function()
        local patterns <const>, new = key_patterns.new(), 0
        for i = 1, 5000 do
            local letters <const> = {}
            local n = i * 2654435761 % 4294967296
            for k = 1, 6 do
                letters[k] = string.char(97 + n % 26)
                n = n // 26
            end
            local key <const> = table.concat(letters, (":./"):sub(i % 3 + 1, i % 3 + 1))
            new = new + (patterns:add(key) and 1 or 0)
        end
        local rows <const>, times = patterns:rows(), 0
        for _, row in ipairs(rows) do times = times + row.times end
        assert.equal(5000, times)
        assert.is_true(#rows <= 201, #rows)
        assert.is_true(new < 2000, new)
    end)

    it("say when keys were not distinguished", function()
        local patterns <const> = key_patterns.new(100)
        for i = 1, 120 do patterns:add("k:" .. i) end
        local row <const> = patterns:rows()[1]
        assert.same({ "k:*", 100, true, 120 }, { row.pattern, row.keys, row.at_least, row.times })
    end)

    it("shorten keys of many parts", function()
        assert.same({ "a:b:c:d:e:f:g:h:i:j:k:* 2 2" },
            rows_of { "a:b:c:d:e:f:g:h:i:j:k:l:m", "a:b:c:d:e:f:g:h:i:j:k:x:y" })
        assert.same({ " 1 1" }, rows_of { "" })
    end)
end)
