-- The work of a chunk: statements and functions, with the chunk's rows and no others.
local db = require "dbrun.db"
local define = require "dbrun.batch.define"
local servers = require "spec.support.servers"
local walks = require "dbrun.batch.walk"

describe("the work of a chunk", function()
    local engine, conn
    setup(function()
        engine = db.engine { url = servers.database() }
        conn = engine:acquire()
        conn:exec [[create schema s; create table o (id int primary key, n int default 0, ":chunk" text, t timestamptz);
            create table s.o (id int primary key, n int); create table gone (id int)]]
    end)
    teardown(function()
        conn:release()
        engine:close()
    end)
    before_each(function()
        conn:exec "truncate o; insert into o select i, 0, 'x', '2024-01-01' from generate_series(1, 30) i"
    end)

    local function compiled(options)
        options.name, options.table = "job", options.table or "o"
        local d <const> = define.of("run", options)
        return define.compile(d, walks.open(conn, d)), d
    end

    ---Does the work on (after, upto].
    local function run(options, after, upto)
        local work <const> = compiled(options)
        local chunk <const> = {
            after = after and { after }, upto = { upto }, open = not after, number = 1,
            started = "2024-01-02T00:00:00Z",
        }
        return conn:transaction(function(tx) return work(tx, chunk) end)
    end

    local function changed()
        return table.concat(conn:columns("select coalesce(string_agg(id::text, ' ' order by id), '') as ids from o "
            .. "where n <> 0").ids)
    end

    it("is a statement on the rows of :chunk", function()
        assert.equal(2, run({ run = "update o set n = 1 where :chunk -- the end", where = "id % 2 = 0 -- even" }, "10",
            "14"))
        assert.equal("12 14", changed())
    end)

    it("is a statement on the rows of :range, which ignores where", function()
        assert.equal(3, run({ run = "update o set n = 1 where :range and id > 0", where = "id % 2 = 0" }, nil, "3"))
        assert.equal("1 2 3", changed())
    end)

    it("has parameters, and leaves text that looks like them", function()
        assert.equal(2, run({
            as = "a", where = "a.t < :started - interval '1 hour' and a.id <> :not_this", params = { n = 7,
                not_this = db.typed(12, "int4") },
            run = [[update o a set n = :n where :chunk and a.":chunk" <> ':chunk' /* :chunk */
                and (array[1, 2])[1:2] = '{1,2}'::int[] and $q$ :range $q$ <> '' and '{}' <> '$where']],
        }, "10", "13"))
        assert.equal("11 13", changed())
    end)

    it("is a list of statements, whose last one counts the rows", function()
        assert.equal(2, run({ run = {
            "create temp table m on commit drop as select id from o where :chunk", "insert into gone select * from m",
            "delete from o using m where m.id = o.id and m.id > :low",
        }, params = { low = 3 } }, "1", "5"))
        assert.equal(4, conn:value "select count(*) from gone")
        assert.equal(28, conn:value "select count(*) from o")
    end)

    local LOCKS <const> = "select count(*) from pg_locks where mode = 'RowShareLock' and pid = pg_backend_pid()"

    it("is a function, which finds the chunk's rows in their order and locked", function()
        local seen, locks
        assert.equal(2, run({ where = "id > 3", run = function(tx, chunk)
            seen = {}
            for i, row in ipairs(chunk:rows { "id", "n" }) do seen[i] = row.id end
            locks = tx:value(LOCKS)
            assert.equal("x", chunk:rows()[1][":chunk"])
            return #chunk:rows "o.id * 2 as double"
        end }, "1", "5"))
        assert.same({ 4, 5 }, seen)
        assert.is_true(locks > 0)
        assert.equal(1, run({ lock = false, run = function(tx, chunk)
            local n <const> = #chunk:rows "id"
            assert.equal(0, tx:value(LOCKS))
            return n
        end }, "1", "2"))
    end)

    local function refused(fn, ...)
        local ok <const>, e <const> = pcall(fn, ...)
        assert.is_false(ok)
        assert.equal("usage", e.kind)
        return e.message
    end

    it("is refused when a function does not say how many rows it has changed", function()
        for _, given in ipairs { 1.5, -1, "3", false } do
            assert.matches("run must return the number of rows", refused(run, { run = function() return given end },
                nil, "3"), 1, true)
        end
        assert.equal(3, run({ run = function() return 3.0 end }, nil, "3"))
        assert.matches("chunk:rows: must be called on the chunk", refused(run, { run = function(_, chunk)
            return chunk.rows "id"
        end }, nil, "3"), 1, true)
    end)

    it("is refused when it moves the rows of the walk", function()
        for _, sql in ipairs {
            "update o set id = id + 1 where :chunk", "update public.o x set n = 1, id = 3 where :chunk",
            "with m as (update o set (n, id) = (1, 2) where :chunk returning 1) select * from m",
            "insert into o select id from o where :chunk on conflict (id) do update set id = 4",
            "merge into o using gone g on o.id = g.id and :chunk when matched then update set id = 2",
        } do
            assert.matches("run assigns id of o %(%u+%), which is in the key that is walked", refused(compiled,
                { run = sql }))
        end
        compiled { run = "update s.o set id = id + 1 where :range", as = "o" }
        compiled { run = "insert into o (id) select id from o where :chunk on conflict (id) do update set n = 4" }
    end)

    it("can be that of a kind (purge and so on), with the chunk's rows", function()
        local d <const> = define.of("copy", { name = "job", table = "o" }, { work = function(walk, env)
            return function(_, chunk) return #chunk:rows "id", { index = walk.index, env = env.x } end
        end })
        local work <const> = define.compile(d, walks.open(conn, d), { x = 7 })
        assert.same({ 3, { index = "o_pkey", env = 7 } }, { conn:transaction(function(tx)
            return table.unpack { work(tx, { after = { "1" }, upto = { "4" }, open = false, started = "2024-01-01" }) }
        end) })
    end)

    it("compares by the key's own operators, with any search_path", function()
        conn:exec [[create schema ext; create extension citext schema ext;
            create table c (k ext.citext primary key, n int default 0);
            insert into c values ('a'), ('B'), ('c'), ('D'); create table c2 (a int, k ext.citext, primary key (a, k))]]
        assert.equal(2, run({ table = "c", run = "update c set n = 1 where :chunk" }, "A", "C"))
        assert.matches("is not the one that the search_path finds", refused(compiled, { table = "c2",
            run = "delete from c2 where :chunk" }), 1, true)
        conn:exec "set search_path = public, ext"
        compiled { table = "c2", run = "delete from c2 where :chunk" }
        conn:exec "reset search_path"
    end)

    it("takes its hours from the server's clock", function()
        local hours <const> = define.hours
        assert.is_nil(hours.open("00:00-24:00 Asia/Tokyo", conn))
        local now <const> = conn:one [[select extract(isodow from t)::int as day, extract(hour from t)::int as hour
            from (select now() at time zone 'Asia/Tokyo' as t) x]]
        local DAYS <const> = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" }
        local ahead <const> = DAYS[(now.day + 2) % 7 + 1] -- in three days
        assert.matches("outside of " .. ahead .. " 00:00%-01:00 Asia/Tokyo, which begins in %d+:%d%d h",
            (hours.open(ahead .. " 00:00-01:00 Asia/Tokyo", conn)))
        assert.matches("the server does not know the time zone 'Europe/Berlim'", refused(hours.open,
            "22:00-06:00 Europe/Berlim", conn), 1, true)
    end)
end)
