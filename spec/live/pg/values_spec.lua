--- Every value that is read can be sent back: values are made at random on the server, read, sent back on each path,
--- and compared there. DBRUN_TEST_SEED takes the seed of a failed run.
local db = require "dbrun.db"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local seed = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time() % 100000
local ROWS = 2
print("# DBRUN_TEST_SEED=" .. seed)

local TEXT = [[(select coalesce(string_agg(substr(E' ,{}()"\\''\t\näüN[]<>=:;x', 1 + (random() * 22)::int, 1), ''), '')
    from generate_series(1, (random() * 6)::int))]]
local INT = "((random() - 0.5) * 2000000)::int"
local WHEN = "('2000-01-01'::timestamptz + (random() * 1e9) * interval '1 s')"

--- Name -> { its expression; `flat`: no array of two dimensions, `wrap`: a scalar of it must be wrapped }.
local MODERN <const> = servers.version() >= 14 -- which has infinite numerics, and multiranges
local INFINITY <const> = MODERN and "'Infinity'" or "-1e40"

local types = {
    bool = "random() < 0.5",
    int2 = "((random() - 0.5) * 60000)::int2", int4 = INT,
    int8 = "((random() - 0.5) * 1.8e19)::numeric::int8",
    oid = "(random() * 4e9)::int8::oid",
    float4 = "(array['NaN', 'Infinity', '-Infinity', '1e30', '-0']::float4[] || (random() * 1e6)::float4)"
        .. "[1 + (random() * 5)::int]",
    float8 = "(array['NaN', 'Infinity', '-Infinity', '1e15', '1e300', '-0']::float8[] || random())"
        .. "[1 + (random() * 6)::int]",
    numeric = "(array['NaN', " .. INFINITY .. ", 1e40]::numeric[] || (random() * 1e9)::numeric)"
        .. "[1 + (random() * 3)::int]",
    text = TEXT, varchar = TEXT .. "::varchar", ["char(7)"] = TEXT .. "::char(7)", name = TEXT .. "::name",
    ['"char"'] = "chr(65 + (random() * 40)::int)::\"char\"",
    bytea = "decode(md5(random()::text), 'hex')",
    date = WHEN .. "::date", time = WHEN .. "::time", timetz = WHEN .. "::timetz", timestamp = WHEN .. "::timestamp",
    timestamptz = "(array['infinity', '-infinity', '0044-03-15 12:00 BC']::timestamptz[] || " .. WHEN
        .. ")[1 + (random() * 3)::int]",
    interval = "random() * interval '1000 days 3 months'",
    uuid = "gen_random_uuid()",
    json = [[('[' || (random() * 1e6)::int || ',null,{"k":' || to_json(]] .. TEXT .. [[) || '},[],{},true]')::json]],
    jsonb = "(array['[]', '{}', '[[1, 2], []]', '17', 'true']::jsonb[] || jsonb_build_object('k', " .. TEXT
        .. ", 'n', random()))[1 + (random() * 5)::int]",
    inet = "('10.0.0.' || (random() * 255)::int)::inet", cidr = "('10.' || (random() * 255)::int || '.0.0/16')::cidr",
    macaddr = "'08:00:2b:01:02:03'::macaddr", ["bit(8)"] = "(random() * 255)::int::bit(8)",
    varbit = "(random() * 255)::int::bit(8)::varbit", money = "(random() * 1e6)::numeric::money",
    point = "point(random(), random())", box = "box(point(random(), random()), point(random(), random()))",
    circle = "circle(point(random(), random()), random())", lseg = "lseg(point(random(), 1), point(2, random()))",
    path = "'[(0,0),(1,1),(2,0)]'::path", polygon = "'((0,0),(1,1),(2,0))'::polygon",
    pg_lsn = "('0/' || to_hex((random() * 1e9)::int))::pg_lsn", xml = "'<a b=\"c\">d</a>'::xml",
    tsvector = "'a:1 fat:2 cat''s'::tsvector", tsquery = "'fat & (rat | !cat)'::tsquery",
    int4range = "(array['empty', '(,)', '(,5]']::int4range[] || int4range(1, 5 + (random() * 9)::int))"
        .. "[1 + (random() * 3)::int]",
    numrange = "numrange(1.5, 2.5 + random()::numeric, '(]')",
    tstzrange = "tstzrange(" .. WHEN .. ", 'infinity', '[]')", daterange = "daterange(" .. WHEN .. "::date, null)",
    int4multirange = "(array['{}', '{(,1),[3,9)}']::int4multirange[])[1 + (random())::int]",
    tsmultirange = "tsmultirange(tsrange(" .. WHEN .. "::timestamp, null))",
    mood = "(array['sad', 'ok,\"', '{}']::mood[])[1 + (random() * 2)::int]",
    posint = "(1 + random() * 100)::int::posint",
    pair = "row(" .. INT .. ", " .. TEXT .. ")::pair",
    nest = "row(row(" .. INT .. ", " .. TEXT .. ")::pair, array[" .. INT .. ", null]::ints, '[1,3)', '{\"a\": [1]}', "
        .. "array[row(1, " .. TEXT .. ")::pair, null], '\\x00ff', '[-1:0]={3,4}')::nest",
    ['"Odd.Type"'] = "row(" .. TEXT .. ")::\"Odd.Type\"",
    textrange = "textrange('a', 'z' || translate(" .. TEXT .. ", E'\\t\\n', ''))",
    hstore = "hstore(" .. TEXT .. ", " .. TEXT .. ") || 'n=>NULL'",
}

