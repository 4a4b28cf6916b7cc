--- Names from other libraries (psycopg, asyncpg, SQLAlchemy, node-postgres, pgmoon, LuaSQL) for what dbrun calls
--- otherwise: the error for such a name says what to write here.
local args <const> = require "dbrun.args"

local M = {}

--- By kind of object; `{}` is its name in examples: "engine".
local STATEMENTS <const> = {
    { "fetch fetchall fetch_all fetchmany select all get_all query_all find mappings",
        "{}:query(sql, ...) gives all rows as a list, {}:rows(sql, ...) one after the other" },
    { "fetchone fetch_one fetchrow fetch_row first query_one get_one one_or_none query_row queryRow",
        "{}:one(sql, ...) gives the only row, or nil" },
    { "fetchval fetch_val scalar scalar_one query_value", "{}:value(sql, ...) gives the first column of the row" },
    { "scalars fetchcol column", "{}:columns(sql, ...) gives a list for each column" },
    { "execute run sql raw statement query_raw do_query do_sql",
        "{}:query(sql, ...) runs one statement, {}:exec(sql) several without parameters" },
    { "executemany execute_batch execute_values insert_many query_many", "{}:execute_many(sql, list_of_parameters)" },
    { "each stream iter iterate iterator nrows urows", "for row in {}:rows(sql, ...) do ... end" },
    { "copy copy_from copy_expert copy_records_to_table copyfrom", "{}:copy_in(table, columns, rows)" },
    { "copy_to copy_from_query copyto", "for row in {}:copy_out(query_or_table) do ... end" },
    { "prepare deallocate", "{}:query(sql, ...) prepares a statement by itself when it is used again" },
    { "escape quote escape_string escape_literal escapeLiteral mogrify",
        "pass values as parameters: {}:query(\"... where id = $1\", id)" },
    { "escape_identifier escapeIdentifier quote_ident quote_identifier", "db.ident(name)" },
    { "notify", "{}:query(\"select pg_notify($1, $2)\", channel, payload)" },
}

local ENGINE <const> = {
    { "begin commit rollback start_transaction atomic transact tx with_transaction",
        "engine:transaction(function(tx) ... end) commits when the function returns, and rolls back when it raises; "
            .. "engine:session() has commit() and rollback()" },
    { "cursor server_side_cursor declare", "a cursor needs a transaction: tx:cursor(sql, ...); outside of one "
        .. "engine:rows(sql, ...) reads row by row" },
    { "connect connection checkout getconn get_connection lease", "local conn <close> = engine:acquire()" },
    { "release putconn put_connection free", "conn:release() returns the connection" },
    { "disconnect end_ terminate shutdown quit", "engine:close()" },
    { "subscribe add_listener wait_for_notification", "local listener <close> = engine:listen(channel)" },
    { "pool_size get_stats", "engine:stats()" },
    { "cancel backend_pid in_transaction on_notice describe", "a connection has it: local conn <close> = "
        .. "engine:acquire()" },
    { "lock", "engine:advisory_lock(key, function(conn) ... end)" },
}

local CONNECTION <const> = {
    { "begin start_transaction atomic transact tx with_transaction",
        "conn:transaction(function(tx) ... end) commits when the function returns, and rolls back when it raises" },
    { "commit", "the transaction commits when its function returns; engine:session() has commit()" },
    { "rollback", "raise an error: the transaction rolls back when its function raises; engine:session() has "
        .. "rollback()" },
    { "savepoint begin_nested nested", "tx:transaction(function(tx) ... end) inside of a transaction is a savepoint" },
    { "close disconnect end_ terminate free putconn", "conn:release() returns the connection; conn:invalidate() "
        .. "before it closes it" },
    { "listen subscribe add_listener notifies", "engine:listen(channel): a listener has a dedicated connection" },
    { "acquire connect session", "an engine has it: engine:acquire(), engine:session()" },
    { "lock", "conn:advisory_lock(key, function(conn) ... end)" },
    { "get_backend_pid", "conn:backend_pid()" },
    { "interrupt", "conn:cancel()" },
    { "transaction_status get_transaction_status", "conn:in_transaction()" },
    { "server_version parameter_status get_parameter_status", "conn.parameters.server_version" },
}

local SESSION <const> = {
    { "begin start_transaction", "a session begins with its first statement" },
    { "begin_nested savepoint", "session:transaction(function(tx) ... end) is a savepoint" },
    { "flush refresh merge", "a session runs SQL: session:query(sql, ...)" },
    { "release", "session:close()" },
    { "acquire session advisory_lock listen backend_pid in_transaction cancel",
        "it is a method of an engine or a connection" },
}

