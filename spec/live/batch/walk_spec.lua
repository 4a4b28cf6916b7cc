-- The key of a walk, and a walk that reaches each row once.
local db = require "dbrun.db"
local define = require "dbrun.batch.define"
local servers = require "spec.support.servers"
local walks = require "dbrun.batch.walk"

describe("the walk of a table", function()
    local engine, conn
    setup(function()
        engine = db.engine { url = servers.database() }
        conn = engine:acquire()
        conn:exec "set client_min_messages = error; set plan_cache_mode = force_custom_plan; set jit = off"
    end)
    teardown(function()
        conn:release()
        engine:close()
    end)

    local function definition(options)
        options.name, options.run = "job", options.run or "select :chunk"
        return define.of("run", options)
    end

    local function open(options) return walks.open(conn, definition(options)) end

    ---The error of a walk that is refused.
    local function refused(options)
        local ok <const>, e <const> = pcall(open, options)
        assert.is_false(ok)
        assert.equal("usage", e.kind)
        return e.message:gsub("^batch.job: ", ""), e.hint or ""
    end

    local function params(d, after, upto, more)
        local named <const> = define.named(d, { after = after, upto = upto, started = "2024-01-01T00:00:00Z" })
        for name, value in pairs(more) do named[name] = value end
        return named
    end

    describe("the key", function()
        it("is the primary key by default", function()
            conn:exec [[create schema "S x";
                create table "S x"."T.y" ("a b" int, "c{d}" text, primary key ("c{d}", "a b"))]]
            local walk <const> = open { table = '"S x"."T.y"' }
            assert.same({ "c{d}", "a b" }, { walk.key[1].name, walk.key[2].name })
            assert.equal('"S x"."T.y"', walk.relation)
            assert.equal('"T.y"', walk.alias)
            conn:exec [[insert into "S x"."T.y" values (1, 'q"')]]
            assert.same({ 'q"', "1" }, conn:one(walk:last()).bound)
            assert.same({ 'q"', 1 }, walk.value(conn:one(walk:last()).bound))
        end)

        it("can be any unique index of one direction, or a non-unique one that contains the primary key", function()
            conn:exec [[create table k1 (id int primary key, a int not null, b text not null, c int, d int not null,
                e varchar(20) collate "C" not null, unique (a, b));
                create index on k1 (d desc, id desc); create unique index on k1 (e nulls first) include (b);
                create unique index on k1 (c)]]
            assert.equal("k1_a_b_key", open { table = "k1", key = { "a", "b" } }.index)
            assert.equal("k1_d_id_idx", open { table = "k1", key = { "d", "id" } }.index)
            assert.equal("k1_e_b_idx", open { table = "k1", key = "e" }.index)
            assert.equal("k1_c_idx", open { table = "k1", key = "c", nulls = "skip" }.index)
            assert.equal("k1_d_id_idx", open { table = "k1", key = "d", ties = true }.index)
        end)

        it("is refused with a remedy", function()
            conn:exec [[create table r1 (id int primary key, a int not null, b text not null, c int, d int not null,
                    e text not null, f int not null, g int not null, h int not null, u int not null);
                create index r1_a on r1 (a); create unique index r1_c on r1 (c); create index r1_d on r1 (d, e desc);
                create unique index r1_e on r1 (e collate "C"); create unique index r1_f on r1 (f) where f > 0;
                create unique index r1_b on r1 (b text_pattern_ops); create unique index r1_g on r1 ((g + 1));
                create index r1_h on r1 using hash (h); create table r2 (a int);
                create table r3 (a int, id int not null unique)]]
            conn:exec [[create unique index r1_u on r1 (u);
                update pg_index set indisvalid = false where indexrelid = 'r1_u'::regclass]]
            local function is(message, hint, options)
                options.table = options.table or "r1"
                local said <const>, help <const> = refused(options)
                assert.matches(message, said, 1, true)
                assert.matches(hint, help, 1, true)
            end
            is("the key (a) of r1 is not unique", 'key = { "a", "id" }, with create index concurrently on public.r1 '
                .. "(a, id)", { key = "a" })
            is("the key column c of r1 may be null", 'nulls = "skip"', { key = "c" })
            is("the index r1_d of r1 cannot be walked: it has ascending and descending columns",
                "create unique index concurrently on public.r1 (d, e)", { key = { "d", "e" } })
            is("it orders e by another collation", "create unique index concurrently", { key = "e" })
            is("it orders b by another operator class", "create unique index concurrently", { key = "b" })
            is("it is partial", "create unique index concurrently", { key = "f" })
            is("it is not valid", "create unique index concurrently", { key = "u" })
            is("r1 has no index on (g)", "create unique index concurrently on public.r1 (g)", { key = "g" })
            is("it is a hash index", "create unique index concurrently", { key = "h" })
            is("r1 has no index on (d, id)", "create index concurrently on public.r1 (d, id)", { key = { "d", "id" } })
            is("r1 has no column 'idd'", "did you mean 'id'?", { key = "idd" })
            is("r2 has no primary key", "create unique index concurrently on public.r2", { table = "r2" })
            is("r3 has no primary key", 'it can be walked by: key = "id"', { table = "r3" })
        end)

        it("needs a table that contains all its rows itself", function()
            conn:exec [[create view v1 as select 1 as id; create temp table t1 (id int primary key);
                create table parent (id int primary key); create table child () inherits (parent);
                create extension if not exists postgres_fdw; create server s1 foreign data wrapper postgres_fdw;
                create foreign table f1 (id int) server s1; create table p1 (id int, n int) partition by range (id)]]
            assert.matches("there is no table nothing", (refused { table = "nothing" }), 1, true)
            assert.matches("v1 is a view", (refused { table = "v1" }), 1, true)
            assert.matches("f1 is a foreign table", (refused { table = "f1" }), 1, true)
            assert.matches("t1 is a temporary table", (refused { table = "t1" }), 1, true)
            assert.matches("tables that inherit", (refused { table = "parent" }), 1, true)
            assert.matches("p1 has no primary key", (refused { table = "p1" }), 1, true)
            assert.matches("is no name of a table", (refused { table = "a.b.c" }), 1, true)
        end)
    end)

    -- ---- each row once ----

    local seed <const> = tonumber(os.getenv "DBRUN_TEST_SEED") or os.time()
    math.randomseed(seed)

    local function pick(list) return list[math.random(#list)] end
    local function int(n) return tostring(math.random(-n, n)) end

    local PIECES <const> = { "a", "B", "ä", "É", "ß", "'", '"', "\\", "{", "}", ",", " ", "\t", "\n", "NULL", "(", ")",
        "$1", ":x", "😀", "z", "0" }
    local function text()
        local parts = {}
        for i = 1, math.random(0, 5) do parts[i] = pick(PIECES) end
        return table.concat(parts)
    end
    local function hex(n)
        local parts = {}
        for i = 1, n do parts[i] = ("%02x"):format(math.random(0, 255)) end
        return table.concat(parts)
    end
    local function at()
        return pick { "infinity", "-infinity", "0044-03-15 BC", "20000-01-01", "1999-12-31 23:59:59.999999",
            ("%04d-%02d-%02d %02d:%02d:%02d.%06d"):format(math.random(1, 9999), math.random(12), math.random(28),
                math.random(0, 23), math.random(0, 59), math.random(0, 59), math.random(0, 999999)) }
    end
    local function float()
        return pick { "NaN", "Infinity", "-Infinity", "0", "1e-300", ("%.17g"):format(math.random() * 10 ^
            math.random(-20, 20)), ("%.3f"):format(math.random() - 0.5) }
    end

    local TYPES <const> = {
        int2 = function() return int(30000) end, int8 = function() return int(1 << 62) end,
        numeric = function() return pick { "NaN", "1e50", "-0.0000001", "Infinity", int(99) .. ".50", int(999) } end,
        float8 = float, float4 = function() return pick { "NaN", "-Infinity", int(99) .. ".1", "3.4e38" } end,
        text = text, ['text collate "de-x-icu"'] = text, ["varchar(20)"] = text, citext = text,
        ["char(8)"] = function() return pick(PIECES) .. pick { "a", "B", "ab", "b " } end,
        uuid = function() return hex(16) end, bytea = function() return "\\x" .. hex(math.random(0, 4)) end,
        timestamptz = at, timestamp = at, date = at, ["time"] = function() return at():match "%d+:.*" or "24:00" end,
        ["timetz"] = function() return pick { "12:00+02", "12:00-03:30", ("%02d:%02d:%02d+%02d"):format(
            math.random(0, 23), math.random(0, 59), math.random(0, 59), math.random(0, 12)) } end,
        interval = function() return pick { "1 year -3 months", "-1 day 02:03", "-00:00:00.000001", "178 years",
            int(99) .. " mons " .. int(999) .. " days " .. int(1 << 40) .. " microseconds" } end,
        mood = function() return pick { "sad", "ok", 'h"appy', "" .. "it's" } end, domained = text,
        inet = function() return pick { "::1", "10.0.0.0/8", ("10.%d.%d.1/%d"):format(math.random(0, 255),
            math.random(0, 255), math.random(0, 32)) } end,
        bool = function() return pick { "t", "f" } end,
        ["int4[]"] = function() return ("{%s,%s}"):format(int(3), int(3)) end,
        daterange = function() return pick { "empty", "(,)", "[2024-01-01,2024-02-01)", ("[2020-01-%02d,)"):format(
            math.random(28)) } end,
        pair = function()
            return ("(%s,%q,2024-01-%02d)"):format(int(3), pick { "a", "b c" }, math.random(28))
        end,
        money = function() return int(9999) .. ".25" end,
        varbit = function() return pick { "", "0", "101", "1" } end,
        jsonb = function() return pick { "null", "{}", '{"a": [1, "x"]}', int(5), '"' .. int(9) .. '"' } end,
        ['"char"'] = function() return pick { "a", "", "Z", "\\200" } end,
        regclass = function() return pick { "pg_class", "pg_type", "pg_index", "odd" } end,
    }

    ---Settings that change how values are written and read.
    local function unsettle()
        conn:exec(("set datestyle = %s; set intervalstyle = %s; set timezone = %s; set bytea_output = %s; "
            .. "set extra_float_digits = %s; set search_path = %s"):format(pick { "'SQL, DMY'", "'German'",
            "'Postgres, MDY'", "ISO" }, pick { "sql_standard", "postgres_verbose", "postgres" },
            pick { "'America/St_Johns'", "'Asia/Tokyo'", "UTC" }, pick { "escape", "hex" }, pick { "0", "-15", "3" },
            pick { "public", "public, pg_catalog" }))
    end

    ---Walks by steps of random sizes; each row counts how often it was in a range.
    local function walk_all(walk, d, by_where)
        local function pinned(sql, named)
            for _, pin in ipairs(walk.pins) do conn:query("select set_config($1, $2, false)", pin[1], pin[2]) end
            local row <const> = conn:one(sql, table.unpack { named })
            unsettle()
            return row
        end
        local final <const> = pinned(walk:last())
        local after, steps = nil, 0
        while final do
            local size <const>, first <const> = math.random(1, 9), after == nil
            local row <const> = pinned(walk:step(first, by_where), params(d, after, final.bound, { size = size,
                look = math.random(size, 20) }))
            if not row then break end
            local n <const> = conn:query(("update %s as %s set seen = seen + 1 where %s"):format(walk.relation,
                walk.alias, walk:condition(first)), params(d, after, row.bound, {})).affected
            assert.is_true(row.fits <= size and row.looked <= 20)
            if walk.eq and n > 0 then
                local keys <const> = pinned(("select array_agg(%s)::text as keys from %s as %s where %s"):format(
                    walk.key[1].text(walk.alias .. "." .. walk.key[1].ident), walk.relation, walk.alias,
                    walk:condition(first)), params(d, after, row.bound, {})).keys
                assert.equal(n, conn:value(("select count(*) from %s as %s where %s and %s"):format(walk.relation,
                    walk.alias, walk:condition(first), walk:found()), params(d, after, row.bound, { _keys = keys })))
            end
            if not by_where and not d.ties then assert.equal(n, row.fits) end
            after, steps = row.bound, steps + 1
            assert.is_true(steps < 1000, "the walk does not end")
            if row.final then break end
        end
        return steps
    end

    local function count_wrong(relation, where)
        return conn:value(("select count(*) from %s where seen <> case when %s then 1 else 0 end"):format(relation,
            where or "true"))
    end

    local function prepare_types()
        conn:exec [[create extension if not exists citext; create type mood as enum ('sad', 'ok', 'h"appy', 'it''s');
            create domain domained as text collate "en-x-icu" check (length(value) < 100);
            create type pair as (a int, b text, c date); create table odd ()]]
    end

    it("reaches each row once, for any type of key and any session settings", function()
        prepare_types()
        local number = 0
        for name, make in pairs(TYPES) do
            number = number + 1
            local relation <const> = "w" .. number
            local down <const> = math.random(2) == 1
            conn:exec(("reset all; set client_min_messages = error; "
                .. "create table %s (k %s not null, seen int default 0); create unique index on %s (k %s)"):format(
                    relation, name, relation, down and "desc" or ""))
            local values = {}
            for i = 1, 24 do values[i] = make() end
            conn:query(("insert into %s (k) select v::%s from unnest($1::text[]) v on conflict do nothing"):format(
                relation, (name:gsub(" collate.*", ""))), db.array(values, "text"))
            local d <const> = definition { table = relation, key = "k", where = "ctid is not null" }
            walk_all(walks.open(conn, d), d, math.random(2) == 1)
            assert.equal(0, count_wrong(relation), ("%s, DBRUN_TEST_SEED=%d"):format(name, seed))
        end
        conn:exec "reset all"
    end)

    it("reaches each row once by keys of several columns, with ties and NULLs", function()
        conn:exec "set client_min_messages = error"
        for round = 1, 4 do
            local relation <const> = "m" .. round
            local down <const>, first <const> = pick { "", "desc" }, pick { "nulls first", "nulls last" }
            conn:exec(("create table %s (a int, b timestamptz, c text collate \"en-x-icu\", id int primary key, "
                .. "seen int default 0); create index on %s (a %s, b %s %s, c %s, id %s)"):format(relation, relation,
                down, down, first, down, down))
            local rows = {}
            for i = 1, 40 do
                rows[i] = { pick { 1, 2, 3, db.null }, pick { "2024-01-01", "infinity", db.null }, text(), i }
            end
            conn:execute_many(("insert into %s values ($1, $2, $3, $4)"):format(relation), rows)
            local d <const> = definition { table = relation, key = { "a", "b", "c", "id" }, nulls = "skip",
                where = "id % 2 = 0" }
            local walk <const> = walks.open(conn, d)
            walk_all(walk, d, round % 2 == 0)
            local filled <const> = "a is not null and b is not null and c is not null"
            assert.equal(0, count_wrong(relation, filled), "DBRUN_TEST_SEED=" .. seed)
            assert.equal(conn:value(("select count(*) from %s where not (%s)"):format(relation, filled)),
                conn:value(walk:nulls()))
            conn:exec(("reset all; set client_min_messages = error; update %s set seen = 0"):format(relation))
            local tied <const> = definition { table = relation, key = "a", nulls = "skip", ties = true }
            walk_all(walks.open(conn, tied), tied, false)
            assert.equal(0, count_wrong(relation, "a is not null"), "DBRUN_TEST_SEED=" .. seed)
        end
        conn:exec "reset all"
    end)

    -- ---- the step ----

    describe("a step", function()
        local d, walk
        local function bounds(after, upto, more) return params(d, after, upto, more) end
        setup(function()
            conn:exec [[set client_min_messages = error; create table big (id int primary key, fits bool not null,
                pad text); alter table big set (autovacuum_enabled = off)]]
            conn:exec "insert into big select i, i % 100 = 0, repeat('x', 200) from generate_series(1, 60000) i"
            conn:exec "vacuum analyze big"
            conn:exec "set plan_cache_mode = force_custom_plan"
            d = definition { table = "big", where = "fits and pad <> '{$key :none}' -- $where" }
            walk = walks.open(conn, d)
        end)

        ---Pages that a query reads, and its plan.
        local function pages(sql, named)
            local plan = conn:value("explain (analyze, buffers, format json) " .. sql, table.unpack { named })
            local node <const> = plan[1].Plan
            return node["Shared Hit Blocks"] + node["Shared Read Blocks"], require "dbrun.json".encode(plan)
        end

        it("ends at the last matching key, or at its limit of keys", function()
            local function step(first, by_where, after, upto, size, look)
                local row <const> = conn:one(walk:step(first, by_where), bounds(after, upto, { size = size,
                    look = look }))
                return row and { row.bound[1], row.fits, row.looked, row.final }
            end
            assert.same({ "500", 500, 500, false }, step(true, false, nil, { "60000" }, 500, 1000))
            assert.same({ "300", 300, 300, false }, step(true, false, nil, { "60000" }, 500, 300))
            assert.same({ "300", 3, 300, false }, step(true, true, nil, { "60000" }, 3, 500))
            assert.same({ "1150", 1, 150, false }, step(false, true, { "1000" }, { "60000" }, 3, 150))
            assert.same({ "1150", 1, 150, false }, step(false, true, { "1000" }, { "1150" }, 3, 150))
            assert.same({ "1199", 1, 199, true }, step(false, true, { "1000" }, { "1199" }, 3, 500))
            assert.same({ "70000", 10, 10, true }, step(false, false, { "59990" }, { "70000" }, 11, 500))
            assert.same({ "70000", 10, 10, true }, step(false, false, { "59990" }, { "70000" }, 10, 500))
            assert.is_nil(step(false, false, { "60000" }, { "70000" }, 10, 500))
            assert.same({ "70000", 0, 0, true }, step(false, true, { "60000" }, { "70000" }, 10, 500))
        end)

        it("returns the matching keys when few match: the chunk reads no others", function()
            local named <const> = { size = 1000, look = 3000 }
            local row <const> = conn:one(walk:step(false, true), bounds({ "30000" }, { "60000" }, named))
            local n <const> = tonumber(row.bound[1])
            local keys <const> = {}
            for key = 30100, n, 100 do keys[#keys + 1] = key end
            assert.equal("{" .. table.concat(keys, ",") .. "}", row.keys)
            local chunk <const> = ("select count(*) from big where %s and fits"):format(walk:condition(false))
            local read <const> = pages(chunk, bounds({ "30000" }, row.bound, {}))
            local found <const> = pages(chunk .. " and " .. walk:found(), bounds({ "30000" }, row.bound,
                { _keys = row.keys }))
            assert.is_true(found < read, found)
            assert.is_nil(conn:one(walk:step(false, true), bounds({ "60000" }, { "70000" }, named)).keys)
        end)

        it("reads no more keys than its limit, and estimates their number", function()
            local row <const> = conn:one(walk:step(true, true), bounds(nil, { "60000" }, { size = 1000, look = 20000 }))
            local n <const> = tonumber(row.bound[1])
            assert.is_true(n > 10000 and n <= 20000, row.bound[1])
            assert.is_true(math.abs(row.looked - n) < n / 2)
            assert.equal(n // 100, row.fits)
        end)

        it("reads no more pages than that", function()
            local all <const> = conn:value "select relpages from pg_class where relname = 'big'"
            local n <const>, plan <const> = pages(walk:step(true, false), bounds(nil, { "60000" }, { size = 1000,
                look = 50000 }))
            assert.is_true(n < 15, n)
            assert.matches("Index Only Scan", plan)
            assert.is_nil(plan:find "Seq Scan")
            local some <const> = pages(walk:step(false, true), bounds({ "30000" }, { "60000" }, { size = 10,
                look = 50000 }))
            assert.is_true(some < all / 20, some)
            local looked <const> = pages(walk:step(false, true), bounds({ "30000" }, { "60000" }, { size = 1000,
                look = 3000 }))
            assert.is_true(looked < all / 8, looked)
            assert.is_true(pages(walk:last()) < 6)
        end)

        it("cuts a range by keys", function()
            local function cut(first, after, upto, keys)
                local row <const> = conn:one(walk:cut(first), bounds(after, upto, { keys = keys }))
                return row and { row.bound[1], row.middle[1], row.keys }
            end
            assert.same({ "1000", "500", 1000 }, cut(true, nil, { "60000" }, 1000))
            assert.same({ "60000", "59950", 100 }, cut(false, { "59900" }, { "60000" }, 1000))
            assert.same({ "60000", "59950", 100 }, cut(false, { "59900" }, { "60000" }, 100))
            assert.same({ "60000", "59950", 100 }, cut(false, { "59900" }, { "60000" }, 130))
            assert.same({ "60000", "59999", 2 }, cut(false, { "59998" }, { "70000" }, 10))
            assert.is_nil(cut(false, { "59999" }, { "60000" }, 10))
            assert.is_nil(cut(false, { "60000" }, { "60000" }, 10))
            local n <const>, plan <const> = pages(walk:cut(true), bounds(nil, { "60000" }, { keys = 1000 }))
            assert.is_true(n < 20, n)
            assert.is_nil(plan:find "Seq Scan")
        end)

        it("is refused when its statement reads the whole table", function()
            local function plan(run)
                local job <const> = definition { table = "big", run = run, as = "b" }
                local w <const> = walks.open(conn, job)
                return w:plan_ok(conn, define.statements(job, w, false)[1], params(job, { "1000" }, { "2000" }, {}))
            end
            assert.is_nil(plan "update big b set pad = 'y' where :chunk")
            assert.is_nil(plan "delete from big b using pg_class c where :range and c.oid = b.id")
            local said <const> = plan "update big b set pad = 'y' where (:chunk) is true"
            assert.matches("does not reach big through the index big_pkey of its key", said, 1, true)
            assert.matches("Seq Scan on big", said, 1, true)
        end)
    end)

    it("notices that the table has been replaced", function()
        conn:exec 'create table d1 (id int primary key, t text collate "en-x-icu" unique not null)'
        local was <const> = open { table = "d1" }.identity
        assert.is_nil(walks.differs(was, open { table = "d1" }.identity))
        conn:exec "alter table d1 alter id type bigint"
        assert.matches("the key has the types %(bigint%) now, and had %(integer%)",
            walks.differs(was, open { table = "d1" }.identity))
        local by_text <const> = open { table = "d1", key = "t" }.identity
        assert.matches("%d", by_text.versions[1])
        local other <const> = open { table = "d1", key = "t" }.identity
        other.versions = { "1" }
        assert.matches("the version of the key's collation is 1 now", walks.differs(by_text, other), 1, true)
        conn:exec "drop table d1; create table d1 (id bigint primary key)"
        assert.matches("another table of that name", walks.differs(was, open { table = "d1" }.identity))
    end)

    it("goes through partitions by their parent", function()
        conn:exec [[create table pt (id int, n int, seen int default 0, primary key (id, n)) partition by list (n);
            create table pt1 partition of pt for values in (1); create table pt2 partition of pt for values in (2, 3);
            insert into pt select i, 1 + i % 3 from generate_series(1, 100) i]]
        local d <const> = definition { table = "pt" }
        walk_all(walks.open(conn, d), d, false)
        assert.equal(0, count_wrong "pt")
        conn:exec "reset all"
    end)
end)
