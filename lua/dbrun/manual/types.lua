--- The types of LuaCATS annotations: `string|nil`, `{a?: b, c: d}`, `fun(x: y): z`, `table<k, v>`, `t[]`, ...
local M = {}

---@alias dbrun.manual.TypeKind "name"|"literal"|"union"|"array"|"table"|"fun"|"rest"

---@class dbrun.manual.Type
---@field kind dbrun.manual.TypeKind
---@field name? string of a name
---@field value? string|number of a literal
---@field args? dbrun.manual.Type[] of a name: the types between < and >
---@field of? dbrun.manual.Type[]|dbrun.manual.Type of a union: its alternatives; of an array: its elements
---@field fields? dbrun.manual.Param[] of a table
---@field params? dbrun.manual.Param[] of a function
---@field returns? dbrun.manual.Type[] of a function

---@class dbrun.manual.Param
---@field name string
---@field type? dbrun.manual.Type nil: there is no annotation
---@field optional boolean
---@field about? string what it is for

local parse_type

local function fail(text, at)
    error(("there is no type at '%s' in '%s'"):format(text:sub(at, at + 20), text), 0)
end

---`name?: type` and the like, up to a closing bracket.
local function parse_fields(text, at, close)
    local fields <const> = {}
    at = text:match("^%s*()", at)
    while text:sub(at, at) ~= close do
        local name, optional, behind = text:match("^([%w_.]+)(%??)%s*:%s*()", at)
        local kind
        if not name and text:find("^%[", at) then
            name, behind = text:match("^(%b[])%s*:%s*()", at)
        end
        if name then
            kind, at = parse_type(text, behind)
        else -- a parameter without a type
            name, optional, behind = text:match("^([%w_.]+)(%??)()", at)
            if not name then fail(text, at) end
            at = behind
        end
        fields[#fields + 1] = { name = name, type = kind, optional = optional == "?" or M.allows(kind, "nil") }
        at = text:match("^%s*,?%s*()", at)
        if at > #text then fail(text, at) end
    end
    return fields, at + 1
end

local function parse_list(text, at, close)
    local list <const> = {}
    repeat
        list[#list + 1], at = parse_type(text, at)
        -- in { f: fun(): integer, g: string } the comma ends the function's type
        local comma <const> = not text:find("^%s*,%s*[%w_]+%??%s*:", at) and text:match("^%s*,%s*()", at)
        at = comma or at
    until not comma
    if close then
        at = text:match("^%s*" .. close .. "()", at) or fail(text, at)
    end
    return list, at
end

local function parse_primary(text, at)
    local quote <const>, word <const>, past <const> = text:match("^([\"'])(.-)%1()", at)
    if quote then return { kind = "literal", value = word }, past end
    local digits <const>, behind_digits <const> = text:match("^(%-?%d+)()", at)
    if digits then return { kind = "literal", value = math.tointeger(digits) }, behind_digits end
    local open <const> = text:sub(at, at)
    if open == "(" then
        local list <const>, behind <const> = parse_list(text, text:match("^%s*()", at + 1), "%)")
        return list[1], behind
    elseif open == "{" then
        local fields <const>, behind <const> = parse_fields(text, at + 1, "}")
        return { kind = "table", fields = fields }, behind
    elseif text:find("^fun%(", at) then
        local result <const> = { kind = "fun", returns = {} }
        result.params, at = parse_fields(text, at + 4, ")")
        local colon <const> = text:match("^%s*:%s*()", at)
        if colon then result.returns, at = parse_list(text, colon) end
        return result, at
    elseif text:find("^%.%.%.", at) then
        return { kind = "rest" }, at + 3
    end
    local name, behind = text:match("^([%a_][%w_.]*%*?)()", at)
    if not name then fail(text, at) end
    local result <const> = { kind = "name", name = name }
    if text:find("^<", behind) then
        result.args, behind = parse_list(text, behind + 1, ">")
    end
    return result, behind
end

local function parse_postfix(text, at)
    local result
    result, at = parse_primary(text, at)
    while true do
        if text:find("^%[%]", at) then
            result, at = { kind = "array", of = result }, at + 2
        elseif text:find("^%?", at) then
            result, at = { kind = "union", of = { result, { kind = "name", name = "nil" } } }, at + 1
        else
            return result, at
        end
    end
end

---Parses the type at the beginning of a text.
---@param text string
---@param at? integer
---@return dbrun.manual.Type
---@return integer behind the position behind it
function parse_type(text, at)
    local list <const> = {}
    at = at or 1
    repeat
        list[#list + 1], at = parse_postfix(text, at)
        local bar <const> = text:match("^|()", at)
        at = bar or at
    until not bar
    return #list == 1 and list[1] or { kind = "union", of = list }, at
end
M.parse = parse_type

---Whether nil, or another type name, is one of its alternatives.
---@param kind dbrun.manual.Type?
---@param name string
---@return boolean
function M.allows(kind, name)
    if not kind then return false end
    if kind.kind == "name" then return kind.name == name end
    for _, one in ipairs(kind.kind == "union" and kind.of or {}) do
        if M.allows(one, name) then return true end
    end
    return false
end

---The type as it is written.
---@param kind dbrun.manual.Type?
---@return string
function M.text(kind)
    if not kind then return "any" end
    local function list(types, between)
        local parts <const> = {}
        for i, one in ipairs(types) do parts[i] = M.text(one) end
        return table.concat(parts, between)
    end
    local function fields(params)
        local parts <const> = {}
        for i, p in ipairs(params) do
            local mark <const> = p.optional and p.name ~= "..." and not M.allows(p.type, "nil") and "?" or ""
            parts[i] = p.name .. mark .. (p.type and ": " .. M.text(p.type) or "")
        end
        return table.concat(parts, ", ")
    end
    if kind.kind == "literal" then
        return type(kind.value) == "string" and '"' .. kind.value .. '"' or tostring(kind.value)
    elseif kind.kind == "union" then
        return list(kind.of, "|")
    elseif kind.kind == "array" then
        local inner <const> = M.text(kind.of)
        return (kind.of.kind == "union" or kind.of.kind == "fun") and "(" .. inner .. ")[]" or inner .. "[]"
    elseif kind.kind == "table" then
        return "{" .. fields(kind.fields) .. "}"
    elseif kind.kind == "fun" then
        return "fun(" .. fields(kind.params) .. ")" .. (#kind.returns > 0 and ": " .. list(kind.returns, ", ") or "")
    elseif kind.kind == "rest" then
        return "..."
    end
    return kind.name .. (kind.args and "<" .. list(kind.args, ", ") .. ">" or "")
end

return M
