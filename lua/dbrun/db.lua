--- PostgreSQL: pooled engines, async (a waiting task lets others run) and sync (the program waits).
---
---     local db = require "dbrun.db"
---     print(db.async:value("select count(*) from users where active = $1", true))
---
--- Both engines have the same methods. All raise the error object of dbrun.error.
---
--- Raises nothing else.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.db.names"
local params <const> = require "dbrun.db.params"
local quote <const> = require "dbrun.db.quote"
local options <const> = require "dbrun.db.options"

local M = {}

-- Loaded with the first value that must be encoded by its type.
core.pg.on_values(function(...) return require "dbrun.db.values".write(...) end)
-- Loaded with the first options before a statement, and the first row that is printed.
core.pg.on_options(function(...) return require "dbrun.db.form".check(...) end)
core.rows.on_show(function(v) return require "dbrun.db.show".text(v) end)

---SQL NULL where Lua cannot hold nil: in lists, and as the value of a :name parameter.
M.null = core.null
M.array = params.array
M.json = params.json
M.bytea = params.bytea
M.typed = params.typed
M.range = params.range
M.composite = params.composite
M.ident = params.ident
M.literal = quote.literal

---@class dbrun.Result
---@field [integer] table<string, any> rows by column name; NULL is absent
---@field columns {name: string, type?: string, oid: integer}[]
---@field command string "SELECT", "INSERT", "CREATE TABLE", ...
---@field affected integer the server's row count

---@class dbrun.EngineOptions
---@field url? string URL or keyword string; empty = libpq's defaults
---@field mode? "async"|"sync" async
---@field size? integer connections kept open (20; sync 5; 0 = no limit)
---@field overflow? integer above that, closed on return (10; sync 0; -1 = no limit)
---@field timeout? number seconds to wait for a connection (30)
---@field connect_timeout? number seconds for opening one (10)
---@field command_timeout? number seconds for each statement (0 = none)
---@field recycle? number seconds of age after which a connection is replaced (0 = never)
---@field pre_ping? boolean test a connection before it is handed out (true)
---@field pre_ping_idle? number seconds idle after which that test is a round trip (0.5; 0 = always)
---@field reset? "rollback"|"full"|"none" what happens to a connection on return (rollback)
---@field statement_cache? integer prepared statements for each connection (100; 0 = none)
---@field statement_cache_age? number seconds after which a prepared statement is parsed again (1; 0 = never): for that
---time it can use the old types of a column that another program has changed
---@field numeric? "text"|"float" how exact numerics are read: as strings, or as floats, which round (text)
---@field timestamps? "text"|"epoch" how dates and times are read and written: ISO 8601, or seconds since 1970 (text)
---@field pipeline? integer|false statements that may be in flight on each connection, shared by tasks (0 = none)
---@field numbers? "float"|"exact" numbers of JSON that Lua cannot hold exactly: floats, or strings of digits (float)
---@field application_name? string
---@field on_connect? fun(conn: dbrun.Connection) runs once for each new connection, and again after DISCARD ALL
---(reset="full"), in the task that gets it, before anything else; an error closes the connection and is raised in that
---task
---@field on_notice? fun(notice: dbrun.Notice) called with messages such as NOTICE and WARNING, in
---the task of the statement that caused them; it cannot wait, and its errors go to the log
---@field large_result? integer bytes of a result held in memory that the log warns about (256 MiB; 0 = never)

---@class dbrun.Notice
---@field severity string "NOTICE", "WARNING", "INFO", "LOG" or "DEBUG"
---@field sqlstate string
---@field message string
---@field detail? string
---@field hint? string
---@field context? string
---@field schema? string
---@field table? string
---@field column? string
---@field datatype? string
---@field constraint? string

