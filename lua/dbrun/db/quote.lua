--- Values written into SQL text, for places where SQL allows no parameter. A text is quoted so that it means the same
--- with standard_conforming_strings on and off: as '...' if it has no backslash, else as E'...'. Connections use UTF-8
--- only, so no byte of a multi-byte character is a quote or a backslash.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local literal <const> = require "dbrun.db.literal"

local M = {}

local null <const> = core.null
local number_text <const> = core.pg.number_text

local function refuse(place, what, hint)
    errors.raise { kind = "usage", outcome = "not_sent", message = ("%s %s"):format(place, what), hint = hint }
end

---A string constant.
---@param s string
---@param place string "db.literal: the value"
---@return string
function M.text(s, place)
    if s:find("\0", 1, true) then
        refuse(place, "contains a NUL byte, which no text of PostgreSQL can", "Bytes are db.bytea(s).")
    end
    local quoted <const> = s:gsub("'", "''")
    if not s:find("\\", 1, true) then
        return "'" .. quoted .. "'"
    end
    return " E'" .. quoted:gsub("\\", "\\\\") .. "'" -- the blank keeps the E from joining a word before it
end

--- A number that stays one token: a minus after another minus would begin a comment.
local function number(v)
    if v ~= v then
        return "'NaN'::pg_catalog.float8"
    elseif v == math.huge or v == -math.huge then
        return ("'%sInfinity'::pg_catalog.float8"):format(v < 0 and "-" or "")
    end
    local text <const> = number_text(v)
    if text:find "[eE]" then -- bare, it would be a numeric of 300 digits
        return ("'%s'::pg_catalog.float8"):format(text)
    end
    return v < 0 and " " .. text or text
end

local function hex(bytes)
    return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- The name of a type, which is put into the SQL as the script writes it, so it must be only a name.
local function check_type(name, place)
    local depth = 0
    for behind, kind, at in core.sql.scan, name, 1 do
        local piece <const> = name:sub(at, behind - 1)
        depth = depth + (piece == "(" and 1 or piece == ")" and -1 or 0)
        if depth < 0 or not (kind == "word" or kind == "quoted" or kind == "number" or piece:find "^ *$"
            or piece:find "^[%.%[%](),]$" or piece == "-" and depth > 0) then -- numeric(3,-2)
            refuse(place, "has the name of a type that is not valid in SQL")
        end
    end
    if depth ~= 0 then refuse(place, "has the name of a type whose brackets do not match") end
    return name
end

--- The text of an array whose element type is not built in: its elements are written as texts.
local function array_text(p, place)
    return literal.array(literal.untyped, p.value, { place = place }, p)
end

local function wrapped(p, place)
    local text = p[1]
    if p[3] then
        return (" E'\\\\x%s'::pg_catalog.bytea"):format(hex(text))
    elseif text == false and p.kind == "array" then
        text = array_text(p, place)
    elseif text == false and p.kind == "typed" and type(p.value) ~= "table" then
        text = type(p.value) == "number" and number_text(p.value) or tostring(p.value)
    elseif text == false then
        refuse(place, ("is db.%s of a type that only the server knows"):format(p.kind),
            "Give it to a statement as a parameter: copy_out takes them, too.")
    end
    local constant <const> = text == nil and "NULL" or M.text(text, place)
    if not p.name or p.kind == "json" then return constant end
    return ("%s::%s%s"):format(constant, check_type(p.name, place), p.kind == "array" and "[]" or "")
end

---A value quoted for SQL text.
---@param v any a string, number, boolean, nil or db.null, or what db.bytea, db.typed, db.array, db.json, db.range made
---@return string
---Raises an error of kind `usage` for values that cannot be written: a NUL byte, a table that no wrapper made.
---```lua
---print(db.literal "it's", db.literal(db.null))  --> 'it''s'  NULL
---```
function M.literal(v)
    local t <const> = type(v)
    local place <const> = "db.literal: the value"
    if v == nil or v == null then
        return "NULL"
    elseif t == "string" then
        return M.text(v, place)
    elseif t == "number" then
        return number(v)
    elseif t == "boolean" then
        return tostring(v)
    elseif t == "table" and literal.is_wrapped(v) then
        return wrapped(v, place)
    end
    refuse(place, t == "table" and "is a table" or ("is a %s, which cannot be a value"):format(t),
        t == "table" and "A list is db.array(t), JSON db.json(v)." or nil)
end

-- ---- the parameters of a statement --------------------------------------------------------------------

--- A parameter as dbrun.db.values encoded it, with its type.
local function parameter(v, type_name, n)
    local place <const> = ("copy_out: parameter $%d"):format(n)
    local text
    if v == nil or v == null then
        return ("(NULL::%s)"):format(type_name)
    elseif type(v) == "table" and v[3] then
        text = "\\x" .. hex(v[1])
    elseif type(v) == "table" then
        text = v[1]
    elseif type(v) == "string" or type(v) == "boolean" then
        text = tostring(v)
    elseif type(v) == "number" then
        text = number_text(v)
    else
        refuse(place, ("is a %s, which cannot be a value"):format(type(v)))
    end
    return ("(%s::%s)"):format(text == nil and "NULL" or M.text(text, place), type_name)
end

---Replaces $n in a query by constants of the type that the server expects there.
---@param query string
---@param values table with n
---@param types string[] names that can stand behind ::
---@param escapes boolean standard_conforming_strings is off
---@return string
function M.fill(query, values, types, escapes)
    local out <const> = {}
    local at = 1
    while at <= #query do
        local behind <const>, kind <const> = core.sql.scan(query, at, escapes)
        local piece = query:sub(at, behind - 1)
        local n <const> = kind == "parameter" and math.tointeger(tonumber(piece:sub(2)))
        if n and n <= values.n then piece = parameter(values[n], types[n], n) end
        out[#out + 1] = piece
        at = behind
    end
    return table.concat(out)
end

return M
