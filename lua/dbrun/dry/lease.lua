--- Connections as scripts have them, in a dry run: the methods of dbrun.Connection, on the one connection that there
--- is. A lease of engine:acquire() keeps the turn until it is released; that of an engine takes it for each call.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local explain <const> = require "dbrun.dry.explain"
local names <const> = require "dbrun.db.names"
local statements <const> = require "dbrun.dry.statement"
local transaction <const> = require "dbrun.db.transaction"

local M = {}

---@class dbrun.dry.Lease
---@field conn dbrun.dry.Connection
---@field held table|false releases the turn when closed
---@field depth integer transactions of the script around
---@field open boolean
---@field unit dbrun.dry.Unit|false the unit of a session
---@field streams boolean it is the connection of an iterator
---@field reading (fun(): boolean)|false whether an iteration over rows is in progress
---@field parent? dbrun.dry.Lease the lease that the iterator belongs to
local Lease <const> = {}
local Metatable <const> = { __index = names.answer("connection", Lease), __name = "dbrun.Connection" }

---@param conn dbrun.dry.Connection
---@param held table|false
---@param fields? table
---@return dbrun.dry.Lease
function M.new(conn, held, fields)
    local self <const> = { conn = conn, held = held, depth = 0, open = true, unit = false, streams = false,
        reading = false }
    for key, value in pairs(fields or {}) do self[key] = value end
    return setmetatable(self, Metatable)
end

local function check(self, method)
    args.self(method, self, Metatable, "a connection", "conn")
    if not self.open then
        errors.fail("usage", "this connection has been released",
            "Use it inside of its block, or of the function of its transaction.")
    end
    self.conn:check()
end

--- Whether the connection has the turn, for any calling task.
local function has_turn(self)
    return self.open and (self.held or self.depth > 0 or (self.parent and has_turn(self.parent)))
end

--- A script's connection does one thing at a time, as in a real run; an engine has more connections.
local function check_idle(self)
    if not self.reading or not has_turn(self) then return end
    if self.reading() then
        errors.fail("usage", "this connection is busy with another statement (an iteration over rows that has not "
            .. "ended): a leased connection does one thing at a time",
            "Read the rows to their end first, use tx:cursor, or the engine for the other statement.")
    end
    self.reading = false
end

--- Runs fn(...) in the script's transaction, or else as a separate one.
local function within(self, what, fn, ...)
    check_idle(self)
    if self.depth > 0 then return fn(...) end
    return self.conn:unit(not has_turn(self) and what, nil, fn, ...)
end

local function text_of(sql, ...)
    if type(sql) == "table" then return (...) end
    return sql
end

-- ---- statements ----

--- The function that sends the statement, by method; the options stand before the SQL.
local function sender(method, options)
    if options then
        return function(conn, sql, ...) return conn:call(method, options, sql, ...) end
    end
    return function(conn, sql, ...) return conn:call(method, sql, ...) end
end

local function send_with_options(self, method, options, sql, ...)
    local facts <const> = self.conn:look(sql, self.depth > 0 or self.streams)
    return within(self, method, self.conn.send, self.conn, facts, sender(method, options), sql, ...)
end

for _, method in ipairs { "query", "one", "value", "columns", "exec", "describe" } do
    Lease[method] = function(self, sql, ...)
        check(self, method)
        if type(text_of(sql, ...)) ~= "string" then -- the connection says what is wrong
            return within(self, method, self.conn.call, self.conn, method, sql, ...)
        elseif type(sql) == "table" then
            return send_with_options(self, method, sql, ...)
        end
        return send_with_options(self, method, nil, sql, ...)
    end
end

-- ---- iterators ----

--- A connection for an iterator: each of its statements is a unit, so that others can run between the rows.
local function stream_of(self)
    check_idle(self)
    local stream <const> = M.new(self.conn, false, { streams = true, parent = self })
    self.reading = function() return stream.open end
    return stream
