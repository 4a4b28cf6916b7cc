--- The report of a failed statement: file, line, the line's text with a caret, the server's error, and the state of the
--- migration.
local errors = require "dbrun.error"
local split = require "dbrun.migrate.read.split"

local M = {}

---The place of character `position` of a text: line and column (from 1) and the line's text.
local function locate(sql, position)
    local byte = utf8.offset(sql, position, 1) or position
    byte = math.max(1, math.min(byte, #sql + 1))
    local before = sql:sub(1, byte - 1)
    local _, newlines = before:gsub("\n", "")
    local start = (before:match ".*\n()" or 1)
    local text = sql:sub(start, (sql:find("\n", byte, true) or #sql + 1) - 1)
    return newlines + 1, (utf8.len(sql, start, byte - 1, true) or byte - start) + 1, (text:gsub("\r$", ""))
end

---The file, with the line of an error of its Lua code. Lua truncates the front of a long path.
---@param where? string of the error
---@param path string
---@return string
function M.place(where, path)
    local file, line = (where or ""):match "^(.*):(%d+)$"
    local cut = file and file:match "^%.%.%.(.+)$"
    local same = file == path or cut and path:sub(-#cut) == cut
    return same and ("%s:%s"):format(path, line) or path
end

local WIDTH <const> = 100

---The line and a caret below it; a long line is cut around the place.
local function picture(number, text, column)
    text = text:gsub("\t", " ")
    local count = utf8.len(text, 1, -1, true) or #text
    local from = 1
    if column and column > WIDTH - 20 then from = column - WIDTH // 2 end
    local to = math.min(count, from + WIDTH - 1)
    local first, last = utf8.offset(text, from) or 1, (utf8.offset(text, to + 1) or #text + 1) - 1
    local shown = (from > 1 and "..." or "") .. text:sub(first, last) .. (to < count and "..." or "")
    local label = ("%6d | "):format(number)
    local out = { label .. shown }
    if column then
        out[2] = (" "):rep(#label - 2) .. "| " .. (" "):rep(column - from + (from > 1 and 3 or 0)) .. "^"
    end
    return table.concat(out, "\n")
end

local HINTS <const> = {
    ["55P03"] = "another session uses that table: run it again at a quieter moment, or wait longer with --lock-timeout "
        .. "(who: select pid, query from pg_stat_activity where state <> 'idle')",
    ["57014"] = "the statement was cancelled or ran into --statement-timeout",
    ["25006"] = "this server or session is read-only: point MIGRATION_DATABASE_URL at the primary",
    ["25001"] = "put 'transaction:false' after '-- migrate:up' (or down): this statement cannot run in a transaction",
    ["2D000"] = "put 'transaction:false' after '-- migrate:up' (or down): the code that it runs ends transactions",
}

---Hints for errors of seeds, by SQLSTATE.
local SEED_HINTS <const> = {
    ["57014"] = "the statement was cancelled or ran into statement_timeout",
    ["25001"] = "this statement cannot run in a transaction, which every seed has: put it into a migration with "
        .. "transaction:false",
    ["2D000"] = "the code that it runs ends transactions, and every seed has one: put it into a migration with "
        .. "transaction:false",
    ["25006"] = "a seed writes in its own transaction: point DATABASE_URL at the primary, or leave 'read only' out",
}

---Hints for errors of migrations with transaction:false, by SQLSTATE.
local STEP_HINTS <const> = {
    ["25001"] = "put it outside of 'begin' and 'commit': this statement cannot run in a transaction",
    ["2D000"] = "put it outside of 'begin' and 'commit': the code that it runs ends transactions",
}

---exec refuses COPY TO STDOUT as a usage error, but here the file is wrong, not a call.
local function misused(e)
    if e.kind == "cancelled" then return "query", e.hint end -- on the server: the program goes on
    if e.kind ~= "usage" then return e.kind, e.hint end
    return "query", e.message:find "^COPY" and "a file has nowhere to write rows to: leave it out, or use copy_out in "
        .. "a Lua file" or e.hint
end

local NO_PARAMETERS <const> = "a file is sent unchanged: it has no parameters, and variables such as :name are "
    .. "psql's; write the value itself, or a Lua file"

local OTHER_ENCODING <const> = "leave client_encoding out, and write the file in UTF-8 (pg_dump --encoding=UTF8)"

---Whether the error is about a parameter: the hints for calls do not help in a file.
local function has_parameter(e)
    local hint <const> = e.hint or ""
    return hint:find "^parameters are written as " or hint:find "are given by name, in one table"
        or e.sqlstate == "42P02" or e.sqlstate == "42601" and e.message:find '":"$'
end

---The line of a row after a COPY that the server has refused; nil: another error.
local function line_of_row(e, statement)
    local number <const> = statement.data and e.context and e.context:match "^COPY.-, line (%d+)"
    return number and statement.data.line + math.tointeger(number) - 1
end

---The lines for detail, hint and context of an error.
local function add_fields(out, e, hint)
    for _, field in ipairs { { "detail", e.detail }, { "hint", hint }, { "context", e.context } } do
        if field[2] then out[#out + 1] = ("  %s: %s"):format(field[1], (field[2]:gsub("\n", "\n    "))) end
    end
end

---An error that does not belong to a statement of the file: before the first one, or at COMMIT, where deferred
---constraints and triggers are checked.
---@param e dbrun.Error
---@param file string path of the migration
---@param line integer
---@param when string|false|nil
---@param aftermath string the state of the migration
---@return dbrun.Error
function M.around(e, file, line, when, aftermath)
    local state = e.sqlstate and " (SQLSTATE " .. e.sqlstate .. ")" or ""
    local message = ("%s: %s%s%s"):format(file, when or "", e.message, state)
    local out = { message }
    add_fields(out, e, e.hint)
    out[#out + 1] = "  " .. aftermath
    return errors.new {
        kind = (misused(e)), message = message, sqlstate = e.sqlstate, detail = e.detail, hint = e.hint,
        context = e.context, retryable = e.retryable, outcome = e.outcome, file = file, line = line,
        text = table.concat(out, "\n"),
    }
end

---Kinds of errors that are about the run, not about a file's code.
local NOT_OF_A_FILE <const> = { usage = true, config = true, cancelled = true }

---An error of the code of a Lua file (a migration, a hook), with its place there.
---@param e dbrun.Error
---@param file string path
---@param aftermath string what stays
---@param statement? string
---@return dbrun.Error
function M.of_code(e, file, aftermath, statement)
    local where <const> = M.place(e.where, file)
    local out = { ("%s: %s%s"):format(where, e.message, e.sqlstate and (" (SQLSTATE %s)"):format(e.sqlstate) or "") }
    if statement then out[2] = "  statement: " .. statement:gsub("\n", "\n    ") end
    add_fields(out, e, e.hint)
    out[#out + 1] = "  " .. aftermath
    return errors.new {
        kind = NOT_OF_A_FILE[e.kind] and "query" or e.kind, sqlstate = e.sqlstate, detail = e.detail, hint = e.hint,
        outcome = e.outcome, retryable = e.retryable, file = file,
        line = math.tointeger(tonumber(where:match ":(%d+)$")), message = out[1], text = table.concat(out, "\n"),
    }
end

---The text of a row.
local function row_text(data, line)
    local number = data.line
    for row in data.text:gmatch "([^\n]*)\n" do
        if number == line then return row end
        number = number + 1
    end
    return ""
end

local SETTING_ROLE <const> = { "^set role", "^set session role", "^set local role", "^set %a* ?session authorization" }

---The role that a file has set before a statement.
---@return string? role as it is written there
---@return integer? line
local function role_before(all, statement)
    local role, line
    for _, one in ipairs(all or {}) do
        if one == statement then break end
        local words <const> = split.plain(one.sql)
        for _, pattern in ipairs(SETTING_ROLE) do
            if words:find(pattern) then role, line = one.sql:match "(%S+)%s*$", one.line end
        end
        if words:find "^reset role" or words:find "^reset session" or role and role:lower():find "^none$"
            or role and role:lower():find "^default$" then role, line = nil, nil end
    end
    return role, line
end

---The role, and the right that it lacks.
local function missing_right(e, statement, what, all)
    local role <const>, line <const> = role_before(all, statement)
    local who <const> = role and ("%s, the role that line %d has set"):format(role, line)
        or "the role of this connection"
    local schema <const>, other <const> = e.message:match "for schema (.+)$", e.message:match "denied for (.+)$"
    if schema then
        return ("grant create (or usage) on schema %s to %s%s"):format(schema, who, schema == "public"
            and ": since PostgreSQL 15 nobody but the owner of the database may create in public" or "")
    elseif other then
        return ("grant what it needs on %s to %s, or let another role do it"):format(other, who)
    end
    return ("%s lacks the right%s"):format(who, role and "" or (": %s can name another one"):format(
        what == "seed" and "DATABASE_URL" or "MIGRATION_DATABASE_URL"))
end

---The error of a statement, with its file and line.
---@param e dbrun.Error what the statement raised
---@param file string path of the migration
---@param statement { sql: string, line: integer } as split (line: in the file)
---@param aftermath string the state of the migration
---@param what? "seed"|"steps" what the file is: steps = a migration with transaction:false (default: another one)
---@param all? dbrun.migrate.Statement[] the statements of the file
---@return dbrun.Error error with `file`, `line` and the whole picture in `text`
function M.failed(e, file, statement, aftermath, what, all)
    local line, column, text = 1, nil, statement.sql:match "^[^\r\n]*"
    if e.position and e.position > 0 then
        line, column, text = locate(statement.sql, e.position)
    end
    line = statement.line + line - 1
    local row <const> = line_of_row(e, statement)
    if row then
        line, column = row, nil
        text = row_text(statement.data, row)
    end
    local state = e.sqlstate and " (SQLSTATE " .. e.sqlstate .. ")" or ""
    local message = ("%s:%d: %s%s"):format(file, line, e.message, state)
    local out = { message, picture(line, text, column) }
    local kind, hint = misused(e)
    if e.sqlstate == "0A000" and e.message:find "^extension .* cannot be updated after the old version" then
        hint = what == "seed" and "put it into a migration, as the first statement of its file"
            or "make it the first statement of a file: the file then gets a session of its own"
    end
    if has_parameter(e) then hint = NO_PARAMETERS end
    if e.message:find "^client_encoding was set to " then hint = OTHER_ENCODING end
    if e.sqlstate == "42704" and e.message:find "configuration parameter" then
        hint = hint or "leave the line out: this server is older than what wrote it (pg_dump of a later version)"
    end
    if e.sqlstate == "42501" then hint = hint or missing_right(e, statement, what, all) end
    hint = hint or what == "steps" and STEP_HINTS[e.sqlstate] or (what == "seed" and SEED_HINTS or HINTS)[e.sqlstate]
    add_fields(out, e, hint)
    out[#out + 1] = "  " .. aftermath
    return errors.new {
        kind = kind, message = message, sqlstate = e.sqlstate, detail = e.detail, hint = hint, context = e.context,
        retryable = e.retryable, outcome = e.outcome, file = file, line = line, text = table.concat(out, "\n"),
    }
end

return M
