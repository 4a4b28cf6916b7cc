--- Values do not depend on session settings: those of the role, the database, the URL and the environment, and those
--- that a statement sets.
local core = require "dbrun.core"
local db = require "dbrun.db"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

--- Each setting that changes how the server prints or reads values, as different from the default as possible.
local ODD <const> = {
    DateStyle = "German", IntervalStyle = "sql_standard", extra_float_digits = "-15", bytea_output = "escape",
    array_nulls = "off", TimeZone = "Asia/Kathmandu", standard_conforming_strings = "off", xmlbinary = "hex",
}
local DATE_STYLES <const> = { "SQL, DMY", "SQL, MDY", "Postgres, DMY", "Postgres, MDY", "German", "ISO, DMY" }

local SQL <const> = [[select 0.1::float8 + 0.2 as f, 1.1::float4 as g, array[0.1::float8 + 0.2] as l,
    '2024-02-03'::date as d, '2024-02-03 04:05:06.5'::timestamp as t, timestamptz '2024-02-03 04:05:06+00' as z,
    array['2024-02-03'::date] as dl, tstzrange('2024-02-03 04:05:06+00', null) as r,
    interval '1 year 2 months 3 days 04:05:06.7' as i, array[interval '-1 day'] as il,
    decode('00ff5c27', 'hex') as b, array[decode('00ff', 'hex')] as bl, $1::text[] as n, $2::timestamptz as p,
    $3::date as q, $4::text as s]]
