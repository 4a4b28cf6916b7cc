-- Rows, lists and maps as text for people and programs.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local tables = require "dbrun.table"
local terminal = require "spec.support.terminal"

local NULL <const> = core.null

--- The lines as one text.
local function text(v, opts)
    return table.concat(tables.lines(v, opts), "\n")
end

local function refused(message, fn, ...)
    local ok <const>, e <const> = pcall(fn, ...)
    assert.is_false(ok)
    assert.matches(message, tostring(e), 1, true)
    return e
end

--- An iterator of `n` rows, each made by `row`.
local function rows(n, row)
    local i = 0
    return function()
        i = i + 1
        if i <= n then return row(i) end
    end
end

local PEOPLE <const> = {
    { id = 7, name = "Ada", born = NULL }, { id = 12, name = "日本", born = "1990-01-31" },
    { id = 103, name = "e\u{301}x|" },
}

describe("a table", function()
    it("aligns by the width of characters, numbers right", function()
        assert.equal([[
 born       |  id | name
------------+-----+------
 NULL       |   7 | Ada
 1990-01-31 |  12 | 日本
 NULL       | 103 | éx|]], (text(PEOPLE):gsub("e\u{301}", "é")))
        assert.equal(" name | id\n------+----\n Ada  |  7", text({ PEOPLE[1] }, { columns = { "name", "id" } }))
    end)

    it("aligns texts of a column whose type is a number", function()
        local columns <const> = {
            { name = "a", type = "numeric(10,2)" }, { name = "b", oid = 25 }, { name = "c", oid = 20 },
        }
        assert.equal("     a | b |  c\n-------+---+----\n  1.50 | x |  1\n 10.00 | y | -1",
            text({ { "1.50", "x", "1" }, { "10.00", "y", "-1" } }, { columns = columns }))
    end)

    it("writes a row on one line, for any values", function()
        local evil <const> = "\27[2J\27]0;t\7\r\n\t\u{9b}2J\u{202e}\127\0\xff"
        local columns <const> = { "v", evil }
        for _, format in ipairs { "table", "vertical", "md" } do
            local lines <const> = tables.lines({ { evil, evil } },
                { format = format, columns = columns, title = evil, nulls = evil })
            for _, line in ipairs(lines) do
                assert.truthy(utf8.len(line))
                for _, control in ipairs { "[%z\1-\31\127]", "\xc2[\x80-\x9f]", "\u{202e}" } do
                    assert.is_nil(line:find(control), line)
                end
            end
            assert.truthy(table.concat(lines):find(
                "\\x1b[2J\\x1b]0;t\\x07\\r\\n\\t\\u009b2J\\u202e\\x7f\\x00\\xff", 1, true))
        end
    end)

    it("shows nested values, bytes and odd numbers", function()
        local loop <const> = {}
        loop.self = loop
        assert.equal("{self = {...}}", tables.lines({ { loop } }, { header = false })[1]:match "%S.*")
        local line <const> = tables.lines({ { { 1, "x", { a = NULL } }, 0.1 + 0.2, 3.0, 1 / 0, true, "\0\xff" } },
            { header = false, columns = { "a", "b", "c", "d", "e", { name = "f", type = "bytea" } } })[1]
        assert.equal(' [1,"x",{"a":null}] | 0.30000000000000004 | 3 | Infinity | true | \\x00ff', line)
    end)

    it("is cut to a width by its widest columns of text", function()
        local wide <const> = { { a = ("x"):rep(90), b = 123456789, c = ("日"):rep(40) } }
        for width = 8, 140 do
            for _, line in ipairs(tables.lines(wide, { width = width })) do
                assert.is_true(core.text.width(line) <= width, ("%d: %s"):format(width, line))
            end
        end
        assert.matches("123456789", text(wide, { width = 40 }), 1, true)
        assert.matches("…", text(wide, { width = 40 }), 1, true)
        assert.matches(("x"):rep(90), text(wide), 1, true)
        assert.matches(" " .. ("x"):rep(9) .. "… |", text(wide, { cell_width = 10 }), 1, true)
    end)

    it("says what a limit leaves out, and when there are no rows", function()
        assert.equal(" a\n---\n 1\n(2 more rows)", text({ { a = 1 }, { a = 2 }, { a = 3 } }, { limit = 1 }))
        assert.equal(" a\n---\n 1\n(1 more row)", text(rows(2, function(i) return { a = i } end), { limit = 1 }))
        assert.equal(" a | b\n---+---\n(0 rows)", text({}, { columns = { "a", "b" } }))
    end)

    it("accepts maps, lists of values, and values", function()
        assert.equal(" key | value\n-----+-------\n a   | 1\n b   | x", (text { a = 1, b = "x" }:gsub(" +1", " 1")))
        assert.matches("^ value\n%-+\n     1\n    20$", text { 1, 20 })
        assert.equal("a\\x1b", text "a\27")
        assert.equal("NULL", text(nil))
    end)
end)

