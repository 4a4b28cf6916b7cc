--- Server cursors: rows are fetched in portions, inside a transaction.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

--- Rows per portion by default.
local FETCH <const> = 1000

---@class dbrun.Cursor
---@field private conn dbrun.Connection|nil nil = closed
---@field private name string
---@field private fetch string
---@field private size integer
---@field private rows table
---@field private at integer
local Cursor = {}
Cursor.__index = Cursor
Cursor.__name = "dbrun.Cursor"

--- The options are the last argument when that is a plain table with `fetch` and nothing else.
local function split_options(args)
    local last <const> = args[args.n]
    if type(last) ~= "table" or getmetatable(last) or last.fetch == nil or next(last, (next(last))) ~= nil then
        return FETCH
    end
    args.n = args.n - 1
    if math.type(last.fetch) ~= "integer" or last.fetch < 1 then
        errors.usage("cursor", "fetch must be a whole number of at least 1")
    end
    return last.fetch
end

--- Names are never reused, even after the end of a transaction.
local names = 0

---Declares a cursor.
---@param conn dbrun.Connection in a transaction
---@param sql string
---@param ... any parameters, then perhaps {fetch = n}
---@return dbrun.Cursor iterator
---@return nil
---@return nil
---@return dbrun.Cursor closing for the generic `for`
function M.open(conn, sql, ...)
    if type(sql) ~= "string" then
        errors.usage("cursor", "expected the SQL as a string, got %s", type(sql))
    elseif not conn:in_transaction() then
        errors.fail("usage", "cursor: there is no open transaction",
            "Use it in engine:transaction or engine:session.")
    end
    require "dbrun.db.copy_statement".refuse_copy(sql, "a cursor")
    local args = table.pack(...)
    local size <const> = split_options(args)
    -- By the query, not by the DECLARE, whose text is another one each time.
    sql, args = require "dbrun.db.values".prepare(conn, sql, args)
    names = names + 1
    local name <const> = "dbrun_cursor_" .. names
    conn:query(("DECLARE %s NO SCROLL CURSOR FOR %s"):format(name, sql), table.unpack(args, 1, args.n))
    local cursor <const> = setmetatable({
        conn = conn, name = name, fetch = ("FETCH FORWARD %d FROM %s"):format(size, name), size = size,
        rows = {}, at = 0,
    }, Cursor)
    return cursor, nil, nil, cursor
end

--- Fetches the next portion; false when there is none.
local function fetch(cursor)
    if not cursor.conn or cursor.last then
        return false
    end
    cursor.rows = cursor.conn:query(cursor.fetch)
    cursor.at = 0
    cursor.last = #cursor.rows < cursor.size
    return #cursor.rows > 0
end

---The next row, nil at the end.
---@return table|nil
function Cursor:__call()
    if self.at == #self.rows and not fetch(self) then
        self:close()
        return nil
    end
    self.at = self.at + 1
    return self.rows[self.at]
end

---Closes it on the server, if its transaction is still open. Idempotent.
function Cursor:close()
    local conn <const> = self.conn
    self.conn, self.rows, self.at = nil, {}, 0
    if not conn then
        return
    end
    -- After a release, and after the end or failure of the transaction, the cursor does not exist any more.
    local alive <const>, state <const> = pcall(conn.in_transaction, conn)
    if alive and state == "open" then
        core.task.shield(conn.exec, conn, "CLOSE " .. self.name)
    end
end
Cursor.__close = Cursor.close

return M
