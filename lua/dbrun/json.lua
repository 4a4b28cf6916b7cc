--- JSON: `json.decode(text)`, `json.encode(value)`.
---
--- | JSON | Lua | |---|---| | object | table; the order of its members is not kept, when a name is given twice the last
--- one counts | | array | sequence marked as an array (`json.is_array`), so that an empty one is written as one | |
--- string | string, UTF-8 | | integer | 64-bit integer; one that does not fit is an error | | number with point or
--- exponent | float | | null | `json.null`, which is `db.null`; it prints as `userdata: (nil)` or `userdata: NULL` |
---
--- A plain table is written as an array when its keys are 1 to n, as an object when they are strings or
--- there are none (`json.array{}` is the empty array). Mixed keys, NaN, infinities, functions, text that is not UTF-8,
--- and an empty table whose content is in its metatable are refused with their place: `at $.rows[3].name`.
---
--- Raises nothing else.
local args <const> = require "dbrun.args"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

---Null, where Lua cannot hold nil. The same value as `db.null`.
---@type lightuserdata
M.null = core.null

---Parses a JSON text. Any value may stand at the top.
---@param text string
---@return any
---Raises an error of kind `usage` with line and column.
---```lua
---local v = json.decode '{"id": 9007199254740993, "tags": [], "note": null}'
---print(v.id, json.is_array(v.tags), v.note == json.null)  --> 9007199254740993  true  true
---```
function M.decode(text, ...)
    if type((...)) == "table" then
        errors.fail("usage", "json.decode: takes a text and no options, got a table behind it")
    end
    return core.json.decode(text)
end

local OPTIONS <const> = { indent = args.whole(0, 16), sort_keys = "boolean", nulls = "boolean" }

---Writes a value as JSON. A result of a statement is the list of its rows, a row an object with its columns in their
---order; columns that are NULL are absent.
---@param value any
---@param options? {indent?: integer, sort_keys?: boolean, nulls?: boolean} indent: spaces for each level (0 to 16,
---default all on one line); sort_keys: members sorted by name instead of in any order; nulls: rows have their columns
---that are NULL as null
---@return string
---Raises an error of kind `usage` that names the place of a value without a JSON form.
---```lua
---print(json.encode({ 1, 2.0, { name = "Ada" } }))  --> [1,2.0,{"name":"Ada"}]
---```
function M.encode(value, options)
    if options ~= nil then
        args.options("json.encode", options, OPTIONS)
    end
    return core.json.encode(value, options)
end

---Marks a table as an array, so that it is written as one even when it is empty.
---@generic T: table
---@param t? T default a new table
---@return T t the same table
---```lua
---print(json.encode { tags = json.array {} })  --> {"tags":[]}
---```
function M.array(t)
    return core.json.array(t)
end

---Marks a table as an object: it is written as one even when its keys are integers, which become strings.
---@generic T: table
---@param t? T default a new table
---@return T t the same table
---```lua
---print(json.encode(json.object {}), json.encode(json.object { [7] = "seven" }))  --> {}  {"7":"seven"}
---```
function M.object(t)
    return core.json.object(t)
end

---Whether this table was made from a JSON array, or marked as one.
---@param t any
---@return boolean
---```lua
---print(json.is_array(json.decode "[]"), json.is_array(json.decode "{}"))  --> true  false
---```
function M.is_array(t)
    return core.json.is_array(t)
end

return args.answer_for_names(M, "json", {
    parse = "json.decode(text)", loads = "json.decode(text)", load = "json.decode(text)", read = "json.decode(text)",
    stringify = "json.encode(value)", dumps = "json.encode(value)", dump = "json.encode(value)",
    write = "json.encode(value)", serialize = "json.encode(value)", pretty = "json.encode(value, {indent = 2})",
    empty_array = "json.array{}", empty_object = "json.object{}", isarray = "json.is_array(t)",
})