local PIPELINE <const> = {
    { "one value rows columns cursor fetch fetchone fetchall fetchrow fetchval execute run add send send_query append",
        "p:query(sql, ...) adds a statement; engine:pipeline(fn) returns the results in order" },
    { "sync flush commit close finish end_", "the pipeline is sent when its function returns" },
    { "transaction begin rollback", "a pipeline is one transaction by itself" },
}

local CURSOR <const> = {
    { "fetch fetchone fetchrow next row first", "cursor() gives the next row, nil at the end" },
    { "fetchall fetchmany rows all each iter", "for row in tx:cursor(sql, ...) do ... end" },
    { "execute query", "tx:cursor(sql, ...) opens a cursor; tx:query(sql, ...) runs a statement" },
    { "scroll move", "a cursor only goes forward" },
}

local LISTENER <const> = {
    { "wait receive poll read notifies wait_for_notification", "listener:next(seconds)" },
    { "subscribe add_listener", "listener:listen(channel)" },
    { "unsubscribe remove_listener", "listener:unlisten(channel)" },
    { "messages notifications iter stream", "for ev in listener:events() do ... end" },
    { "notify", "engine:query(\"select pg_notify($1, $2)\", channel, payload)" },
    { "release stop disconnect", "listener:close()" },
}

local MODULE <const> = {
    { "query one value exec rows columns execute_many copy_in copy_out transaction session acquire pipeline listen "
        .. "advisory_lock stats invalidate dispose set_codec cursor",
        "an engine has it: db.async:%s(...), or db.sync:%s(...)" },
    { "fetch fetchall fetch_all fetchmany select all", "db.async:query(sql, ...)" },
    { "fetchone fetch_one fetchrow first", "db.async:one(sql, ...)" },
    { "fetchval scalar", "db.async:value(sql, ...)" },
    { "execute run sql", "db.async:query(sql, ...), or db.async:exec(sql)" },
    { "executemany", "db.async:execute_many(sql, list_of_parameters)" },
    { "begin commit rollback", "db.async:transaction(function(tx) ... end)" },
    { "cursor", "tx:cursor(sql, ...) in db.async:transaction(function(tx) ... end)" },
    { "connect connection open new pool create_pool create_engine create_async_engine Pool Client postgres",
        "db.async and db.sync are engines from the configuration; db.engine{url=...} makes another" },
    { "escape quote escape_literal escape_string", "pass values as parameters: db.async:query(\"... where id = "
        .. "$1\", id)" },
    { "escape_identifier quote_ident quote_identifier identifier", "db.ident(name)" },
    { "NULL Null none None nil_ NIL", "db.null" },
    { "jsonb Json Jsonb JSON", "db.json(value)" },
    { "Binary binary bytes encode_bytea", "db.bytea(string)" },
    { "Array encode_array", "db.array(list)" },
    { "cast", "db.typed(value, type_name)" },
    { "notify", "db.async:query(\"select pg_notify($1, $2)\", channel, payload)" },
}

local meant <const> = args.foreign_names

local KINDS <const> = {
    module = { "db", "db", MODULE },
    engine = { "an engine", "engine", ENGINE, STATEMENTS },
    connection = { "a connection", "conn", CONNECTION, STATEMENTS },
    session = { "a session", "session", SESSION, STATEMENTS },
    pipeline = { "a pipeline", "p", PIPELINE },
    cursor = { "a cursor", "cursor", CURSOR },
    listener = { "a listener", "listener", LISTENER },
}

--- Methods for dbrun's own modules, which hints do not name.
local INTERNAL <const> = {}
for name in ([[target codecs is_sync values drained deadline guard parameter batch batch_many copy_begin copy_send
    copy_end copy_out_begin reads_binary parameter_types load_types epochs is_stale listen_feed]]):gmatch "%S+" do
    INTERNAL[name] = true
end

---Answers for a name that an object does not have: raises with the probable name, or returns nil when nothing resembles
---it.
---@param kind "module"|"engine"|"connection"|"session"|"pipeline"|"cursor"|"listener"
---@param key any
---@param names table<string, any> the keys are the names that it has
---@return nil
function M.unknown(kind, key, names)
    if type(key) ~= "string" then
        return nil
    end
    local public = kind == "module" and { async = true, sync = true } or {}
    for name in pairs(names) do
        public[name] = not INTERNAL[name] or nil
    end
    return args.unknown_name(KINDS[kind][1], key, public, meant(KINDS[kind]))
end

---Lets the table of methods answer for names that it does not have.
---@param kind string
---@param methods table
---@return table methods
function M.answer(kind, methods)
    return setmetatable(methods, { __index = function(_, key) return M.unknown(kind, key, methods) end })
end

return M
