-- The report about a failed statement: file, line, the place in it, the server's message.
local errors = require "dbrun.error"
local report = require "dbrun.migrate.show.report"

local function failed(fields, sql, line)
    fields.kind = fields.kind or "query"
    return report.failed(errors.new(fields), "db/1_x.sql", { sql = sql, line = line }, "Nothing was kept.")
end

describe("the failure of a migration's statement", function()
    it("names file, line, SQLSTATE and points at the place", function()
        local e = failed({ message = 'column "b" does not exist', sqlstate = "42703", position = 18 },
            "select a,\n       b\nfrom t", 7)
        assert.equal('db/1_x.sql:8: column "b" does not exist (SQLSTATE 42703)', e.message)
        assert.equal(8, e.line)
        assert.equal("db/1_x.sql", e.file)
        assert.equal("42703", e.sqlstate)
        assert.matches("\n     8 |        b\n       |        ^\n", e.text, 1, true)
        assert.matches("Nothing was kept.", e.text, 1, true)
    end)

    it("counts characters, not bytes, as the server does", function()
        local e = failed({ message = "x", position = 15 }, "select 'äöü', b", 1)
        assert.matches("     1 | select 'äöü', b\n       |               ^\n", e.text, 1, true)
    end)

    it("shows the statement's first line when the server names no position", function()
        local e = failed({
            message = "duplicate key", sqlstate = "23505", kind = "constraint", detail = "Key (id)=(1).",
        }, "insert into t\nvalues (1)", 4)
        assert.equal(4, e.line)
        assert.matches("     4 | insert into t\n", e.text, 1, true)
        assert.matches("detail: Key (id)=(1).", e.text, 1, true)
        assert.equal("constraint", e.kind)
    end)

    it("cuts a long line around the place", function()
        local e = failed({ message = "x", position = 500 }, ("a"):rep(499) .. "b" .. ("c"):rep(499), 1)
        local line, caret = e.text:match "\n([^\n]*)\n([^\n]*%^)\n"
        assert.is_true(#line < 130)
        assert.equal("b", line:sub(#caret, #caret))
    end)

    it("handles a position beyond the text, and text that is not UTF-8", function()
        assert.matches("^db/1_x%.sql:1: x", failed({ message = "x", position = 99 }, "select", 1).message)
        assert.matches("^db/1_x%.sql:1: x", failed({ message = "x", position = 9 }, "select '\xff\xfe'", 1).message)
    end)

    it("has a hint when the server gives none", function()
        assert.matches("lock%-timeout", failed({ message = "x", sqlstate = "55P03" }, "select", 1).hint)
        assert.matches("transaction:false", failed({ message = "x", sqlstate = "25001" }, "select", 1).hint)
        assert.equal("do this", failed({ message = "x", sqlstate = "55P03", hint = "do this" }, "select", 1).hint)
    end)
end)
