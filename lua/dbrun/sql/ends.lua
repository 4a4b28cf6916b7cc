--- Finds the semicolon that ends a statement: it is outside brackets and outside a routine's body (BEGIN ATOMIC ...
--- END), which contains statements.
local M = {}

---@class dbrun.sql.Ends what was seen of the statement so far
---@field words integer
---@field parens integer open brackets
---@field body integer open BEGIN and CASE of a routine's body
---@field routine? "maybe"|"yes" it may be, or is, a CREATE FUNCTION or CREATE PROCEDURE

---@return dbrun.sql.Ends
function M.new() return { words = 0, parens = 0, body = 0 } end

---CASE ends with END, too.
local function take_word(ends, word)
    ends.words = ends.words + 1
    if ends.words == 1 then
        ends.routine = word == "create" and "maybe" or nil
    elseif ends.routine == "maybe" then
        if word == "function" or word == "procedure" then ends.routine = "yes"
        elseif word ~= "or" and word ~= "replace" then ends.routine = nil end
    elseif ends.routine == "yes" and ends.parens == 0 then
        if word == "begin" or (word == "case" and ends.body > 0) then ends.body = ends.body + 1
        elseif word == "end" and ends.body > 0 then ends.body = ends.body - 1 end
    end
end

---Takes the next piece of the statement, as core.sql.scan gives it.
---@param ends dbrun.sql.Ends
---@param kind string
---@param text string
---@return boolean ended it is the semicolon that ends the statement
function M.take(ends, kind, text)
    if kind == "word" then
        take_word(ends, text:lower())
    elseif kind == "sign" then
        if text == ";" then return ends.parens == 0 and ends.body == 0 end
        if text == "(" then ends.parens = ends.parens + 1
        elseif text == ")" then ends.parens = math.max(0, ends.parens - 1) end
    end
    return false
end

return M
