--- Values that a server must not send: malformed, of another form than their type, or small but made to take much
--- memory or time. Each is an error that names the column and says that the statement has run.
local errors = require "dbrun.error"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local wire = require "spec.support.pg_message"

local raised = pg.raised

--- A binary array of int4 of these sizes, followed by zeros.
local function array_of(sizes, bytes)
    local head = string.pack(">i4i4I4", #sizes, 0, 23)
    for _, n in ipairs(sizes) do
        head = head .. string.pack(">i4i4", n, 1)
    end
    return head .. ("\0"):rep(bytes)
end

pg.on_both(describe, function(_, open)
    local function engine_on(...)
        local peer = fake.say { wire.hello, ... }
        local e = open { url = wire.url(peer), size = 1, command_timeout = 5, connect_timeout = 5, statement_cache = 0 }
        return setmetatable({}, { __close = function() e:close() peer:close() end }), e
    end

    local function check(problem, name, number)
        assert.is_true(errors.is(problem, "protocol"), tostring(problem))
        assert.equal("unknown", problem.outcome)
        assert.equal(name, problem.column)
        assert.equal(number, problem.column_number)
        assert.matches("statement has run", problem.context)
        assert.truthy(tostring(problem):find(("column %d (\"%s\")"):format(number, name), 1, true), tostring(problem))
    end

    local malformed = {
        { "bool", 16, "yes" }, { "bool", 16, "\2\2", true }, { "int2", 21, "7x" }, { "int4", 23, "" },
        { "int4", 23, "abc", true }, { "int8", 20, "99999999999999999999" }, { "bytea", 17, "\\x0" },
        { "bytea", 17, "\\xzz" }, { "time", 1083, ("\255"):rep(8), true }, { "json", 114, "{" },
        { "jsonb", 3802, "\2{}", true }, { "numeric", 1700, "\0\0\0\0", true }, { "int4[]", 1007, "{1,2" },
        { "int4[]", 1007, "{1,2}3" }, { "int4[]", 1007, array_of({ 2 }, 4), true },
        { "int4[]", 1007, array_of({ 1 }, 9), true }, { "int4[]", 1007, array_of({ -1 }, 4), true },
        { "int4[]", 1007, array_of({ 1000, 1000, 1000, 1000, 1000, 0 }, 4000), true },
        { "int4[]", 1007, array_of({ 1000, 1, 1 }, 400), true },
        { "int4[]", 1007, array_of({ 65536, 65536, 65536, 65536 }, 4000), true },
        { "int4range", 3904, "[1,2" }, { "int4range", 3904, "[1,2)x" },
    }
    for i, case in ipairs(malformed) do
        it(("a malformed %s is an error of its column, %d"):format(case[1], i), function()
            local columns = { { "ok", 25, binary = case[4] }, { "wrong", case[2], binary = case[4] } }
            local reply = wire.answer(columns, { "fine", case[3] })
            local _ <close>, e = engine_on(reply, reply, reply, wire.answer({ { "wrong", case[2], binary = case[4] } },
                { case[3] }), wire.answer({ { "n", 25 } }, { "still here" }))
            for _, method in ipairs { "query", "one", "columns" } do
                check(raised(e[method], e, "select x"), "wrong", 2)
            end
            check(raised(e.value, e, "select x"), "wrong", 1)
            assert.equal("still here", e:value "select x")
        end)
    end

    it("a malformed value in rows, a pipeline and copy_out is an error of its column, too", function()
        local columns = { { "ok", 25 }, { "wrong", 23 } }
        local described = wire.parsed .. wire.message("t", "\0\0") .. wire.columns(columns) .. wire.ready
        do
            local _ <close>, e = engine_on(described, wire.answer(columns, { "a", "1" }, { "b", "x" }))
            local seen = 0
            check(raised(function()
                for row in e:rows "select x" do
                    seen = seen + row.wrong
                end
            end), "wrong", 2)
            assert.equal(1, seen)
        end
        do
            local _ <close>, e = engine_on(wire.answer(columns, { "a", "x" }))
            check(raised(e.pipeline, e, function(p) p:query "select x" end), "wrong", 2)
        end
        do
            local _ <close>, e = engine_on(described, wire.copy_out .. wire.message("d", "a\t1\n")
                .. wire.message("d", "b\tx\n") .. wire.message("c", "") .. wire.complete "COPY 2" .. wire.ready)
            local seen = 0
            check(raised(function()
                for row in e:copy_out("select x", { format = "text" }) do
                    seen = seen + row.wrong
                end
            end), "wrong", 2)
            assert.equal(1, seen)
        end
    end)

    it("a result of the catalog without the requested columns is an error", function()
        local reply = wire.answer({ { "x", 99999 } }, { "x" })
        for _, answer in ipairs {
            wire.answer({ { "oid", 26 }, { "typname", 19 } }, { "99999", "x" }),
            wire.answer({ { "oid", 26 } }),
            wire.parsed .. wire.bound .. wire.no_data .. wire.complete "SELECT 1" .. wire.ready,
            wire.parsed .. wire.bound .. wire.empty .. wire.ready,
        } do
            local _ <close>, e = engine_on(reply, answer, reply, answer)
            local problem = raised(e.query, e, "select x")
            assert.is_true(errors.is(problem, "protocol"), tostring(problem))
            assert.equal("unknown", problem.outcome)
            assert.matches("statement has run", problem.context)
            problem = raised(e.pipeline, e, function(p) p:query "select x" end)
            assert.is_true(errors.is(problem, "protocol"), tostring(problem))
            assert.equal("unknown", problem.outcome)
        end
        local described = wire.parsed .. wire.message("t", "\0\0") .. wire.columns { { "x", 99999 } } .. wire.ready
        local _ <close>, e = engine_on(described, wire.answer({ { "oid", 26 } }, { "99999" }))
        local problem = raised(e.rows, e, "select x")
        assert.is_true(errors.is(problem, "protocol"), tostring(problem))
        assert.equal("not_sent", problem.outcome)
    end)

    it("a composite value that is too short for its fields is an error", function()
        local names = { "oid", "typname", "typtype", "typcategory", "typelem", "typbasetype", "range", "typdelim",
            "attname", "atttypid" }
        local columns, rows = {}, {}
        for i, name in ipairs(names) do columns[i] = { name, 25 } end
        for i = 1, 400 do
            rows[i] = { "99999", "wide", "c", "C", "0", "0", false, ",", "f" .. i, "23" }
        end
        local values = {}
        for i = 1, 1000 do values[i] = { "()" } end
        local _ <close>, e = engine_on(wire.answer({ { "x", 99999 } }, table.unpack(values)),
            wire.answer(columns, table.unpack(rows)))
        check(raised(e.query, e, "select x"), "x", 1)
    end)

    it("JSON that Lua cannot hold is an error of its column with a hint", function()
        local e <close> = open { size = 1 }
        for _ = 1, 3 do
            local problem = raised(e.query, e, "select 1 as ok, '1e999'::json as big")
            assert.is_true(errors.is(problem, "usage"), tostring(problem))
            assert.equal("big", problem.column)
            assert.equal("unknown", problem.outcome)
            assert.matches("column::text", problem.hint)
        end
    end)
end)
