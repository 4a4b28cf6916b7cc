--- dbrun spec/support/finaliser_pg.lua URL MODE WHAT: uses a leased connection while a finaliser disturbs it, at every
--- moment and in every way. Each result must be right or an error, and the pool must be idle afterwards.

local db <const> = require "dbrun.db"
local errors <const> = require "dbrun.error"
local finaliser <const> = require "spec.support.finaliser"
local task <const> = require "dbrun.task"

local M = {}

local function all(...)
    local list = {}
    for row in ... do
        list[#list + 1] = type(row) == "table" and (row.v or row[1]) or row
    end
    return table.concat(list, ",")
end

local texts = 0

--- Each gets a connection and a nonce, and returns something with the nonce in it.
M.done = {
    { "query, prepared", function(c, nonce)
        local r <const> = c:query("select $1::text as v, 7 as n", nonce)
        assert(r[1].n == 7 and r.columns[1].name == "v" and r.columns[2].name == "n" and r.affected == 1)
        return r[1].v
    end },
    { "query, new each time", function(c, nonce)
        texts = texts + 1
        local r <const> = c:query(("select $1::text as v%d, 7 as n"):format(texts), nonce)
        assert(r[1].n == 7 and r.columns[1].name == "v" .. texts)
        return r[1]["v" .. texts]
    end },
    { "query, large", function(c, nonce)
        local r <const> = c:query(
            "select $1::text || i as v, repeat('x', 1500) as x from generate_series(1, 9) i", nonce)
        assert(#r == 9 and r.affected == 9 and r.columns[2].name == "x")
        return r[1].v .. "," .. r[9].v
    end, "%s1,%s9" },
    { "one", function(c, nonce) return c:one("select $1::text as v", nonce).v end },
    { "value", function(c, nonce) return c:value("select $1::text as v", nonce) end },
    { "value of an array", function(c, nonce) return c:value("select array['a', $1::text]", nonce)[2] end },
    { "columns", function(c, nonce)
        local t <const>, n <const> = c:columns("select $1::text as v from generate_series(1, 3)", nonce)
        assert(n == 3 and #t.v == 3)
        return t.v[3]
    end },
    { "exec", function(c, nonce)
        return c:exec("set session application_name = '" .. nonce .. "'; select 1, 2") == 1 and nonce
    end },
    { "describe", function(c, nonce)
        return c:describe(('select 1 as a, 2 as "%s"'):format(nonce))[2].name
    end },
    { "a named parameter", function(c, nonce) return c:value("select :v::text", { v = nonce }) end },
    { "rows", function(c, nonce)
        return all(c:rows("select $1::text || i as v from generate_series(1, 3) i", nonce))
    end, "%s1,%s2,%s3" },
    { "rows with notices", function(c, nonce)
        c:on_notice(function(notice) return notice.message .. nonce end)
        c:exec "do $$ begin raise notice 'one'; raise notice 'two'; end $$"
        return c:value("select $1::text", nonce)
    end },
    { "copy out", function(c, nonce)
        return all(c:copy_out(("select '%s' || i as v from generate_series(1, 3) i"):format(nonce)))
    end, "%s1,%s2,%s3" },
    { "copy out as text", function(c, nonce)
        return all(c:copy_out(("select '%s' || i as v, '(1,2)'::point from generate_series(1, 3) i"):format(nonce)))
    end, "%s1,%s2,%s3" },
    { "copy out by position", function(c, nonce)
        return all(c:copy_out(("select '%s' || i as v from generate_series(1, 3) i"):format(nonce),
            { positional = true }))
    end, "%s1,%s2,%s3" },
    { "copy out, raw", function(c, nonce)
        return (all(c:copy_out(("select '%s' || i as v from generate_series(1, 3) i"):format(nonce), { raw = true }))
            :gsub("\n", ","):gsub(",+", ","))
    end, "%s1,%s2,%s3," },
    { "copy in", function(c, nonce)
        c:exec "create temp table if not exists copied (v text, n int); delete from copied"
        local n <const> = c:copy_in("copied", { "v", "n" }, { { nonce .. "1", 1 }, { nonce .. "2", 2 } })
        assert(n == 2)
        return c:value "select string_agg(v, ',' order by n) from copied"
    end, "%s1,%s2" },
    { "copy in, text", function(c, nonce)
        c:exec "create temp table if not exists copied (v text, n int); delete from copied"
        c:copy_in("copied", nil, ("%s1\t1\n%s2\t2\n"):format(nonce, nonce))
        return c:value "select string_agg(v, ',' order by n) from copied"
    end, "%s1,%s2" },
    { "pipeline", function(c, nonce)
        local list <const> = c:pipeline(function(p)
            p:query("select $1::text || 1 as v", nonce)
            p:query("select $1::text || 2 as v", nonce)
        end)
        assert(#list == 2 and list[2].columns[1].name == "v", "a result is missing")
        return list[1][1].v .. "," .. list[2][1].v
    end, "%s1,%s2" },
    { "execute_many", function(c, nonce)
        c:exec "create temp table if not exists many (v text, n int); delete from many"
        assert(c:execute_many("insert into many values ($1, $2)", { { nonce .. "1", 1 }, { nonce .. "2", 2 } }) == 2)
        return c:value "select string_agg(v, ',' order by n) from many"
    end, "%s1,%s2" },
    { "transaction and cursor", function(c, nonce)
        return c:transaction(function(tx)
            return all(tx:cursor("select $1::text || i as v from generate_series(1, 3) i", nonce, { fetch = 2 }))
        end)
    end, "%s1,%s2,%s3" },
    { "parameters", function(c, nonce)
        local n = 0
        for name, value in pairs(c.parameters) do
            n = n + (value == c.parameters[name] and 1 or 0)
        end
        return n >= 10 and nonce
    end },
    { "a type of the database's own", function(c, nonce)
        texts = texts + 1
        local name <const> = ("t_%s_%d"):format(nonce:lower(), texts)
        c:exec(("create type pg_temp.%s as enum ('%s', 'b')"):format(name, nonce))
        return c:query(("select array['%s']::pg_temp.%s[] as v"):format(nonce, name))[1].v[1]
    end },
    { "value, in a task of its own", function(c, nonce)
        local got
        local g <close> = task.group()
        g:spawn(function() got = c:value("select $1::text", nonce) end)
        g:wait()
        return got
    end },
    { "listen", function(c, nonce)
        local e <const> = c:value "select current_database()" and M.engine
        local l <close> = e:listen "finalised"
        e:exec(("notify finalised, '%s1'; notify finalised, '%s2'"):format(nonce, nonce))
        local first <const>, second <const> = l:next(20), l:next(20)
        return first.payload .. "," .. second.payload
    end, "%s1,%s2" },
}

--- What the finaliser does. x: conn, engine, seen = the finaliser's own result.
M.acts = {
    release = function(x) x.conn:release() end,
    query = function(x)
        x.seen = x.conn:value("select $1::text", x.nonce)
    end,
    pipeline = function(x)
        x.seen = x.conn:pipeline(function(p) p:query("select $1::text as v", x.nonce) end)[1][1].v
    end,
    rows = function(x)
        x.rows = table.pack(x.conn:rows "select generate_series(1, 10)")
        x.rows[1]()
    end,
    cancel = function(x) x.conn:cancel() end,
    ["release and close"] = function(x)
        x.conn:release()
        x.engine:close()
    end,
    ["__gc by hand"] = function(x) getmetatable(x.conn).__gc(x.conn) end,
    ["everything that is open"] = function(x)
        for _, it in ipairs(x.opened) do
            local meta <const> = getmetatable(it)
            pcall(meta.__close, it)
            pcall(meta.next, it)
            pcall(meta.__gc, it)
        end
    end,
}

--- A connection that remembers the iterators it returned.
local function watched(x)
    return setmetatable({}, { __index = function(_, name)
        local method <const> = x.conn[name]
        if type(method) ~= "function" then
            return method
        end
        return function(_, ...)
            local r <const> = table.pack(method(x.conn, ...))
            for i = 1, r.n do
                if type(r[i]) == "userdata" then
                    x.opened[#x.opened + 1] = r[i]
                end
            end
            return table.unpack(r, 1, r.n)
        end
    end })
end

local function check_pool(x)
    if x.rows then
        pcall(getmetatable(x.rows[1]).__close, x.rows[1])
    end
    for _, it in ipairs(x.opened) do
        pcall(getmetatable(it).__close, it)
    end
    pcall(x.conn.release, x.conn)
    local ok <const>, stats <const> = pcall(x.engine.stats, x.engine)
    assert(not ok or stats.leased == 0, "a connection is still leased")
end

---@param url string
---@param mode "async"|"sync"
---@param what string one of M.done
function M.try(url, mode, what)
    local entry
    for _, candidate in ipairs(M.done) do
        entry = candidate[1] == what and candidate or entry
    end
    local fn <const>, expected <const> = entry[2], entry[3] or "%s"
    local nonces = 0
    for name, act in pairs(M.acts) do
        local engine
        finaliser.at_every_moment {
            prepare = function()
                if not engine or not pcall(engine.stats, engine) then
                    engine = db.engine { url = url, mode = mode, size = 3, overflow = 0, timeout = 20,
                        command_timeout = 60 }
                    M.engine = engine
                end
                nonces = nonces + 1
                local x <const> = { engine = engine, conn = engine:acquire(), nonce = "n" .. nonces, opened = {} }
                x.proxy = name == "everything that is open" and watched(x) or x.conn
                fn(x.conn, x.nonce) -- so that the statement is prepared
                return x
            end,
            run = function(x) return fn(x.proxy, x.nonce) end,
            act = act,
            check = function(x, ok, result)
                local whole <const> = expected:gsub("%%s", x.nonce)
                -- When other code reads or closes the iterator, its loop gets fewer rows.
                if ok and result ~= whole and name ~= "everything that is open" then
                    error(("%s, %s: got %s instead of %s"):format(what, name, result, whole))
                elseif not ok and not errors.is(result) then
                    error(("%s, %s: %s"):format(what, name, result))
                end
                assert(x.seen == nil or x.seen == x.nonce, "the finaliser's own reply is wrong")
                check_pool(x)
            end,
        }
        engine:close()
    end
end

if arg and arg[0] and arg[0]:find "finaliser_pg" then
    M.try(arg[1], arg[2], arg[3])
end

return M