---@class dbrun.Engine
---Raises errors of kind `connect`, `pool` (no connection in time), `timeout`, `cancelled`, `query` and `constraint`
---(the server refused), and `protocol` (a value cannot be read); `outcome` says whether the work may have happened.
---@field query fun(self, sql: string|dbrun.RowOptions, ...): dbrun.Result one statement; parameters $1... or a table
---for :name (a row, too); options may stand before the SQL: query({ positional = true, text = true }, sql, ...)
---```lua
---local result = db.async:query("select i, i * i as square from generate_series(1, $1) i", 3)
---print(#result, result[3].square, result.columns[2].name)  --> 3  9  square
---```
---@field one fun(self, sql: string|dbrun.RowOptions, ...): table|nil the only row; an error when there are more;
---options as for query
---```lua
---local row = db.async:one("select 7 as id, $1 as name", "Ada")
---print(row.id, row.name)  --> 7  Ada
---```
---@field value fun(self, sql: string|dbrun.RowOptions, ...): any first column of the first row; { text = true } may
---stand before the SQL
---```lua
---print(db.async:value("select upper($1)", "ada"))  --> ADA
---```
---@field exec fun(self, sql: string): integer one or several statements; rows affected by the last
---```lua
---print(db.async:exec "create table note (t text); insert into note values ('a'), ('b')")  --> 2
---db.async:exec "drop table note"
---```
---@field rows fun(self, sql: string|dbrun.RowOptions, ...): fun(): table|nil `for row in engine:rows(...)`: one by
---one, with back-pressure; leaving the loop early cancels the statement; options as for query
---```lua
---for row in db.async:rows("select i from generate_series(1, $1::int) i", 1000000) do
---    if row.i == 3 then print(row.i) break end  --> 3
---end
---```
---@field columns fun(self, sql: string|dbrun.RowOptions, ...): table<string, any[]>, integer one list for each column
---(NULL = db.null), number of rows; { text = true } may stand before the SQL
---```lua
---local columns, n = db.async:columns "select i, i * i as square from generate_series(1, 5) i"
---print(n, table.concat(columns.square, " "))  --> 5  1 4 9 16 25
---```
---@field acquire fun(self): dbrun.Connection a dedicated connection: `local c <close> = engine:acquire()`
---```lua
---local conn <close> = db.async:acquire() -- given back at the end of the block
---conn:exec "set application_name to 'report'"
---print(conn:value "show application_name")  --> report
---```
---@field stats fun(self): table<string, number> seconds and counts
---```lua
---local stats = db.async:stats()
---print(stats.leased, math.type(stats.size))  --> 0  integer
---```
---@field invalidate fun(self) replaces all present connections
---```lua
---db.async:invalidate() -- after a failover, or when the rights of the role have changed
---print(db.async:value "select 1")  --> 1
---```
---@field dispose fun(self) closes idle connections
---```lua
---db.async:dispose() -- before a fork, or when the program pauses for long
---print(db.async:stats().idle)  --> 0
---```
---@field package codecs fun(self, writes?: boolean): table
---@field package is_sync fun(self): boolean
---@field package target fun(self): string
---@field package values fun(self): table
---@field close fun(self) for good
---```lua
---local engine = db.engine { url = config.async_database_url, size = 1 }
---print(engine:value "select 1")  --> 1
---engine:close()
---```
local Engine, Connection, engine_class, connection_class = core.pg.classes()
names.answer("engine", Engine)
names.answer("connection", Connection)

--- Raises unless a method was called on an engine or a connection: `engine.transaction(fn)` passes none.
local function on_engine(method, self)
    args.self(method, self, engine_class, "an engine", "engine")
end

local function on_connection(method, self)
    args.self(method, self, connection_class, "a connection", "conn")
end

