--- The statements within DO: those of its PL/pgSQL body, and those in the texts of EXECUTE.
local core = require "dbrun.core"
local split = require "dbrun.migrate.read.split"
local texts = require "dbrun.migrate.lint.texts"
local tree = require "dbrun.sql.tree"

local M = {}

---@class dbrun.migrate.lint.Inner
---@field sql string
---@field kind string
---@field body table
---@field offset integer byte in the body where it begins

---The text before a statement of PL/pgSQL.
local BEFORE <const> = { [";"] = true, begin = true, ["then"] = true, ["else"] = true, loop = true }

---@return dbrun.migrate.lint.Piece[]
local function pieces_of(text)
    local list = {}
    for behind, kind, at in core.sql.scan, text, 1 do
        if kind ~= "blank" and kind ~= "comment" then
            local piece = text:sub(at, behind - 1)
            if kind == "word" then piece = piece:lower() end
            list[#list + 1] = { text = piece, kind = kind, at = at, behind = behind }
        end
    end
    return list
end

---The number of the piece that ends the statement.
local function stop_of(pieces, first)
    local depth = 0
    for i = first, #pieces do
        local text = pieces[i].text
        if text == "(" then depth = depth + 1
        elseif text == ")" then depth = depth - 1
        elseif text == ";" and depth <= 0 then return i end
    end
    return #pieces + 1
end

---RETURNING a INTO b: without the INTO of PL/pgSQL.
local function without_into(pieces, first, stop, text)
    local returning, depth = false, 0
    for i = first, stop - 1 do
        depth = depth + (pieces[i].text == "(" and 1 or pieces[i].text == ")" and -1 or 0)
        if depth == 0 and pieces[i].text == "returning" then returning = true end
        if depth == 0 and returning and pieces[i].text == "into" then
            return text:sub(pieces[first].at, pieces[i].at - 1)
        end
    end
    return text:sub(pieces[first].at, pieces[stop - 1].behind - 1)
end

---END belongs to a block of PL/pgSQL, and BEGIN too.
local ENDS <const> = { commit = true, rollback = true }

local function add(list, sql, offset)
    local kind, body = tree.of(sql)
    if kind and (kind ~= "TransactionStmt" or ENDS[sql:match "^%a+":lower()]) then
        list[#list + 1] = { sql = sql, kind = kind, body = body, offset = offset }
    end
end

local function add_statement(list, text, pieces, first, stop, variables)
    local word = pieces[first].text
    if word == "execute" then
        local sql = texts.executed(pieces, first + 1, stop, variables)
        for _, statement in ipairs(sql and split.split(sql) or {}) do add(list, statement.sql, pieces[first].at) end
    elseif word == "perform" then
        add(list, "select" .. text:sub(pieces[first].behind, pieces[stop - 1].behind - 1), pieces[first].at)
    else
        add(list, without_into(pieces, first, stop, text), pieces[first].at)
    end
end

---The statements within the body of DO. Those that cannot be parsed are left out.
---@param text string
---@return dbrun.migrate.lint.Inner[]
function M.statements(text)
    local list, pieces, variables, i = {}, pieces_of(text), {}, 1
    while i <= #pieces do
        local before = pieces[i - 1]
        if pieces[i].kind == "word" and (not before or BEFORE[before.text]) and not BEFORE[pieces[i].text] then
            -- IF, FOR, DECLARE and assignments do not parse; their THEN and LOOP begin statements of their own.
            local stop = stop_of(pieces, i)
            local count = #list
            if pieces[i].text == "declare" and i + 1 < stop then i = i + 1 end
            add_statement(list, text, pieces, i, stop, variables)
            if #list > count then i = stop else texts.remember(pieces, i, stop, variables) end
        end
        i = i + 1
    end
    return list
end

---The body of a DO statement, in PL/pgSQL.
---@param body table of the node DoStmt
---@return string?
function M.body(body)
    local text, language
    for _, node in ipairs(body.args or {}) do
        local def = node.DefElem
        local value = def and def.arg and def.arg.String and def.arg.String.sval
        if def and def.defname == "as" then text = value end
        if def and def.defname == "language" then language = value end
    end
    return (language or "plpgsql"):lower() == "plpgsql" and text or nil
end

---@class dbrun.migrate.lint.Statement
---@field kind? string of the node; nil when the statement could not be parsed
---@field body table|string the node's fields; why it could not be read
---@field sql string
---@field line integer
---@field inner? boolean it is within DO

---A statement, and those within it when it is DO.
---@param statement dbrun.migrate.lint.Statement
---@return dbrun.migrate.lint.Statement[]
---@return string? text the body of DO
function M.all(statement)
    local list = { statement }
    local text = statement.kind == "DoStmt" and M.body(statement.body)
    local start = text and statement.sql:find(text, 1, true) or 1
    local line, at = statement.line, 1
    for _, found in ipairs(text and M.statements(text) or {}) do
        local _, newlines = statement.sql:sub(at, start + found.offset - 2):gsub("\n", "")
        line, at = line + newlines, math.max(at, start + found.offset - 1)
        list[#list + 1] = { kind = found.kind, body = found.body, sql = found.sql, line = line, inner = true }
    end
    return list, text or nil
end

return M
