--- What a database is expected to contain: a Lua file that returns a list of facts.
---
---     return {
---         { table = "sources" },
---         { table = "metrics.observations", time_partitioned = "observed_at" },
---     }
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

M.DEFAULT_FILE = "scripts/expect.lua"

---@class dbrun.verify.Fact
---@field table string "name" or "schema.name", as SQL would write it
---@field time_partitioned? string the column by which it must be split: a hypertable or native range partitions

local KNOWN <const> = { table = "string", time_partitioned = "string" }

local function fail(file, message, hint)
    errors.raise { kind = "config", message = ("%s: %s"):format(file, message), hint = hint }
end

local function check_fact(file, i, fact)
    if type(fact) ~= "table" then fail(file, ("fact %d is a %s, not a table"):format(i, type(fact))) end
    for key, value in pairs(fact) do
        if not KNOWN[key] then
            fail(file, ("fact %d has '%s', which means nothing here"):format(i, tostring(key)),
                "a fact has `table` and may have `time_partitioned`")
        end
        if type(value) ~= KNOWN[key] then
            fail(file, ("fact %d: `%s` is a %s, not a %s"):format(i, key, type(value), KNOWN[key]))
        end
    end
    if not fact.table or fact.table == "" or fact.table:find "[%c]" then
        fail(file, ("fact %d names no table"):format(i))
    end
end

---Reads the facts.
---@param file? string default scripts/expect.lua, which need not be there
---@return dbrun.verify.Fact[]? nil when no file was named and the default is not there
---@return string file
---Raises an error of kind `config` that names the file and what is wrong in it.
function M.load(file)
    local path = file or M.DEFAULT_FILE
    if not fs.exists(path) then
        if not file then return nil, path end
        fail(path, "there is no such file")
    end
    local chunk, why = loadfile(path, "t")
    if not chunk then errors.raise { kind = "config", message = why } end
    local ok, facts = pcall(chunk)
    if not ok then errors.raise { kind = "config", message = tostring(facts) } end
    if type(facts) ~= "table" then fail(path, ("it returns a %s, not a list of facts"):format(type(facts))) end
    for i, fact in ipairs(facts) do check_fact(path, i, fact) end
    return facts, path
end

return M
