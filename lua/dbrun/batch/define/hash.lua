--- Whether a job is still the same: a hash over its definition, and the definition as text for people.
local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local json <const> = require "dbrun.json"

local M = {}

---The text in which a function was written: its file, or the chunk itself when it came from a text.
local function source_of(fn)
    local source <const> = debug.getinfo(fn, "S").source
    if source:sub(1, 1) ~= "@" then return source end
    local ok <const>, text <const> = pcall(fs.read, source:sub(2))
    return ok and text or source
end

local function text_of(value)
    local kind <const> = type(value)
    if kind == "function" then return source_of(value) end
    if kind ~= "table" then return value == nil and "" or tostring(value) end
    local parts = {}
    for i, part in ipairs(value) do parts[i] = text_of(part) end
    return json.encode(json.array(parts))
end

---@param definition dbrun.batch.Definition
---@param hashed string[] more options that it covers
---@return string hash
function M.of(definition, hashed)
    local parts = { "dbrun batch 1" }
    local names <const> = table.move(hashed, 1, #hashed, 7, { "kind", "table", "as", "key", "where", "run" })
    for _, name in ipairs(names) do
        local text <const> = text_of(definition[name])
        parts[#parts + 1] = ("%s %d:%s"):format(name, #text, text)
    end
    if definition.source then parts[#parts + 1] = "source " .. definition.source.hash end
    return core.digest("sha256", table.concat(parts, "\n"))
end

---The definition as text for people.
---@param definition dbrun.batch.Definition
---@return table<string, string> texts
function M.texts(definition)
    local run = definition.run
    if type(run) == "function" then
        local at <const> = debug.getinfo(run, "S")
        run = ("function at %s:%d"):format(at.short_src, at.linedefined)
    elseif type(run) == "table" then
        run = table.concat(run, ";\n")
    end
    return {
        table = definition.table, key = definition.key and table.concat(definition.key, ", "),
        where = definition.where, run = run, source = definition.source and definition.source.text,
    }
end

return M
