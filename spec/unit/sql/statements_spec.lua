-- SQL that is split into statements while it is read: the same statements for any pieces of the text.
local statements = require "dbrun.sql.statements"
local stream = require "dbrun.sql.stream"

---The results of a reader for a text in these pieces: a list of lines.
local function read(pieces, options)
    local reader, out, i = statements.new(options), {}, 0
    local function more()
        i = i + 1
        if pieces[i] then reader:feed(pieces[i]) elseif i == #pieces + 1 then reader:finish() else return false end
        return true
    end
    while true do
        local found = reader:next()
        if not found then
            if not more() then return out end
        elseif found.command then
            out[#out + 1] = ("%d \\%s[%s]%s"):format(found.line, found.command, found.rest,
                found.inside and " in" or "")
        else
            out[#out + 1] = ("%d %s%s"):format(found.line, found.sql, found.ended and ";" or "")
            if stream.of(found.sql) == "in" then
                local rows = {}
                repeat
                    local piece = reader:data()
                    if piece then rows[#rows + 1] = piece end
                until piece == false or piece == nil and not more()
                out[#out + 1] = "rows " .. table.concat(rows)
            end
        end
    end
end

local CASES <const> = {
    { "select 1; select\n2;\n", "1 select 1;", "1 select\n2;" },
    { "select 1", "1 select 1" },
    { "\n-- a; b\n/* c; /* d; */ ; */ select 1 ;;; ;\n", "3 select 1;" },
    { "select ';', E'\\';', U&'\\;', $$;$$, $a$;$$;$a$, \";\", \"a\"\";\";x", "1 select ';', E'\\';', U&'\\;', $$;$$, "
        .. "$a$;$$;$a$, \";\", \"a\"\";\";", "1 x" },
    { "select E'a'\n  'b\\';'\n; 2", "1 select E'a'\n  'b\\';';", "3 2" },
    { "select 'a\\'; select 2", "1 select 'a\\';", "1 select 2" },
    { "create rule r as on insert to t do (select 1; select 2); 3", "1 create rule r as on insert to t do (select 1; "
        .. "select 2);", "1 3" },
    { "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; 2",
        "1 create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end;",
        "1 2" },
    { "begin; commit;\nend;", "1 begin;", "1 commit;", "2 end;" },
    { "\n\\d t -- x\nselect 1 \\g\n;", "2 \\d[t -- x]", "3 \\g[] in", "3 select 1;" },
    { "\\dt+ a\\.b\r\nselect '\\d'", "1 \\dt+[a\\.b]", "2 select '\\d'" },
    { "copy t from stdin;\n1\\.\n\\\\.\n\n\\.\nselect 2;", "1 copy t from stdin;", "rows 1\\.\n\\\\.\n\n",
        "6 select 2;" },
    { "copy t from stdin; -- now\r\n1\r\n\\.\r\nselect 2", "1 copy t from stdin;", "rows 1\r\n", "4 select 2" },
    { "copy t from stdin;\n1\n2", "1 copy t from stdin;", "rows 1\n2" },
    { "copy t from stdin;\n\\.", "1 copy t from stdin;", "rows " },
    { "copy t from stdin", "1 copy t from stdin", "rows " },
    { "copy t from stdin; select 1;\nr\n\\.\nselect 2;", "1 copy t from stdin;", "rows r\n", "1 select 1;",
        "4 select 2;" },
    { "select a[1;2]; x", "1 select a[1;", "1 2];", "1 x" },
    { "select 'open; ", "1 select 'open;" },
    { "delete from t /* where; ", "1 delete from t /* where;" },
    { "select $a", "1 select $a" },
    { "", }, { " ; ;\n-- nothing" }, { "select /* a */ 1 -- b\n; -- c", "1 select /* a */ 1 -- b;" },
}

describe("statements", function()
    it("end at semicolons outside of quotes and comments, and have their line", function()
        for _, case in ipairs(CASES) do
            assert.same({ table.unpack(case, 2) }, read { case[1] }, case[1])
        end
    end)

    it("are the same for a text in any pieces", function()
        local seed = math.tointeger(tonumber(os.getenv "DBRUN_TEST_SEED")) or os.time()
        math.randomseed(seed)
        for _, case in ipairs(CASES) do
            local text = case[1]
            local bytes = {}
            for i = 1, #text do bytes[i] = text:sub(i, i) end
            assert.same({ table.unpack(case, 2) }, read(bytes), text)
            for _ = 1, 5 do
                local pieces, at = {}, 1
                while at <= #text do
                    local n = math.random(1, 7)
                    pieces[#pieces + 1], at = text:sub(at, at + n - 1), at + n
                end
                assert.same({ table.unpack(case, 2) }, read(pieces), ("seed %d: %s"):format(seed, text))
            end
        end
    end)

    it("are returned as soon as their semicolon is read", function()
        local reader = statements.new()
        reader:feed "select 1"
        assert.is_nil(reader:next())
        assert.is_true(reader:is_open())
        assert.equal("select 1", reader:text())
        reader:feed "\nfrom t;"
        assert.same({ sql = "select 1\nfrom t", line = 1, ended = true }, reader:next())
        assert.is_false(reader:is_open())
        reader:feed "\nselect 'half"
        assert.is_nil(reader:next())
        reader:drop()
        assert.is_false(reader:is_open())
        reader:feed "\nselect 2;"
        assert.same({ sql = "select 2", line = 4, ended = true }, reader:next())
    end)

    it("have plain strings read as by the server, statement by statement", function()
        local texts = { "set x = off;select 'a\\';b';", "set x = on;select 'a\\';" }
        local reader = statements.new { read = function() return table.remove(texts, 1) end }
        local found = { reader:next().sql }
        reader.escapes = true
        for i = 2, 3 do found[i] = reader:next().sql end
        reader.escapes = false
        found[4] = reader:next().sql
        assert.same({ "set x = off", "select 'a\\';b'", "set x = on", "select 'a\\'" }, found)
    end)

    it("include a comment that is never closed, which can hide statements", function()
        for text, expected in pairs {
            ["select 1;\n/* a /* b */ ;\nselect 2;"] = { "select 1", "/* a /* b */ ;\nselect 2;" },
            ["/* a"] = { "/* a" }, ["select 1; -- a"] = { "select 1" }, ["select 1; /* a */"] = { "select 1" },
            ["select 1; -- /* a"] = { "select 1" },
        } do
            local found <const>, reader <const> = {}, statements.new()
            reader:feed(text)
            reader:finish()
            for statement in function() return reader:next() end do found[#found + 1] = statement.sql end
            assert.same(expected, found, text)
        end
    end)

    it("can have many lines without being scanned again for each", function()
        local n, i = 200000, 0
        local reader = statements.new { read = function()
            i = i + 1
            if i == 1 then return "insert into t values\n" end
            return i <= n and ("(%d, 'row; %d'),\n"):format(i, i) or i == n + 1 and "(0, '');" or nil
        end }
        local started = os.clock()
        local found = reader:next()
        assert.equal(1, found.line)
        assert.is_true(#found.sql > 4000000)
        assert.is_true(os.clock() - started < 10, "it took " .. os.clock() - started)
        assert.is_nil(reader:next())
    end)

    it("say which COPY uses the connection", function()
        for sql, expected in pairs {
            ["copy t from stdin"] = "in", ["COPY t (a, b) FROM STDIN WITH (FORMAT csv)"] = "in",
            ["copy (select 1 from stdin) to stdout"] = "out", ["/* a */ copy t to stdout"] = "out",
            ["copy t from '/stdin'"] = false, ["select 1 from stdin"] = false, ["copy t to program 'x'"] = false,
            ["copy t from stdout"] = "in", ["copy t to stdin"] = "out", -- the server accepts either word
            ["copy \"from\" to '/x'"] = false, [""] = false, ["(copy t from stdin)"] = false,
        } do
            assert.equal(expected or nil, stream.of(sql), sql)
        end
    end)

    it("say in what format a COPY has its rows", function()
        for sql, expected in pairs {
            ["copy t from stdin"] = { false }, ["copy t (csv, quote) from stdin"] = { false },
            ["copy t from stdin where csv = quote"] = { false }, ["copy t from stdout csv"] = { true },
            ["copy t from stdin (header, format text)"] = { false },
            ["copy t from stdin with csv"] = { true }, ["COPY t FROM STDIN (FORMAT 'csv', QUOTE '''')"] = { true, "'" },
            ["copy t from stdin (format \"csv\", force_null (quote), escape '~')"] = { true, nil, "~" },
            ["copy t from stdin csv quote as '|' escape '~'"] = { true, "|", "~" },
            ["copy t from stdin (format csv, quote E'\\x01')"] = {}, ["copy t from stdin (format E'csv')"] = {},
            ["copy t from stdin (format binary)"] = {}, ["copy t from stdin binary"] = {},
            ["copy binary t from stdin"] = {}, ["copy t (\"binary\") from stdin"] = { false },
            ["copy t from stdin (encoding 'UTF8')"] = { false }, ["copy t from stdin encoding 'shift_jis_2004'"] = {},
            ["copy t from stdin (encoding 'sjis', format csv)"] = { true },
            ["copy t from stdin (encoding gb18030, format csv, quote '0')"] = {},
        } do
            assert.same(expected, { stream.form(sql) }, sql)
        end
    end)
end)
