--- Engines as scripts have them, in a dry run: the methods of dbrun.Engine, on the one connection of the dry run.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local leases <const> = require "dbrun.dry.lease"
local names <const> = require "dbrun.db.names"

local M = {}

---@class dbrun.dry.Engine
---@field conn dbrun.dry.Connection
---@field lease dbrun.dry.Lease takes the turn for each call
---@field ears table|false a real engine for LISTEN, which only reads
---@field open boolean
local Engine <const> = {}
local Metatable <const> = { __index = names.answer("engine", Engine), __name = "dbrun.Engine" }

---@param conn dbrun.dry.Connection
---@return dbrun.dry.Engine
function M.new(conn)
    return setmetatable({ conn = conn, lease = leases.new(conn, false), ears = false, open = true }, Metatable)
end

local function check(self, method)
    args.self(method, self, Metatable, "an engine", "engine")
    if not self.open then
        errors.fail("usage", "this engine has been closed",
            "Use it inside of its block, or before db.close(); db.engine opens another one.")
    end
end

for _, method in ipairs { "query", "one", "value", "columns", "exec", "rows", "copy_in", "copy_out", "pipeline",
    "execute_many" } do
    Engine[method] = function(self, ...)
        check(self, method)
        return self.lease[method](self.lease, ...)
    end
end

---@param opts? table
---@param fn function
function Engine:transaction(opts, fn)
    check(self, "transaction")
    local tx <close> = leases.new(self.conn, false)
    return tx:transaction(opts, fn)
end

function Engine:acquire()
    check(self, "acquire")
    return leases.new(self.conn, self.conn:enter "acquire")
end

function Engine:session(...)
    check(self, "session")
    args.no_more("session", "takes no arguments",
        "isolation and other settings: session:exec \"set transaction ...\" as its first statement", ...)
    return require "dbrun.db.session".new(self, leases.ends)
end

function Engine:advisory_lock(key, opts, fn)
    check(self, "advisory_lock")
    local advisory <const> = require "dbrun.db.advisory"
    return advisory.run(self, advisory.arguments(key, opts, fn))
end

---Listening changes nothing: it uses a separate connection.
function Engine:listen(...)
    check(self, "listen")
    self.ears = self.ears or core.pg.engine(self.conn.settings)
    return require "dbrun.db.listen".new(self.ears, ...)
end

---@param type_name string
---@param codec table
function Engine:set_codec(type_name, codec)
    check(self, "set_codec")
    self.conn.pool:set_codec(type_name, codec)
end

for _, method in ipairs { "stats", "codecs", "is_sync", "target", "values" } do
    Engine[method] = function(self, ...)
        check(self, method)
        return self.conn.pool[method](self.conn.pool, ...)
    end
end

---Does nothing: there is one connection, until the end.
function Engine:invalidate()
    check(self, "invalidate")
end

---Does nothing: there is one connection, until the end.
function Engine:dispose()
    check(self, "dispose")
end

function Engine:close()
    args.self("close", self, Metatable, "an engine", "engine")
    self.open = false
    if self.ears then self.ears:close() end
    self.ears = false
end
Metatable.__close = Engine.close

return M
