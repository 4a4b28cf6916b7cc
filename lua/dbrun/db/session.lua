--- Sessions: a transaction that begins with the first statement and lasts until commit or rollback.
--- Nothing is sent by itself, rows stay usable after commit, closing without commit rolls back.
local errors <const> = require "dbrun.error"
local transaction <const> = require "dbrun.db.transaction"

---@class dbrun.Session
local Session = {}
Session.__index = Session

---@param engine table
---@return dbrun.Session
function Session.new(engine)
    return setmetatable({ engine = engine, open = true }, Session)
end

--- The session's connection, in a transaction.
local function connection(self)
    if not self.open then
        errors.raise { kind = "usage", message = "this session has been closed" }
    end
    if not self.conn then
        self.conn = self.engine:acquire()
        self.conn:exec "BEGIN"
    end
    return self.conn
end

for _, name in ipairs { "query", "one", "value", "rows", "columns", "exec", "copy_in", "pipeline", "execute_many",
    "transaction" } do
    Session[name] = function(self, ...)
        local conn <const> = connection(self)
        return conn[name](conn, ...)
    end
end

--- Gives the connection back; the pool rolls back what is still open.
local function release(self)
    local conn <const> = self.conn
    self.conn = nil
    if conn then
        conn:release()
    end
end

---Commits; the next statement begins a new transaction. Without a statement before, nothing is sent.
function Session:commit()
    if not self.open then
        errors.raise { kind = "usage", message = "this session has been closed" }
    end
    if self.conn then
        local ok <const>, e <const> = pcall(transaction.commit, self.conn)
        release(self)
        if not ok then
            error(e, 0)
        end
    end
end

---Rolls back; the next statement begins a new transaction.
function Session:rollback()
    if self.conn then
        local ok <const>, e <const> = pcall(self.conn.exec, self.conn, "ROLLBACK")
        release(self)
        if not ok then
            error(e, 0)
        end
    end
end

---Ends the session; what was not committed is rolled back. Idempotent.
function Session:close()
    self.open = false
    release(self)
end
Session.__close = Session.close

return Session
