--- Splits an SQL text into statements as psql does, with the server's parser. The lexer below works like psql's; it is
--- used if the parser is not installed, or does not know the syntax (of a newer server), or if the text switches
--- standard_conforming_strings, which the parser assumes to be on.
local ends = require "dbrun.sql.ends"
local sql_library = require "dbrun.core".sql
local strings = require "dbrun.migrate.read.strings"

local scan <const> = sql_library.scan

local M = {}

---@class dbrun.migrate.Statement
---@field sql string without the blanks and comments around it, and without its semicolon
---@field line integer of its first word, counted from the first line given
---@field first integer byte where it begins in the text
---@field escapes boolean standard_conforming_strings is off when it runs: plain strings have escapes
---@field tree_sql? string the same statement for the parser, when it cannot read `sql` itself
---@field data? dbrun.migrate.CopyData the rows below a COPY ... FROM stdin

-- ---- a lexer ----

local function is_between(kind) return kind == "blank" or kind == "comment" end

---The next position, from `at` on, that is neither blank nor comment.
local function skip_blanks(sql, at)
    for _, kind, from in scan, sql, at do
        if not is_between(kind) then return from end
    end
    return #sql + 1
end

---@class dbrun.migrate.Visitor callbacks of M.walk; each can return the byte where the walk goes on
---@field statement fun(first: integer, last: integer, escapes: boolean, semicolon?: integer): integer?
---@field backslash? fun(at: integer, inside: boolean): integer? a character that SQL does not have; whether it is
---inside a statement

---Walks through the statements of a text as psql's lexer does.
---@param sql string
---@param escapes? boolean standard_conforming_strings is off at the beginning
---@param visitor dbrun.migrate.Visitor
function M.walk(sql, escapes, visitor)
    local state, mode = ends.new(), strings.track(escapes)
    local first, last
    local function finish(semicolon)
        local on
        if first then
            on = visitor.statement(first, last, mode.escapes, semicolon)
            mode:statement(sql:sub(first, last))
        end
        state, first = ends.new(), nil
        return on
    end
    local at = 1
    while true do
        local behind, kind = scan(sql, at, mode.escapes)
        if not behind then break end
        local text <const> = sql:sub(at, behind - 1)
        local on
        if ends.take(state, kind, text) then
            on = finish(at)
        elseif text == "\\" and visitor.backslash then
            on = visitor.backslash(at, first ~= nil)
        elseif not is_between(kind) then
            first, last = first or at, behind - 1
        end
        at = on or behind
    end
    finish()
end

---Ranges {first, last, escapes} of the statements, found without a parser.
---@param sql string
---@param escapes? boolean standard_conforming_strings is off at the beginning
---@return { first: integer, last: integer, escapes: boolean }[]
function M.lex(sql, escapes)
    local ranges = {}
    M.walk(sql, escapes, { statement = function(first, last, off)
        ranges[#ranges + 1] = { first = first, last = last, escapes = off }
    end })
    return ranges
end

-- ---- parser or lexer ----

---The ranges of the statements, and which of the two found them.
local function ranges_of(sql, escapes)
    if not escapes and not strings.may_switch(sql) then
        local ranges = sql_library.split(sql)
        if ranges then return ranges, "parser" end
    end
    return M.lex(sql, escapes), "lexer"
end

---Splits an SQL text into statements.
---@param sql string
---@param line? integer number of its first line (default 1)
---@param escapes? boolean standard_conforming_strings is off at the beginning (default: on)
---@return dbrun.migrate.Statement[]
---@return "parser"|"lexer" how the server's parser, or the lexer without it
function M.split(sql, line, escapes)
    local ranges, how = ranges_of(sql, escapes)
    local list, number, counted = {}, line or 1, 1
    for _, range in ipairs(ranges) do
        local first = skip_blanks(sql, range.first)
        if first <= range.last then
            local _, newlines = sql:sub(counted, first - 1):gsub("\n", "")
            number, counted = number + newlines, first
            local last = range.last
            while sql:find("^%s", last) do last = last - 1 end
            local text <const> = sql:sub(first, last)
            list[#list + 1] = {
                sql = text, line = number, first = first, escapes = range.escapes or false,
                tree_sql = range.escapes and strings.for_parser(text) or nil,
            }
        end
    end
    return list, how
end

local NAMES <const> = {
    comment = "comment /*", string = "string", quoted = "quoted identifier", dollar = "dollar-quoted string",
}

---The unterminated piece of a text: a comment, a string, a quoted identifier.
---@param sql string
---@param line? integer number of its first line (default 1)
---@param escapes? boolean standard_conforming_strings is off at the beginning (default: on)
---@return { line: integer, what: string }? none: every piece ends
function M.unfinished(sql, line, escapes)
    local mode, statement = strings.track(escapes), 1
    local switches <const> = strings.may_switch(sql)
    local at = 1
    while true do
        local behind, kind, from, open = scan(sql, at, mode.escapes)
        if not behind then return nil end
        if open then
            local _, newlines = sql:sub(1, from - 1):gsub("\n", "")
            return { line = (line or 1) + newlines, what = NAMES[kind] }
        end
        if switches and sql:sub(from, behind - 1) == ";" then
            mode:statement(sql:sub(statement, from - 1))
            statement = behind
        end
        at = behind
    end
end

---A statement for matching its words: in lower case, with single spaces between them and empty strings.
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
---@param sql string
---@param count integer
---@return string ...
function M.first_words(sql, count)
    local words = {}
    for behind, kind, at in scan, sql, 1 do
        if kind == "word" then words[#words + 1] = sql:sub(at, behind - 1):lower() end
        if #words == count or (kind ~= "word" and not is_between(kind)) then break end
    end
    return table.unpack(words)
end

return M
