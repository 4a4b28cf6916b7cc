local core = require "dbrun.core"
local errors = require "dbrun.error"
local json = require "dbrun.json"
local resident = require "spec.support.resident"

local function refused(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok, "this should have been refused")
    assert.is_true(errors.is(e, "usage"), tostring(e))
    return e
end

describe("json.decode", function()
    local scalars = {
        { "0", 0 }, { "-0", 0 }, { "42", 42 }, { "-42", -42 },
        { "9223372036854775807", math.maxinteger }, { "-9223372036854775808", math.mininteger },
        { "1.0", 1.0 }, { "1e2", 100.0 }, { "0.1", 0.1 }, { "-1.5E-3", -0.0015 }, { "5e-324", 5e-324 },
        { "true", true }, { "false", false }, { "null", json.null },
        { '""', "" },
        { '"a\\"\\\\\\/\\b\\f\\n\\r\\t"', 'a"\\/\b\f\n\r\t' }, { '"\\u00e4\\ud834\\udd1e"', "ä\u{1D11E}" },
        { '"\\u0000x"', "\0x" }, { '"ä\u{10FFFF}"', "ä\u{10FFFF}" }, { " \t\r\n 1 \n", 1 },
    }
    for _, case in ipairs(scalars) do
        it("reads " .. case[1], function()
            local value = json.decode(case[1])
            assert.equal(case[2], value)
            assert.equal(math.type(case[2]), math.type(value))
        end)
    end

    it("reads null as json.null", function()
        assert.equal(core.null, json.null)
        assert.equal("userdata", type(json.null))
        assert.same({ json.null, 1, json.null }, { table.unpack(json.decode "[null,1,null]") })
    end)

    it("distinguishes arrays from objects, also empty ones", function()
        for text, is_array in pairs { ["[]"] = true, ["{}"] = false, ["[1]"] = true, ['{"1":1}'] = false } do
            local value = json.decode(text)
            assert.equal(is_array, json.is_array(value), text)
            assert.equal(text, json.encode(value))
        end
        for _, value in ipairs { 1, "x", json.null, true, setmetatable({}, {}) } do
            assert.is_false(json.is_array(value))
        end
    end)

    it("reads nested values", function()
        local v = json.decode '{"a":[1,{"b":[]},[[2.5]]],"":{"ä":null}}'
        assert.equal(1, v.a[1])
        assert.is_true(json.is_array(v.a[2].b))
        assert.equal(2.5, v.a[3][1][1])
        assert.equal(json.null, v[""]["ä"])
    end)

    it("takes the last of two members with the same name, as PostgreSQL's jsonb does", function()
        assert.same({ a = 2 }, json.decode '{"a":1,"a":2}')
    end)

    it("reads 2,048 levels and refuses more", function()
        assert.is_table(json.decode(("["):rep(2047) .. ("]"):rep(2047)))
        assert.truthy(refused(json.decode, ("["):rep(100000)).hint:find("2048 levels", 1, true))
        assert.truthy(refused(json.decode, ('{"a":'):rep(100000)).hint:find("2048 levels", 1, true))
    end)

    local malformed = {
        { "nothing", "", 1 },
        { "white space", " \n ", 2 },
        { "a word", "hello", 1 },
        { "text behind the value", "1 2", 1 },
        { "an open array", "[1,", 1 },
        { "an open object", '{"a":1', 1 },
        { "an open string", '"abc', 1 },
        { "a comma at the end", "[1,]", 1 },
        { "a member without a value", '{"a":}', 1 },
        { "a name that is no string", "{a:1}", 1 },
        { "single quotes", "['a']", 1 },
        { "a comment", "[1] // x", 1 },
        { "a leading zero", "[01]", 1 },
        { "a plus sign", "[+1]", 1 },
        { "a point without digits", "[1.]", 1 },
        { "NaN", "[NaN]", 1 },
        { "hexadecimal", "[0x10]", 1 },
        { "a line feed in a string", '"a\nb"', 1 },
        { "an unknown escape", '"\\x"', 1 },
        { "half a surrogate pair", '"\\ud800"', 1 },
        { "invalid UTF-8", '["\xFF"]', 1 },
        { "UTF-8 of a surrogate", '"\xED\xA0\x80"', 1 },
        { "a NUL behind the value", "1\0", 1 },
        { "a NUL in line 2", "[1,\n\0]", 2 },
        { "a NUL in a name", '{"\\u0000":1}', 1 },
        { "something wrong in line 3", '{\n"a": 1,\n"b": x\n}', 3 },
    }
    for _, case in ipairs(malformed) do
        it("refuses " .. case[1] .. ", naming line and column", function()
            local e = refused(json.decode, case[2])
            assert.truthy(e.message:find(("malformed JSON, line %d, column "):format(case[3]), 1, true), e.message)
        end)
    end

    it("refuses integers that do not fit, so that no digit is lost", function()
        for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "[12345678901234567890]" } do
            local e = refused(json.decode, text)
            assert.truthy(e.message:find("too big", 1, true), e.message)
            assert.truthy(e.hint:find("64 bits", 1, true))
        end
        refused(json.decode, "1e999")
    end)

    it("does not repeat the text in its errors", function()
        assert.is_nil(tostring(refused(json.decode, '{"password": hunter2 }')):find("hunter2", 1, true))
    end)

    it("refuses values that are not strings", function()
        for _, value in ipairs { 5, true, {} } do
            assert.truthy(refused(json.decode, value).message:find("json.decode: expected a string, got", 1, true))
        end
        refused(json.decode)
        assert.matches("takes a text and no options", refused(json.decode, "[]", { nulls = true }).message)
    end)
