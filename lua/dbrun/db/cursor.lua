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

--- The options are the last argument when that is a plain table with `fetch` and nothing else.
local function split_options(given)
    local last <const> = given[given.n]
    local plain <const> = type(last) == "table" and (not getmetatable(last) or core.rows.columns(last))
    if not plain or last.fetch == nil or next(last, (next(last))) ~= nil then
        return FETCH
    end
    given.n = given.n - 1
    args.check("cursor", "fetch", last.fetch, ROWS)
    return math.tointeger(last.fetch)
end

--- Names are never reused, even after the end of a transaction.
local cursors = 0

local function open(conn, options, sql, ...)
    if options then
        require "dbrun.db.form".check("cursor", options)
    end
    args.check("cursor", "the SQL", sql, "string")
    if not conn:in_transaction() then
        errors.fail("usage", "cursor: there is no open transaction",
            "Use it in engine:transaction or engine:session.")
    end
    require "dbrun.db.copy_statement".refuse_copy(sql, "a cursor")
    local given = table.pack(...)
    local size <const> = split_options(given)
    -- Recorded under the query, not under the DECLARE, whose text differs each time.
    sql, given = require "dbrun.db.values".prepare(conn, sql, given)
    cursors = cursors + 1
    local name <const> = "dbrun_cursor_" .. cursors
    conn:query(("DECLARE %s NO SCROLL CURSOR FOR %s"):format(name, sql), table.unpack(given, 1, given.n))
    local cursor <const> = setmetatable({
        conn = conn, name = name, fetch = ("FETCH FORWARD %d FROM %s"):format(size, name), size = size,
        rows = {}, at = 0, last = false, options = options,
    }, Metatable)
    return cursor, nil, nil, cursor
end

---Declares a cursor.
---@param conn dbrun.Connection in a transaction
---@param sql string|dbrun.RowOptions options may stand before the SQL
---@param ... any parameters, then perhaps {fetch = n}
---@return dbrun.Cursor iterator
---@return nil
---@return nil
---@return dbrun.Cursor closing for the generic `for`
function M.open(conn, sql, ...)
    if type(sql) == "table" then
        return open(conn, sql, ...)
    end
    return open(conn, nil, sql, ...)
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
    if alive and state == "open" then
        core.task.shield(conn.exec, conn, "CLOSE " .. self.name)
    end
end
Metatable.__close = Cursor.close

return M
