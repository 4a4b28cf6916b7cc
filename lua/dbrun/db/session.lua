--- Sessions: a transaction that begins with the first statement and lasts until commit or rollback. Nothing is sent
--- before the first statement, rows stay usable after commit, and closing without commit rolls back.
local args <const> = require "dbrun.args"
local errors <const> = require "dbrun.error"
local names <const> = require "dbrun.db.names"
local transaction <const> = require "dbrun.db.transaction"

---Its methods for statements are those of a connection; the first begins the transaction.
---@class dbrun.Session
---Raises errors of kind `connect`, `pool` (no connection in time), `timeout`, `cancelled`, `query` and `constraint`
---(the server refused), and `protocol` (a value cannot be read); `outcome` says whether the work may have happened.
---@field query fun(self, sql: string|dbrun.RowOptions, ...): dbrun.Result
---@field one fun(self, sql: string|dbrun.RowOptions, ...): table|nil
---@field value fun(self, sql: string|dbrun.RowOptions, ...): any
---@field rows fun(self, sql: string|dbrun.RowOptions, ...): fun(): table|nil
---@field columns fun(self, sql: string|dbrun.RowOptions, ...): table<string, any[]>, integer
---@field cursor fun(self, sql: string|dbrun.RowOptions, ...): dbrun.Cursor
---@field exec fun(self, sql: string): integer
---@field copy_in fun(self, t: string|string[], columns: string[]?, source: any, opts: dbrun.CopyInOptions?): integer
---@field copy_out fun(self, source: string|string[], opts: dbrun.CopyOutOptions?, ...): function
---@field pipeline fun(self, fn: fun(p: dbrun.Pipeline)): dbrun.Result[]
---@field execute_many fun(self, sql: string, source: table[]|function, ...): integer
---@field transaction fun(self, opts: table?, fn: function): any
local Session = {}
local Metatable <const> = { __index = names.answer("session", Session), __name = "dbrun.Session" }

local M = {}

---@param engine table
---@param ends? table the functions that begin, commit and roll back a transaction: dbrun.db.transaction
---@return dbrun.Session
function M.new(engine, ends)
    return setmetatable({ engine = engine, conn = false, open = true, ends = ends or transaction }, Metatable)
end

local CLOSED_HINT <const> = "Use it inside of its block; engine:session() makes another one."

local function check_self(method, self)
    args.self(method, self, Metatable, "a session", "session")
end

--- The session's connection, in a transaction.
local function connection(self)
    if not self.open then
        errors.fail("usage", "this session has been closed", CLOSED_HINT)
    end
    self.conn = self.conn or self.engine:acquire()
    -- Checked each time: the BEGIN may have been cancelled.
    self.conn:drained()
    if not self.conn:in_transaction() then
        self.ends.begin(self.conn, {})
    end
    return self.conn
end

for _, name in ipairs { "query", "one", "value", "rows", "columns", "cursor", "exec", "copy_in", "copy_out", "pipeline",
    "execute_many", "transaction" } do
    Session[name] = function(self, ...)
        check_self(name, self)
        local conn <const> = connection(self)
        return conn[name](conn, ...)
    end
end

--- Releases the connection; the pool rolls back an open transaction.
local function release(self)
    local conn <const> = self.conn
    self.conn = false
    if conn then
        conn:release()
    end
end

---Commits; the next statement begins a new transaction. Sends nothing if there was no statement.
---```lua
---local session <close> = db.async:session()
---session:exec "create table note (t text)"
---session:commit()
---print(db.async:value "select to_regclass('note') is not null")  --> true
---db.async:exec "drop table note"
---```
function Session:commit()
    check_self("commit", self)
    if not self.open then
        errors.fail("usage", "this session has been closed", CLOSED_HINT)
    end
    if self.conn then
        local ok <const>, e <const> = pcall(self.ends.commit, self.conn)
        release(self)
        if not ok then
            error(e, 0)
        end
    end
end

---Rolls back; the next statement begins a new transaction.
---```lua
---local session <close> = db.async:session()
---session:exec "create table note (t text)"
---session:rollback()
---print(db.async:value "select to_regclass('note')")  --> nil
---```
function Session:rollback()
    check_self("rollback", self)
    local conn <const> = self.conn
    if not conn then
        return
    end
    local ok <const>, e <const> = pcall(self.ends.rollback, conn)
    release(self)
    -- When the connection is lost, the server rolls back.
    if not ok and not errors.is(e, "connect") then
        error(e, 0)
    end
end

---Ends the session; rolls back what was not committed. Idempotent.
function Session:close()
    check_self("close", self)
    self.open = false
    release(self)
end
Metatable.__close = Session.close

return M