---@class dbrun.Connection: dbrun.Engine
---Raises errors of kind `connect`, `pool` (no connection in time), `timeout`, `cancelled`, `query` and `constraint`
---(the server refused), and `protocol` (a value cannot be read); `outcome` says whether the work may have happened.
---@field release fun(self) returns it to the pool; `<close>` does so too
---```lua
---local conn = db.async:acquire()
---print(conn:value "select 1")  --> 1
---conn:release() -- `local conn <close>` does it at the end of the block
---```
---@field cancel fun(self) cancels the statement that another task runs on it (SQLSTATE 57014)
---```lua
---local conn <close> = db.async:acquire()
---local slow = task.spawn(pcall, conn.query, conn, "select pg_sleep(60)")
---task.sleep(0.05)
---conn:cancel()
---print(select(2, slow:join()).sqlstate)  --> 57014
---```
---@field backend_pid fun(self): integer the number of the server's process
---```lua
---local conn <close> = db.async:acquire()
---print(conn:backend_pid() == conn:value "select pg_backend_pid()")  --> true
---```
---@field package certificates fun(self): number?, number? seconds until the server's certificate expires, and the
---client's
---@field invalidate fun(self) closes it when it is released
---@field in_transaction fun(self): false|"open"|"failed"
---whether a transaction is open, and whether a statement in it has failed
---```lua
---local conn <close> = db.async:acquire()
---print(conn:in_transaction())  --> false
---conn:exec "begin"
---print(conn:in_transaction())  --> open
---conn:exec "rollback"
---```
---@field parameters table<string, string> present values of what the server reports (server_version, TimeZone, ...)
---@field on_notice fun(self, fn: fun(notice: dbrun.Notice)|nil) replaces the engine's function until
---this connection is released
---```lua
---local conn <close> = db.async:acquire()
---conn:on_notice(function(notice) print(notice.severity, notice.message) end)
---conn:exec "drop table if exists nobody"
-----> NOTICE  table "nobody" does not exist, skipping
---```
---@field describe fun(self, sql: string): {name: string, type?: string, oid: integer}[] the columns of a
---statement, which is not run
---```lua
---local conn <close> = db.async:acquire()
---for _, column in ipairs(conn:describe "select 1 as one, now() as moment") do
---    print(column.name, column.type)  --> one  int4
-----> moment  timestamptz
---end
---```

---Rows through a server cursor: `for row in tx:cursor(sql, ..., {fetch = n}) do`. Only in a transaction. The loop may
---end early; other statements may run on the connection between its rows.
---@param sql string|dbrun.RowOptions options as for query may stand before the SQL
---@param ... any parameters, then perhaps {fetch = rows at a time (1000)}; the only table after an SQL with parameters
---has their values
---@return dbrun.Cursor cursor also callable, and closable (`<close>`)
---```lua
---db.async:transaction(function(tx)
---    for row in tx:cursor("select i from generate_series(1, $1::int) i", 1000000, { fetch = 100 }) do
---        if row.i == 3 then print(row.i) break end  --> 3
---    end
---end)
---```
function Connection:cursor(sql, ...)
    on_connection("cursor", self)
    return require "dbrun.db.cursor".open(self, sql, ...)
end

---Runs fn(tx) in a transaction: COMMIT when it returns, ROLLBACK when it raises. tx has the methods of a
---connection; tx:transaction is a savepoint.
---@param opts? {isolation?: string, read_only?: boolean, deferrable?: boolean, retry?: integer, timeout?: number}
---isolation: "serializable", "repeatable read" or "read committed"; retry: how often fn runs again after SQLSTATE 40001
---and 40P01; timeout: seconds for all of it
---@param fn fun(tx: dbrun.Connection): ...
---@return any ... what fn returned
function Connection:transaction(opts, fn)
    on_connection("transaction", self)
    local transaction <const> = require "dbrun.db.transaction"
    return transaction.run(self, transaction.arguments(opts, fn))
end

