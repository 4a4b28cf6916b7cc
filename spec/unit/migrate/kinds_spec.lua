-- Every kind of statement goes through lint and plan.
local fs = require "dbrun.fs"
local kinds = require "spec.support.migrate.kinds"
local migrate = require "dbrun.migrate"
local plan = require "dbrun.migrate.show.plan"
local tree = require "dbrun.sql.tree"

describe("a statement", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function lint(sql, down)
        fs.write(dir .. "/1_x.sql", ("-- migrate:up\n%s;\n-- migrate:down\n%s;\n"):format(sql, down or sql))
        local found = {}
        for _, finding in ipairs(migrate.lint { dirs = { dir } }) do found[finding.rule] = finding end
        return found
    end

    it("of every kind goes through lint and plan", function()
        for kind, statements in pairs(kinds) do
            for _, sql in ipairs(statements) do
                assert.equal(kind, (tree.of(sql)), sql)
                assert.is_table(plan.locks(sql, {}), sql)
                assert.is_nil(lint(sql)["not-looked-at"], sql)
            end
        end
    end)

    it("that the parser does not know goes through lint and plan, too", function()
        for _, sql in ipairs { "craete table t ()", "select json_table(", "alter table t", ")", "\u{feff}select 1",
            "select '\xff\xfe' from \xe4",
            "create table t as select * from json_table('[]', '$[*]' columns (a int))" } do
            lint(sql)
            plan.locks(sql, {})
        end
    end)

    it("with a name that the parser cuts inside a character is read", function()
        local name = ("a"):rep(62) .. "\u{e4}"
        assert.equal("CreateStmt", (tree.of("create table " .. name .. " ()")))
        assert.is_nil(lint("create table " .. name .. " ()")["not-looked-at"])
    end)

    it("that is nested too deeply is reported, and does not end the program", function()
        for _, sql in ipairs { "select " .. ("(select "):rep(2000) .. "1" .. (")"):rep(2000),
            "select 1" .. ("+1"):rep(90000) } do
            assert.is_nil((tree.of(sql)))
            assert.matches("nested too deeply", lint(sql, "select 1")["not-looked-at"].message)
            assert.is_nil(plan.locks(sql, {}))
        end
        local rows = {}
        for i = 1, 20000 do rows[i] = "(1, 'x')" end
        assert.equal("InsertStmt", (tree.of("insert into t values " .. table.concat(rows, ", "))))
    end)
end)