end

--- A statement that is not a query cannot have a cursor; its rows come all at once.
local NO_CURSOR <const> = { ["0A000"] = true, ["42601"] = true, ["42P11"] = true }
local QUERIES <const> = { select = true, values = true, with = true, table = true }

local function rows_at_once(stream, options, sql, ...)
    local call <const> = options and table.pack(options, sql, ...) or table.pack(sql, ...)
    local ok <const>, result <const> = pcall(stream.query, stream, table.unpack(call, 1, call.n))
    if not ok then
        stream.open = false
        error(result, 0)
    end
    local i = 0
    return setmetatable({}, {
        __call = function()
            i = i + 1
            stream.open = result[i] ~= nil
            return result[i]
        end,
        __close = function() i, stream.open = #result, false end,
    })
end

local function rows(self, options, sql, ...)
    local facts <const> = type(sql) == "string" and self.conn:look(sql, self.depth > 0)
    local stream <const> = stream_of(self)
    if facts then
        local first <const> = facts.statements[1]
        if first and QUERIES[first.words[1]] then
            local of_values <const> = require "dbrun.db.cursor".of_values
            local result <const> = table.pack(pcall(of_values, stream, options, sql, ...))
            if result[1] then return table.unpack(result, 2, result.n) end
            if not (errors.is(result[2]) and NO_CURSOR[result[2].sqlstate]) then
                stream.open = false
                error(result[2], 0)
            end
        end
    end
    local iterator <const> = rows_at_once(stream, options, sql, ...)
    return iterator, nil, nil, iterator
end

function Lease:rows(sql, ...)
    check(self, "rows")
    if type(sql) == "table" then return rows(self, sql, ...) end
    return rows(self, nil, sql, ...)
end

function Lease:cursor(sql, ...)
    check(self, "cursor")
    return require "dbrun.db.cursor".open(self, sql, ...)
end

---@param source string|string[]
---@param opts? dbrun.CopyOutOptions
function Lease:copy_out(source, opts, ...)
    check(self, "copy_out")
    local copy_out <const> = require "dbrun.db.copy_out"
    opts = copy_out.arguments(source, opts, ...)
    check_idle(self)
    local query <const> = copy_out.query_of(M.new(self.conn, false, { streams = true, parent = self }), source, opts)
    self.conn:look(query, false)
    if not opts.raw then
        require "dbrun.db.copy_statement".rows_only("copy_out", opts)
        return rows(self, { positional = opts.positional or false }, query, ...)
    end
    local spool <const> = within(self, "copy_out", function(...)
        return self.conn:use(function(real, ...)
            local f <const>, s <const>, first <const>, closing <close> = copy_out.copy_out(real, query, { raw = true,
                format = opts.format, header = opts.header, delimiter = opts.delimiter, null = opts.null,
                quote = opts.quote, escape = opts.escape }, false, ...)
            local _ = closing
            return require "dbrun.dry.spool".of(f, s, first)
        end, ...)
    end, ...)
    self.reading = function() return io.type(spool.file) == "file" end
    return spool, nil, nil, spool
end

-- ---- many statements ----

---@param fn fun(p: dbrun.Pipeline)
function Lease:pipeline(fn)
    check(self, "pipeline")
    args.check("pipeline", "the function to call", fn, "function")
    local conn <const>, inside <const> = self.conn, self.depth > 0
    return within(self, "pipeline", function()
        local keep
        local results <const> = conn:run(function(real)
            return require "dbrun.db.batch".pipeline(real, function(p)
                fn(p)
                for _, item in ipairs(p) do
                    local facts <const> = conn:look(item[1], inside)
                    conn:note(facts)
                    keep = keep or facts.truncates and statements.counting(conn)
                end
            end)
        end)
        if keep then keep() end
        return results
    end)
end