---As Connection:transaction, on a connection from the pool.
---@param opts? {isolation?: string, read_only?: boolean, deferrable?: boolean, retry?: integer, timeout?: number}
---isolation: "serializable", "repeatable read" or "read committed"; retry: how often fn runs again after SQLSTATE 40001
---and 40P01; timeout: seconds for all of it
---@param fn fun(tx: dbrun.Connection): ...
---@return any ... what fn returned
---```lua
---local id = db.async:transaction({ isolation = "serializable", retry = 3 }, function(tx)
---    tx:exec "create temporary table note (id int, t text) on commit drop"
---    return tx:value("insert into note values (1, $1) returning id", "a")
---end)
---print(id)  --> 1
---```
function Engine:transaction(opts, fn)
    on_engine("transaction", self)
    local transaction <const> = require "dbrun.db.transaction"
    opts, fn = transaction.arguments(opts, fn)
    local conn <close> = self:acquire()
    return transaction.run(conn, opts, fn, true)
end

local CODEC <const> = { function(v) return type(v) == "table" end, "a table {decode=, encode=}" }
local CODEC_KEYS <const> = { decode = args.callable, encode = args.callable }

---Sets how this engine reads values of a type, and writes them where the server expects that type.
---@param type_name string as in pg_type.typname
---@param codec {decode?: fun(text: string): any, encode?: fun(v: any): string}
---```lua
---local engine = db.engine { url = config.async_database_url }
---engine:set_codec("money", { decode = function(text) return text:gsub("[^%d.]", "") + 0 end })
---print(engine:value "select 1234.5::numeric::money" ~= nil)  --> true
---engine:close()
---```
function Engine:set_codec(type_name, codec)
    on_engine("set_codec", self)
    args.check("set_codec", "the type's name", type_name, "string")
    args.check("set_codec", "the codec", codec, CODEC)
    args.options("set_codec", codec, CODEC_KEYS)
    self:codecs(codec.encode ~= nil)[type_name] = codec
    self:values().codecs = self:codecs()
end

---Copies rows into a table; see dbrun.db.copy.
---@param table_name string|string[]
---@param columns string[]|nil
---@param source function|table|string|file* iterator of rows or of pieces of text, list of rows, text, open file
---@param opts? dbrun.CopyInOptions
---@return integer rows
function Connection:copy_in(table_name, columns, source, opts, ...)
    on_connection("copy_in", self)
    local copy <const> = require "dbrun.db.copy"
    return copy.copy_in(self, copy.arguments(table_name, columns, source, opts, ...))
end

---As Connection:copy_in, on a connection from the pool.
---@param table_name string|string[]
---@param columns string[]|nil
---@param source function|table|string|file* iterator of rows or of pieces of text, list of rows, text, open file
---@param opts? dbrun.CopyInOptions
---@param ... any
---@return integer rows
---```lua
---db.async:exec "create table reading (id int, value float8)"
---local i = 0
---print(db.async:copy_in("reading", { "id", "value" }, function()  --> 1000
---    i = i + 1
---    return i <= 1000 and { i, i / 4 } or nil
---end))
---db.async:exec "drop table reading"
---```
function Engine:copy_in(table_name, columns, source, opts, ...)
    on_engine("copy_in", self)
    local copy <const> = require "dbrun.db.copy"
    local call <const> = copy.arguments(table_name, columns, source, opts, ...)
    local conn <close> = self:acquire()
    return copy.copy_in(conn, call)
end

---Rows of a query or a table through COPY: `for row in engine:copy_out("select ...") do`. Tables by column name
---as from query, or with positional=true sequences with db.null; with raw=true pieces of text. See
---dbrun.db.copy_out.
---@param source string|string[] a query, or a table's name
---@param opts? dbrun.CopyOutOptions
---@param ... any parameters of the query: for $1, ..., or one table for :name; they are written into it as constants
---@return fun(): table|string|nil
function Connection:copy_out(source, opts, ...)
    on_connection("copy_out", self)
    local copy_out <const> = require "dbrun.db.copy_out"
    return copy_out.copy_out(self, source, copy_out.arguments(source, opts, ...), false, ...)
end

