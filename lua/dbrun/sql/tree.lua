--- The parse tree of a statement, from the server's parser (core.sql.parse). If the parser is not installed or
--- does not know the syntax, there is no tree, and callers say so or use the statement's words.
local json = require "dbrun.json"

local M = {}

---The parser cuts names at 63 bytes, even within a character, and accepts texts that are not UTF-8; JSON accepts
---neither.
local function valid_utf8(text)
    local length, at = utf8.len(text)
    if length then return text end
    local parts, from = {}, 1
    while not length do
        parts[#parts + 1] = text:sub(from, at - 1) .. "\u{FFFD}"
        from = at + 1
        length, at = utf8.len(text, from)
    end
    return table.concat(parts) .. text:sub(from)
end

---The node of one statement. Never raises.
---@param sql string one statement
---@return string? kind "IndexStmt", "AlterTableStmt", ...; nil when there is no tree
---@return table body the node's fields; the reason (string) when there is no tree
function M.of(sql)
    local ok, core = pcall(require, "dbrun.core")
    if not ok or not core.sql then return nil, "the parser is not installed" end
    local text, why = core.sql.parse(sql)
    if not text then return nil, why end
    local decoded, result = pcall(json.decode, valid_utf8(text))
    if not decoded then return nil, "the statement is nested too deeply" end
    local entry = result.stmts[1]
    if not entry then return nil, "there is no statement" end
    return next(entry.stmt)
end

---"schema.name" of a RangeVar, as it would be written.
---@param relation table
---@return string
function M.relation(relation)
    local function quote(name)
        return name:find "^[%l_][%l%d_$]*$" and name or '"' .. name:gsub('"', '""') .. '"'
    end
    return (relation.schemaname and quote(relation.schemaname) .. "." or "") .. quote(relation.relname)
end

---The dotted name in a list of String nodes.
---@param list table[]
---@return string
function M.name(list)
    local parts = {}
    for _, node in ipairs(list) do
        parts[#parts + 1] = M.relation { relname = node.String and node.String.sval or "" }
    end
    return table.concat(parts, ".")
end

---Calls fn(kind, body) for every node below a value, in no order.
---@param value any
---@param fn fun(kind: string, body: table)
function M.walk(value, fn)
    if type(value) ~= "table" then return end
    for key, child in pairs(value) do
        if type(child) == "table" then
            if type(key) == "string" and key:find "^%u" then fn(key, child) end
            M.walk(child, fn)
        end
    end
end

---The value of an option (DefElem) of a statement: true when it is given without one.
---@param options table[]?
---@param name string
---@return any value nil when it is missing, or off
function M.option(options, name)
    for _, node in ipairs(options or {}) do
        local def = node.DefElem
        if def and def.defname == name then
            local arg = def.arg
            if not arg then return true end
            local value = arg.String and arg.String.sval or arg.Integer and (arg.Integer.ival or 0)
                or arg.Boolean and (arg.Boolean.boolval or false)
            if value == "false" or value == "off" or value == 0 then return nil end
            return value
        end
    end
end

return M