function Lease:execute_many(sql, source, ...)
    check(self, "execute_many")
    local batch <const> = require "dbrun.db.batch"
    local call <const> = batch.arguments(sql, source, ...)
    local facts <const> = self.conn:look(sql, self.depth > 0)
    return within(self, "execute_many", function()
        self.conn:note(facts)
        return self.conn:run(batch.execute_many, call)
    end)
end

-- ---- COPY ----

--- Rows that are buffered before the connection is taken, and the number per batch after that: the producer may need
--- the connection.
local FIRST <const>, NEXT <const> = 100000, 10000

--- A producer can return the same table each time, so rows are copied.
local function kept(row)
    if type(row) ~= "table" or getmetatable(row) then return row end
    local copy <const> = {}
    for key, value in pairs(row) do copy[key] = value end
    return copy
end

local function collect(f, state, row, most)
    local list <const> = {}
    while row ~= nil and #list < most do
        list[#list + 1] = kept(row)
        row = f(state, row)
    end
    return list, row
end

local function copy_call(call, source)
    return { target = call.target, columns = call.columns, opts = call.opts, source = source }
end

--- Several COPYs are one: all or none, since they are in one unit.
local function copy_rows(self, copy, call, f, state, first)
    local list, row = collect(f, state, first, FIRST)
    return within(self, "copy_in", function()
        local total = 0
        while #list > 0 do
            total = total + self.conn:use(copy.copy_in, copy_call(call, list))
            list, row = collect(f, state, row, NEXT)
        end
        return total
    end)
end

---@param table_name string|string[]
---@param columns string[]|nil
---@param source function|table|string|file*
---@param opts? dbrun.CopyInOptions
function Lease:copy_in(table_name, columns, source, opts, ...)
    check(self, "copy_in")
    local copy <const> = require "dbrun.db.copy"
    local call <const> = copy.arguments(table_name, columns, source, opts, ...)
    self.conn.targets[call.target:match '"([^"]+)"$' or call.target] = true
    local _ <close> = call.closing
    local f <const>, state <const> = copy.iterator_of(call.source, call.state)
    local first <const> = f(state, nil)
    if type(first) == "table" then return copy_rows(self, copy, call, f, state, first) end
    if type(first) ~= "string" then
        local none <const> = first == nil and {} or { first } -- the connection says what is wrong
        return within(self, "copy_in", self.conn.use, self.conn, copy.copy_in, copy_call(call, none))
    end
    local handed = false
    local spool <close> = require "dbrun.dry.spool".of(function(s, before)
        if handed then return f(s, before) end
        handed = true
        return first
    end, state, nil)
    return within(self, "copy_in", self.conn.use, self.conn, copy.copy_in, copy_call(call, spool))
end

-- ---- transactions ----

local function run_inside(self, fn)
    self.depth = self.depth + 1
    local _ <close> = setmetatable({}, { __close = function()
        self.depth, self.reading = self.depth - 1, false
    end })
    local result <const> = table.pack(fn(self))
    check_idle(self)
    return table.unpack(result, 1, result.n)
end

---@param opts? table
---@param fn function
function Lease:transaction(opts, fn)
    check(self, "transaction")
    check_idle(self)
    opts, fn = transaction.arguments(opts, fn)
    local conn <const> = self.conn
    if self.depth > 0 then
        transaction.check_nested_options(opts)
        return conn:unit(false, opts.read_only, run_inside, self, fn)
    end
    if opts.isolation then
        explain.tell_once(conn, "isolation", "isolation levels are not set: all runs in one transaction, which is "
            .. "read committed")
    end
    local _ <close> = not has_turn(self) and conn:enter "transaction" or nil
    return transaction.run_top(self, opts, fn, function(_, _, run)
        return table.pack(pcall(conn.unit, conn, false, opts.read_only, run_inside, self, run))
    end)
end

---The functions that begin and end the transactions of a session.
M.ends = {
    begin = function(self)
        self.unit = self.conn:begin()
        self.depth = 1
    end,
    commit = function(self)
        local unit <const> = self.unit
        if not unit then return end
        check_idle(self)
        self.unit, self.depth, self.reading = false, 0, false
        local ok <const>, e <const> = pcall(self.conn.commit, self.conn, unit)
        if ok then return end
        self.conn:rollback(unit)
        error(e, 0)
    end,
    rollback = function(self)
        local unit <const> = self.unit
        self.unit, self.depth, self.reading = false, 0, false
        if unit then self.conn:rollback(unit) end
    end,
}

function Lease:advisory_lock(key, opts, fn)
    check(self, "advisory_lock")
    local advisory <const> = require "dbrun.db.advisory"
    return advisory.on(self, advisory.arguments(key, opts, fn))
end

-- ---- the connection itself ----

function Lease:in_transaction()
    check(self, "in_transaction")
    if self.streams then return "open" end
    return self.depth > 0 and self.conn.real and self.conn.real:in_transaction() or false
end

function Lease:release()
    check(self, "release")
    Metatable.__close(self)
end

function Metatable:__close()
    if not self.open then return end
    self.open = false
    if self.unit then M.ends.rollback(self) end
    if self.conn.real and not self.conn.over then pcall(self.conn.real.on_notice, self.conn.real, nil) end
    local held <const> = self.held
    self.held = false
    if held then getmetatable(held).__close(held) end
end

--- A forgotten lease would keep the turn for ever.
function Metatable:__gc()
    if self.held then Metatable.__close(self) end
end

---Does nothing: the connection is that of the dry run.
function Lease:invalidate()
    check(self, "invalidate")
end

for _, method in ipairs { "cancel", "backend_pid", "certificates", "on_notice", "drained", "deadline", "parameter",
    "values", "epochs", "is_stale", "reads_binary", "is_sync" } do
    Lease[method] = function(self, ...)
        check(self, method)
        local real <const> = self.conn.real
        if real then return real[method](real, ...) end
        if method == "is_sync" then return self.conn.sync end
        if method == "drained" then return end
        local _ <close> = self.conn:enter(method)
        return self.conn.real[method](self.conn.real, ...)
    end
end

for _, method in ipairs { "parameter_types", "load_types" } do
    Lease[method] = function(self, ...)
        check(self, method)
        return within(self, method, self.conn.call, self.conn, method, ...)
    end
end

--- The parameters that the server reports are a field.
function Metatable.__index(self, key)
    if key == "parameters" then
        check(self, "parameters")
        return self.conn.real.parameters
    end
    return Lease[key]
end

---Calls on_connect of an engine, for the task that has the turn.
---@param conn dbrun.dry.Connection
---@param on_connect fun(conn: dbrun.dry.Lease)
function M.begun(conn, on_connect)
    local lease <close> = M.new(conn, setmetatable({}, { __close = function() end }))
    local ok <const>, e <const> = pcall(on_connect, lease)
    if ok then return end
    if errors.is(e) then
        if e.kind ~= "cancelled" and not conn.lost then
            e.context = (e.context and e.context .. "\n" or "") .. "on_connect of the engine"
        end
        error(e, 0)
    end
    errors.raise {
        kind = "connect", outcome = "failed", retryable = false, message = "on_connect failed: " .. tostring(e),
    }
end

local close_cursor <const> = "^CLOSE dbrun_cursor_"
local exec <const> = Lease.exec

---The cursor of an iterator that ended early may be gone with the transaction in which it was opened.
function Lease:exec(sql, ...)
    if not (type(self) == "table" and rawget(self, "streams") and type(sql) == "string" and sql:find(close_cursor)) then
        return exec(self, sql, ...)
    end
    local ok <const>, e <const> = pcall(exec, self, sql, ...)
    self.open = false
    if not ok and core.log.level() == "debug" then core.log.write("debug", "dry run: " .. tostring(e)) end
end

return M
