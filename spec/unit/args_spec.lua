--- The checks of arguments, options and names that all modules share.
local args = require "dbrun.args"
local errors = require "dbrun.error"

--- The error's message and hint, in one line.
local function problem(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "usage"), tostring(e))
    assert.matches("args_spec.lua", e.where, 1, true)
    return e.message .. (e.hint and " | " .. e.hint or "")
end

describe("a rule", function()
    local inf = math.huge
    local cases = {
        { "seconds", args.seconds, { 0, 0.5, 3 }, { -1, 0 / 0, inf, "3", true } },
        { "seconds above 0", args.some_seconds, { 0.5, 3 }, { 0, -1, 0 / 0, inf, "3", {} } },
        { "whole numbers", args.whole(1), { 1, 2.0, math.maxinteger }, { 0, 1.5, inf, 0 / 0, "2" } },
        { "whole numbers with a limit", args.whole(-1, 3), { -1, 3 }, { -2, 4, 2 ^ 63 } },
        { "one of a few strings", args.one_of("a", "b"), { "a", "b" }, { "c", "", 1, false } },
        { "a type", "boolean", { true, false }, { 1, "true", {} } },
        { "a type or false", args.or_false "string", { "x", false }, { true, 1 } },
        { "another rule or false", args.or_false(args.seconds), { 1, false }, { true, -1 } },
    }
    for _, case in ipairs(cases) do
        local name, rule, good, bad = table.unpack(case)
        it("for " .. name, function()
            for _, value in ipairs(good) do
                args.check("f", "x", value, rule)
            end
            for _, value in ipairs(bad) do
                problem(args.check, "f", "x", value, rule)
            end
            problem(args.check, "f", "x", nil, rule)
            args.optional("f", "x", nil, rule)
        end)
    end

    it("names the given value in its error, but never a string that can be secret", function()
        assert.equal("fs.read: path must be a string, got nil", problem(args.check, "fs.read", "path", nil, "string"))
        assert.equal("f: size must be a whole number of at least 0, got -1",
            problem(args.check, "f", "size", -1, args.whole(0)))
        assert.equal("f: port must be a whole number from 1 to 9, got a string",
            problem(args.check, "f", "port", "hunter2", args.whole(1, 9)))
        assert.equal('f: mode must be "a", "b" or "c", got "d"',
            problem(args.check, "f", "mode", "d", args.one_of("a", "b", "c")))
        assert.equal('f: mode must be "a", or false, got true',
            problem(args.check, "f", "mode", true, args.or_false(args.one_of "a")))
    end)
end)

describe("options", function()
    local known = { timeout = args.seconds, format = args.one_of("csv", "text"), header = "boolean" }

    it("are returned, and missing ones are an empty table", function()
        local given = { timeout = 1, header = false }
        assert.equal(given, args.options("f", given, known))
        assert.same({}, args.options("f", nil, known))
    end)

    it("that are unknown are refused with the nearest name, or with all names", function()
        assert.equal("f: unknown option 'timout' | did you mean 'timeout'?",
            problem(args.options, "f", { timout = 1 }, known))
        assert.equal("f: unknown option 'zzzzzz' | the options are format, header, timeout",
            problem(args.options, "f", { zzzzzz = 1 }, known))
        assert.equal("f: unknown option 'zzzzzz' | the only option is 'a'",
            problem(args.options, "f", { zzzzzz = 1 }, { a = "string" }))
        assert.equal("f: unknown option [1] | the options are format, header, timeout",
            problem(args.options, "f", { "csv" }, known))
    end)

    it("must be a table", function()
        assert.equal("f: the options must be a table, got a string", problem(args.options, "f", "csv", known))
        assert.equal("f: the options must be a table, got false", problem(args.options, "f", false, known))
    end)

    it("stand before the function", function()
        local work = function() end
        local given = { timeout = 5 }
        local o, w = args.options_and_function("f", given, work, known)
        assert.equal(given, o)
        assert.equal(work, w)
        o, w = args.options_and_function("f", work, nil, known)
        assert.same({}, o)
        assert.equal(work, w)
        o, w = args.options_and_function("f", nil, work, known)
        assert.same({}, o)
        assert.equal(work, w)
        assert.equal("f: got 5 after the function | options stand before the function",
            problem(args.options_and_function, "f", work, 5, known))
        assert.equal("f: the function to call must be a function, got nil",
            problem(args.options_and_function, "f", given, nil, known))
    end)
end)

