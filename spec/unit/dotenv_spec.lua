local dotenv = require "dbrun.dotenv"
local errors = require "dbrun.error"

local function values(text)
    return dotenv.parse(text).values
end

local function refused(text, name)
    local ok, e = pcall(dotenv.parse, text, name)
    assert.is_false(ok, "this should have been refused")
    assert.is_true(errors.is(e, "config"), tostring(e))
    return e
end

describe("a .env file", function()
    local accepted = {
        { "a plain value", "A=b", "b" },
        { "an empty value", "A=", "" },
        { "an empty quoted value", "A=''", "" },
        { "export", "export A=b", "b" },
        { "export with several spaces", "  export \t A=b", "b" },
        { "spaces around the equals sign and at the end", "  A =  b  ", "b" },
        { "spaces inside a value", "A=b  c", "b  c" },
        { "a comment behind a value", "A=b # c", "b" },
        { "a hash inside a value", "A=b#c", "b#c" },
        { "a hash at the begin of a value", "A=#c", "#c" },
        { "a comment instead of a value", "A= # c", "" },
        { "an equals sign in a value", "A=b=c==", "b=c==" },
        { "quotes inside a value", [[A=it's "so"]], [[it's "so"]] },
        { "a backslash in a plain value", [[A=a\nb\]], [[a\nb\]] },
        { "a dollar sign, which is not expanded", "A=$HOME ${HOME} $(id) `id`", "$HOME ${HOME} $(id) `id`" },
        { "single quotes: everything is literal", [[A='$a \n "b" # c']], [[$a \n "b" # c]] },
        { "single quotes: a backslash at the end", [[A='a\']], [[a\]] },
        { "double quotes: escapes", [[A="a\nb\tc\"d\\e\$f\`g\r"]], 'a\nb\tc"d\\e$f`g\r' },
        { "double quotes: other backslashes are characters", [[A="C:\dir\x"]], [[C:\dir\x]] },
        { "double quotes: a hash and single quotes", [[A="a # 'b'"]], [[a # 'b']] },
        { "spaces inside quotes", "A='  b '", "  b " },
        { "a comment behind quotes", "A='b' # c", "b" },
        { "a comment right behind quotes", "A='b'#c", "b" },
        { "white space behind quotes", "A='b' \t", "b" },
        { "a quoted value over several lines", "A='b\nc'\nB=d", "b\nc" },
        { "CRLF", "A=b\r\nB=c\r\n", "b" },
        { "CRLF behind quotes", "A='b'\r\nB=c\r\n", "b" },
        { "CRLF inside quotes becomes a line feed", 'A="b\r\nc"\r\n', "b\nc" },
        { "a byte order mark", "\xEF\xBB\xBFA=b", "b" },
        { "blank lines and comments", "\n  \n# A=x\n\t# y\r\n\r\nA=b\n\n", "b" },
        { "no line feed at the end", "B=c\nA=b", "b" },
        { "UTF-8", "A=pä\u{10348}", "pä\u{10348}" },
        { "a tab inside a value", "A=b\tc", "b\tc" },
        { "every awkward character in a password", [[A=@/:%#'\ `x]], [[@/:%#'\ `x]] },
        { "the last of two definitions", "A=a\nA=b", "b" },
    }
    for _, case in ipairs(accepted) do
        it("accepts " .. case[1], function()
            assert.equal(case[3], values(case[2]).A)
        end)
    end

    it("accepts names with digits, underscores, dots and dashes, and export as a name", function()
        local v = values("_a1=1\nA.B-C=2\nexport=3\nexport =4\nEXPORT_X=5")
        assert.same({ _a1 = "1", ["A.B-C"] = "2", export = "4", EXPORT_X = "5" }, v)
    end)

    it("can be empty", function()
        for _, text in ipairs { "", "\n", "\xEF\xBB\xBF", "# only a comment", "   " } do
            assert.is_nil(next(values(text)))
        end
    end)

    it("returns the line of each key, also after values of several lines", function()
        local parsed = dotenv.parse("# x\nA=1\n\nB='2\n3'\nC=4\r\nD=5")
        assert.same({ A = 2, B = 4, C = 6, D = 7 }, parsed.lines)
        assert.same({ "A", "B", "C", "D" }, parsed.order)
    end)

    it("returns the repeated keys", function()
        local parsed = dotenv.parse("A=1\nB=2\nA=3")
        assert.same({ { key = "A", line = 3, first = 1 } }, parsed.duplicates)
    end)

    it("returns the values that look as if an expansion was expected, except in single quotes", function()
        local parsed = dotenv.parse("A=${X}\nB=\"$(id)\"\nC='${X}'\nD=$X\nE=${1}")
        assert.same({ { key = "A", line = 1 }, { key = "B", line = 2 } }, parsed.expansions)
    end)

    local refusals = {
        { "a line without an equals sign", "A=1\nhunter2", 2, "expected KEY=VALUE" },
        { "export without a value", "export HUNTER2", 1, "expected KEY=VALUE" },
        { "a name with a space", "A=1\n\nMY hunter2=x", 3, "not a name" },
        { "a name that begins with a digit", "2hunter2=x", 1, "not a name" },
        { "an empty name", "=hunter2", 1, "not a name" },
        { "a name in quotes", "'A'=hunter2", 1, "not a name" },
        { "an open single quote", "A=1\nB='hunter2\nC=3\n", 2, "single quote that opens here is never closed" },
        { "an open double quote", 'A="hunter2\\"', 1, "double quote that opens here is never closed" },
        { "text behind a quote", "A='hunter2'hunter2", 1, "text after the closing quote" },
        { "a single quote inside single quotes", [[A='hunter2\'s']], 1, "text after the closing quote" },
        { "text behind a quote that began lines before", "A='hunter2\nb' hunter2", 2, "text after the closing quote" },
        { "a NUL byte", "A=1\nB=hunter2\0", 2, "NUL" },
        { "invalid UTF-8", "A=1\nB=2\nC=hunter2\xFF", 3, "not valid UTF-8" },
        { "UTF-8 of a surrogate", "A=hunter2\xED\xA0\x80", 1, "not valid UTF-8" },
        { "UTF-16", "\xFF\xFEA\0=\0", 1, "UTF-16" },
        { "a line of 1 MiB", "A=1\nB=" .. ("hunter2 "):rep(131072 - 8), 2, "longer than" },
        { "a line longer than 64 KiB", "B=" .. ("h"):rep(65536), 1, "longer than" },
        { "a quoted value longer than 64 KiB", "B='" .. ("hunter2\n"):rep(9000) .. "'", 1, "longer than" },
        { "a lone carriage return", "A=hunter2\rB=3", 1, "control character" },
        { "an escape character", "A=hunter2\27[0m", 1, "control character" },
    }
    for _, case in ipairs(refusals) do
        it("refuses " .. case[1] .. ", naming file and line but never the text", function()
            local e = refused(case[2], "conf/dev.env")
            assert.truthy(e.message:find("conf/dev.env line " .. case[3], 1, true), e.message)
            assert.truthy(e.message:find(case[4], 1, true), e.message)
            assert.is_nil(tostring(e):lower():find("hunter2", 1, true))
        end)
    end

    it("refuses more than 1 MiB", function()
        assert.truthy(refused(("A=b\n"):rep(300000)).message:find("larger than", 1, true))
    end)

    it("is called .env by default", function()
        assert.truthy(refused("x").message:find("^%.env line 1:"))
    end)

    it("keeps any value that a script quotes", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local alphabet = { "a", "Z", "0", " ", "\t", "'", '"', "\\", "#", "$", "{", "}", "`", "=", "\n", "ä", "%", "n" }
        for round = 1, 2000 do
            local parts = {}
            for i = 1, math.random(0, 12) do
                parts[i] = alphabet[math.random(#alphabet)]
            end
            local value = table.concat(parts)
            local double = '"' .. value:gsub('[\\"]', "\\%0") .. '"'
            local where = ("seed %d, round %d"):format(seed, round)
            assert.equal(value, values("A=" .. double .. " # x\nB=1").A, where)
            if not value:find "'" then
                assert.equal(value, values("A='" .. value .. "'\nB=1").A, where)
            end
        end
    end)

    it("never fails except with its own error, for any bytes", function()
        local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
        math.randomseed(seed)
        local pieces = { "A", "=", "'", '"', "\\", "#", "\n", "\r", " ", "\0", "\xFF", "ä", "export ", "$(", "1" }
        for round = 1, 5000 do
            local parts = {}
            for i = 1, math.random(0, 20) do
                parts[i] = pieces[math.random(#pieces)]
            end
            local ok, e = pcall(dotenv.parse, table.concat(parts))
            assert.is_true(ok or errors.is(e, "config"), ("seed %d, round %d: %s"):format(seed, round, tostring(e)))
        end
    end)

    it("is nil when the file does not exist", function()
        assert.is_nil(dotenv.read "/nonexistent/.env")
    end)

    it("cannot be a folder", function()
        local ok, e = pcall(dotenv.read, "/tmp")
        assert.is_false(ok)
        assert.is_true(errors.is(e, "config"))
        assert.truthy(e.message:find("/tmp", 1, true))
    end)

    it("is read from disk", function()
        local path = os.tmpname()
        local file = assert(io.open(path, "wb"))
        file:write "A=b\r\n"
        file:close()
        local parsed = dotenv.read(path)
        os.remove(path)
        assert.same({ A = "b" }, parsed.values)
        assert.equal(path, parsed.name)
    end)
end)
