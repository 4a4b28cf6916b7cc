--- The texts of EXECUTE within a DO, as far as the file shows them: strings, results of `||`, concat() and format(),
--- and variables with such values. A part that is known only at run time becomes a name, so that the rest can be
--- parsed.
local M = {}

---@class dbrun.migrate.lint.Piece a token of PL/pgSQL, not a blank or comment
---@field text string words in lower case
---@field kind "word"|"quoted"|"string"|"dollar"|"number"|"sign"
---@field at integer
---@field behind integer

---The placeholder for a name or a value that is known only at run time.
M.UNKNOWN = "_unknown_"

local ESCAPED <const> = { n = "\n", t = "\t", r = "\r", b = "\b", f = "\f" }

---The value of a string token.
---@param piece dbrun.migrate.lint.Piece?
---@return string?
local function literal(piece)
    if not piece then return end
    if piece.kind == "dollar" then return piece.text:match "^%$[^$]*%$(.*)%$[^$]*%$$" end
    if piece.kind ~= "string" then return end
    local inside = piece.text:match "^'(.*)'$"
    if inside then return (inside:gsub("''", "'")) end
    inside = piece.text:match "^[eE]'(.*)'$"
    return inside and (inside:gsub("''", "'"):gsub("\\(.)", function(c) return ESCAPED[c] or c end))
end

---The result of format() for its first argument.
local function formatted(text)
    return (text:gsub("%%%d*%$?%-?%d*([ILs%%])", function(what)
        return what == "L" and "''" or what == "%" and "%" or M.UNKNOWN
    end))
end

local QUOTES_VALUE <const> = { quote_literal = true, quote_nullable = true }
local OPENS <const> = { ["("] = 1, ["["] = 1, [")"] = -1, ["]"] = -1 }

---The number of the first token with one of these texts outside brackets, `stop` when there is none.
local function find(pieces, first, stop, wanted)
    local depth = 0
    for i = first, stop - 1 do
        local text = pieces[i].text
        if depth == 0 and wanted(pieces, i) then return i end
        depth = depth + (pieces[i].kind == "sign" and OPENS[text] or 0)
    end
    return stop
end

local function is_comma(pieces, i) return pieces[i].text == "," end

local function is_concat(pieces, i)
    return pieces[i].text == "|" and pieces[i + 1] and pieces[i + 1].text == "|"
end

local value

---The values of the arguments between two brackets.
local function arguments(pieces, first, stop, variables)
    local list = {}
    while first < stop do
        local comma = find(pieces, first, stop, is_comma)
        list[#list + 1] = { value(pieces, first, comma, variables) }
        first = comma + 1
    end
    return list
end

---One operand of `||`.
---@return string text
---@return boolean known is any of it written there?
local function operand(pieces, first, stop, variables)
    local piece, next_piece = pieces[first], pieces[first + 1]
    local text = literal(piece)
    if text then return text, true end
    if piece.text == "(" then return value(pieces, first + 1, stop - 1, variables) end
    if piece.kind == "word" and next_piece and next_piece.text == "(" and first + 1 < stop then
        if QUOTES_VALUE[piece.text] then return "''", false end
        local args = arguments(pieces, first + 2, stop - 1, variables)
        if piece.text == "format" and args[1] then return formatted(args[1][1]), args[1][2] end
        if piece.text == "concat" then
            local all, known = {}, false
            for i, arg in ipairs(args) do all[i], known = arg[1], known or arg[2] end
            return table.concat(all), known
        end
    elseif first + 1 == stop and variables[piece.text] then
        return variables[piece.text], true
    elseif first + 1 == stop and piece.kind == "number" then
        return piece.text, false
    end
    return M.UNKNOWN, false
end

---The text of an expression.
---@param pieces dbrun.migrate.lint.Piece[]
---@param first integer
---@param stop integer the piece behind it
---@param variables table<string, string>
---@return string text
---@return boolean known is any of it written there?
value = function(pieces, first, stop, variables)
    local all, known = {}, false
    while first < stop do
        local concat = find(pieces, first, stop, is_concat)
        if concat > first then
            local text, here = operand(pieces, first, concat, variables)
            all[#all + 1], known = text, known or here
        end
        first = concat + 2
    end
    return table.concat(all), known
end

local function ends_text(pieces, i) return pieces[i].text == "into" or pieces[i].text == "using" end

---The statements of an EXECUTE; nil when the file shows nothing of them.
---@param pieces dbrun.migrate.lint.Piece[]
---@param first integer the piece behind EXECUTE
---@param stop integer the piece that ends the statement
---@param variables table<string, string>
---@return string?
function M.executed(pieces, first, stop, variables)
    local text, known = value(pieces, first, find(pieces, first, stop, ends_text), variables)
    return known and text or nil
end

---Limits variables that grow in many steps, such as `s := s || s`.
local LONGEST <const> = 65536

local function assigns(pieces, i)
    local before = pieces[i - 1] and pieces[i - 1].text
    return pieces[i].text == "default" or pieces[i].text == "=" and before ~= "<" and before ~= ">" and before ~= "!"
end

---Records the value that a statement or a declaration gives to a variable.
---@param pieces dbrun.migrate.lint.Piece[]
---@param first integer
---@param stop integer the piece that ends it
---@param variables table<string, string> by name
function M.remember(pieces, first, stop, variables)
    local sign = find(pieces, first, stop, assigns)
    if sign == stop or sign == first then return end
    local text, known = value(pieces, sign + 1, stop, variables)
    variables[pieces[first].text] = known and #text <= LONGEST and text or nil
end

return M