describe("a missing name", function()
    local module = args.answer_for_names({ select = 1, update = 2 }, "db", { fetch = "db.query(...) gives all rows" })

    it("is an error with a suggestion", function()
        assert.equal("db has no 'fetch' | db.query(...) gives all rows", problem(function() return module.fetch end))
        assert.equal("db has no 'selct' | did you mean 'select'?", problem(function() return module.selct end))
    end)

    it("is nil when nothing resembles it, and for names of metamethods", function()
        assert.is_nil(module.something_newer)
        assert.is_nil(module.__call)
        assert.is_nil(module[1])
        assert.equal(1, module.select)
    end)
end)

describe("lists of strings", function()
    it("have no holes and no other keys", function()
        for _, list in ipairs { {}, { "a" }, { "a", "b" } } do
            args.check("f", "x", list, args.strings)
            args.check("f", "x", list, args.string_or_strings)
        end
        args.check("f", "x", "a", args.string_or_strings)
        for _, bad in ipairs { 5, { 1 }, { "a", x = "b" }, { "a", nil, "c" }, { [2] = "a" }, print } do
            problem(args.check, "f", "x", bad, args.strings)
            problem(args.check, "f", "x", bad, args.string_or_strings)
        end
    end)
end)

describe("a list", function()
    it("loses no element behind a nil or under a name", function()
        local rule <const> = "number"
        args.list("f", "x", { 1, 2 }, rule)
        args.list("f", "x", table.pack(1, 2), rule)
        args.list("f", "x", { [0] = "program", 1 }, rule)
        assert.equal("f: x[2] must be a number, got nil", problem(args.list, "f", "x", { 1, nil, 3 }, rule))
        assert.equal("f: x[2] is nil, and others follow",
            problem(args.list, "f", "x", { [1] = 1, [9] = 9 }, rule))
        assert.equal('f: x must be a list, but has a value for "a"', problem(args.list, "f", "x", { 1, a = 2 }, rule))
        args.no_holes("f", "item", { 1, 2, a = 3 })
        args.no_holes("f", "item", table.pack())
        assert.equal("f: item 2 is nil, and others follow",
            problem(args.no_holes, "f", "item", { [1] = 1, [9] = 9 }))
        assert.equal("f: expected a list of items, got a table by name | A list of one is { item }.",
            problem(args.no_holes, "f", "item", { a = 1 }))
    end)
end)

describe("an argument too many", function()
    it("is told with what the function takes", function()
        args.no_more("f", "takes no arguments", nil)
        args.no_more("f", "takes no arguments", nil, nil, nil)
        assert.equal("f: takes no arguments, got 5 | g(5)",
            problem(args.no_more, "f", "takes no arguments", "g(5)", nil, 5))
    end)
end)

describe("a method that is called with '.'", function()
    it("says on what it must be called, and how", function()
        local class, other = {}, {}
        args.self("read", setmetatable({}, class), class, "a file", "file")
        args.self("read", setmetatable({}, class), { [class] = true, [other] = true }, "a file", "file")
        for _, value in ipairs { 5, "text", {}, setmetatable({}, other), print } do
            assert.matches("^read: must be called on a file, got .* | call it with ':', as file:read%(%.%.%.%)$",
                problem(args.self, "read", value, class, "a file", "file"))
        end
        problem(args.self, "read", nil, class, "a file", "file")
    end)
end)
