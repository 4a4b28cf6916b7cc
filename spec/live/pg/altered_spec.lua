--- Composite types that another program has just altered: a value that does not match the known definition makes dbrun
--- look the type up again.
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local function last(...)
    local v
    for row in ... do v = row.v end
    return v
end

pg.on_both(describe, function(mode)
    local url, psql, e

    local function begin()
        psql "drop type if exists t, inner_t"
        psql "create type inner_t as (n int, f float8); create type t as (a int, b text, i inner_t)"
    end

    before_each(function()
        local database
        url, database = servers.database()
        psql = function(text) return servers.shared_postgres():stay(text, database) end
        begin()
        e = pg.engine { mode = mode, url = url, size = 1, overflow = 0 }
    end)
    after_each(function() e:dispose() end)

    --- The value of an expression, read in every way; it must be the same in all.
    local function read(expression)
        local sql <const> = ("select %s as v"):format(expression)
        local v <const> = e:value(sql)
        assert.same(v, e:one(sql).v)
        assert.same({ v }, e:columns(sql).v)
        for row in e:rows(sql) do assert.same(v, row.v) end
        assert.same(v, e:pipeline(function(p) p:query(sql) end)[1][1].v)
        for row in e:copy_out(sql) do assert.same(v, row.v) end
        e:transaction(function(tx)
            assert.same(v, tx:value(sql))
            for row in tx:cursor(sql) do assert.same(v, row.v) end
        end)
        return v
    end

    local OLD <const> = "(1, 'x', (2, 0.5))::t"

    --- Looks the type up, alters it in another program, and reads at once.
    local function alter(how, reader)
        assert.same({ a = 1, b = "x", i = { n = 2, f = 0.5 } }, e:value("select " .. OLD))
        psql(how)
        return reader()
    end

    for what, case in pairs {
        ["a field more"] = { "alter type t add attribute c bool", "(1, 'x', (2, 0.5), true)::t",
            { a = 1, b = "x", i = { n = 2, f = 0.5 }, c = true } },
        ["a field less"] = { "alter type t drop attribute b", "(1, (2, 0.5))::t", { a = 1, i = { n = 2, f = 0.5 } } },
        ["the first field gone"] = { "alter type t drop attribute a", "('x', (2, 0.5))::t",
            { b = "x", i = { n = 2, f = 0.5 } } },
        ["a field of another type"] = { "alter type t alter attribute a type text", "('one', 'x', (2, 0.5))::t",
            { a = "one", b = "x", i = { n = 2, f = 0.5 } } },
        ["one gone and another one new"] = { "alter type t drop attribute a; alter type t add attribute z int",
            "('x', (2, 0.5), 5)::t", { b = "x", i = { n = 2, f = 0.5 }, z = 5 } },
        ["another type inside"] = { "alter type inner_t drop attribute n", "(1, 'x', row(0.5)::inner_t)::t",
            { a = 1, b = "x", i = { f = 0.5 } } },
    } do
        it("have " .. what, function()
            local v <const> = alter(case[1], function() return e:value("select " .. case[2]) end)
            assert.same(case[3], v)
            assert.same(case[3], read(case[2]))
        end)

        it("have " .. what .. ", in arrays and in rows one by one", function()
            local sql <const> = ("select array[%s, null, %s] as v"):format(case[2], case[2])
            assert.same(case[3], alter(case[1], function() return e:value(sql)[3] end))
        end)

        it("have " .. what .. ", read with rows, a pipeline, copy_out and in a transaction", function()
            local sql <const> = ("select %s as v"):format(case[2])
            assert.same(case[3], alter(case[1], function() return last(e:rows(sql)) end))
            begin()
            assert.same(case[3], alter(case[1], function()
                return e:pipeline(function(p) p:query(sql) end)[1][1].v
            end))
            begin()
            assert.same(case[3], alter(case[1], function() return last(e:copy_out(sql)) end))
            begin() -- the pipeline has prepared the statement, and only a retry can find out that its type has gone
            assert.same(case[3], alter(case[1], function()
                return e:transaction({ retry = 1 }, function(tx) return tx:value(sql) end)
            end))
        end)
    end
end)