describe("the formats", function()
    local LIST <const> = { { 7, 'a"b,c', NULL }, { 8, "", "x|y\\\n" } }
    local COLUMNS <const> = { "id", "t", "z" }
    local function as(format) return text(LIST, { format = format, columns = COLUMNS }) end

    it("csv: RFC 4180, NULL empty, the empty string in quotes", function()
        assert.equal('id,t,z\n7,"a""b,c",\n8,"","x|y\\\n"', as "csv")
        assert.equal("1;2", text({ { 1, 2 } }, { format = "csv", delimiter = ";", header = false }))
    end)

    it("tsv: as COPY writes it", function()
        assert.equal('id\tt\tz\n7\ta"b,c\t\\N\n8\t\tx|y\\\\\\n', as "tsv")
    end)

    it("json and jsonl: in the order of the columns, including NULL", function()
        assert.equal('{"id":7,"t":"a\\"b,c","z":null}\n{"id":8,"t":"","z":"x|y\\\\\\n"}', as "jsonl")
        local first <const>, second <const> = as "jsonl":match "^(.*)\n(.*)$"
        assert.same(json.decode(as "json"), { json.decode(first), json.decode(second) })
        assert.equal("[]", text({}, { format = "json" }))
        assert.equal('{"a":1}\n{"b":"NaN"}', text({ { a = 1 }, { b = 0 / 0 } }, { format = "jsonl" }))
        assert.equal('{"a":"\\u001b\\u009b\\u202e\\u007f"}',
            text({ { a = "\27\u{9b}\u{202e}\127" } }, { format = "jsonl" }))
        assert.equal('{"n":1.50,"b":true,"j":{"x":  1},"s":"1"}', text({ { "1.50", "t", '{"x":\r\n1}', "1" } }, {
            format = "jsonl", text = true,
            columns = { { name = "n", oid = 1700 }, { name = "b", oid = 16 }, { name = "j", oid = 114 }, "s" },
        }))
    end)

    it("md: escapes characters that would end a cell", function()
        assert.equal('| id | t | z |\n| ---: | --- | --- |\n| 7 | a"b,c | NULL |\n| 8 |  | x\\|y\\n |',
            (as "md":gsub("\\\\n", "\\n")))
        for value, expected in pairs {
            [ [[C:\dir]] ] = [[C:\dir]], [ [[a\.]] ] = [[a\\.]], [ [[a\\.]] ] = [[a\\\\.]], [ [[a\\n]] ] = [[a\\\\n]],
            [ [[a\|]] ] = [[a\\\|]],
        } do
            assert.equal("| " .. expected .. " |", text({ { v = value } }, { format = "md", header = false }), value)
        end
    end)

    it("csv: refuses a NULL text that is not one field", function()
        for _, nulls in ipairs { "a,b", '"', "a\n" } do
            refused("nulls is written without quotes", text, { { a = NULL } }, { format = "csv", nulls = nulls })
        end
        assert.equal("a;b\nx,y;1", text({ { a = NULL, b = 1 } }, { format = "csv", nulls = "x,y", delimiter = ";" }))
    end)

    it("vertical: a line for each value", function()
        assert.matches("^%-%[ RECORD 1 %][+-]*\nid | 7\nt  | a\"b,c\nz  | NULL\n%-%[ RECORD 2 %]", as "vertical")
    end)
end)