if not MODERN then types.int4multirange, types.tsmultirange = nil, nil end

local names = {}
for name in pairs(types) do names[#names + 1] = name end
table.sort(names)

--- The user-defined types that the values need.
local SETUP = [[
create type mood as enum ('sad', 'ok,"', '{}');
create domain posint as int check (value > 0);
create domain ints as int[];
create type pair as (n int, "t ext" text);
create type nest as (p pair, i ints, r int4range, j jsonb, l pair[], b bytea, low int[]);
create type "Odd.Type" as ("a b" text);
create type textrange as range (subtype = text);
]]

local function table_of(i) return "rt_" .. i end

--- Makes the tables: one row has a value, arrays of one and two dimensions and with other bounds, and a composite.
local function make(conn, i, name)
    local g, t = types[name], table_of(i)
    local row = ([=[(%s, array[%s, null, %s]::%s[], array[array[%s, %s], array[%s, null]]::%s[],
        ('[0:1]=' || array[%s, %s]::%s[]::text)::%s[], row(%s, array[%s]::%s[])::%s_c,
        array[row(%s, null)::%s_c, null])]=]):format(g, g, g, name,
        g, g, g, name, g, g, name, name, g, g, name, t, g, t)
    conn:exec(([[
create type %s_c as (x %s, y %s[]);
create table %s (id int generated always as identity, v %s, a %s[], m %s[], low %s[], c %s_c, ca %s_c[]);
create table %s_back (id int, v %s, a %s[], m %s[], low %s[], c %s_c, ca %s_c[]);
insert into %s (v, a, m, low, c, ca) values %s;
insert into %s (v, a) values (null, '{}')]]):format(t, name, name, t, name, name, name, name, t, t, t, name, name, name,
        name, t, t, t, (row .. ", "):rep(ROWS - 1) .. row, t))
end

local FIELDS = { "v", "a", "m", "low", "c", "ca" }

--- The values of a row in the form to send: bytes and JSON strings need a wrapper.
local function sent(row, name)
    local v = row.v
    if name == "bytea" and v ~= nil then v = db.bytea(v) end
    return row.id, v, row.a, row.m, row.low, row.c, row.ca
end

local function insert_sql(t) return ("insert into %s_back values ($1, $2, $3, $4, $5, $6, $7)"):format(t) end

--- The values that came back different: "" when none did.
local function differences(e, t)
    local same, list = {}, {}
    for i, field in ipairs(FIELDS) do
        same[i] = ("t.%s::text is not distinct from b.%s::text"):format(field, field)
    end
    if e:value(("select count(*) from %s t join %s_back b using (id) where %s"):format(t, t,
        table.concat(same, " and "))) == ROWS + 1 then
        return ""
    end
    for _, field in ipairs(FIELDS) do
        local row = e:one(([[select t.%s::text as t, b.%s::text as b from %s t left join %s_back b using (id)
            where b.id is null or t.%s::text is distinct from b.%s::text limit 1]]):format(field, field, t, t, field,
            field))
        if row then
            list[#list + 1] = ("%s: %s -> %s"):format(field, tostring(row.t), tostring(row.b))
        end
    end
    return table.concat(list, "; ")
end

--- The ways to write the rows into the second table.
local paths = {
    query = function(e, t, rows, name)
        for _, row in ipairs(rows) do e:query(insert_sql(t), sent(row, name)) end
    end,
    transaction = function(e, t, rows, name)
        e:transaction(function(tx)
            for _, row in ipairs(rows) do tx:query(insert_sql(t), sent(row, name)) end
        end)
    end,
    names = function(e, t, rows, name)
        for _, row in ipairs(rows) do
            local p = table.pack(sent(row, name))
            for i = 1, 7 do if p[i] == nil then p[i] = db.null end end
            e:query(("insert into %s_back values (:i, :v, :a, :m, :l, :c, :ca)"):format(t),
                { i = p[1], v = p[2], a = p[3], m = p[4], l = p[5], c = p[6], ca = p[7] })
        end
    end,
    pipeline = function(e, t, rows, name)
        e:pipeline(function(p)
            for _, row in ipairs(rows) do p:query(insert_sql(t), sent(row, name)) end
        end)
    end,
    execute_many = function(e, t, rows, name)
        local lists = {}
        for i, row in ipairs(rows) do lists[i] = table.pack(sent(row, name)) end
        e:execute_many(insert_sql(t), lists)
    end,
    rows = function(e, t, rows, name)
        for _, row in ipairs(rows) do
            for _ in e:rows(insert_sql(t) .. " returning id", sent(row, name)) do end
        end
    end,
}
for _, format in ipairs { "text", "csv" } do
    paths["copy_in " .. format] = function(e, t, rows, name)
        local lists = {}
        for i, row in ipairs(rows) do lists[i] = { sent(row, name) } end
        e:copy_in(t .. "_back", nil, lists, { format = format })
    end
end

pg.on_both(describe, function(mode, open)
    describe("every value that is read, sent back", function()
        local made

        setup(function()
            local e <close> = open()
            local conn <close> = e:acquire()
            conn:exec("drop schema public cascade; create schema public")
            conn:exec(SETUP)
            if conn:value "select 1 from pg_available_extensions where name = 'hstore'" then
                conn:exec "create extension hstore"
            else
                types.hstore = nil
            end
            conn:query("select setseed($1)", (seed % 1000) / 1000)
            made = {}
            for i, name in ipairs(names) do
                if types[name] then
                    make(conn, i, name)
                    made[#made + 1] = { name = name, t = table_of(i) }
                end
            end
        end)

        --- Tries each type, or with `part` a third of them, chosen by the seed and the path.
        local function check(e, path, fn, part)
            local wrong = {}
            local chosen = {}
            for i, m in ipairs(made) do
                if not part or (i + seed + #path) % 3 == 0 then chosen[#chosen + 1] = m end
            end
            for _, m in ipairs(chosen) do
                local rows = e:query("select * from " .. m.t)
                e:exec(("delete from %s_back"):format(m.t))
                local ok, problem = pcall(fn, e, m.t, rows, m.name)
                local what = ok and differences(e, m.t) or tostring(problem)
                if what ~= "" then
                    wrong[#wrong + 1] = ("%s: %s"):format(m.name, what)
                end
            end
            assert(#wrong == 0, ("%s, DBRUN_TEST_SEED=%d:\n%s"):format(path, seed, table.concat(wrong, "\n")))
        end

        for path, fn in pairs(paths) do
            it("is the same: " .. path, function()
                local e <close> = open()
                check(e, path, fn, path ~= "query")
                if path == "query" then
                    check(e, path, fn, true) -- prepared, and read in binary
                end
            end)
        end

        if mode == "async" then
            it("is the same: on a shared connection", function()
                local e <close> = open { pipeline = 8 }
                check(e, "pipeline=", function(_, t, rows, name)
                    local jobs = {}
                    for i, row in ipairs(rows) do
                        jobs[i] = function() e:query(insert_sql(t), sent(row, name)) end
                    end
                    task.all(jobs)
                end, true)
            end)
        end

        it("is the same: copy_in in binary, where the types have an encoder", function()
            local e <close> = open()
            for _, name in ipairs { "bool", "int4", "int8", "float8", "text", "bytea", "uuid", "date" } do
                local t
                for _, m in ipairs(made) do if m.name == name then t = m.t end end
                local ok, problem = pcall(function()
                    e:exec("delete from " .. t .. "_back")
                    local lists = {}
                    for i, row in ipairs(e:query("select id, v, a, m, low from " .. t)) do
                        lists[i] = { row.id, row.v, row.a, row.m, row.low }
                    end
                    e:copy_in(t .. "_back", { "id", "v", "a", "m", "low" }, lists, { format = "binary" })
                    e:exec(("update %s_back b set c = t.c, ca = t.ca from %s t where t.id = b.id"):format(t, t))
                end)
                assert(ok or tostring(problem):find "no binary encoder", tostring(problem))
                assert.equal("", ok and differences(e, t) or "", name)
            end
        end)
    end)
end)
