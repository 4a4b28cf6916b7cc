--- Values: the Lua form of each type. The first executions of a statement return text, the later ones binary: both must
--- give the same values.

local db = require "dbrun.db"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local null <const> = db.null
local huge <const> = math.huge

local function same(a, b)
    if math.type(a) == "float" and math.type(b) == "float" then
        return a == b and 1 / a == 1 / b or a ~= a and b ~= b
    end
    if type(a) == "table" and type(b) == "table" then
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
    return math.type(a) == math.type(b) and a == b
end

local function show(v)
    if type(v) ~= "table" then
        return math.type(v) == "float" and ("%.17g (float)"):format(v) or ("%q (%s)"):format(v, math.type(v) or type(v))
    end
    local list = {}
    for k, x in pairs(v) do
        list[#list + 1] = tostring(k) .. "=" .. show(x)
    end
    return "{" .. table.concat(list, ", ") .. "}"
end

--- The expression gives this value in every execution on one connection.
local function gives(c, expression, expected)
    local sql = ("select %s as v"):format(expression)
    for n = 1, 4 do
        local v = c:value(sql)
        if not same(v, expected) then
            error(("%s, execution %d: %s instead of %s"):format(expression, n, show(v), show(expected)), 2)
        end
        if not same(c:one(sql).v, expected) or not same(c:query(sql)[1].v, expected) then
            error(("%s, execution %d: one or query differ from value"):format(expression, n), 2)
        end
    end
end

--- Both engines decode with the same code, but receive in different ways.
pg.on_both(describe, function(_, open)
    local engine, c

    setup(function()
        engine = open { size = 1 }
        c = engine:acquire()
    end)

    teardown(function()
        c:release()
        engine:close()
    end)

    local function check(list)
        for _, item in ipairs(list) do
            gives(c, item[1], item[2])
        end
    end

    it("booleans", function()
        check { { "true", true }, { "false", false }, { "1 = 2", false } }
    end)

    it("integers, all 64 bits", function()
        check {
            { "0::int2", 0 }, { "32767::int2", 32767 }, { "'-32768'::int2", -32768 },
            { "2147483647::int4", 2147483647 }, { "'-2147483648'::int4", -2147483648 },
            { "9223372036854775807::int8", math.maxinteger }, { "'-9223372036854775808'::int8", math.mininteger },
            { "9007199254740993::int8", 9007199254740993 },
            { "0::oid", 0 }, { "4294967295::oid", 4294967295 },
        }
    end)

    it("floats, bit for bit", function()
        check {
            { "0::float8", 0.0 }, { "'-0'::float8", -0.0 }, { "1::float8", 1.0 }, { "0.1::float8", 0.1 },
            { "1e308::float8", 1e308 }, { "5e-324::float8", 5e-324 }, { "2.2250738585072014e-308::float8",
            2.2250738585072014e-308 }, { "123456789012345678::float8", 123456789012345678.0 },
            { "'infinity'::float8", huge }, { "'-infinity'::float8", -huge }, { "'nan'::float8", 0 / 0 },
            { "(1::float8 / 3)", 1 / 3 }, { "pi()", math.pi },
            { "0.5::float4", 0.5 }, { "'infinity'::float4", huge }, { "'-infinity'::float4", -huge },
            { "'nan'::float4", 0 / 0 }, { "'-0'::float4", -0.0 },
            { "0.1::float4", (string.unpack("f", string.pack("f", 0.1))) },
            { "3.4028235e38::float4", (string.unpack("f", string.pack("f", 3.4028234663852886e38))) },
            { "1e-45::float4", (string.unpack("f", string.pack("f", 1.401298464324817e-45))) },
        }
    end)

    it("100 random doubles, there and back", function()
        math.randomseed(42)
        for _ = 1, 100 do
            local v = string.unpack("d", string.pack("I8", math.random(0)))
            if v == v then
                assert(same(c:value("select $1::float8", v), v))
                assert(same(tonumber(c:value("select $1::float8::text", v)), v) or v % 1 == 0)
            end
        end
    end)

    it("text in any script, and empty text", function()
        check {
            { "''", "" }, { "'x'::text", "x" }, { "'größe 日本 🙂'::text", "größe 日本 🙂" }, { "'a'::varchar(3)", "a" },
            { "'a'::char(3)", "a  " }, { "'pg_class'::name", "pg_class" }, { "E'a\\nb\\tc\\\\'", "a\nb\tc\\" },
        }
    end)

    it("the one-byte type \"char\", also when it is empty", function()
        check { { [['x'::"char"]], "x" }, { [[''::"char"]], "" } }
        local row = c:one "select attidentity, attgenerated from pg_attribute where attname = 'oid' limit 1"
        for _ = 1, 3 do
            assert.same(row, c:one "select attidentity, attgenerated from pg_attribute where attname = 'oid' limit 1")
        end
        assert.equal("", row.attidentity)
    end)

    it("bytes, all 256 of them", function()
        local all = {}
        for b = 0, 255 do
            all[#all + 1] = string.char(b)
        end
        local bytes = table.concat(all)
        local hex = bytes:gsub(".", function(ch)
            return ("%02x"):format(ch:byte())
        end)
        check { { ("'\\x%s'::bytea"):format(hex), bytes }, { "''::bytea", "" }, { "'\\x00'::bytea", "\0" } }
        for _ = 1, 4 do
            assert(c:value("select $1::bytea", db.bytea(bytes)) == bytes)
        end
    end)

    it("bytes in the old output format too", function()
        c:exec "set bytea_output = escape"
        check { { "'\\x00015c41ff'::bytea /* escape */", "\0\1\\A\255" }, { "''::bytea /* escape */", "" },
            { "'\\x5c5c'::bytea /* escape */", "\\\\" }, { "'\\xff'::bytea /* escape */", "\255" } }
        c:exec "reset bytea_output"
    end)

    it("dates", function()
        check {
            { "'2024-02-29'::date", "2024-02-29" }, { "'0001-01-01'::date", "0001-01-01" },
            { "'0044-03-15 BC'::date", "0044-03-15 BC" }, { "'4714-11-24 BC'::date", "4714-11-24 BC" },
            { "'5874897-12-31'::date", "5874897-12-31" }, { "'12345-01-01'::date", "12345-01-01" },
            { "'infinity'::date", "infinity" }, { "'-infinity'::date", "-infinity" },
        }
    end)

    it("times of day", function()
        check {
            { "'00:00'::time", "00:00:00" }, { "'12:34:56.789'::time", "12:34:56.789" },
            { "'23:59:59.999999'::time", "23:59:59.999999" }, { "'24:00'::time", "24:00:00" },
            { "'12:00:00.5+02'::timetz", "12:00:00.5+02" },
        }
    end)

    it("timestamps as ISO 8601", function()
        check {
            { "'2024-02-29 12:34:56.789'::timestamp", "2024-02-29T12:34:56.789" },
            { "'2024-02-29'::timestamp", "2024-02-29T00:00:00" },
            { "'0044-03-15 12:00 BC'::timestamp", "0044-03-15T12:00:00 BC" },
            { "'294276-12-31 23:59:59.999999'::timestamp", "294276-12-31T23:59:59.999999" },
            { "'4714-11-24 00:00:00 BC'::timestamp", "4714-11-24T00:00:00 BC" },
            { "'infinity'::timestamp", "infinity" }, { "'-infinity'::timestamp", "-infinity" },
        }
    end)

    it("timestamps with time zone in UTC, in any session time zone", function()
        local list = {
            { "'2024-06-01 12:00:00.5+02'::timestamptz", "2024-06-01T10:00:00.5+00:00" },
            { "'1880-01-01 00:00:00+00'::timestamptz", "1880-01-01T00:00:00+00:00" },
            { "'0044-03-15 12:00+00 BC'::timestamptz", "0044-03-15T12:00:00+00:00 BC" },
            { "'0001-01-01 00:00+00'::timestamptz", "0001-01-01T00:00:00+00:00" },
            { "'294276-12-31 00:00+00'::timestamptz", "294276-12-31T00:00:00+00:00" },
            { "'infinity'::timestamptz", "infinity" }, { "'-infinity'::timestamptz", "-infinity" },
        }
        for _, zone in ipairs { "UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Asia/Tokyo",
            "-13:37" } do
            c:exec(("set timezone = '%s'"):format(zone))
            for _, item in ipairs(list) do
                gives(c, item[1] .. (" /* %s */"):format(zone), item[2])
            end
        end
        c:exec "reset timezone"
    end)

    it("a thousand random moments, the same in text and binary", function()
        local seed = os.time()
        math.randomseed(seed)
        local sql = "select ts, ts::timestamp as plain, ts::date as day, ts::time as clock, ts::text as t "
            .. "from (select '2000-01-01 00:00:00+00'::timestamptz + $1 * interval '1 microsecond' as ts) x"
        c:exec "set timezone = 'UTC'"
        for _ = 1, 1000 do
            local usec = math.random(-210000000000000000, 9000000000000000000) >> math.random(0, 30)
            if math.random(2) == 1 then
                usec = -(usec % 200000000000000000)
            end
            local row = c:one(sql, db.typed(("%d"):format(usec), "int8"))
            -- Compared with the server's own text: "2024-02-29 12:34:56.5+00", with BC at the end.
            local expected = row.t:gsub(" ", "T", 1):gsub("%+00", "+00:00")
            assert(row.ts == expected, ("seed %d: %s instead of %s"):format(seed, row.ts, expected))
            assert(row.plain == expected:gsub("%+00:00", ""), row.plain)
            assert(row.day == expected:gsub("T[^ ]*", ""), row.day)
            assert(row.clock == expected:match "T([%d:.]+)", row.clock)
        end
        c:exec "reset timezone"
    end)

    it("json and jsonb as Lua values, integers and null kept", function()
        for _, t in ipairs { "json", "jsonb" } do
            check {
                { "'1'::" .. t, 1 }, { "'1.5'::" .. t, 1.5 }, { "'1.0'::" .. t, 1.0 }, { "'true'::" .. t, true },
                { "'null'::" .. t, null }, { "'\"a\"'::" .. t, "a" }, { "'[]'::" .. t, {} }, { "'{}'::" .. t, {} },
                { "'[1,null,[2]]'::" .. t, { 1, null, { 2 } } },
                { "'{\"a\":{\"b\":[true]},\"c\":null}'::" .. t, { a = { b = { true } }, c = null } },
                { "'9223372036854775807'::" .. t, math.maxinteger }, { "'9007199254740993'::" .. t, 9007199254740993 },
                { "'-9223372036854775808'::" .. t, math.mininteger },
                { "'\"größe \\u00e9 \\ud83d\\ude42\"'::" .. t, "größe é 🙂" },
            }
        end
    end)

    it("json, unchanged there and back, with empty arrays and objects", function()
        for _, text in ipairs { "[]", "{}", '{"a": []}', '{"a": {}}', "[[], {}]", "null",
            '[1, 2.5, "x", true, null]' } do
            for _ = 1, 4 do
                local v = c:value("select $1::text::jsonb", text)
                assert.equal(text, c:value("select $1::jsonb::text", db.json(v)))
            end
        end
    end)

    it("numeric as an exact string", function()
        check {
            { "1.10::numeric", "1.10" }, { "'NaN'::numeric", "NaN" },
            servers.version() >= 14 and { "'infinity'::numeric", "Infinity" } or { "0::numeric", "0" },
            { "123456789012345678901234567890.123456789::numeric", "123456789012345678901234567890.123456789" },
            { "(-0.00001)::numeric", "-0.00001" }, { "(select sum(i) from (values (1::int8)) v(i))", "1" },
        }
    end)

    it("everything else as the server's text", function()
        check {
            { "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" },
            { "'1 day 02:03:04'::interval", "1 day 02:03:04" }, { "'10.0.0.1/8'::inet", "10.0.0.1/8" },
            { "'10.0.0.0/8'::cidr", "10.0.0.0/8" }, { "B'0101'", "0101" }, { "'<a/>'::xml", "<a/>" },
            { "'08:00:2b:01:02:03'::macaddr", "08:00:2b:01:02:03" }, { "point(1,2)", "(1,2)" },
            { "'pg_class'::regclass", "pg_class" }, { "'a & b'::tsquery", "'a' & 'b'" }, { "pg_sleep(0)", "" },
            { "'0/16B3748'::pg_lsn", "0/16B3748" },
        }
    end)

    it("enums and domains of the database's own", function()
        c:exec [[create type pg_temp.mood as enum ('sad', 'ok');
                 create domain pg_temp.positive as int check (value > 0)]]
        check { { "'ok'::pg_temp.mood", "ok" }, { "5::pg_temp.positive", 5 } }
    end)

    it("NULL of every type", function()
        for _, t in ipairs { "bool", "int2", "int4", "int8", "oid", "float4", "float8", "text", "varchar", "bytea",
            "date",
            "time", "timestamp", "timestamptz", "json", "jsonb", "numeric", "uuid", "int4[]" } do
            gives(c, "null::" .. t, nil)
        end
    end)

    it("rows of many types, mixed with NULL", function()
        local sql = [[select i, i::float8 / 2 as f, i::text as t, i % 2 = 0 as b, '2024-01-01'::date + i as d,
                      case when i % 3 = 0 then null else i end as n, jsonb_build_object('i', i) as j
                      from generate_series(1, 10) i]]
        for _ = 1, 4 do
            local r = c:query(sql)
            for i = 1, 10 do
                assert(same(r[i], { i = i, f = i / 2, t = tostring(i),
                    b = i % 2 == 0, d = ("2024-01-%02d"):format(i + 1),
                    n = i % 3 ~= 0 and i or nil, j = { i = i } }), show(r[i]))
            end
        end
    end)

    it("the last of several columns with the same name", function()
        for _ = 1, 4 do
            assert.equal(2, c:one("select 1 as a, 2 as a").a)
        end
    end)

    it("the last of several columns with the same name, also when it is NULL", function()
        local sql = "select 1 as x, null as x, i, null as \"long name that is not interned because it is so long\","
            .. " 7 as y from generate_series(1, %d) i"
        for _, n in ipairs { 1, 7, 8, 100 } do
            local expected = { i = n, y = 7 }
            local text = sql:format(n)
            for _ = 1, 3 do
                local rows = c:query(text)
                assert.equal(n, #rows)
                assert.same(expected, rows[n])
                assert.same(expected, c:one(text .. " offset " .. n - 1))
                assert.same(db.null, c:columns(text).x[n])
                local last
                for row in c:rows(text) do last = row end
                assert.same(expected, last)
                for row in c:copy_out(text) do last = row end
                assert.same(expected, last)
                for row in c:copy_out(text, { format = "text" }) do last = row end
                assert.same(expected, last)
                last = c:pipeline(function(p) p:query(text) end)[1][n]
                assert.same(expected, last)
                c:transaction(function(tx) for row in tx:cursor(text) do last = row end end)
                assert.same(expected, last)
            end
        end
        assert.same({ x = 1 }, c:one "select null as x, 1 as x")
        assert.same({}, c:one "select 1 as x, 2 as x, null as x")
    end)
end)