describe("invalid input is refused:", function()
    it("options, with the nearest one", function()
        refused("did you mean 'format'?", tables.lines, {}, { fromat = "csv" })
        refused('"csv"', tables.lines, {}, { format = "cvs" })
        refused("has no option 'nulls'", tables.lines, {}, { format = "tsv", nulls = "" })
        refused("has no option 'title'", tables.lines, {}, { format = "csv", title = "x" })
        refused("columns must be", tables.lines, {}, { columns = {} })
        refused("columns must be", tables.lines, {}, { columns = { 1 } })
    end)

    it("rows that would lose a value", function()
        refused("row 2 has 3 values, and there are 2 columns", tables.lines,
            { { 1, 2 }, { 1, 2, 3 } }, { columns = { "a", "b" } })
        refused("row 1001 is a number", tables.lines, rows(1001, function(i) return i > 1000 and 5 or { a = 1 } end))
        local function late()
            return rows(1001, function(i) return { a = i, b = i > 1000 and 1 or nil } end)
        end
        for _, format in ipairs { "table", "csv", "tsv", "md" } do
            refused("row 1001 has a column 'b' that no row before it has", tables.lines, late(), { format = format })
        end
        assert.equal(1001, #tables.lines(late(), { format = "csv", columns = { "a" }, header = false }))
    end)

    it("files that cannot be written", function()
        local full <close> = assert(io.open("/dev/full", "w"))
        assert.equal("io", refused("No space left on device", tables.write, full, PEOPLE).kind)
        local closed <const> = assert(io.open("/dev/null", "w"))
        closed:close()
        assert.equal("usage", refused("the file is closed", tables.write, closed, PEOPLE).kind)
        refused("the file must be a file", tables.write, "path", PEOPLE)
        refused("cannot write: no", tables.write, { write = function() return nil, "no" end }, PEOPLE)
    end)
end)

describe("table.write", function()
    it("closes its iterator, and writes the rows before an error", function()
        local closed, out, i = 0, {}, 0
        local iterator <const> = setmetatable({}, {
            __call = function()
                i = i + 1
                return i <= 1500 and { a = i } or error("lost", 0)
            end,
            __close = function() closed = closed + 1 end,
        })
        local file <const> = { write = function(_, piece) out[#out + 1] = piece end }
        assert.is_false((pcall(tables.write, file, iterator, { format = "csv" })))
        assert.equal(1, closed)
        assert.matches("\n1500\n$", table.concat(out))
    end)

    it("writes to a child process, and does not cut later cells that are wider", function()
        local path <const> = os.tmpname()
        local child <close> = process.start { "cat", stdin_from = "pipe", stdout = path }
        local n <const> = tables.write(child, rows(1200, function(k)
            return { a = k < 1100 and "x" or ("y"):rep(50) }
        end))
        child:close_stdin()
        assert.equal(0, child:wait().code)
        local written <const> = fs.read(path)
        os.remove(path)
        assert.equal(1200, n)
        assert.matches("\n " .. ("y"):rep(50) .. "\n", written, 1, true)
    end)

    it("holds no more rows in memory of a million than of two thousand", function()
        local script <const> = [[
            local tables, i, n = require "dbrun.table", 0, tonumber(arg[1])
            local file <close> = assert(io.open("/dev/null", "w"))
            local rows = function() i = i + 1 if i <= n then return { i, "some text of a row" } end end
            tables.write(file, rows, { columns = { "id", "text" }, format = arg[2] })
            for line in io.lines "/proc/self/status" do
                local peak = line:match "^VmHWM:%s*(%d+)" if peak then print(peak) end
            end]]
        local function peak(n, format)
            local result <const> = process.run {
                core.options.program, "--no-env", "-", tostring(n), format, stdin = script, timeout = 300,
            }
            assert.equal(0, result.code, result.stderr)
            return tonumber(result.stdout)
        end
        -- AddressSanitizer keeps freed memory for a while.
        local sanitized <const> = fs.read "/proc/self/maps":find "libasan" ~= nil
        local few <const>, many <const> = peak(2000, "table"), peak(sanitized and 20000 or 1000000, "table")
        if not sanitized then
            assert.is_true(many - few < 2048, ("%d kB, %d kB"):format(few, many))
        end
    end)
end)

describe("on a terminal", function()
    it("NULL is dim, lines are cut, and a value never moves the cursor", function()
        local dir <const> = fs.mkdtemp()
        fs.write(dir .. "/a.lua", [[
            local tables, null = require "dbrun.table", require "dbrun.core".null
            tables.print({ { a = "x\27[2J", b = null, c = ("y"):rep(500) } }, { width = 60, color = true })
            tables.print({ { a = "x\27[2J" } }, { format = "csv" })
            tables.print { { c = ("y"):rep(5000) } }
            print "end"]])
        local term <close> = terminal.start("lua --no-env " .. dir .. "/a.lua")
        term:expect "\nend\n"
        local shown <const> = term:text()
        assert.matches("x\\x1b[2J | \27[2mNULL\27[0m | yyy", shown, 1, true)
        assert.is_nil(shown:find("\27[2J", 1, true))
        assert.matches("\na\nx\\x1b[2J\n", shown, 1, true)
        assert.is_nil(shown:find(("y"):rep(1000), 1, true))
        fs.rmtree(dir)
    end)
end)