end)

describe("json.encode", function()
    local cases = {
        { "an integer", 42, "42" },
        { "the smallest integer", math.mininteger, "-9223372036854775808" },
        { "a float that is whole, as a float", 1.0, "1.0" },
        { "a large float", 1e300, "1e+300" },
        { "a float with few digits", 0.1, "0.1" },
        { "a float with many digits", 1 / 3, "0.3333333333333333" },
        { "minus zero", -0.0, "-0.0" },
        { "true", true, "true" },
        { "null", json.null, "null" },
        { "text", 'a"\\/\b\f\n\r\t\1\127ä\u{10FFFF}', '"a\\"\\\\/\\b\\f\\n\\r\\t\\u0001\127ä\u{10FFFF}"' },
        { "a NUL", "a\0b", '"a\\u0000b"' },
        { "a sequence", { 1, "a", true }, '[1,"a",true]' },
        { "an empty table, as an object", {}, "{}" },
        { "an empty array", json.array {}, "[]" },
        { "a new empty array", json.array(), "[]" },
        { "an object", { a = 1 }, '{"a":1}' },
        { "an object from a sequence", json.object { "x" }, '{"1":"x"}' },
        { "an object with integer keys", json.object { [7] = "x" }, '{"7":"x"}' },
        { "null inside an array", { 1, json.null, 3 }, "[1,null,3]" },
        { "nested values", { { {} }, { a = { b = json.array {} } } }, '[[{}],{"a":{"b":[]}}]' },
    }
    for _, case in ipairs(cases) do
        it("writes " .. case[1], function()
            assert.equal(case[3], json.encode(case[2]))
        end)
    end

    it("writes members in the order of their names where that is asked for", function()
        local v = { b = 1, a = { d = 1, c = 2 }, aa = 3, ["ä"] = 4, [""] = 5 }
        assert.equal('{"":5,"a":{"c":2,"d":1},"aa":3,"b":1,"ä":4}', json.encode(v, { sort_keys = true }))
        assert.equal('{"10":1,"9":1,"x":2}',
            json.encode(json.object { [9] = 1, [10] = 1, x = 2 }, { sort_keys = true }))
        assert.equal("{}", json.encode({}, { sort_keys = true }))
    end)

    it("writes lines with indents where that is asked for", function()
        assert.equal('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": []\n}',
            json.encode({ a = { 1, {} }, b = json.array() }, { indent = 2, sort_keys = true }))
        assert.equal("[1]", json.encode({ 1 }, { indent = 0 }))
    end)

    local cyclic = { a = {} }
    cyclic.a.b = cyclic
    local refusals = {
        { "nil", nil, "at $: nil" },
        { "NaN", { x = { 0 / 0 } }, "at $.x[1]: NaN" },
        { "a table that reads its content from another one", { x = setmetatable({}, { __index = { 1 } }) },
            "at $.x: an empty table whose content is in its metatable" },
        { "a table that counts and lists what it has not", setmetatable({}, { __pairs = next, __len = rawlen }),
            "an empty table whose content is in its metatable" },
        { "an infinite number", { math.huge }, "at $[1]: an infinite number" },
        { "a function", { f = print }, "at $.f: a function" },
        { "a coroutine", { coroutine.create(print) }, "at $[1]: a thread" },
        { "a file", { io.stdout }, "at $[1]: a userdata" },
        { "text that is not UTF-8", { rows = { 1, 2, { name = "ab\xFF" } } }, "at $.rows[3].name: byte 3" },
        { "an overlong encoding", { "\xC0\x80" }, "at $[1]: byte 1" },
        { "a surrogate", { "\xED\xA0\x80" }, "at $[1]: byte 1" },
        { "a code point beyond the last", { "\xF4\x90\x80\x80" }, "at $[1]: byte 1" },
        { "UTF-8 that is cut off", { "\xE2\x82" }, "at $[1]: byte 1" },
        { "a name that is not UTF-8", { ["\xFF"] = 1 }, "at $[a key]: byte 1" },
        { "a name with a NUL", { ["a\0"] = 1 }, "at $[a key]: a name that contains a NUL byte" },
        { "a sequence with a hole", { 1, nil, 3 }, "at $: the table is not a sequence" },
        { "a table with both kinds of keys", { x = { 1, a = 2 } }, "at $.x: the table is not a sequence" },
        { "a sparse table", { [5] = 1 }, "at $: a key of type number" },
        { "a boolean key", { [true] = 1 }, "at $: a key of type boolean" },
        { "a fractional key in an object", json.object { [1.5] = 1 }, "at $: a key of type number" },
        { "an array with a name", json.array { 1, a = 2 }, "at $: the table is not a sequence" },
        { "two keys with the same text", json.object { "x", ["1"] = "y" }, "the same text" },
        { "a table that contains itself", cyclic, "at $.a.b.a.b.a.b.a.b.a.b.a.b...: nested deeper than 2048" },
    }
    for _, case in ipairs(refusals) do
        it("refuses " .. case[1] .. ", naming its place", function()
            for _, options in ipairs { {}, { sort_keys = true }, { indent = 2 } } do
                local e = refused(json.encode, case[2], options)
                assert.truthy(e.message:find(case[3], 1, true), e.message)
                assert.truthy(e.message:find("json.encode: at $", 1, true), e.message)
            end
        end)
    end

    it("refuses options it does not know", function()
        for _, options in ipairs { { indent = -1 }, { indent = 17 }, { indent = "2" }, { sort_keys = 1 },
            { sort = true }, { 1 }, "pretty", 5 } do
            assert.truthy(refused(json.encode, 1, options).message:find("json.encode: ", 1, true))
        end
    end)

    it("never looks behind a metatable", function()
        local v = setmetatable({ 1 }, { __index = error, __len = error, __pairs = error, __tostring = error })
        assert.equal("[1]", json.encode(v))
    end)

    it("writes everything it can read, however deep", function()
        local text = ("["):rep(2000) .. ("]"):rep(2000)
        assert.equal(text, json.encode(json.decode(text)))
        local lines = json.encode(json.decode(text), { indent = 1 })
        assert.equal(text, json.encode(json.decode(lines)))
    end)

    local function proc(name)
        local f <close> = assert(io.open("/proc/self/" .. name))
        return f:read "a"
    end

    -- AddressSanitizer keeps freed memory for a while; its LeakSanitizer looks for the same mistake.
    local sanitized = proc "maps":find "libasan" or proc "maps":find "\n0*7fff7000%-"
    local check = sanitized and pending or it
    check("leaves no memory behind when it refuses", function()
        local big = { ("x"):rep(1024 * 1024), "\xFF" }
        local bad = "[" .. ("[1,2],"):rep(50000) .. "x]"
        local function round()
            pcall(json.encode, big)
            pcall(json.decode, bad)
            collectgarbage()
        end
        for _ = 1, 5 do round() end
        local before = resident()
        for _ = 1, 50 do round() end
        assert.is_true(resident() - before < 16 * 1024 * 1024)
    end)
end)