local READ <const> = {
    f = 0.1 + 0.2, g = 1.1, l = { 0.1 + 0.2 }, d = "2024-02-03", t = "2024-02-03T04:05:06.5",
    z = "2024-02-03T04:05:06+00:00", dl = { "2024-02-03" },
    r = { lower = "2024-02-03T04:05:06+00:00", lower_inc = true, upper_inc = false },
    i = "1 year 2 mons 3 days 04:05:06.7", il = { "-1 days" }, b = "\0\xff\\'", bl = { "\0\xff" },
    n = { "a", db.null, "null" }, p = "2024-02-03T04:05:06+00:00", q = "2024-02-03", s = [[a\b'c]],
}

local function check(row)
    row.g = (string.unpack("f", string.pack("f", row.g)) == string.unpack("f", string.pack("f", 1.1))) and 1.1 or row.g
    assert.same(READ, row)
end

--- Every way to read, text and binary, prepared and not.
local function reads(e)
    local null <const> = db.array({ "a", db.null, "null" }, "text")
    local args <const> = { null, "2024-02-03T04:05:06Z", "2024-02-03", [[a\b'c]] }
    for _ = 1, 3 do check(e:one(SQL, table.unpack(args))) end
    for row in e:rows(SQL, table.unpack(args)) do check(row) end
    check((function()
        local row <const> = {}
        for name, list in pairs(e:columns(SQL, table.unpack(args))) do row[name] = list[1] end
        return row
    end)())
    assert.same(READ.f, e:value "select 0.1::float8 + 0.2")
end

local function more_reads(e)
    check(e:pipeline(function(p)
        p:query(SQL, db.array({ "a", db.null, "null" }, "text"), "2024-02-03T04:05:06Z", "2024-02-03", [[a\b'c]])
    end)[1][1])
    e:exec "create temp table v (f float8, d date, z timestamptz, i interval, b bytea, n text[])"
    local row <const> = { f = READ.f, d = READ.d, z = READ.z, i = READ.i, b = READ.b, n = READ.n }
    for _, format in ipairs { "text", "binary" } do
        local text <const> = format == "text"
        e:copy_in("v", { "f", "d", "z", "b", "n" }, { { READ.f, READ.d, READ.z, db.bytea(READ.b), READ.n } },
            { format = format })
        e:exec(("update v set i = '%s' where i is null"):format(READ.i))
        for out in e:copy_out("v", text and { format = format } or nil) do assert.same(row, out) end
        assert.same(row, e:one "select * from v")
        e:exec "truncate v"
    end
    e:execute_many("insert into v (f, d, n) values ($1, $2, $3)",
        { { READ.f, READ.d, db.array({ "a", db.null, "null" }, "text") } })
    assert.same({ f = READ.f, d = READ.d, n = READ.n }, e:one "select f, d, n from v")
end

pg.on_both(describe, function(mode)
    local server
    local n = 0
    setup(function() server = servers.shared_postgres() end)

    local function psql(text) return server:psql(text) end

    --- A login with these settings.
    local function role(settings)
        n = n + 1
        local name <const> = ("odd_%s_%d"):format(mode, n)
        psql(("create role %s superuser login"):format(name))
        for setting, value in pairs(settings) do
            psql(("alter role %s set %s = '%s'"):format(name, setting, value))
        end
        finally(function() -- its last server process can still be removing temporary tables
            pg.eventually(10, function() return pcall(psql, "drop role " .. name) end, "the removal of the role")
        end)
        return server:address { user = name }
    end

    local function open(opts)
        opts.mode, opts.size, opts.overflow = mode, 1, 0
        return pg.engine(opts)
    end

    it("set for the role", function()
        local e <close> = open { url = role(ODD) }
        reads(e)
        more_reads(e)
    end)

    it("set for the database", function()
        local url <const>, name <const> = servers.database()
        for setting, value in pairs(ODD) do psql(("alter database %s set %s = '%s'"):format(name, setting, value)) end
        local e <close> = open { url = url }
        reads(e)
        more_reads(e)
    end)

    it("set in the URL", function()
        local list = {}
        for setting, value in pairs(ODD) do list[#list + 1] = ("-c%%20%s=%s"):format(setting, value) end
        local url <const> = pg.url()
        local e <close> = open { url = url .. (url:find "?" and "&" or "?") .. "options=" .. table.concat(list, "%20") }
        assert.equal(ODD.TimeZone, e:value "show timezone")
        reads(e)
    end)

    it("in the next transaction, after RESET ALL, DISCARD ALL and reset = full", function()
        local e <close> = open { url = role(ODD), reset = "full" }
        for _, sql in ipairs { "reset all", "discard all", "select 1" } do
            e:exec(sql)
            reads(e)
            local c <close> = e:acquire()
            c:exec(sql)
            reads(c)
        end
    end)

    it("after SET, SET LOCAL and set_config, in a transaction and after it, committed or not", function()
        local e <close> = open { url = pg.url() }
        local c <close> = e:acquire()
        for setting, value in pairs(ODD) do
            if setting ~= "standard_conforming_strings" then -- that is for the literals of SQL
                c:exec(("set %s = '%s'"):format(setting, value))
                reads(c)
                for _ = 1, 3 do c:value("select set_config($1, $2, false)", setting, value) end
                reads(c)
                for _, how in ipairs { "commit", "rollback" } do
                    c:exec "begin"
                    c:exec(("set local %s = '%s'"):format(setting, value))
                    reads(c)
                    c:exec(("set %s = '%s'"):format(setting, value))
                    reads(c)
                    c:exec(how)
                    reads(c)
                end
                c:exec(("do $$ begin perform set_config('%s', '%s', false); end $$"):format(setting, value))
                reads(c)
                c:pipeline(function(p) p:query(("set %s = '%s'"):format(setting, value)) end)
                reads(c)
            end
        end
        more_reads(c)
    end)

    it("keeps the configured order of day and month, and the time zone", function()
        local e <close> = open { url = pg.url() }
        local c <close> = e:acquire()
        for _, style in ipairs(DATE_STYLES) do
            c:exec(("set datestyle = '%s'"):format(style))
            local day_first <const> = not style:find "MDY"
            for _ = 1, 3 do
                assert.equal(day_first and "2024-02-01" or "2024-01-02", c:value "select date '01/02/2024'")
            end
            assert.equal(day_first and "ISO, DMY" or "ISO, MDY", c:value "show datestyle")
        end
        c:exec "set timezone = 'Asia/Tokyo'"
        assert.equal("2024-01-01T15:00:00+00:00", c:value "select timestamptz '2024-01-02 00:00:00'")
        assert.equal("Asia/Tokyo", c.parameters.TimeZone)
    end)

    it("gives an error, not a wrong value, for text that was printed before the style was restored", function()
        local e <close> = open { url = pg.url() }
        e:exec [[create or replace function german() returns int language sql
            as $$ select set_config('datestyle', 'German', false) is null; select 1 $$]]
        for _, column in ipairs { "date '2024-01-02'", "timestamp '2024-01-02 03:04:05'", "array[date '2024-01-02']",
            "timestamptz '2024-01-02 03:04:05+00'" } do
            local raised <const> = pg.raised(e.one, e, ("select german(), %s as v"):format(column))
            assert.matches("DateStyle", tostring(raised))
            assert.matches("^2024%-01%-02", e:value "select timestamp '2024-01-02 03:04:05'")
        end
        e:exec "drop function german"
    end)

    it("reads intervals in each style as in the server's default", function()
        local e <close> = open { url = pg.url() }
        local c <close> = e:acquire()
        c:exec "create temp table spans (i interval)"
        local list <const> = { "0", "1 day", "-1 day", "1 sec", "-0.000001 sec",
            "10:00", "-10:00", "100:00", "1:02:03.4",
            "1 year", "-1 year 2 mons", "1 year -2 mons", "14 mons", "1 mon -1 day", "-1 mon 1 day",
            "-1 mon -2 days -3:04", "1 day -1 sec", "-1 day 1 sec", "178000000 years", "-178000000 years" }
        -- Before 15 not every interval that the server can hold can be read.
        if servers.version() >= 15 then list[#list + 1] = "2147483647 days -2562047788:00" end
        math.randomseed(tonumber(os.getenv "DBRUN_TEST_SEED") or 7)
        for _ = 1, 200 do
            list[#list + 1] = ("%d mons %d days %d.%06d secs"):format(math.random(-30, 30), math.random(-40, 40),
                math.random(-200000, 200000), math.random(0, 1) * math.random(0, 999999))
        end
        -- Stored, because a style also says how some texts are read.
        c:execute_many("insert into spans values ($1)", (function()
            local rows <const> = {}
            for i, text in ipairs(list) do rows[i] = { text } end
            return rows
        end)())
        local expected <const> = c:columns("select i::text as t from spans").t
        for _, style in ipairs { "postgres", "postgres_verbose", "sql_standard", "iso_8601" } do
            c:exec("set intervalstyle = " .. style)
            assert.same(expected, c:columns("select i from spans").i)
        end
    end)

    it("refuses another client_encoding, and closes the connection", function()
        local e <close> = open { url = pg.url() }
        e:exec "create table if not exists kept (i int); truncate kept"
        for _, sql in ipairs { "set client_encoding = 'LATIN1'", "set names 'LATIN1'",
            "select set_config('client_encoding', 'LATIN1', false)" } do
            local failed <const> = pg.raised(e.query, e, sql)
            assert.equal("usage", failed.kind)
            assert.matches("client_encoding was set to LATIN1", failed.message)
            assert.equal(sql:find "^set" and "failed" or "unknown", failed.outcome)
            assert.equal("\u{20ac}", e:value "select chr(8364)")
        end
        local failed = pg.raised(e.transaction, e, function(tx)
            tx:exec "insert into kept values (1)"
            tx:exec "set local client_encoding = 'SQL_ASCII'"
        end)
        assert.equal("usage failed", failed.kind .. " " .. failed.outcome)
        failed = pg.raised(e.pipeline, e, function(p)
            p:query "insert into kept values (2)"
            p:query "set client_encoding = 'LATIN1'"
        end)
        assert.equal("usage", failed.kind)
        assert.equal(0, e:value "select count(*) from kept where i = 1")
        e:exec "set client_encoding = 'utf-8'"
        assert.equal("UTF8", e:value "show client_encoding")
    end)

    it("refuses another client_encoding in the URL, and ignores that of the role", function()
        local url <const> = pg.url()
        local latin <const> = url .. (url:find "?" and "&" or "?") .. "client_encoding=latin1"
        local failed <const> = pg.raised(open, { url = latin })
        assert.equal("config", failed.kind)
        assert.matches("UTF8", failed.message)
        local e <close> = open { url = role { client_encoding = "LATIN1" } }
        assert.equal("\u{20ac}", e:value "select chr(8364)")
        e:exec "discard all"
        assert.equal("\u{20ac}", e:value "select chr(8364)")
    end)

    it("costs no round trip when nothing was changed", function()
        local e <close> = open { url = pg.url() }
        local c <close> = e:acquire()
        local count <const> = "select calls from (select count(*) as calls from pg_stat_activity) x"
        c:exec "set search_path = public"
        c:value(count)
        local last <const> = psql(("select query from pg_stat_activity where pid = %d"):format(c:backend_pid()))
        assert.equal(count, last)
    end)
end)

pg.on_both(describe, function(_, open)
    it("a :name that a backslash can hide in a string is refused when such strings have escapes", function()
        local e <close> = open()
        local raised <const> = pg.raised
        local hidden <const> = [[select :x::text || '\':x']]
        assert.equal([[a\b]], e:value([[select :x::text || '\b']], { x = "a" }))
        local c <close> = e:acquire()
        c:exec "set standard_conforming_strings = off; set escape_string_warning = off"
        for i, way in ipairs {
            function() c:value(hidden, { x = "z" }) end, function() c:execute_many(hidden, { { x = "z" } }) end,
            function() c:pipeline(function(p) p:query(hidden, { x = "z" }) end) end,
            function() for _ in c:rows(hidden, { x = "z" }) do error "a row" end end,
            function() c:value(hidden .. " || :y::int[]::text", { x = "z", y = { 1 } }) end,
            function() for _ in c:copy_out(hidden, {}, { x = "z" }) do error "a row" end end,
            function() for _ in c:copy_out([[select 'a\'$1']], {}, "' || version() || '") do error "a row" end end,
        } do
            local problem = raised(way)
            assert.equal("usage", problem.kind, i)
            assert.matches("E'...'", problem.hint, 1, true, i)
        end
        assert.equal("z':x", c:value([[select :x::text || E'\':x']], { x = "z" }))
        assert.equal("z\n", c:value([[select :x::text || '\n']], { x = "z" }))
        assert.equal("z'$2", c:value([[select $1::text || '\'$2']], "z"))
        for row in c:copy_out([[select $1::text || '\'$2' as v]], {}, "it's") do assert.equal("it's'$2", row.v) end
    end)
end)

describe("settings of the environment", function()
    it("change no value: PGDATESTYLE, PGTZ, PGOPTIONS and PGCLIENTENCODING", function()
        local result <const> = process.run {
            core.options.program or "build/dbrun", "--no-env", "-", timeout = 60,
            env = {
                URL = pg.url(), PGDATESTYLE = "German", PGTZ = "Asia/Tokyo", PGCLIENTENCODING = "LATIN1",
                PGOPTIONS = "-c extra_float_digits=-10 -c array_nulls=off -c search_path=of_options",
            },
            stdin = [[
local db = require "dbrun.db"
for _, mode in ipairs { "async", "sync" } do
    local e <close> = db.engine { url = os.getenv "URL", mode = mode, size = 1, overflow = 0 }
    for _ = 1, 2 do
        print(("%.17g"):format(e:value "select 0.1::float8 + 0.2"),
            e:value "select timestamptz '2024-01-02 03:04:05+00'", e:value "select date '2024-01-02'",
            e:value "show timezone", e:value "show search_path",
            e:value("select $1::text[]", db.array({ db.null }, "text"))[1] == db.null)
        e:exec "reset all"
    end
end]],
        }
        assert.equal(0, result.code, result.stderr)
        local line <const> = "0.30000000000000004\t2024-01-02T03:04:05+00:00\t2024-01-02\tAsia/Tokyo\tof_options\t" ..
            "true\n"
        assert.equal(line:rep(4), result.stdout)
    end)
end)

describe("settings on a shared connection", function()
    it("change no value", function()
        local e <close> = pg.engine { size = 1, pipeline = 8 }
        for setting, value in pairs(ODD) do
            if setting ~= "standard_conforming_strings" then
                for _ = 1, 4 do e:value("select set_config($1, $2, false)", setting, value) end
                local group <const> = {}
                for i = 1, 8 do
                    group[i] = task.spawn(function() reads(e) end)
                end
                for i = 1, 8 do group[i]:join() end
            end
        end
        e:exec "reset all"
    end)
end)
