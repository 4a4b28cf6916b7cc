--- Wrong arguments, unknown options and names: errors of kind usage, at the caller's line, before a checkout.
local db = require "dbrun.db"
local errors = require "dbrun.error"
local pg = require "spec.support.pg"

--- Message and hint of a usage error, in one line.
local function problem(fn, ...)
    local ok, e = pcall(fn, ...)
    assert.is_false(ok)
    assert.is_true(errors.is(e, "usage"), tostring(e))
    assert.matches("arguments_spec.lua", e.where, 1, true)
    assert.is_nil(e.message:find "dbrun/")
    return e.message .. (e.hint and " | " .. e.hint or "")
end

local function told(text, fn, ...)
    assert.matches(text, problem(fn, ...), 1, true)
end

--- Values of wrong types for any argument.
local function things()
    return ipairs { 5, "text", true, {}, { 1 }, { nothing_of_it = 1 }, print, db.null, coroutine.create(print) }
end

describe("wrong arguments", function()
    -- There is no server: a check after the checkout would be an error of kind connect.
    local e <const> = db.engine { url = "host=/nonexistent/folder", mode = "sync" }

    it("are refused before a connection is taken", function()
        told("query: the SQL must be a string, got nil", e.query, e)
        told("rows: the SQL must be a string, got 5", e.rows, e, 5)
        told("exec: the SQL must be a string, got a table", e.exec, e, {})
        told("copy_in: takes (table, columns, rows, options), got a string", e.copy_in, e, "t", nil, print, "csv")
        told("copy_in: the options must be a table, got a string", e.copy_in, e, "t", nil, {}, "csv")
        told("copy_in: unknown option 'fromat' | did you mean 'format'?", e.copy_in, e, "t", nil, {},
            { fromat = "csv" })
        told("copy_in: the columns must be a list of strings, got a string", e.copy_in, e, "t", "a,b", {})
        told("copy_in: the table's name must be a string or a list of strings, got nil", e.copy_in, e, nil, nil, {})
        told('the table\'s name "a"."b" has quotes, and copy_in quotes it itself | schema.table, or {', e.copy_in, e,
            db.ident "a.b", nil, {})
        told("copy_in: takes (table, columns, rows, options), got 5", e.copy_in, e, "t", nil, {}, {}, 5)
        told("copy_in: takes (table, columns, rows, options), got 5", e.copy_in, e, "t", nil, print, nil, nil, 5)
        told("copy_out: unknown option 'postional' | did you mean 'positional'?", e.copy_out, e, "t",
            { postional = true })
        told("copy_out: the options must be a table, got a number | parameters follow the options", e.copy_out, e,
            "select $1", 7)
        told("copy_out: parameters are for a query, not for a table", e.copy_out, e, "t", nil, 7)
        told("copy_out: parameter 2 must be a value: a string, number,", e.copy_out, e, "select $2", nil, 7, print)
        told("copy_out: columns must be a list of strings, got a string", e.copy_out, e, "t", { columns = "a" })
        told("copy_out: header must be true, false or \"match\", got \"yes\"", e.copy_out, e, "t", { header = "yes" })
        for _, name in ipairs { "query", "one", "value", "rows", "columns" } do -- $1 would be a value of :a, too
            told("the SQL has both $n and :a: write all", e[name], e, "select $1, :a", { a = 5 })
        end
        told("advisory_lock: got 5 after the function", e.advisory_lock, e, "key", print, 5)
        told("advisory_lock: unknown option 'timeot' | did you mean 'timeout'?", e.advisory_lock, e, 1, { timeot = 1 },
            print)
        told("advisory_lock: the key must be a string or an integer, got 1.5", e.advisory_lock, e, 1.5, print)
        told("session: takes no arguments, got 5", e.session, e, 5)
        told("acquire: takes no arguments, got a table", e.acquire, e, { timeout = 1 })
        told("transaction: unknown option 'isolaton' | did you mean 'isolation'?", e.transaction, e, { isolaton = "x" },
            print)
        told("pipeline: the function to call must be a function, got nil", e.pipeline, e)
        told("execute_many: the SQL must be a string, got nil", e.execute_many, e)
        told("execute_many: row 2 is nil, and others follow", e.execute_many, e, "x", { { 1 }, nil, { 3 } })
        told("execute_many: expected a list of rows, got a table by name | A list of one is { row }.", e.execute_many,
            e, "x", { i = 1 })
        local proxy <const> = setmetatable({}, { __index = function(_, i) return i == 2 and { 1 } or nil end })
        told("execute_many: the list of rows is an empty table whose content is in its metatable", e.execute_many, e,
            "x", proxy)
        told("takes the SQL and one list of parameter lists, got a table", e.execute_many, e, "x", { 1 }, { 2 })
        told("listen: a channel's name must be a string, got 5", e.listen, e, "a", 5)
        told("listen: the channels must be a list of strings", e.listen, e, { "a", timeout = 1 })
        told("set_codec: unknown option 'decoder' | did you mean 'decode'?", e.set_codec, e, "mood",
            { decoder = print })
        told("set_codec: the codec must be a table {decode=, encode=}, got a function", e.set_codec, e, "mood", print)
    end)

    it("of wrappers and names are refused", function()
        told("db.ident: the name must be a string or a list of strings, got nil", db.ident)
        told("db.ident: the name must be a string or a list of strings, got a table", db.ident, { "a", schema = "b" })
        told("db.ident: expected at least one name", db.ident, {})
        told("db.bytea: its argument must be a string, got 5", db.bytea, 5)
        told("db.typed: its second argument must be the name of a type", db.typed, 1)
        told("db.array: its first argument must be a list, got 5", db.array, 5)
        told("db.array: unknown option 'dim' | did you mean 'dims'?", db.array, {}, "int4", { dim = 2 })
        told("db.array: dims must be the number of dimensions, 1 to 6, got 7", db.array, {}, "int4", { dims = 7 })
        told("db.array: lower[1] must be a whole number", db.array, {}, "int4", { lower = { "x" } })
        told("db.range: its first argument must be a table, got 5", db.range, 5)
        told("db.engine: the options must be a table, got nil", db.engine)
        told("db.engine: unknown option 'urll' | did you mean 'url'?", db.engine, { urll = "x" })
    end)

    it("of any type are never a plain error of Lua", function()
        local methods <const> = { "query", "one", "value", "columns", "rows", "exec", "transaction", "set_codec",
            "copy_in",
            "copy_out", "pipeline", "execute_many", "advisory_lock", "listen" }
        local function check(name, fn, ...)
            local ok, why = pcall(fn, ...)
            assert.is_true(ok or errors.is(why), ("%s: %s"):format(name, tostring(why)))
        end
        for _, name in ipairs(methods) do
            check(name, e[name], e)
            for _, a in things() do
                check(name, e[name], e, a)
                for _, b in things() do
                    check(name, e[name], e, a, b)
                    check(name, e[name], e, a, b, b)
                end
            end
        end
        for _, name in ipairs { "array", "json", "bytea", "typed", "range", "composite", "ident", "engine" } do
            for _, a in things() do
                for _, b in things() do
                    check(name, db[name], a, b, b)
                end
            end
        end
    end)
end)

