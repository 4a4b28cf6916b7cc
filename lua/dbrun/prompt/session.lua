--- The state of the prompt: its own connection, opened at the first SQL and kept until the end, and the display
--- options.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local inspect = require "dbrun.prompt.inspect"
local names = require "dbrun.prompt.names"
local pager = require "dbrun.pager"
local results = require "dbrun.sql.results"
local shown = require "dbrun.prompt.shown"
local stream = require "dbrun.sql.stream"
local tab = require "dbrun.prompt.tab"
local task = require "dbrun.task"
local tty = require "dbrun.tty"

local M = {}

---@class dbrun.prompt.Session
---@field last_sql? string the last statement that was run
---@field last any the last result, `_`
---@field lua table the variables of what is typed
---@field expanded boolean one line a column
---@field timing boolean print the time of each statement
---@field database? string as far as it is known
---@field output? file* of \o
---@field ended boolean the prompt ends
local Session <const> = {}
Session.__index = Session

---The database's name in the configuration; nil if it is not given there.
local function configured()
    local ok <const>, url <const> = pcall(function() return require "dbrun.config".async_database_url end)
    if not ok or not url or url == "" then return os.getenv "PGDATABASE" end
    local parsed <const>, address = pcall(require "dbrun.url".parse_postgres, url, "url")
    return parsed and address.dbname or os.getenv "PGDATABASE"
end

---@param terminal any dbrun.terminal
---@return dbrun.prompt.Session
function M.new(terminal)
    local self <const> = setmetatable({
        terminal = terminal, expanded = false, timing = true, ended = false, database = configured(),
    }, Session)
    self.lua = names.new(self)
    return self
end

-- ---- the terminal ----

---A line of the prompt's own.
function Session.tell(_, text)
    io.stdout:flush()
    io.stderr:write(core.tty.printable(text), "\n")
end

---A text of several lines: to the file of \o, or the terminal.
function Session:write(text)
    if text ~= "" and text:sub(-1) ~= "\n" then text = text .. "\n" end
    if self.output then
        local ok, why = self.output:write(text)
        if ok then ok, why = self.output:flush() end
        if ok then return end
        pcall(self.output.close, self.output)
        self.output = nil
        self:tell(("\\o: cannot write to the file: %s; results go to the terminal again"):format(why))
    end
    task.shield(pager.show, text) -- Ctrl-C belongs to the pager while it runs
end

---The prompt's text.
function Session:prompt()
    if _G._PROMPT ~= nil then return tostring(_G._PROMPT) end
    if not self.database then return self.state == nil and "> " or "=" .. self.state .. "> " end
    return ("%s=%s> "):format(core.tty.printable(self.database), self.state or "")
end

function Session:quit() self.ended = true end

---How tables are shown (dbrun.table): on the terminal lines are cut to its width.
---@return dbrun.table.Options
function Session:options()
    local to_terminal <const> = not self.output and tty.isatty(1)
    return {
        format = self.expanded and "vertical" or "table", width = to_terminal and tty.width(1) or false,
        color = to_terminal and tty.colour(1),
    }
end

-- ---- the connection ----

