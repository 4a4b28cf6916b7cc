--- The one class of errors: what went wrong, where, and what to do about it.
---
--- Raises nothing else.
local core <const> = require "dbrun.core"

local M = {}

---@alias dbrun.ErrorKind
---| "usage" # wrong arguments or a call in the wrong place
---| "config" # a setting that is wrong or missing
---| "connect" # no connection, or the connection was lost
---| "timeout" # a deadline passed
---| "cancelled" # the task was cancelled
---| "query" # the server refused the statement
---| "constraint" # a constraint refused the data (SQLSTATE class 23)
---| "pool" # the pool had no free connection
---| "redis" # an error reply of Redis; `code` is its first word
---| "protocol" # the server broke the protocol
---| "io" # files, processes

---@class dbrun.Error
---@field kind dbrun.ErrorKind what went wrong
---@field message string one sentence, without names of fields
---@field sqlstate? string five characters, PostgreSQL only
---@field detail? string details from the server or the pool
---@field hint? string what to do
---@field context? string where the server was: functions, lines of COPY; for Redis: the step at which a connect failed
---@field statement? string the SQL that failed
---@field position? integer 1-based, in characters, into statement
---@field constraint? string name of the constraint
---@field schema? string of the table
---@field table? string name of the table
---@field column? string name of the column: of a table, or of the result when its value cannot be read
---@field column_number? integer 1-based, of a column of the result whose value cannot be read
---@field datatype? string name of the type
---@field severity? string "ERROR", "FATAL" or "PANIC", in the server's language
---@field routine? string the server's C function that raised it: independent of the language of messages
---@field layer? string of a failed connect: "name", "network", "tls", "authentication", "database", "server" or "time"
---@field code? string first word of a Redis error reply
---@field retryable boolean whether the same work may succeed when it is run again
---@field outcome? "not_sent"|"failed"|"unknown" whether the work was done
---@field written? integer after a failed write to a child: bytes that its pipe has taken
---@field where? string script file:line
---@field traceback? string the calls that led to it

---What is told of an error whose `outcome` is "unknown".
M.UNKNOWN = "unknown: the work may have been done; check before you run it again"

---Raises unless `value` is of one of the types. (Other modules use dbrun.args, which requires this one.)
local function check(fn, name, value, kind)
    if type(value) ~= kind then
        M.fail("usage", ("%s: %s must be a %s, got %s"):format(fn, name, kind, value == nil and "nil" or type(value)))
    end
end

local function check_fields(fn, fields)
    check(fn, "fields", fields, "table")
    check(fn, "kind", fields.kind, "string")
    check(fn, "message", fields.message, "string")
end

---Makes an error object with these fields; `where` is filled in.
---@param fields table kind and message at least; a program may have kinds and fields of its own
---@return dbrun.Error
---```lua
---local e = errors.new { kind = "import", message = "line 7 has no price", line = 7 }
---print(e.kind, e.line)  --> import  7
---```
function M.new(fields)
    check_fields("error.new", fields)
    return core.error.new(fields)
end

---Throws an error with these fields.
---@param fields table
---```lua
---local ok, e = pcall(errors.raise, { kind = "import", message = "line 7 has no price" })
---print(e.kind)  --> import
---```
function M.raise(fields)
    check_fields("error.raise", fields)
    error(core.error.new(fields), 0)
end

---Throws an error of that kind.
---@param kind dbrun.ErrorKind
---@param message string
---@param hint? string what to do
---```lua
---local ok, e = pcall(errors.fail, "io", "the disk is full", "remove old reports")
---print(e.kind, e.message, e.hint)  --> io  the disk is full  remove old reports
---```
function M.fail(kind, message, hint)
    check("error.fail", "kind", kind, "string")
    check("error.fail", "message", message, "string")
    if hint ~= nil then check("error.fail", "hint", hint, "string") end
    M.raise { kind = kind, message = message, hint = hint }
end