---As Connection:copy_out, on a connection from the pool, which the iterator holds.
---@param source string|string[] a query, or a table's name
---@param opts? dbrun.CopyOutOptions
---@param ... any parameters of the query: for $1, ..., or one table for :name; they are written into it as constants
---@return fun(): table|string|nil
---```lua
---for row in db.async:copy_out "select i, i * i as square from generate_series(1, 2) i" do
---    print(row.i, row.square)  --> 1  1
---    --> 2  4
---end
---```
function Engine:copy_out(source, opts, ...)
    on_engine("copy_out", self)
    local copy_out <const> = require "dbrun.db.copy_out"
    opts = copy_out.arguments(source, opts, ...)
    local conn <close> = self:acquire() -- until the iterator owns the connection
    return copy_out.copy_out(conn, source, opts, true, ...)
end

---Sends the statements that fn adds (p:query(sql, ...)) in one round trip, as one transaction.
---@param fn fun(p: dbrun.Pipeline)
---@return dbrun.Result[] in the order of the statements; the first error rolls all back and is raised
function Connection:pipeline(fn)
    on_connection("pipeline", self)
    args.check("pipeline", "the function to call", fn, "function")
    return require "dbrun.db.batch".pipeline(self, fn)
end

---As Connection:pipeline, on a connection from the pool.
---@param fn fun(p: dbrun.Pipeline)
---@return dbrun.Result[] in the order of the statements; the first error rolls all back and is raised
---```lua
---local results = db.async:pipeline(function(p)
---    p:query "select 1 as one"
---    p:query("select $1::int as two", 2)
---end)
---print(results[1][1].one, results[2][1].two)  --> 1  2
---```
function Engine:pipeline(fn)
    on_engine("pipeline", self)
    args.check("pipeline", "the function to call", fn, "function")
    local conn <close> = self:acquire()
    local results <const> = conn:pipeline(fn)
    if conn:in_transaction() then
        errors.raise {
            kind = "usage", outcome = "unknown",
            message = "the pipeline left a transaction open, and it was rolled back: the connection goes back to its "
                .. "pool",
            hint = "A pipeline is a transaction by itself; use transaction for more.",
        }
    end
    return results
end

---Runs one statement with each of many parameter lists, pipelined, in one transaction.
---@param sql string
---@param source table[]|fun(): table|nil lists for $n, or tables for :name; an iterator may be followed by its state,
---as other:rows(...) gives it
---@return integer rows affected by all of them
function Connection:execute_many(sql, source, ...)
    on_connection("execute_many", self)
    local batch <const> = require "dbrun.db.batch"
    return batch.execute_many(self, batch.arguments(sql, source, ...))
end

---As Connection:execute_many, on a connection from the pool.
---@param sql string
---@param source table[]|fun(): table|nil
---@return integer rows affected by all of them
---```lua
---db.async:exec "create table reading (sensor int, value float8)"
---print(db.async:execute_many("insert into reading values ($1, $2)", { { 1, 20.5 }, { 2, 21.0 } }))  --> 2
---db.async:exec "drop table reading"
---```
function Engine:execute_many(sql, source, ...)
    on_engine("execute_many", self)
    local batch <const> = require "dbrun.db.batch"
    local call <const> = batch.arguments(sql, source, ...)
    local conn <close> = self:acquire()
    return batch.execute_many(conn, call, true)
end

---A session: `local s <close> = engine:session()`. Its transaction begins at the first statement and ends with
---s:commit() or s:rollback().
---@return dbrun.Session
---```lua
---local session <close> = db.async:session()
---session:exec "create temporary table note (t text) on commit drop"
---session:query("insert into note values ($1)", "a")
---session:commit() -- without it all is rolled back at the end of the block
---```
function Engine:session(...)
    on_engine("session", self)
    args.no_more("session", "takes no arguments",
        "isolation and other settings: session:exec \"set transaction ...\" as its first statement", ...)
    return require "dbrun.db.session".new(self)
end

