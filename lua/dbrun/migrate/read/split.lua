--- Splits an SQL text into statements with the server's parser. If that is not installed, or does not know the syntax
--- (of a newer server), the lexer below works as psql's does.
local sql_library = require "dbrun.core".sql

local scan <const> = sql_library.scan

local M = {}

---@class dbrun.migrate.Statement
---@field sql string without the blanks and comments around it, and without its semicolon
---@field line integer of its first word, counted from the first line given
---@field first integer byte where it begins in the text

-- ---- a lexer ----

local function is_between(kind) return kind == "blank" or kind == "comment" end

---The next position, from `at` on, that is neither blank nor comment.
local function skip_blanks(sql, at)
    for _, kind, from in scan, sql, at do
        if not is_between(kind) then return from end
    end
    return #sql + 1
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

local function track_sign(state, sign)
    if sign == "(" then state.parens = state.parens + 1
    elseif sign == ")" then state.parens = math.max(0, state.parens - 1) end
end

local function fresh() return { words = 0, parens = 0, body = 0 } end

---Ranges {first, last} of the statements, found without a parser.
---@param sql string
---@return { first: integer, last: integer }[]
function M.lex(sql)
    local ranges, state = {}, fresh()
    local first, last
    local function finish()
        if first then ranges[#ranges + 1] = { first = first, last = last } end
        state, first = fresh(), nil
    end
    for behind, kind, at in scan, sql, 1 do
        local text <const> = sql:sub(at, behind - 1)
        if text == ";" and state.parens == 0 and state.body == 0 then
            finish()
        elseif not is_between(kind) then
            if kind == "word" then track_body(state, text:lower())
            elseif kind == "sign" then track_sign(state, text) end
            first, last = first or at, behind - 1
        end
    end
    finish()
    return ranges
end

-- ---- parser or lexer ----

---Splits an SQL text into statements.
---@param sql string
---@param line? integer number of its first line (default 1)
---@return dbrun.migrate.Statement[]
---@return "parser"|"lexer" how the server's parser, or the lexer without it
function M.split(sql, line)
    local ranges, how = sql_library.split(sql), "parser"
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

---A statement for patterns about its words: they are in lower case, what stands between them is one space, and its
---strings are empty.
---@param sql string
---@return string
function M.plain(sql)
    local out = {}
    for behind, kind, at in scan, sql, 1 do
        local text <const> = sql:sub(at, behind - 1)
        if not is_between(kind) then
            out[#out + 1] = (kind == "string" or kind == "dollar") and "''" or kind == "word" and text:lower() or text
        elseif out[#out] ~= " " then
            out[#out + 1] = " "
        end
    end
    return table.concat(out)
end

---The first words of a statement, in lower case.
local function first_words(sql, count)
    local words = {}
    for behind, kind, at in scan, sql, 1 do
        if kind == "word" then words[#words + 1] = sql:sub(at, behind - 1):lower() end
        if #words == count or (kind ~= "word" and not is_between(kind)) then break end
    end
    return words
end

local CONTROL <const> = {
    begin = true, start = true, commit = true, ["end"] = true, rollback = true, abort = true, prepare = true,
}

---Does the statement begin or end a transaction? ROLLBACK [WORK | TRANSACTION] TO ends none.
local function is_control(sql)
    local first <const>, second <const>, third <const> = table.unpack(first_words(sql, 3))
    if not CONTROL[first] then return false end
    if first == "start" or first == "prepare" then return second == "transaction" end
    return not (first == "rollback" and (second == "to" or third == "to"))
end

---The first statement that begins or ends a transaction: it would end the migration's transaction.
---@param statements dbrun.migrate.Statement[]
---@return dbrun.migrate.Statement?
function M.transaction_control(statements)
    for _, statement in ipairs(statements) do
        if is_control(statement.sql) then return statement end
    end
end

return M
