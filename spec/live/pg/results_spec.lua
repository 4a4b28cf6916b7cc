--- Rows and results: printing, JSON, reading by position or as text, use as parameters.

local core = require "dbrun.core"
local csv = require "dbrun.csv"
local db = require "dbrun.db"
local json = require "dbrun.json"
local pg = require "spec.support.pg"
local tables = require "dbrun.table"

local raised = pg.raised

pg.on_both(describe, function(_, open)
    describe("rows and results", function()
        it("are printed, and stay plain tables", function()
            local e <close> = open()
            local r = e:query "select 7 as id, 'Ada' as name, null::date as born"
            assert.equal('{id = 7, name = "Ada", born = NULL}', tostring(r[1]))
            assert.equal(" id | name | born\n----+------+------\n  7 | Ada  | NULL\n(1 row)", tostring(r))
            assert.same({ id = 7, name = "Ada" }, r[1])
            local meta = getmetatable(r)
            assert.equal(meta, getmetatable(r[1]))
            local keys = {}
            for key in pairs(meta) do keys[#keys + 1] = key end
            table.sort(keys)
            assert.same({ "__tostring", "columns" }, keys)
            local Class = {}
            assert.equal(Class, getmetatable(setmetatable(r[1], Class)))
        end)

        it("of every source are the same", function()
            local e <close> = open()
            local sql <const>, seen = "select 2 as b, null as a", { e:one "select 2 as b, null as a" }
            for row in e:rows(sql) do seen[#seen + 1] = row end
            for row in e:copy_out(sql) do seen[#seen + 1] = row end
            e:transaction(function(tx) for row in tx:cursor(sql) do seen[#seen + 1] = row end end)
            seen[#seen + 1] = e:pipeline(function(p) p:query(sql) end)[1][1]
            local session <close> = e:session()
            seen[#seen + 1] = session:one(sql)
            assert.equal(6, #seen)
            for _, row in ipairs(seen) do
                assert.equal("{b = 2, a = NULL}", tostring(row))
                assert.equal('{"b":2,"a":null}', json.encode(row, { nulls = true }))
            end
        end)

        it("are printed up to a limit, and say what is left out", function()
            local e <close> = open()
            local text = tostring(e:query "select g, repeat('x', 100) as s from generate_series(1, 100) g")
            assert.matches("%(100 rows, the first 60 shown; 60 cells cut at 60 columns%)$", text)
            assert.equal([[{a = "x\x1b[2J\n\""}]], tostring(e:one [[select E'x\x1b[2J\n"' as a]]))
            local long = tostring(e:one "select repeat('y', 100000) as a, array(select generate_series(1, 999)) as b")
            assert.is_true(#long < 400)
            assert.matches("%(100000 bytes%)", long)
                assert.matches("979 more", long)
            assert.matches("equal names", tostring(e:query "select 1 as id, 2 as id"))
        end)

        it("of statements without columns are printed as the command", function()
            local e <close> = open()
            local c <close> = e:acquire()
            assert.equal("CREATE TABLE", tostring(c:query "create temp table shown (a int)"))
            assert.equal("INSERT: 2 rows affected", tostring(c:query "insert into shown values (1), (2)"))
        end)

        it("can be printed after any change by the script", function()
            local e <close> = open()
            local r = e:query "select 1 as a"
            r[1].self, r[1][1] = r, 5
            assert.equal("string", type(tostring(r)))
            r.columns, r.command = nil, nil
            assert.equal("string", type(tostring(r)))
            r[2] = "x"
            assert.equal("string", type(tostring(r)))
            getmetatable(r).columns = 5
            assert.equal("string", type(tostring(r)))
            assert.equal("string", type(tostring(r[1])))
            assert.matches("^table", getmetatable(r).__tostring {})
        end)

        it("say that keys are left out only when some are", function()
            local e <close> = open()
            local columns <const> = {}
            for i = 1, 1664 do columns[i] = i .. " as c" .. i end
            local r <const> = e:query("select " .. table.concat(columns, ","))
            assert.matches("c1664 = 1664}$", tostring(r[1]))
            assert.matches("\n%(1 row%)$", tostring(r))
            for i = 1, 1001 do r[1]["k" .. i] = i end
            assert.matches(", %.%.%.}$", tostring(r[1]))
            assert.matches("\n%(1 row; keys left out%)$", tostring(r))
        end)

        it("are printed by dbrun.table with values that the script has added, and no value twice", function()
            local e <close> = open()
            local function text(v, opts) return table.concat(tables.lines(v, opts), "\n") end
            local r <const> = e:query "select 2 as z, 1 as a union all select 3, null"
            r[2].sum = 4
            assert.equal("z,a,sum\n2,1,\n3,,4", text(r, { format = "csv" }))
            assert.equal("sum,z\n,2\n4,3", text(r, { format = "csv", columns = { "sum", "z" } }))
            assert.equal('{"z":2,"a":1,"sum":null}\n{"z":3,"a":null,"sum":4}', text(r, { format = "jsonl" }))
            assert.equal("did you mean 'sum'?", raised(text, r, { columns = { "sun" } }).hint)
            local n = 0
            assert.matches("row 1001 has a column 'late'", raised(text, function()
                n = n + 1
                r[1].late = n > 1000 and 1 or nil
                return n < 1005 and r[1] or nil
            end).message)

            local join <const> = "select 1 as id, 5 as n, 2 as id"
            r[1] = e:one(join)
            assert.equal(" id | n\n----+---\n  2 | 5\n"
                .. "(1 column of equal names not in the rows: read them with { positional = true })", text(r[1]))
            for _, format in ipairs { "csv", "tsv", "json", "jsonl" } do
                assert.matches("1 column of equal names not in the rows",
                    raised(text, e:query(join), { format = format }).message)
            end
            local positional <const> = e:query({ positional = true }, join)
            assert.equal("id,n,id\n1,5,2", text(positional, { format = "csv" }))
            assert.equal('{"id":1,"n":5,"id_2":2}', text(positional, { format = "jsonl" }))
            assert.equal("id,n,id", text(e:query({ positional = true }, join .. " where false"), { format = "csv" }))
        end)

        it("are written by csv.writer as COPY writes them, including bytes", function()
            local e <close> = open()
            local out <const> = {}
            local w <const> = csv.writer({ write = function(_, text) out[#out + 1] = text return true end },
                { columns = { "a", "b" }, header = false })
            local sql <const> = "select '\\xff0a'::bytea as a, 'x' as b"
            w:write(e:one(sql))
            w:write(e:one({ positional = true }, "select 'x', '\\xff'::bytea"))
            w:write { a = "\n" }
            assert.equal('\\xff0a,x\nx,\\xff\n"\n",\n', table.concat(out))
        end)

        it("become JSON in the order of the columns", function()
            local e <close> = open()
            local r = e:query "select 1 as z, 'q' as a, null as m, 2 as z union all select 5, 'w', 1, 6"
            assert.equal('[{"z":2,"a":"q"},{"z":6,"a":"w","m":1}]', json.encode(r))
            assert.equal('{"a":"q","m":null,"z":2}', json.encode(r[1], { nulls = true, sort_keys = true }))
            r[1].y, r[1].b, r[1].a = 1, 2, nil
            assert.equal('{"z":2,"b":2,"y":1}', json.encode(r[1]))
            table.remove(r, 1)
            assert.equal('[{"z":6,"a":"w","m":1}]', json.encode(r))
            assert.equal(r, json.array(r))
            assert.is_true(json.is_array(r))
            assert.same({ z = 6, a = "w", m = 1 }, json.decode(json.encode(json.object(r[1]))))
            local row <const> = e:one "select 2 as b, 1 as a, null as c"
            assert.equal(row, json.object(row))
            assert.equal("{b = 2, a = 1, c = NULL}", tostring(row))
            assert.equal('{"b":2,"a":1,"c":null}', json.encode(row, { nulls = true }))
            row[7] = "x"
            assert.equal('{"7":"x","a":1,"b":2}', json.encode(json.object(row), { sort_keys = true }))
            assert.equal("[]", json.encode(e:query "select 1 where false"))
            r[3] = {}
            assert.matches("not a sequence", raised(json.encode, r).message)
        end)
    end)

    describe("options before the SQL", function()
        it("read by position and as text, for any state of the statement cache", function()
            local e <close> = open()
            local sql <const> = "select 1::int8 as id, true as ok, null as n, 2 as id, 1.50::numeric where $1 = 1"
            local plain = { id = 2, ok = true, numeric = "1.50" }
            local forms = {
                { plain, sql }, { { 1, true, db.null, 2, "1.50" }, { positional = true }, sql },
                { { id = "2", ok = "t", numeric = "1.50" }, { text = true }, sql },
                { { "1", "t", db.null, "2", "1.50" }, { positional = true, text = true }, sql },
            }
            for i = 1, 24 do
                local form = forms[(i * 7 + i // 4) % 4 + 1]
                local call = { table.unpack(form, 2) }
                call[#call + 1] = 1
                assert.same(form[1], e:one(table.unpack(call)))
                local r = e:query(table.unpack(call))
                assert.same(form[1], r[1])
                assert.equal(5, #r.columns)
                for row in e:rows(table.unpack(call)) do assert.same(form[1], row) end
            end
            assert.equal("t", e:value({ text = true }, "select true"))
        end)

        it("apply to cursors and pipelines, too", function()
            local e <close> = open()
            local both <const> = { positional = true, text = true }
            e:transaction(function(tx)
                for row in tx:cursor(both, "select :n::int, true", { n = 5 }) do assert.same({ "5", "t" }, row) end
            end)
            local r = e:pipeline(function(p)
                p:query(both, "select $1::int[], null", { 1, 2 })
                p:query("select true as a")
            end)
            assert.same({ "{1,2}", db.null }, r[1][1])
            assert.same({ a = true }, r[2][1])
        end)

        it("are refused when they are unknown", function()
            local e <close> = open()
            local wrong = raised(e.query, e, { positionl = true }, "select 1")
            assert.equal("usage", wrong.kind)
            assert.matches("did you mean 'positional'", wrong.hint)
            assert.equal("usage", raised(e.one, e, { text = 1 }, "select 1").kind)
            assert.equal("usage", raised(e.value, e, { positional = true }, "select 1").kind)
            assert.matches("the SQL must be a string", raised(e.query, e, { text = true }).message)
        end)
    end)

    describe("rows as parameters", function()
        it("are accepted everywhere, including NULL columns", function()
            local e <close> = open()
            local c <close> = e:acquire()
            c:exec "create temp table taken (a int, b text)"
            local row = c:one "select 1 as a, null as b"
            local insert <const> = "insert into taken values (:a, :b)"
            c:query(insert, row)
            c:pipeline(function(p) p:query(insert, row) end)
            c:execute_many(insert, c:query "select * from taken")
            c:copy_in("taken", { "a", "b" }, c:query "select null::int as a, null as b union all select 1, 'x'")
            c:copy_in("taken", nil, c:query({ positional = true }, "select 1, 'y'"))
            assert.equal(7, c:value "select count(*) from taken")
            assert.equal("(1,)", c:value("select $1::taken::text", db.composite(row)))
            assert.equal(7, #c:value("select $1::jsonb", db.json(c:query "select * from taken")))
            assert.equal("usage", raised(c.query, c, "select :nope", row).kind)
        end)

        it("and tables give values by name in execute_many for any keys", function()
            local e <close> = open()
            local c <close> = e:acquire()
            c:exec "create temp table named (n int, a int)"
            local insert <const> = "insert into named values (:n, :a)"
            c:execute_many(insert, { { n = 5, a = 1 }, { a = 2, n = 3 } })
            c:execute_many(insert, c:query "select * from named")
            c:execute_many(insert, c:query "select null::int as n, null::int as a")
            c:execute_many("insert into named (n) values (:n)", { { n = 5 }, { n = db.null } })
            c:execute_many("insert into named (a) values (:a)", c:query "select 7 as n, 8 as a")
            c:execute_many("insert into named values ($1, $2)", { table.pack(nil, 9), { n = 2 }, { n = 2, 4 } })
            assert.equal("{5,3,5,3,NULL,5,NULL,NULL,NULL,NULL,4}", c:value "select array_agg(n)::text from named")
            assert.equal("{1,2,1,2,NULL,NULL,NULL,8,9,NULL,NULL}", c:value "select array_agg(a)::text from named")
        end)

        it("give no values by name when they are a whole result, or a row by position", function()
            local e <close> = open()
            local sql <const> = "select :x::int, :y::text"
            local whole <const> = e:query "select 1 as x, null as y"
            local by_position <const> = e:one({ positional = true }, "select 1 as x, null as y")
            local all_null <const> = e:one "select null as x, null as y"
            local ways <const> = {
                function(v) e:query(sql, v) end,
                function(v) e:pipeline(function(p) p:query(sql, v) end) end,
                function(v) for _ in e:rows(sql, v) do error "a row" end end,
                function(v) for _ in e:copy_out(sql, {}, v) do error "a row" end end,
            }
            for i, way in ipairs(ways) do
                local wrong = raised(way, whole)
                assert.equal("usage", wrong.kind, i)
                assert.matches("execute_many%(sql, result%)", wrong.hint, nil, nil, i)
                wrong = raised(way, by_position)
                assert.equal("usage", wrong.kind, i)
                assert.matches("without positional = true", wrong.hint, nil, nil, i)
            end
            assert.equal(1, #e:query(sql, all_null))
            assert.equal(1, #e:pipeline(function(p) p:query(sql, all_null) end)[1])
        end)
    end)
end)

describe("core.rows", function()
    it("recognises only rows and results", function()
        assert.is_nil(core.rows.columns {})
        assert.is_nil(core.rows.kind(setmetatable({}, { columns = {}, __tostring = print })))
    end)
end)
