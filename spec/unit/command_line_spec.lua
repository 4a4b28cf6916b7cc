-- Code that scripts share for the command line: options and their errors, tables, times, the final message of an error.
local cli = require "dbrun.command_line"
local errors = require "dbrun.error"

local function sample()
    local parser = cli.parser { name = "dbrun sample", description = "A sample.", examples = { "dbrun x" } }
    parser:command_target "command"
    local go = cli.command(parser, "go", "Go somewhere.")
    cli.seconds(go, "--wait", "Wait.")
    cli.count_option(go, "--steps", "Steps.")
    go:option("--only"):convert(cli.list)
    go:option "--file"
    return parser
end

local function mistake(argv)
    local ok, e = pcall(cli.parse, sample(), argv)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "usage"), tostring(e))
    return e
end

describe("a command line", function()
    it("returns its options as values of their types", function()
        local args = cli.parse(sample(), { "go", "--wait", "1.5", "--steps=3", "--only", "a, b,,c" })
        assert.same({ command = "go", go = true, wait = 1.5, steps = 3, only = { "a", "b", "c" } }, args)
    end)

    it("of plain flags needs no parser, anything else does", function()
        local function plain(...)
            return cli.plain({ ... }, { strict = true, list = true }, { format = "text" })
        end
        assert.same({ format = "text" }, plain())
        assert.same({ format = "text", strict = true, list = true }, plain("--strict", "--list"))
        for _, word in ipairs { "--strict=1", "--other", "-s", "--help", "strict", "--", "" } do
            assert.is_nil(plain(word), word)
            assert.is_nil(plain("--list", word), word)
        end
        assert.is_nil(plain("--strict", "--strict")) -- the parser must refuse it
    end)

    it("answers --help with the text, anywhere, also when another argument is missing", function()
        for _, argv in ipairs { { "--help" }, { "-h" }, { "go", "--help" }, { "go", "--wait", "1", "-h" } } do
            local args, help = cli.parse(sample(), argv)
            assert.is_nil(args)
            assert.matches("^Usage: dbrun sample", help)
        end
        assert.matches("Examples:\n   dbrun x", select(2, cli.parse(sample(), { "-h" })))
        assert.equal("-h shows the help, and takes no host", mistake({ "go", "-h", "localhost" }).message)
    end)

    it("with a mistake raises one line that names it, and the command for help", function()
        assert.equal("unknown option '--foo'", mistake({ "go", "--foo" }).message)
        assert.equal("the option '--wait' stands after the command: dbrun sample go --wait ...",
            mistake({ "--wait", "1", "go" }).message)
        for _, of_dbrun in ipairs { "--stack", "--timeout=5", "-C", "--target" } do
            for _, argv in ipairs { { of_dbrun, "go" }, { "go", of_dbrun } } do
                assert.equal(("unknown option '%s', it is an option of dbrun: write it before the command's name")
                    :format(of_dbrun:match "^[^=]+"), mistake(argv).message)
            end
        end
        assert.equal("dbrun sample go --help", mistake({ "go", "--foo" }).hint)
        for _, word in ipairs { "--only", "--wait", "--file" } do
            assert.equal(("option '%s': its value is empty"):format(word), mistake({ "go", word, "" }).message)
        end
        assert.equal("expected names with a comma between them, got ','", mistake({ "go", "--only", "," }).message)
        assert.equal("unknown command 'bo'. Did you mean 'go'?", mistake({ "bo" }).message)
        assert.equal("dbrun sample --help", mistake({}).hint)
        assert.equal("option '--wait': expected a number of seconds, got 'x'", mistake({ "go", "--wait", "x" }).message)
        for _, bad in ipairs { "-1", "nan", "inf", "1e12", "" } do
            assert.matches("%-%-wait", mistake({ "go", "--wait=" .. bad }).message)
        end
        for _, bad in ipairs { "0", "1.5", "x", "-3" } do
            assert.matches("%-%-steps", mistake({ "go", "--steps=" .. bad }).message)
        end
    end)
end)

describe("printed output", function()
    it("is in columns, with colours and accents counted by their visible width", function()
        local red = "\27[31mx\27[0m"
        assert.same({ "a    b  c", "äöü  " .. red .. "  y" }, cli.table { { "a", "b", "c" }, { "äöü", red, "y" } })
        assert.same({ " 1 a", "22 b" }, cli.table({ { "1", "a" }, { "22", "b" } }, { gap = 1, right = { true } }))
        assert.same({}, cli.table {})
    end)

    it("has readable times", function()
        local cases = {
            { 0.00012, "0.1 ms" }, { 0.0099, "9.9 ms" }, { 0.012, "12 ms" }, { 0.9994, "999 ms" }, { 1, "1.00 s" },
            { 59.99, "59.99 s" }, { 60, "1 min 00 s" }, { 125.4, "2 min 05 s" }, { 3725, "1 h 02 min" },
        }
        for _, case in ipairs(cases) do assert.equal(case[2], cli.duration(case[1])) end
    end)

    it("has counts with separated thousands", function()
        assert.equal("0", cli.count(0))
        assert.equal("999", cli.count(999))
        assert.equal("1,000", cli.count(1000))
        assert.equal("-1,234,567", cli.count(-1234567))
        assert.equal("1 row", cli.plural(1, "row"))
        assert.equal("100,000 rows", cli.plural(100000, "row"))
        assert.equal("2 indices", cli.plural(2, "index", "indices"))
    end)
end)

describe("the end of a script", function()
    local stderr, written

    before_each(function()
        stderr, written = cli.note, {}
        cli.note = function(...) written[#written + 1] = table.concat { ... } end
    end)
    after_each(function() cli.note = stderr end)

    local function status(fn) return cli.main("sample", fn) end

    it("has the status the script returns, 0 when it returns none", function()
        assert.equal(0, status(function() end))
        assert.equal(7, status(function() return 7 end))
        assert.same({}, written)
    end)

    it("is 2 with one line for wrong usage, 2 for a wrong configuration, 1 for any other failure", function()
        assert.equal(2, status(function()
            errors.raise { kind = "usage", message = "unknown option '--x'", hint = "sample --help" }
        end))
        local place <const> = debug.getinfo(1, "S").short_src .. ":"
        local first <const>, at <const> = written[1]:match "^([^\n]*)\n  at: (.-)%d+$"
        assert.same({ "sample: unknown option '--x' (help: sample --help)", place }, { first, at })
        assert.equal(2, status(function() errors.raise { kind = "config", message = "DB_POOL_SIZE: wrong" } end))
        assert.equal(1, status(function() errors.raise { kind = "connect", message = "no way" } end))
        assert.matches("^sample: no way\n  at: ", written[3])
    end)

    it("is 1 with a traceback for an error in the program", function()
        assert.equal(1, status(function() local t = nil; return t.x end))
        assert.matches("attempt to index a nil value.*stack traceback", written[1])
    end)

    it("leaves an interrupt to the host", function()
        local ok, e = pcall(status, function() errors.raise { kind = "cancelled", message = "interrupted" } end)
        assert.is_false(ok)
        assert.equal("cancelled", e.kind)
        assert.same({}, written)
    end)
end)

it("a name on one line has its line ends escaped", function()
    assert.equal([[a\x0ab\x09c\x1b]], cli.one_line "a\nb\tc\27")
end)