local function notice(self)
    return function(n)
        local lines <const> = { ("%s:  %s"):format(n.severity, n.message) }
        if n.detail then lines[#lines + 1] = "DETAIL:  " .. n.detail end
        if n.hint then lines[#lines + 1] = "HINT:  " .. n.hint end
        self:tell(table.concat(lines, "\n"))
    end
end

---The prompt's own connection, opened when there is none.
---@return dbrun.Connection
function Session:conn()
    if not self.opened then
        self.opened = require "dbrun.sql.session".open(core.options.target, notice(self))
        self.database = self.opened.conn:value "select pg_catalog.current_database()"
        if self.opened.protected then
            self:tell("The database is protected (DBRUN_PROTECTED): READ-ONLY. To change it: dbrun --target "
                .. self.database)
        end
        if self.lost then self:tell "Connected anew." end
        self.lost = nil
    end
    return self.opened.conn
end

local STATE <const> = { open = "*", failed = "!" }

---Reads the state of the transaction.
function Session:look()
    local ok, state = pcall(function() return self.opened and self.opened.conn:in_transaction() end)
    self.state = ok and state and STATE[state] or nil
end

---Whether a statement may have committed the transaction, although its answer was lost.
local function may_have_committed(sql, e)
    if e.outcome ~= "unknown" then return false end
    for word in sql:lower():gmatch "%a+" do
        if word == "commit" or word == "end" or word == "prepare" then return true end
    end
    return false
end

---Reports that the connection is lost, and what was lost with it.
local function lose(self, e)
    local open <const> = self.state
    pcall(self.opened.close, self.opened)
    self.opened, self.state, self.lost = nil, nil, true
    local lost <const> = open and (may_have_committed(self.last_sql, e)
        and ", and whether the open transaction was committed is not known"
        or ", and the open transaction was rolled back") or ""
    self:tell(("The connection was lost%s. Temporary tables, settings, cursors and locks of the session are gone. "
        .. "The next statement opens another."):format(lost))
end

---Closes the connection; an open transaction is rolled back.
function Session:close()
    if self.opened then
        if self.state then self:tell "The open transaction is rolled back." end
        pcall(self.opened.close, self.opened)
        self.opened = nil
    end
    if self.output then self.output:close() end
    self.output = nil
end

-- ---- statements ----

---The values of the :names in a statement, which are Lua variables.
---@param sql string
---@return table|nil
function Session:parameters(sql)
    local plan <const> = core.pg.named(sql)
    if not plan then return nil end
    local values <const> = {}
    for i = 2, #plan do
        local value <const> = self.lua[plan[i]]
        if value == nil then
            errors.fail("usage", ("there is no Lua variable '%s' for the parameter :%s"):format(plan[i], plan[i]),
                ("Set it first: %s = ... (a global; a local of another line is gone), or db.null for NULL."):format(
                    plan[i]))
        end
        values[plan[i]] = value
    end
    return values
end

---An error as psql shows it.
local function error_text(e)
    if not errors.is(e) then return tostring(e) end
    local text = tostring(e)
    if e.where and text:sub(1, #e.where + 2) == e.where .. ": " then text = text:sub(#e.where + 3) end
    return (text:gsub("^(%u+): ", "%1:  "))
end
M.error_text = error_text

local function refuse_copy(way)
    local what <const> = way == "in" and "FROM STDIN" or "TO STDOUT"
    errors.fail("usage", ("COPY ... %s is not for the prompt: the terminal is not a file"):format(what),
        way == "in" and 'In a shell: dbrun sql "copy ... from stdin" < FILE; from Lua: conn:copy_in(...).'
        or 'In a shell: dbrun sql "copy ... to stdout" > FILE; from Lua: conn:copy_out(...).')
end

--- The statement with $1 for its first :name, and their values.
local function positional(self, sql)
    local plan <const>, named <const> = core.pg.named(sql), self:parameters(sql)
    if not plan then return sql, {} end
    local values <const> = {}
    for i = 2, #plan do values[i - 1] = named[plan[i]] end
    return plan[1], values
end

---Waits until a cancelled statement is over.
function Session:settle()
    if self.opened then self.opened.conn:drained() end
end

--- A statement has made the session of a protected database writable: ends the session.
local function check(self)
    local ok <const>, e <const> = pcall(self.opened.check, self.opened)
    if ok then return end
    pcall(self.opened.close, self.opened)
    self.opened = nil
    error(e, 0)
end

---Runs a statement and shows what came of it.
---@param sql string
---@return boolean ok
function Session:run(sql)
    self.last_sql, self.answered = sql, nil
    local started = task.now()
    local ok <const>, e <const> = pcall(function()
        local way <const> = stream.of(sql)
        if way then refuse_copy(way) end
        local conn <const> = self:conn()
        self.opened:allow(sql)
        local text <const>, values <const> = positional(self, sql)
        started = task.now()
        results.run(conn, text, values, shown.printer(self), notice(self))
        if self.opened then check(self) end
    end)
    local took <const> = (self.answered or task.now()) - started
    local lost = not ok and self.opened ~= nil and errors.is(e, "connect")
    if not ok and errors.is(e, "cancelled") then
        if lost then lose(self, e) end
        self:look()
        error(e, 0)
    end
    if not ok then self:tell(error_text(e)) end
    if lost then lose(self, e) end
    self:look()
    if ok and self.tab and tab.is_change(sql) then self.tab:refresh() end
    if ok and self.timing then self:tell(("Time: %.3f ms"):format(took * 1000)) end
    return ok
end

---Shows the values of a line of Lua.
---@param ... any
function Session:show(...)
    local n <const> = select("#", ...)
    if n == 0 then return end
    self.last = (...)
    local texts <const> = {}
    for i = 1, n do texts[i] = inspect.value((select(i, ...))) end
    self:write(table.concat(texts, "\t"))
end

return M
