--- More work for test_pg_memory.c, in which memory runs out at one allocation after the other.
---@param work table<string, fun()> to be filled
---@param e table the engine
---@param open fun(): table another engine on the same server
return function(work, e, open)
    local db <const> = require "dbrun.db"

    e:exec [[do $$ begin
        if to_regtype('mood') is null then
            create type mood as enum ('sad', 'ok');
            create type pair as (a int, m mood);
            create domain small as int check (value < 100);
            create type spans as range (subtype = small);
        end if;
    end $$]]

    --- User-defined types that an engine meets for the first time.
    function work.types()
        local other <close> = open()
        for _ = 1, 2 do
            local row <const> = other:one [[select 'ok'::mood as m, row(1, 'sad')::pair as p, array[row(2, 'ok')::pair]
                as l, 5::small as s, '[1,3)'::spans as r, null::pair as n]]
            assert(row.m == "ok" and row.p.a == 1 and row.p.m == "sad" and row.l[1].a == 2 and row.s == 5)
            assert(row.r.lower == 1 and row.n == nil)
        end
    end

    function work.open()
        local other <close> = open()
        assert(other:value("select $1::text", "first") == "first")
    end

    function work.parameters()
        local r <const> = e:one("select $1::int[] as a, $2::jsonb as j, $3::bytea as y, $4::numeric as n, "
            .. "$5::bool as b, $6::float8 as f, $7::text as t",
            db.array({ 1, db.null, 3 }, "int4"), db.json { k = { 1, 2 } },
            db.bytea "\0\1", db.typed("1.50", "numeric"), true, 1.5, db.null)
        assert(r.a[3] == 3 and r.j.k[2] == 2 and r.y == "\0\1" and r.n == "1.50" and r.b and r.f == 1.5 and r.t == nil)
    end

    --- The same text repeatedly: unnamed, prepared, by its name.
    function work.prepared()
        local n <const> = math.random(1 << 40)
        for i = 1, 4 do assert(e:value(("select $1::int8 + %d"):format(n), i) == n + i) end
    end

    function work.many_rows()
        local i = 0
        local n <const> = e:execute_many("insert into t (i, s) values (:i, :s)", function()
            i = i + 1
            return i <= 30 and { i = i, s = "row" } or nil
        end)
        assert(n == 30)
    end

    function work.refused()
        local ok <const>, err <const> = pcall(e.pipeline, e, function(p)
            p:query "select 1"
            p:query "select 1 / 0"
        end)
        if type(err) == "string" then error(err, 0) end
        assert(not ok and err.sqlstate == "22012")
    end

    function work.advisory()
        assert(e:advisory_lock("memory", function(c) return c:value "select 7" end) == 7)
    end

    function work.listen()
        local l <close> = e:listen "memory"
        e:query "select pg_notify('memory', 'hello')"
        local event
        repeat event = l:next(5) until not event or event.kind == "notify"
        assert(event and event.payload == "hello")
    end

    --- All connections of the pool can be checked out at once, and each gives right answers.
    return function()
        local held <const> = {}
        for i = 1, 4 do held[i] = e:acquire() end
        for i = 1, 4 do
            assert(held[i]:value("select $1::int", i) == i)
            held[i]:release()
        end
    end
end
