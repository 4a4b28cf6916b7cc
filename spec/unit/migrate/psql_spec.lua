-- Files for psql contain more than statements: rows below COPY, and psql's own commands.
local script = require "dbrun.migrate.read.script"
local split = require "dbrun.migrate.read.split"

describe("a text for psql", function()
    local function read(text, escapes)
        local statements, refused = script.read(text, 1, escapes)
        return statements, refused
    end

    ---"line: sql" of each statement, with its rows.
    local function shown(text, escapes)
        local statements, refused = read(text, escapes)
        assert.is_nil(refused, refused and refused.message)
        local list = {}
        for i, statement in ipairs(statements) do
            list[i] = ("%d: %s"):format(statement.line, statement.sql)
            if statement.data then
                list[i] = list[i] .. (" <%d: %s>"):format(statement.data.line, statement.data.text)
            end
        end
        return list
    end

    local function refused(text)
        local _, problem = read(text)
        assert.is_table(problem, "it was accepted")
        return problem
    end

    it("has rows below COPY ... FROM stdin, up to a line \\.", function()
        assert.same({ "1: copy t (a, b) from stdin <2: 1\tx;'\n/*\n>", "5: select 2" },
            shown "copy t (a, b) from stdin;\n1\tx;'\n/*\n\\.\nselect 2;\n")
        assert.same({ "1: COPY t FROM STDIN WITH (FORMAT csv) <2: >",
            "4: copy u from stdin <5: \\.x\n>", "7: select 1" },
            shown "COPY t FROM STDIN WITH (FORMAT csv); -- rows\n\\.\n\ncopy u from stdin;\n\\.x\n\\.\nselect 1")
        assert.same({ "1: copy /* from */ t\n from\n stdin <4: 1\r\n>" },
            shown "copy /* from */ t\n from\n stdin;\r\n1\r\n\\.\r\n")
        assert.same({ "1: copy t from stdin <2: 1\n>" }, shown "copy t from stdin;\n1\n\\.")
    end)

    it("has no rows below other statements with these words", function()
        for _, text in ipairs {
            "copy (select 1 from stdin) to '/x'", "copy stdin from 'x'", "select 1 from stdin",
            [[copy "t" from '\.stdin' -- from stdin]], "create table copy (a int default 1); select * from stdin",
            "create function f() returns int begin atomic select 1 from stdin; end",
        } do
            for _, line in ipairs(shown(text .. ";\nselect 2;")) do assert.is_nil(line:find "<") end
        end
    end)

    it("keeps the rows from a statement that is split elsewhere", function()
        local text = "set standard_conforming_strings = off;\nselect '\\'';\ncopy t from stdin;\n'\n\\.\nselect 3;"
        assert.same({ "1: set standard_conforming_strings = off", "2: select '\\''", "3: copy t from stdin <4: '\n>",
            "6: select 3" }, shown(text))
        local statements = read "select 1; copy t from stdin;\nx\n\\.\n"
        assert.equal("copy t from stdin", split.split("select 1; copy t from stdin;", 1)[2].sql)
        assert.equal("x\n", statements[2].data.text)
    end)

    it("without the end of the rows is refused with the line of the COPY", function()
        for _, text in ipairs { "select 1;\ncopy t from stdin;\n1\n", "select 1;\ncopy t from stdin;",
            "select 1;\ncopy t from stdin", "select 1;\ncopy t from stdin;\n1\n \\.\n" } do
            local problem = refused(text)
            assert.equal(2, problem.line)
            assert.matches("have no end", problem.message, 1, true)
        end
        assert.matches("more follows it", refused("copy t from stdin; select 1;\n1\n\\.\n").message, 1, true)
    end)

    it("has lines \\restrict and \\unrestrict, which are left out", function()
        assert.same({ "3: select '\\restrict'", "5: select 2" },
            shown "--\n\\restrict aBc; 'x\nselect '\\restrict';\n  \\unrestrict aBc\nselect 2;")
    end)

    it("is refused at any other command of psql, with its name and line", function()
        for name, text in pairs {
            ["\\connect"] = "select 1;\n\\connect other\nselect 2;", ["\\i"] = "\n\\i 'x.sql'",
            ["\\gset"] = "\nselect 1 \\gset",
            ["\\."] = "\n\\.\n", ["\\copy"] = "\n\\copy t from 'x'", ["\\set"] = "\n  \\set a 1\n\\set b 2",
            ["\\echo"] = "/* \\i */\n\\echo", ["\\;"] = "\nselect 1\\; select 2;",
            ["\\restrict"] = "\nselect \\restrict x",
            ["\\if"] = "--\n\\if true",
        } do
            local problem = refused(text)
            assert.equal(name .. " is a command of psql, not a statement", problem.message)
            assert.equal(2, problem.line)
            assert.is_string(problem.hint)
        end
    end)

    it("can have backslashes in strings, quotes and comments", function()
        local text = [[select '\i', E'\'\i', "\i", $$\i$$, $a$\i$a$, U&'\0041' /* \i */ -- \i]]
        assert.equal(1, #shown(text))
    end)

    it("with a psql command and an open string or comment is refused at the earlier of both", function()
        assert.equal(2, refused("select 1;\n/* \\i\n").line)
        assert.equal(1, refused("\\i x\nselect 'a").line)
    end)
end)
