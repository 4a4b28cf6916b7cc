--- batch.csv: positions are places where a record begins, for any contents, and the file must stay the same.
local fs <const> = require "dbrun.fs"
local source <const> = require "dbrun.batch.kinds.csv"

local TEXT <const> = '\xef\xbb\xbfid,note\r\n1,"two\nlines"\r\n\n2,""\n3,"a ""quote"""\n4,x\n5,last'

describe("a CSV file as the source of a job", function()
    local dir, path
    before_each(function()
        dir = fs.mkdtemp()
        path = dir .. "/people.csv"
        fs.write(path, TEXT)
    end)
    after_each(function() fs.rmtree(dir) end)

    local function raised(fn, ...)
        local ok <const>, e <const> = pcall(fn, ...)
        assert.is_false(ok)
        return e
    end

    ---All rows, in chunks of `size` records.
    local function all(walk, size, upto)
        local ids, chunks, after = {}, 0, nil
        repeat
            local step <const> = walk:next_bound(after, size, upto)
            if not step then break end
            local rows <const> = walk:read(nil, after, step.bound)
            assert.equal(step.fits, #rows)
            for _, row in ipairs(rows) do ids[#ids + 1] = row.id end
            after, chunks = step.bound, chunks + 1
        until step.final
        assert.is_nil(walk:next_bound(after, size, upto))
        return table.concat(ids), chunks
    end

    it("is walked in chunks of any size; a line break in quotes does not end a record", function()
        local walk <const> = source.source(path):open()
        for size, chunks in ipairs { 5, 3, 2, 2, 1, 1 } do
            assert.same({ "12345", chunks }, { all(walk, size) })
            assert.same({ "12345", chunks }, { all(walk, size, walk:last_bound()) })
        end
        assert.same({ { id = "1", note = "two\nlines" } },
            walk:read(nil, nil, walk:next_bound(nil, 1).bound))
        assert.same({ { note = "two\nlines" } }, walk:read(nil, nil, walk:next_bound(nil, 1).bound, { "note" }))
        assert.equal(#'\xef\xbb\xbfid,note\r\n1,"two\nlines"\r\n', walk.value(walk:next_bound(nil, 1).bound))
    end)

    it("is cut where a record begins, and a range does not reach over its end", function()
        local walk <const> = source.source(path):open()
        local cut <const> = walk:cut_bound(nil, walk:last_bound(), 4)
        assert.equal("12", (all(walk, 1, cut.middle)))
        assert.equal("1234", (all(walk, 3, cut.bound)))
        local tail <const> = walk:next_bound(cut.bound, 9, walk:last_bound())
        assert.same({ 1, true }, { tail.fits, tail.final })
        assert.is_nil(walk:cut_bound(cut.bound, walk:last_bound(), 100))
    end)

    it("names the line of a malformed record, of only this chunk", function()
        fs.write(path, 'id,note\n1,"a\nb"\n2\n3,c\n')
        local walk <const> = source.source(path):open()
        local first <const> = walk:next_bound(nil, 1).bound
        local second <const> = walk:next_bound(first, 1).bound
        assert.equal(1, #walk:read(nil, nil, first))
        local e <const> = raised(walk.read, walk, nil, first, second)
        assert.same({ "query", "22P04", "people.csv line 4: it has 1 field, expected 2" },
            { e.kind, e.sqlstate, e.message })
        assert.equal("3", walk:read(nil, second, walk:last_bound())[1].id)
        local typed <const> = source.source(path, { types = { id = "integer" } }):open()
        assert.equal(1, typed:read(nil, nil, first)[1].id)
    end)

    it("without a header gives lists", function()
        fs.write(path, "1,a\n2,b\n")
        local walk <const> = source.source(path, { header = false }):open()
        local step <const> = walk:next_bound(nil, 1)
        assert.same({ { "1", "a" } }, walk:read(nil, nil, step.bound))
        assert.same({ { "2", "b" } }, walk:read(nil, step.bound, walk:last_bound()))
    end)

    it("without a record has no end", function()
        fs.write(path, "id,note\n")
        assert.is_nil(source.source(path):open():last_bound())
    end)

    it("is identified by its bytes, and refused when it changes while it is read", function()
        local walk <const> = source.source(path):open()
        assert.match("^SHA%-256 %x+$", walk.identity.file[2])
        assert.equal(#TEXT .. " bytes", walk.identity.file[1])
        fs.write(path, TEXT)
        local again <const> = source.source(path):open()
        assert.equal(walk.identity.file[2], again.identity.file[2])
        fs.write(path, (TEXT:gsub("two", "2wo")))
        assert.not_equal(walk.identity.file[2], source.source(path):open().identity.file[2])
        fs.write(path, TEXT .. "\n6,more")
        local e <const> = raised(again.next_bound, again, nil, 1)
        assert.match("^batch.csv: '.*people.csv' was changed while it is read$", e.message)
        fs.unlink(path)
        assert.match("is not there$", raised(function() source.source(path):open() end).message)
    end)

    it("checks its options", function()
        assert.match("unknown option 'heder'", raised(source.source, path, { heder = true }).message)
        assert.equal("batch.csv: the path must be a string that is not empty and has no NUL byte, got nil",
            raised(source.source).message)
    end)
end)
