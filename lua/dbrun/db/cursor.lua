--- Server cursors: rows are fetched in portions, inside a transaction.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.db.names"

local M = {}

--- Rows per portion by default.
local FETCH <const> = 1000

---@class dbrun.Cursor
---Raises errors of kind `connect`, `pool` (no connection in time), `timeout`, `cancelled`, `query` and `constraint`
---(the server refused), and `protocol` (a value cannot be read); `outcome` says whether the work may have happened.
---@field private conn dbrun.Connection|false false = closed
---@field private last boolean whether the server has sent its last row
---@field private name string
---@field private fetch string
---@field private size integer
---@field private rows table
---@field private at integer
---@field private options? dbrun.RowOptions
local Cursor = {}
local Metatable <const> = { __index = names.answer("cursor", Cursor), __name = "dbrun.Cursor" }

local ROWS <const> = args.whole(1)

--- Whether the SQL has parameters, $1 or :name.
local function has_parameters(sql)
    for _, kind in core.sql.scan, sql, 1 do
        if kind == "parameter" then return true end
    end
    return core.pg.named(sql) ~= nil
end

local function is_option(v)
    local plain <const> = type(v) == "table" and (not getmetatable(v) or core.rows.columns(v))
    return plain and v.fetch ~= nil and next(v, (next(v))) == nil
end

--- The options are the last argument when that is a plain table with `fetch` and nothing else. The only argument of
--- an SQL with parameters has their values. Returns the rows at a time, and whether the table was taken for values.
local function split_options(sql, given)
    local last <const> = given[given.n]
    if not is_option(last) then
        return FETCH, false
    elseif given.n == 1 and has_parameters(sql) then
        return FETCH, true
    end
    given.n = given.n - 1
    args.check("cursor", "fetch", last.fetch, ROWS)
    return math.tointeger(last.fetch), false
end

--- Names are never reused, even after the end of a transaction.
local cursors = 0

--- Adds the other reading of { fetch = n } to the error of a value that is missing or of the wrong type.
local function add_other_reading(e)
    if errors.is(e) and (e.kind == "usage" or e.sqlstate == "08P01") then
        e.hint = (e.hint and e.hint .. " " or "") .. "The SQL has parameters, so its only table has their values. "
            .. "{ fetch = n } follows the values: tx:cursor(sql, values, { fetch = n })."
    end
end

local function check(conn, options, sql)
    if options then
        require "dbrun.db.form".check("cursor", options)
    end
    args.check("cursor", "the SQL", sql, "string")
    if not conn:in_transaction() then
        errors.fail("usage", "cursor: there is no open transaction",
            "Use it in engine:transaction or engine:session.")
    end
    require "dbrun.db.copy_statement".refuse_copy(sql, "a cursor")
end

local function open(conn, options, size, sql, given)
    cursors = cursors + 1
    local name <const> = "dbrun_cursor_" .. cursors
    -- Recorded under the query, not under the DECLARE, whose text differs each time.
    sql, given = require "dbrun.db.values".prepare(conn, sql, given)
    conn:query(("DECLARE %s NO SCROLL CURSOR FOR %s"):format(name, sql), table.unpack(given, 1, given.n))
    local cursor <const> = setmetatable({
        conn = conn, name = name, fetch = ("FETCH FORWARD %d FROM %s"):format(size, name), size = size,
        rows = {}, at = 0, last = false, options = options,
    }, Metatable)
    return cursor, nil, nil, cursor
end

local function open_with_options(conn, options, sql, ...)
    check(conn, options, sql)
    local given <const> = table.pack(...)
    local size <const>, has_values <const> = split_options(sql, given)
    if not has_values then
        return open(conn, options, size, sql, given)
    end
    local made <const> = table.pack(pcall(open, conn, options, size, sql, given))
    if not made[1] then
        add_other_reading(made[2])
        error(made[2], 0)
    end
    return table.unpack(made, 2, made.n)
end

---Declares a cursor.
---@param conn dbrun.Connection in a transaction
---@param sql string|dbrun.RowOptions options may stand before the SQL
---@param ... any parameters, then perhaps {fetch = n}; the only table after an SQL with parameters has their values
---@return dbrun.Cursor iterator
---@return nil
---@return nil
---@return dbrun.Cursor closing for the generic `for`
function M.open(conn, sql, ...)
    if type(sql) == "table" then
        return open_with_options(conn, sql, ...)
    end
    return open_with_options(conn, nil, sql, ...)
end

---The same for rows: every argument after the SQL is a value.
---@param conn dbrun.Connection in a transaction
---@param options dbrun.RowOptions|nil
---@param sql string
---@param ... any parameters
---@return dbrun.Cursor iterator
---@return nil
---@return nil
---@return dbrun.Cursor closing for the generic `for`
function M.of_values(conn, options, sql, ...)
    check(conn, options, sql)
    return open(conn, options, FETCH, sql, table.pack(...))
end

--- Fetches the next portion; false when there is none.
local function fetch(cursor)
    if not cursor.conn or cursor.last then
        return false
    end
    if cursor.options then
        cursor.rows = cursor.conn:query(cursor.options, cursor.fetch)
    else
        cursor.rows = cursor.conn:query(cursor.fetch)
    end
    cursor.at = 0
    cursor.last = #cursor.rows < cursor.size
    return #cursor.rows > 0
end

---The next row, nil at the end.
---@return table|nil
function Metatable:__call()
    if self.at == #self.rows and not fetch(self) then
        self:close()
        return nil
    end
    self.at = self.at + 1
    return self.rows[self.at]
end

---Closes it on the server, if its transaction is still open. Idempotent.
---```lua
---db.async:transaction(function(tx)
---    local cursor <close> = tx:cursor("select i from generate_series(1, 9) i")
---    print(cursor().i, cursor().i)  --> 1  2
---end)
---```
function Cursor:close()
    args.self("close", self, Metatable, "a cursor", "cursor")
    local conn <const> = self.conn
    self.conn, self.rows, self.at = false, {}, 0
    if not conn then
        return
    end
    -- After a release, and after the end or failure of the transaction, the cursor does not exist any more.
    local alive <const>, state <const> = pcall(conn.in_transaction, conn)
    if not alive or state ~= "open" then return end
    core.task.shield(function()
        conn:drained() -- a statement that was cancelled fails the transaction when it ends
        if conn:in_transaction() == "open" then conn:exec("CLOSE " .. self.name) end
    end)
end
Metatable.__close = Cursor.close

return M
