--- What an SQL statement expects at the cursor, and the relations that it names: enough for completion, without a
--- grammar.
local core <const> = require "dbrun.core"

local M = {}

---@class dbrun.prompt.Token
---@field kind "word"|"quoted"|"string"|"dollar"|"number"|"sign"|"parameter"|"comment"
---@field text string
---@field low string in lower case where it is a word; without quotes where it is quoted
---@field at integer
---@field behind integer
---@field open boolean it has no end

---The tokens, without blanks, of the statement in `sql` at position `point` (the first character after the cursor).
---@param sql string
---@param point integer
---@return dbrun.prompt.Token[] tokens
---@return integer before how many of them begin before the point
function M.tokens(sql, point)
    local tokens, before = {}, 0
    for behind, kind, at, open in core.sql.scan, sql, 1 do
        local text <const> = sql:sub(at, behind - 1)
        if kind == "sign" and text == ";" then
            if at >= point then break end
            tokens, before = {}, 0
        elseif kind ~= "blank" then
            local low = text:lower()
            if kind == "quoted" then low = text:gsub('^"', ""):gsub('"$', ""):gsub('""', '"') end
            if kind ~= "comment" or at < point and behind >= point then
                tokens[#tokens + 1] = { kind = kind, text = text, low = low, at = at, behind = behind, open = open }
                if at < point then before = #tokens end
            end
        end
    end
    return tokens, before
end

local NAME <const> = { word = true, quoted = true }

--- Words that cannot be an alias.
local NO_ALIAS <const> = {}
for word in ([[where on using join inner left right full cross natural group order having limit offset fetch for union
    intersect except set values select returning from window with default tablesample when then and or not as in is
    conflict do]]):gmatch "%S+" do NO_ALIAS[word] = true end

---@class dbrun.prompt.Named
---@field schema? string
---@field name string
---@field alias? string

--- Reads `[only] name[.name] [as] [alias]` at token i: the relation, and the next token.
local function read_relation(tokens, i)
    if tokens[i] and tokens[i].low == "only" and tokens[i].kind == "word" then i = i + 1 end
    local first <const> = tokens[i]
    if not first or not NAME[first.kind] then return nil, i end
    local named = { name = first.low }
    i = i + 1
    if tokens[i] and tokens[i].text == "." and tokens[i + 1] and NAME[tokens[i + 1].kind] then
        named = { schema = first.low, name = tokens[i + 1].low }
        i = i + 2
    end
    if tokens[i] and tokens[i].kind == "word" and tokens[i].low == "as" then i = i + 1 end
    local alias <const> = tokens[i]
    if alias and (alias.kind == "quoted" or alias.kind == "word" and not NO_ALIAS[alias.low]) then
        named.alias = alias.low
        i = i + 1
    end
    return named, i
end

local LEADS <const> = { from = true, join = true, update = true, into = true, using = true, table = true }

---The relations that the statement names, in FROM, JOIN, INTO, UPDATE, USING and TABLE, and the names of its WITH.
---@param tokens dbrun.prompt.Token[]
---@return dbrun.prompt.Named[] relations
---@return string[] with
function M.relations(tokens)
    local found, with, i = {}, {}, 1
    while i <= #tokens do
        local token <const> = tokens[i]
        if token.kind == "word" and LEADS[token.low] then
            local named, behind = read_relation(tokens, i + 1)
            while named do
                found[#found + 1] = named
                if not (tokens[behind] and tokens[behind].text == "," and token.low ~= "update") then
                    break
                end
                named, behind = read_relation(tokens, behind + 1)
            end
            i = math.max(behind, i + 1)
        elseif NAME[token.kind] and tokens[i + 1] and tokens[i + 1].low == "as" and tokens[i + 2]
            and (tokens[i + 2].text == "(" or tokens[i + 2].low == "materialized" or tokens[i + 2].low == "not") then
            with[#with + 1] = token.low
            i = i + 1
        else
            i = i + 1
        end
    end
    return found, with
end

--- Words that are followed by an expression, most often a list of columns.
local EXPRESSION <const> = {}
for word in ([[select where on having by set returning and or not case when then else distinct between like ilike in
    using values limit offset filter over is check]]):gmatch "%S+" do EXPRESSION[word] = true end

--- Words that are followed by the name of a relation.
local RELATION <const> = {}
for word in ("from join into update only vacuum analyze truncate copy lock references cluster inherits"):gmatch "%S+" do
    RELATION[word] = true
end

--- Statements whose names may be of these objects.
local CHANGES <const> = {}
for word in ("alter drop comment grant revoke lock refresh reindex set security truncate reassign"):gmatch "%S+" do
    CHANGES[word] = true
end

local OBJECTS <const> = {
    table = "table", view = "view", index = "index", sequence = "sequence", schema = "schema",
    ["function"] = "function", procedure = "function", type = "type", domain = "type", extension = "extension",
    database = "database", role = "role",
    user = "role", owner = "role",
}

--- Between such a word and the name.
local KEEPS <const> = { ["if"] = true, exists = true, concurrently = true, only = true }

local LISTS <const> = { drop = true, truncate = true, vacuum = true, analyze = true, lock = true }

local function low_at(tokens, i)
    return tokens[i] and tokens[i].kind == "word" and tokens[i].low or nil
end

---Whether ON precedes a relation here, as in CREATE INDEX i ON t and GRANT SELECT ON t.
local function names_relation(tokens, first, i)
    if first == "grant" or first == "revoke" then return true end
    if first ~= "create" and first ~= "alter" and first ~= "drop" then return false end
    for k = i, 2, -1 do
        local low <const> = low_at(tokens, k)
        if low == "select" or low == "join" or low == "references" then return false end
        if low == "index" or low == "trigger" or low == "policy" or low == "rule" then return true end
    end
    return false
end

local STARTS <const> = { as = true, from = true, exists = true, materialized = true }

local function in_parentheses(tokens, i)
    local before <const> = low_at(tokens, i - 1)
    if before and STARTS[before] then return "start" end
    return before == "inherits" and "relation" or "expression"
end

--- What the word at token i expects after it; nil: nothing, look further back.
local function expects(tokens, first, i, adjacent, comma)
    local low <const>, before <const> = tokens[i].low, low_at(tokens, i - 1)
    if low == "from" and before == "distinct" then return "expression" end
    if first == "copy" and (low == "from" or low == "to") then return "other" end
    if first == "comment" and low == "on" then return "other" end
    if low == "column" and first == "alter" and before and before ~= "add" then
        return adjacent and "expression" or "other"
    end
    if low == "column" and first == "comment" then return "relation" end
    if first == "delete" and low == "using" then return (adjacent or comma) and "relation" or "other" end
    if CHANGES[first] and OBJECTS[low] and (adjacent or comma and LISTS[first]) then
        return before == "materialized" and "materialized" or OBJECTS[low]
    end
    if low == "to" and (first == "grant" or first == "alter") and adjacent then return "role" end
    if RELATION[low] or low == "on" and names_relation(tokens, first, i) then
        return (adjacent or comma and (low == "from" or LISTS[low])) and "relation" or "other"
    end
    return EXPRESSION[low] and "expression" or nil
end

--- The first token that is not EXPLAIN's own.
local function behind_explain(tokens, count)
    local i = 2
    if tokens[2] and tokens[2].text == "(" then
        while i <= count and tokens[i].text ~= ")" do i = i + 1 end
        return i + 1
    end
    while i <= count and (low_at(tokens, i) == "analyze" or low_at(tokens, i) == "verbose") do i = i + 1 end
    return i
end

local SETS <const> = { set = true, show = true, reset = true }

---What is expected at the cursor, by the tokens before it.
---@param tokens dbrun.prompt.Token[]
---@param count integer how many stand before
---@return string expected "start", "relation", "expression", "type", "setting", "other", or the kind of an object:
---"table", "view", "materialized", "index", "sequence", "schema", "function", "extension", "database", "role"
function M.expected(tokens, count)
    local from <const> = low_at(tokens, 1) == "explain" and behind_explain(tokens, count) or 1
    if count < from then return "start" end
    local last <const>, first <const> = tokens[count], low_at(tokens, from) or ""
    if last.text == ":" and tokens[count - 1] and tokens[count - 1].text == ":" then return "type" end
    if SETS[first] and (count == from or count == from + 1 and (last.low == "local" or last.low == "session")) then
        return "setting"
    end
    local depth, adjacent = 0, true
    local comma <const> = last.text == ","
    for i = count, from, -1 do
        local token <const> = tokens[i]
        if token.text == ")" then
            depth = depth + 1
        elseif token.text == "(" then
            if depth == 0 then return in_parentheses(tokens, i) end
            depth = depth - 1
        elseif depth == 0 and token.kind == "word" then
            local expected <const> = expects(tokens, first, i, adjacent, comma)
            if expected then return expected end
        end
        adjacent = adjacent and token.kind == "word" and KEEPS[token.low] == true
    end
    return "other"
end

return M
