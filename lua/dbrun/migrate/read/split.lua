--- Splits an SQL text into statements with the server's parser (core.sqlsplit). If that is not installed, or does not
--- know the syntax (of a newer server), the lexer below works as psql's does.
local M = {}

---@class dbrun.migrate.Statement
---@field sql string without the blanks and comments around it, and without its semicolon
---@field line integer of its first word, counted from the first line given
---@field first integer byte where it begins in the text

-- ---- a lexer ----

---The position after a comment that begins at `at`; block comments nest.
local function after_comment(sql, at)
    if sql:sub(at, at + 1) == "--" then return (sql:find("\n", at, true) or #sql) + 1 end
    local depth, pos = 1, at + 2
    while depth > 0 do
        local found = sql:find("[*/]", pos)
        if not found then return #sql + 1 end
        local two = sql:sub(found, found + 1)
        if two == "/*" then depth, pos = depth + 1, found + 2
        elseif two == "*/" then depth, pos = depth - 1, found + 2
        else pos = found + 1 end
    end
    return pos
end

---The position after a text quoted by `quote` that begins at `at`. A doubled quote counts as the end of one text and
---the start of the next.
local function after_quoted(sql, at, quote, escapes)
    if not escapes then return (sql:find(quote, at + 1, true) or #sql) + 1 end
    local pos = at + 1
    while true do
        local found = sql:find("[\\']", pos)
        if not found then return #sql + 1 end
        if sql:byte(found) == 39 then return found + 1 end
        pos = found + 2
    end
end

---The position after a $tag$ ... $tag$, or nil when none begins at `at`.
local function after_dollar(sql, at)
    local tag = sql:match("^%$[%a_\x80-\xff][%w_\x80-\xff]*%$", at) or sql:match("^%$%$", at)
    if not tag then return end
    local _, stop = sql:find(tag, at + #tag, true)
    return (stop or #sql) + 1
end

---Tracks whether the words so far are inside BEGIN ATOMIC ... END of a function or procedure, where semicolons do not
---end the statement. CASE ends with END too.
local function track_body(state, word)
    state.words = state.words + 1
    if state.words == 1 then
        state.routine = word == "create" and "maybe" or nil
    elseif state.routine == "maybe" then
        if word == "function" or word == "procedure" then state.routine = "yes"
        elseif word ~= "or" and word ~= "replace" then state.routine = nil end
    elseif state.routine == "yes" and state.parens == 0 then
        if word == "begin" or (word == "case" and state.body > 0) then state.body = state.body + 1
        elseif word == "end" and state.body > 0 then state.body = state.body - 1 end
    end
end

---The position after the token at `at`, which is neither blank nor comment.
local function after_token(sql, at, state)
    local word = sql:match("^[%a_\x80-\xff][%w_$\x80-\xff]*", at)
    if word then
        if (word == "e" or word == "E") and sql:sub(at + 1, at + 1) == "'" then
            return after_quoted(sql, at + 1, "'", true)
        end
        track_body(state, word:lower())
        return at + #word
    end
    local c = sql:sub(at, at)
    if c == "'" or c == '"' then return after_quoted(sql, at, c) end
    if c == "$" then return after_dollar(sql, at) or at + 1 end
    if c == "(" then state.parens = state.parens + 1
    elseif c == ")" then state.parens = math.max(0, state.parens - 1) end
    local number = sql:match("^%d[%w_.]*", at)
    return at + (number and #number or 1)
end

---The next position, from `at` on, that is neither blank nor comment.
local function skip_blanks(sql, at)
    while true do
        at = sql:find("%S", at)
        if not at then return #sql + 1 end
        local two = sql:sub(at, at + 1)
        if two ~= "--" and two ~= "/*" then return at end
        at = after_comment(sql, at)
    end
end

local function fresh() return { words = 0, parens = 0, body = 0 } end

---Ranges {first, last} of the statements, found without a parser.
---@param sql string
---@return { first: integer, last: integer }[]
function M.lex(sql)
    local ranges, state = {}, fresh()
    local at, first, last = skip_blanks(sql, 1), nil, nil
    while at <= #sql do
        if sql:byte(at) == 59 and state.parens == 0 and state.body == 0 then
            if first then ranges[#ranges + 1] = { first = first, last = last } end
            state, first, at = fresh(), nil, at + 1
        else
            first = first or at
            at = after_token(sql, at, state)
            last = math.min(at - 1, #sql)
        end
        at = skip_blanks(sql, at)
    end
    if first then ranges[#ranges + 1] = { first = first, last = last } end
    return ranges
end

-- ---- parser or lexer ----

local function parsed_ranges(sql)
    local ok, core = pcall(require, "dbrun.core")
    if not ok or not core.sqlsplit then return nil end
    return (core.sqlsplit.split(sql))
end

---Splits an SQL text into statements.
---@param sql string
---@param line? integer number of its first line (default 1)
---@return dbrun.migrate.Statement[]
---@return "parser"|"lexer" how the server's parser, or the lexer without it
function M.split(sql, line)
    local ranges, how = parsed_ranges(sql), "parser"
    if not ranges then ranges, how = M.lex(sql), "lexer" end
    local list, number, counted = {}, line or 1, 1
    for _, range in ipairs(ranges) do
        local first = skip_blanks(sql, range.first)
        if first <= range.last then
            local _, newlines = sql:sub(counted, first - 1):gsub("\n", "")
            number, counted = number + newlines, first
            list[#list + 1] = {
                sql = sql:sub(first, range.last):gsub("%s+$", ""),
                line = number,
                first = first,
            }
        end
    end
    return list, how
end

local CONTROL <const> = {
    begin = true, start = true, commit = true, ["end"] = true, rollback = true, abort = true,
}

---The first statement that begins or ends a transaction: it would end the migration's transaction.
---@param statements dbrun.migrate.Statement[]
---@return dbrun.migrate.Statement?
function M.transaction_control(statements)
    for _, statement in ipairs(statements) do
        local first, second = statement.sql:lower():match "^(%a+)%s*(%a*)"
        local to_savepoint = first == "rollback" and statement.sql:lower():find "%f[%a]to%f[%A]"
        if CONTROL[first] and not to_savepoint and (first ~= "start" or second == "transaction") then
            return statement
        end
    end
end

return M