describe("json.array and json.object", function()
    it("mark the table they get and return it", function()
        local t = {}
        assert.equal(t, json.array(t))
        assert.is_true(json.is_array(t))
        assert.equal(t, json.object(t))
        assert.is_false(json.is_array(t))
        assert.equal(t, json.array(t))
        assert.equal("[]", json.encode(t))
    end)

    it("refuse what cannot be marked", function()
        assert.truthy(refused(json.array, 5).message:find("json.array: expected a table, got number", 1, true))
        local problem <const> = refused(json.object, setmetatable({}, {}))
        assert.truthy(problem.message:find("the table has a metatable already", 1, true))
    end)
end)

describe("a value that goes through JSON and back", function()
    local function text(n)
        local codes = {}
        for i = 1, n do
            local pick = math.random(5)
            codes[i] = pick == 1 and math.random(0, 31) or pick == 2 and math.random(0xE000, 0x10FFFF)
                or math.random(32, 0x7FF)
        end
        return utf8.char(table.unpack(codes))
    end

    local function float()
        while true do
            local x = string.unpack("d", string.pack("i8", math.random(math.mininteger, math.maxinteger)))
            if x == x and x ~= math.huge and x ~= -math.huge then
                return x
            end
        end
    end

    local function value(depth)
        local pick = math.random(depth > 0 and 9 or 6)
        if pick == 1 then
            return math.random(0) >> math.random(0, 63)
        elseif pick == 2 then
            return float()
        elseif pick == 3 then
            return json.null
        elseif pick == 4 then
            return math.random(2) == 1
        elseif pick <= 6 then
            return text(math.random(0, 12))
        end
        local t = pick == 7 and json.array() or {}
        for i = 1, math.random(0, 6) do
            t[pick == 7 and i or (text(math.random(0, 6)):gsub("%z", ""))] = value(depth - 1)
        end
        return t
    end

    local function same(a, b)
        if type(a) ~= "table" or type(b) ~= "table" then
            return a == b and math.type(a) == math.type(b)
        end
        if json.is_array(a) ~= json.is_array(b) then
            return false
        end
        for k, v in pairs(a) do
            if not same(v, b[k]) then
                return false
            end
        end
        for k in pairs(b) do
            if a[k] == nil then
                return false
            end
        end
        return true
    end

    it("is the same value", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        for round = 1, 2000 do
            local v = value(5)
            local options = { indent = math.random(0, 3), sort_keys = math.random(2) == 1 }
            local where = ("seed %d, round %d"):format(seed, round)
            assert.is_true(same(v, json.decode(json.encode(v, options))), where)
        end
    end)

    it("never fails in another way than with its own error, whatever the bytes", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local pieces = { "[", "]", "{", "}", ",", ":", '"', "\\", "u", "d800", "1", "-", ".", "e", "true", "null", " ",
            "\n", "\0", "\xFF", "ä" }
        for round = 1, 20000 do
            local parts = {}
            for i = 1, math.random(0, 16) do
                parts[i] = pieces[math.random(#pieces)]
            end
            local ok, e = pcall(json.decode, table.concat(parts))
            assert.is_true(ok or errors.is(e, "usage"), ("seed %d, round %d: %s"):format(seed, round, tostring(e)))
        end
    end)
end)
