-- dbrun.csv: records from pieces of any size, types, bad rows with their lines; and the writer.
local core = require "dbrun.core"
local csv = require "dbrun.csv"
local fs = require "dbrun.fs"

--- A source that gives `text` in pieces of `size` bytes.
local function pieces(text, size)
    local at = 1
    return function()
        if at > #text then return nil end
        local piece <const> = text:sub(at, at + size - 1)
        at = at + size
        return piece
    end
end

local function read(text, opts, size)
    local reader <const> = csv.reader(pieces(text, size or 7), opts)
    local rows <const> = {}
    for row in reader do rows[#rows + 1] = row end
    return rows, reader
end

local TEXT <const> = '\xef\xbb\xbfid,name\r\n1,"a ""q"" b\nsecond"\r\n2,\r\n\r\n3,""\r\n4\r\n5,a,b\n' ..
    '6,"x"y,z\n7,5" pipe\nx,1\n8,"last"'

describe("csv.reader", function()
    for _, size in ipairs { 1, 2, 3, 5, 1000 } do
        it(("reads the same from pieces of %d bytes"):format(size), function()
            local rows <const>, reader <const> = read(TEXT, { types = { id = "integer" } }, size)
            assert.same({
                { id = 1, name = 'a "q" b\nsecond' }, { id = 2 }, { id = 3, name = "" }, { id = 7, name = '5" pipe' },
                { id = 8, name = "last" },
            }, rows)
            assert.same({ "id", "name" }, reader.columns)
            assert.equal(5, reader.rows)
            assert.same({
                { line = 7, reason = "it has 1 field, expected 2", text = "4" },
                { line = 8, reason = "it has 3 fields, expected 2", text = "5,a,b" },
                { line = 9, reason = "field 2 has text after its closing quote", text = '6,"x"y,z' },
                { line = 11, reason = "id: 'x' is not a whole number of at most 64 bits", text = "x,1" },
            }, reader.bad)
        end)
    end

    it("converts by type, and keeps values that do not match", function()
        local rows, reader = read("a,b,c,d,e\n1,1.5e3,yes,2024-02-29,x\n+9223372036854775807,-0.5,F,2023-12-31,y\n" ..
            "9223372036854775808,1,t,2024-01-01,x\n1,0x10,t,2024-01-01,x\n1,1,maybe,2024-01-01,x\n" ..
            "1,1,1,2023-02-29,x\n1,1,1,2024-01-01,no\n",
            { types = { a = "integer", b = "number", c = "boolean", d = "date", e = function(text)
                if text == "no" then return nil, "'no' is taken" end
                return text:upper()
            end } })
        assert.same({
            { a = 1, b = 1500.0, c = true, d = "2024-02-29", e = "X" },
            { a = math.maxinteger, b = -0.5, c = false, d = "2023-12-31", e = "Y" },
        }, rows)
        local told <const> = {}
        for i, bad in ipairs(reader.bad) do told[i] = ("%d %s"):format(bad.line, bad.reason) end
        assert.same({
            "4 a: '9223372036854775808' is not a whole number of at most 64 bits", "5 b: '0x10' is not a number",
            "6 c: 'maybe' is not true or false", "7 d: '2023-02-29' is not a date as 2026-01-31", "8 e: 'no' is taken",
        }, told)
    end)

    it("keeps each digit of a decimal, and refuses NULL where it is not allowed", function()
        local types <const> = { price = "decimal" }
        local rows, reader = read("id,price\n1,+12345678901234567.890\n2,-.5e3\n3,\n,1\n\"\",2\n4,1.2.3\n5,e\n",
            { types = types, required = { "id", "price" } })
        assert.same({ { id = "1", price = "12345678901234567.890" }, { id = "2", price = "-.5e3" },
            { id = "", price = "2" } }, rows)
        local told <const> = {}
        for i, bad in ipairs(reader.bad) do told[i] = ("%d %s"):format(bad.line, bad.reason) end
        assert.same({ "4 price: it is NULL, and required", "5 id: it is NULL, and required",
            "7 price: '1.2.3' is not a number", "8 price: 'e' is not a number" }, told)
        rows, reader = read("1,\n,2\n", { header = false, required = { 2 } })
        assert.same({ 1, "field 2: it is NULL, and required" }, { #rows, reader.bad[1].reason })
        local ok <const>, e <const> = pcall(read, "id\n1\n", { required = { "ident", "id" } })
        assert.is_false(ok)
        assert.matches("csv.reader: required: there is no column 'ident'", e.message, 1, true)
    end)

    it("supports other delimiters, quotes, NULLs and headers", function()
        local rows = read("a;b\n'x;''y';\\N\n", { delimiter = ";", quote = "'", null = "\\N" })
        assert.same({ { a = "x;'y" } }, rows)
        rows = read("1\t2\n3\t\n", { delimiter = "\t", header = false, types = { "integer" } })
        assert.same({ { 1, "2" }, { 3, core.null } }, rows)
        rows = read("1,2\n", { header = { "x", "y" } })
        assert.same({ { x = "1", y = "2" } }, rows)
        rows = read('a\n""\n', {})
        assert.same({ { a = "" } }, rows)
        assert.same({}, (read("", {})))
        assert.same({}, (read("a,b\r\n", {})))
    end)

    it("reads an empty line as NULL of the only column, and skips it with several columns", function()
        assert.same({ { a = "1" }, {}, { a = "3" } }, (read "a\n1\n\n3\n"))
        assert.same({ { a = "1", b = "2" } }, (read "\na,b\n\n1,2\r\n\r\n"))
        assert.same({ { "1" }, { core.null } }, (read("1\n\n", { header = false })))
    end)

    it("keeps all bad rows, however many they are", function()
        local rows <const>, reader <const> = read("a,b\n" .. ("x\n"):rep(3000) .. "1,2\n", {}, 1000)
        local bad <const> = reader.bad
        assert.same({ 1, 3000, 3001, "x" }, { #rows, #bad, bad[3000].line, bad[3000].text })
    end)

    it("names the line of a quote that is never closed", function()
        local ok <const>, e <const> = pcall(read, 'a,b\n1,2\n1,"x\n2,3\n')
        assert.is_false(ok)
        assert.matches("line 3: a quote that is opened in this record is never closed", tostring(e), 1, true)
    end)

    it("stops at the first bad row when it is strict, and at too many", function()
        local function refused(text, opts, message)
            local ok <const>, e <const> = pcall(read, text, opts)
            assert.is_false(ok)
            assert.matches(message, tostring(e), 1, true)
        end
        refused("a,b\n1,2\n3\n", { strict = true }, "line 3: it has 1 field, expected 2")
        refused("a,b\n1\n2\n3\n", { max_bad = 2 }, "line 4: it has 1 field, expected 2")
        refused("a,a\n", {}, "the columns 1 and 2 are both called 'a'")
        refused("a,b\n1\n2\n", { max_bad = 1 }, "1 row before it was bad too")
        refused("a,b\n1\n", { max_bad = 0 }, "max_bad = 0 allows no bad row")
        refused("a,,b\n", {}, "column 2 has no name")
        refused("a,b\r1,2\r3,4\r", {}, "the name of column 2 has a carriage return")
        refused("id,b\n", { types = { idd = "integer" } }, "did you mean 'id'?")
        refused("id,b\n", { types = { id = "integr" } }, "did you mean 'integer'?")
        refused("", { delimeter = ";" }, "did you mean 'delimiter'?")
        refused("", { delimiter = '"' }, "delimiter and quote are the same")
    end)

    it("continues at the place where another reader has stopped", function()
        local path <const> = os.tmpname()
        local text <const> = '\xef\xbb\xbfa,b\r\n1,"x\ny"\n\n2,"""q"""\r\nbad\n3,\xef\xbb\xbf\n"4","\n\n"\n5,last'
        for _, header in ipairs { true, false } do
            local file <const> = assert(io.open(path, "wb"))
            file:write(header and text or text:gsub("^.-\n", ""))
            file:close()
            local all, places = {}, {}
            local whole <const> = csv.reader(path, { header = header })
            places[1] = { byte = whole.byte, line = whole.line }
            for row in whole do
                all[#all + 1] = row
                places[#places + 1] = { byte = whole.byte, line = whole.line }
            end
            assert.equal(5, #all)
            for i, place in ipairs(places) do
                local rest <const> = csv.reader(path, { header = header, from = place })
                for n = i, #all do assert.same(all[n], rest()) end
                assert.is_nil(rest())
                assert.same({ whole.byte, whole.line }, { rest.byte, rest.line })
                local bad <const> = rest.bad[1]
                if i <= 3 then assert.same(whole.bad[1], bad) else assert.is_nil(bad) end
            end
        end
        os.remove(path)
        local function refused(source, from)
            local ok <const>, e <const> = pcall(csv.reader, source, { from = from })
            assert.is_false(ok)
            return e.message
        end
        assert.equal("csv.reader: from is for a path", refused(function() end, { byte = 0, line = 1 }))
        assert.equal("csv.reader: from.line must be a whole number of at least 1, got nil", refused(path, { byte = 0 }))
    end)

    it("reads a path and an open file, and closes only what it opened", function()
        local folder <const> = fs.mkdtemp()
        local path <const> = folder .. "/a.csv"
        fs.write(path, "a\n" .. ("x"):rep(200000) .. "\n")
        local reader <close> = csv.reader(path)
        assert.equal(200000, #reader().a)
        assert.is_nil(reader())
        local file <close> = assert(io.open(path))
        for row in csv.reader(file) do assert.equal(200000, #row.a) end
        assert.equal("file", io.type(file))
        local ok <const>, e <const> = pcall(csv.reader, folder .. "/missing.csv")
        assert.is_false(ok)
        assert.equal("io", e.kind)
        local read_one <const>, why <const> = pcall(csv.reader, folder)
        assert.is_false(read_one)
        assert.equal("csv.reader: cannot read: Is a directory", why.message)
        fs.rmtree(folder)
    end)
end)

describe("csv.writer", function()
    it("says how to open a file that is given by name, as table.write does", function()
        for _, fn in ipairs { csv.writer, require "dbrun.table".write } do
            local ok <const>, e <const> = pcall(fn, "x.csv", {})
            assert.is_false(ok)
            assert.equal("usage", e.kind)
            assert.matches("the file must be a file that is open, got a string", e.message, 1, true)
            assert.equal('io.open(path, "w") opens it', e.hint)
        end
    end)

    it("writes what the reader reads back", function()
        local out <const> = {}
        local file <const> = { write = function(_, ...) out[#out + 1] = table.concat { ... } return true end }
        local w <const> = csv.writer(file, { columns = { "a", "b" } })
        local rows <const> = {
            { a = "x,y", b = 'q"q' }, { a = "", b = "line\nend\r" }, { b = "only b" },
            { a = "\xef\xbb\xbfbom", b = "\\." },
        }
        for _, row in ipairs(rows) do w:write(row) end
        w:write { 1, 1.5 }
        assert.equal(5, w.rows)
        rows[5] = { a = "1", b = "1.5" }
        assert.same(rows, (read(table.concat(out), {}, 3)))
        local ok, e = pcall(w.write, w, { c = 1 })
        assert.is_false(ok)
        assert.matches("the row has a column 'c' that the writer does not have", tostring(e), 1, true)
        ok, e = pcall(w.write, w, { 1, 2, 3 })
        assert.is_false(ok)
        assert.matches("the row has 3 values, and there are 2 columns", tostring(e), 1, true)
        ok, e = pcall(w.write, w, { a = print })
        assert.is_false(ok)
        assert.matches("the value of 'a' is a function", tostring(e), 1, true)
        local bare <const> = csv.writer(file)
        ok, e = pcall(bare.write, bare, { a = 1 })
        assert.is_false(ok)
        assert.matches("the writer has no columns", tostring(e), 1, true)
    end)

    it("writes with any delimiter and quote, and refuses a NULL text that is not one field", function()
        local out
        local file <const> = { write = function(_, ...) out = out .. table.concat { ... } return true end }
        for _, chars in ipairs { ";'", "%^", "^%", "-]", "a%", "\t\\" } do
            out = ""
            local opts <const> = { columns = { "x", "y" }, delimiter = chars:sub(1, 1), quote = chars:sub(2) }
            local w <const> = csv.writer(file, opts)
            w:write { chars .. chars, "%1" .. chars }
            opts.columns = nil
            assert.same({ { x = chars .. chars, y = "%1" .. chars } }, (read(out, opts)))
        end
        for _, opts in ipairs { { null = "a,b" }, { null = '"' }, { null = "a\n" }, { null = "-", delimiter = "-" } } do
            local ok <const>, e <const> = pcall(csv.writer, file, opts)
            assert.is_false(ok)
            assert.matches("null is written without quotes", e.message, 1, true)
        end
        local ok <const>, e <const> = pcall(csv.writer, file, { delimiter = ";", quote = ";" })
        assert.is_false(ok)
        assert.matches("delimiter and quote are the same", e.message, 1, true)
    end)

    it("raises when the file cannot be written", function()
        local full <close> = assert(io.open("/dev/full", "w"))
        full:setvbuf "no"
        local ok <const>, e <const> = pcall(csv.writer, full, { columns = { "a" } })
        assert.is_false(ok)
        assert.equal("io", e.kind)
    end)
end)