---Throws an error of kind `usage`: "fn: message".
---@param fn string the function that was called wrongly, as scripts call it
---@param fmt string
---@param ... any for the format
---```lua
---local function area(w)
---    if type(w) ~= "number" then errors.usage("area", "w must be a number, got %s", type(w)) end
---end
---print(select(2, pcall(area, "x")).message)  --> area: w must be a number, got string
---```
function M.usage(fn, fmt, ...)
    check("error.usage", "fn", fn, "string")
    check("error.usage", "fmt", fmt, "string")
    M.fail("usage", ("%s: %s"):format(fn, fmt:format(...)))
end

local metatable <const> = core.error.metatable()

---Whether `v` is an error object (of this kind).
---@param v any
---@param kind? dbrun.ErrorKind
---@return boolean
---```lua
---local ok, e = pcall(task.timeout, 0.01, task.sleep, 1)
---print(errors.is(e), errors.is(e, "timeout"), errors.is "a text")  --> true  true  false
---```
function M.is(v, kind)
    if kind ~= nil then check("error.is", "kind", kind, "string") end
    return type(v) == "table" and getmetatable(v) == metatable and (kind == nil or v.kind == kind)
end

--- The line of `sql` that holds character `position`, its number, and the column (both from 1).
local function locate(sql, position)
    local line, start, at = 1, 1, 0
    for p, c in utf8.codes(sql, true) do
        at = at + 1
        if at >= position then
            local stop = sql:find("\n", p, true) or #sql + 1
            return sql:sub(start, stop - 1), line, at - utf8.len(sql, 1, start - 1, true)
        end
        if c == 10 then
            line, start = line + 1, p + 1
        end
    end
    local last = sql:sub(start)
    return last, line, (utf8.len(last, 1, -1, true) or #last) + 1
end

--- A position shown as in psql: the line, shortened, and a caret under the character.
local function caret(sql, position)
    local ok, text, line, column = pcall(locate, sql, position)
    if not ok then
        return nil
    end
    text = text:gsub("\t", " "):gsub("\r$", "")
    local width <const> = 72
    local before = column - 1
    local from = 0
    if before > width - 12 then
        from = before - (width - 24)
    end
    local first = utf8.offset(text, from + 1) or 1
    local beyond = utf8.offset(text, from + width + 1)
    local shown = text:sub(first, (beyond or #text + 1) - 1)
    if from > 0 then
        shown = "..." .. shown
    end
    if beyond and beyond <= #text then
        shown = shown .. "..."
    end
    local label = ("LINE %d: "):format(line)
    local pad = #label + (column - 1 - from) + (from > 0 and 3 or 0)
    return label .. shown .. "\n" .. (" "):rep(pad) .. "^"
end

local names <const> = {
    usage = "usage error", config = "configuration error", connect = "connection error", timeout = "timeout",
    cancelled = "cancelled", pool = "pool error", redis = "Redis error", protocol = "protocol error",
    io = "I/O error", query = "error", constraint = "error",
}

---The text for people, as psql prints it: message, caret, DETAIL, HINT, CONTEXT, and the line of the script. Control
---characters, which a server may have sent, are escaped; the fields of the error keep them.
---@param e dbrun.Error
---@return string
---```lua
---local ok, e = pcall(db.async.query, db.async, "select 1 / 0")
---print(errors.format(e):find("division by zero (SQLSTATE 22012)", 1, true) ~= nil)  --> true
---```
function M.format(e)
    if not M.is(e) then M.fail("usage", "error.format: e must be an error object, got a " .. type(e)) end
    local out = {}
    local head = names[e.kind] or tostring(e.kind)
    if e.sqlstate then
        head = ("%s: %s (SQLSTATE %s)"):format(e.severity or "ERROR", e.message, e.sqlstate)
    elseif e.kind == "cancelled" then
        head = e.message
    else
        head = head .. ": " .. tostring(e.message)
    end
    out[1] = e.where and (tostring(e.where) .. ": " .. head) or head
    if e.statement and e.position then
        out[#out + 1] = caret(e.statement, e.position)
    end
    for _, field in ipairs { "detail", "hint", "context" } do
        if e[field] then
            out[#out + 1] = ("%s:  %s"):format(field:upper(), e[field])
        end
    end
    if e.outcome == "unknown" then
        out[#out + 1] = "OUTCOME:  " .. M.UNKNOWN
    end
    return core.tty.printable(table.concat(out, "\n"))
end

metatable.__tostring = M.format

return M