---Runs fn(conn) while this connection holds the advisory lock `key` (a text or a 64-bit integer) of this database.
---Releases it when fn returns or raises. Waits for it at most `timeout` seconds; then the error of kind `timeout` says
---who holds it.
---@param key string|integer
---@param opts? { timeout?: number }
---@param fn fun(conn: dbrun.Connection): ...
---@return any ... what fn returned
function Connection:advisory_lock(key, opts, fn)
    on_connection("advisory_lock", self)
    local advisory <const> = require "dbrun.db.advisory"
    return advisory.on(self, advisory.arguments(key, opts, fn))
end

---As Connection:advisory_lock, on a connection from the pool.
---@param key string|integer
---@param opts? { timeout?: number }
---@param fn fun(conn: dbrun.Connection): ...
---@return any ... what fn returned
---```lua
---print(db.async:advisory_lock("nightly report", { timeout = 10 }, function(conn)  --> one at a time
---    return conn:value "select 'one at a time'"
---end))
---```
function Engine:advisory_lock(key, opts, fn)
    on_engine("advisory_lock", self)
    local advisory <const> = require "dbrun.db.advisory"
    return advisory.run(self, advisory.arguments(key, opts, fn))
end

---Listens to channels, on a dedicated connection outside the pool: `local l <close> = engine:listen("orders")`, then
---`for ev in l:events() do`. Names are case-sensitive: NOTIFY Orders means "orders".
---@param ... string
---@return dbrun.Listener
---```lua
---local listener <close> = db.async:listen("orders", "stock")
---db.async:query("select pg_notify('orders', $1)", "4711")
---print(listener:next(5).payload)  --> 4711
---```
function Engine:listen(...)
    on_engine("listen", self)
    return require "dbrun.db.listen".new(self, ...)
end

---Makes an engine with its own pool.
---@param opts dbrun.EngineOptions
---@return dbrun.Engine
---```lua
---local engine = db.engine { url = config.async_database_url, size = 2, timeout = 5, pipeline = 16 }
---print(engine:value "select 1")  --> 1
---engine:close()
---```
function M.engine(opts)
    args.check("db.engine", "the options", opts, "table")
    return options.open(opts, "db.engine{url=}")
end

local function from_config(mode)
    local config <const> = require "dbrun.config"
    local key <const> = mode .. "_database_url"
    local sync <const> = mode == "sync"
    return options.open({
        url = config[key],
        mode = mode,
        size = sync and config.SYNC_POOL_SIZE or config.DB_POOL_SIZE,
        overflow = sync and 0 or config.DB_MAX_OVERFLOW,
        timeout = config.DB_POOL_TIMEOUT,
        recycle = config.DB_POOL_RECYCLE,
        pre_ping = config.DB_POOL_PRE_PING,
        connect_timeout = config.DB_CONNECT_TIMEOUT,
        command_timeout = config.DB_STATEMENT_TIMEOUT,
        statement_cache = config.DB_STATEMENT_CACHE,
        statement_cache_age = config.DB_STATEMENT_CACHE_AGE,
    }, config.source(key))
end

---Closes db.async and db.sync; the next use opens them anew.
---```lua
---db.async:value "select 1"
---db.close() -- the next statement opens db.async anew
---print(db.async:value "select 2")  --> 2
---```
function M.close()
    for _, mode in ipairs { "async", "sync" } do
        local engine <const> = rawget(M, mode)
        M[mode] = nil
        if engine then
            engine:close()
        end
    end
end

---The engine for concurrent work: a task that waits lets others run. Opened at its first use.
---@type dbrun.Engine
M.async = nil
---The engine for migrations and small scripts: the whole program waits. Opened at its first use.
---@type dbrun.Engine
M.sync = nil

return setmetatable(M, {
    __index = function(_, key)
        if key == "async" or key == "sync" then
            local engine <const> = from_config(key)
            M[key] = engine
            return engine
        end
        return names.unknown("module", key, M)
    end,
})