pg.on_both(describe, function(_, open)
    describe("a method called with '.'", function()
        it("says so, with any arguments", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local s <close> = e:session()
            local l <close> = e:listen "a"
            local objects = {
                { "an engine", e,
                    "query one value exec rows columns acquire stats invalidate dispose close transaction "
                    .. "set_codec copy_in copy_out pipeline execute_many session advisory_lock listen" },
                { "a connection", c, "query one value exec rows columns release cancel backend_pid invalidate "
                    .. "in_transaction on_notice describe cursor transaction copy_in copy_out pipeline execute_many "
                    .. "advisory_lock" },
                { "a session", s, "query one value rows columns cursor exec copy_in copy_out pipeline execute_many "
                    .. "transaction commit rollback close" },
                { "a listener", l, "next events listen unlisten backend_pid close" },
            }
            for _, object in ipairs(objects) do
                local what, o, names = table.unpack(object)
                for name in names:gmatch "%S+" do
                    for _, self in things() do
                        local text = problem(o[name], self)
                        assert.matches(name .. ": must be called on " .. what .. ", got ", text, 1, true)
                        assert.matches(":" .. name .. "(...)", text, 1, true)
                    end
                    told(name .. ": must be called on " .. what .. ", got nil", o[name])
                end
            end
            e:pipeline(function(p) told("query: must be called on a pipeline, got a string", p.query, "select 1") end)
        end)
    end)

    describe("wrong arguments of methods", function()
        it("of connections, cursors and listeners are refused", function()
            local e <close> = open()
            local l <close> = e:listen "a"
            told("next: the timeout must be a number of seconds of at least 0, got -1", l.next, l, -1)
            told("events: the timeout must be a number of seconds", l.events, l, "soon")
            told("unlisten: a channel's name must be a string, got true", l.unlisten, l, true)
            e:transaction(function(tx)
                told("cursor: fetch must be a whole number of at least 1, got 0", tx.cursor, tx, "select 1",
                    { fetch = 0 })
                told("on_notice: the function must be a function, got 5", tx.on_notice, tx, 5)
                local cursor <close> = tx:cursor "select 1"
                told("close: must be called on a cursor, got nil", cursor.close)
            end)
            e:pipeline(function(p) told("query: the SQL must be a string, got nil", p.query, p) end)
        end)

        it("of the iterator of rows are refused", function()
            local e <close> = open()
            local next_row, state <const>, _, closing <close> = e:rows "select 1 as n"
            assert.is_nil(state)
            assert.equal(next_row, closing)
            assert.same({ n = 1 }, next_row())
            assert.is_nil(next_row())
        end)

        it("of iterators: rows of another statement can be passed on", function()
            local e <close> = open { size = 3 }
            local t = pg.table(e, "i int")
            assert.equal(3, e:execute_many(("insert into %s values (:i)"):format(t),
                e:rows "select i from generate_series(1, 3) i"))
            e:transaction(function(tx)
                assert.equal(2, e:execute_many(("insert into %s values (:i)"):format(t),
                    tx:cursor "select i from generate_series(1, 2) i"))
            end)
            assert.equal(5, e:value("select count(*) from " .. t))
        end)
    end)

    describe("a name of another library", function()
        it("is an error that suggests dbrun's name", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local s <close> = e:session()
            local l <close> = e:listen "a"
            local function get(o, name) return o[name] end
            told("an engine has no 'fetch' | engine:query(sql, ...)", get, e, "fetch")
            told("an engine has no 'fetchone' | engine:one(sql, ...)", get, e, "fetchone")
            told("an engine has no 'fetchval' | engine:value(sql, ...)", get, e, "fetchval")
            told("an engine has no 'execute' | engine:query(sql, ...)", get, e, "execute")
            told("an engine has no 'commit' | engine:transaction(", get, e, "commit")
            told("an engine has no 'cursor' | a cursor needs a transaction", get, e, "cursor")
            told("an engine has no 'qeury' | did you mean 'query'?", get, e, "qeury")
            told("a connection has no 'execute' | conn:query(sql, ...)", get, c, "execute")
            told("a connection has no 'fetchrow' | conn:one(sql, ...)", get, c, "fetchrow")
            told("a connection has no 'close' | conn:release()", get, c, "close")
            told("a session has no 'execute' | session:query(sql, ...)", get, s, "execute")
            told("a session has no 'begin' | a session begins with its first statement", get, s, "begin")
            told("a listener has no 'wait' | listener:next(seconds)", get, l, "wait")
            told("db has no 'query' | an engine has it: db.async:query(...)", get, db, "query")
            told("db has no 'fetchall' | db.async:query(sql, ...)", get, db, "fetchall")
            told("db has no 'connect' | db.async and db.sync", get, db, "connect")
            told("db has no 'asnyc' | did you mean 'async'?", get, db, "asnyc")
            e:pipeline(function(p) told("a pipeline has no 'execute' | p:query(sql, ...)", get, p, "execute") end)
            e:transaction(function(tx)
                local cursor <close> = tx:cursor "select 1"
                told("a cursor has no 'fetchone' | cursor() gives the next row", get, cursor, "fetchone")
            end)
        end)

        it("that resembles nothing is nil", function()
            local e <close> = open()
            local c <close> = e:acquire()
            local s <close> = e:session()
            for _, o in ipairs { e, c, s, db } do
                for _, key in ipairs { "something_newer", "__name", "kind", "x", 1, true, print } do
                    assert.is_nil(o[key])
                end
            end
        end)
    end)
end)
