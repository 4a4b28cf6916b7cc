--- Normalises names of tables and other objects: `s` and `public.s`, or `S` and `s`, are the same.
local core = require "dbrun.core"
local tree = require "dbrun.sql.tree"

local M = {}

---The schema of a name without a schema, while nothing sets search_path.
M.DEFAULT = "public"

---The full name of a table: "public.t", "s.t".
---@param relation table a RangeVar
---@param schema? string of names without one (default: public)
---@return string
function M.of(relation, schema)
    local full = { relname = relation.relname, schemaname = relation.schemaname or schema or M.DEFAULT }
    return tree.relation(full)
end

---The full name in a list of String nodes.
---@param list table[]
---@param schema? string
---@return string
function M.of_list(list, schema)
    local last, before = list[#list], list[#list - 1]
    return M.of({
        relname = last and last.String and last.String.sval or "",
        schemaname = before and before.String and before.String.sval,
    }, schema)
end

---The kinds of objects that are not relations and have names in schemas: their words in `made`.
---@type table<string, "type"|"function">
M.KEYED = {
    OBJECT_TYPE = "type", OBJECT_DOMAIN = "type", OBJECT_FUNCTION = "function", OBJECT_PROCEDURE = "function",
    OBJECT_ROUTINE = "function", OBJECT_AGGREGATE = "function",
}

---The name that a node of an object stands for, as a list of String nodes.
---@param object table
---@return table[]?
function M.list_of(object)
    if object.List then return object.List.items end
    if object.ObjectWithArgs then return object.ObjectWithArgs.objname end
    if object.TypeName then return object.TypeName.names end
    if object.String then return { object } end
end

---A name as people write it: without the schema `public`.
---@param name string
---@return string
function M.shown(name)
    return (name:gsub("^public%.", ""))
end

---The parts of a text that names a table: 's.t', '"S".t'.
local function parts_of(text)
    local parts = {}
    for behind, kind, at in core.sql.scan, text, 1 do
        local piece = text:sub(at, behind - 1)
        if kind == "word" then parts[#parts + 1] = piece:lower()
        elseif kind == "quoted" then parts[#parts + 1] = piece:sub(2, -2):gsub('""', '"')
        elseif piece ~= "." then break end
    end
    return parts
end

local function of_parts(parts, schema)
    if #parts == 0 then return end
    return M.of({ relname = parts[#parts], schemaname = parts[#parts - 1] }, schema)
end

---The full name of a table in a text, as regclass reads it.
---@param text string
---@param schema? string
---@return string?
function M.of_text(text, schema)
    return of_parts(parts_of(text), schema)
end

local BEFORE_NAME <const> = { ["if"] = true, ["not"] = true, exists = true }
local TABLE_WORDS <const> = {
    global = true, ["local"] = true, temp = true, temporary = true, unlogged = true, materialized = true,
}

---The table that a statement makes, found by its words if the parser cannot read it: CREATE TABLE, also AS and
---MATERIALIZED VIEW.
---@param sql string
---@param schema? string
---@return string?
function M.made_by_words(sql, schema)
    local words = 0
    for behind, kind, at in core.sql.scan, sql, 1 do
        local word = kind == "word" and sql:sub(at, behind - 1):lower()
        if kind ~= "blank" and kind ~= "comment" then
            words = words + 1
            if words == 1 and word ~= "create" then return end
            if word == "table" or word == "view" and words > 2 then
                local rest, from = behind, nil
                for stop, what, start in core.sql.scan, sql, rest do
                    local skipped = what == "blank" or what == "comment"
                        or what == "word" and BEFORE_NAME[sql:sub(start, stop - 1):lower()]
                    if not skipped then
                        from = start
                        break
                    end
                end
                return from and of_parts(parts_of(sql:sub(from)), schema)
            end
            if words > 1 and not TABLE_WORDS[word] then return end
        end
    end
end

return M
