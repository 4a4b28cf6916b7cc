--- The values of a job's settings, and the source of each: `dbrun batch set` overrides the file, and the file the
--- defaults.
local M = {}

---@class dbrun.batch.Value
---@field name string "size", "throttle.replication_lag"
---@field value string
---@field from "set"|"file"|"default"

---The order for people.
local NAMES <const> = {
    "size", "min", "max", "look", "target", "timeout", "duty", "rate", "hours", "lock_timeout", "on_error",
    "max_failed", "passes",
}

---A value as `dbrun batch set` takes it.
local function text_of(value)
    if math.type(value) == "float" then return (("%.6g"):format(value)) end
    if type(value) == "table" then return require("dbrun.command_line").json(value) end
    return tostring(value)
end

local function add(into, name, value, from)
    if type(value) == "table" and (name == "throttle" or name == "critical") then
        for key, of in pairs(value) do add(into, ("%s.%s"):format(name, key), of, from) end
        return
    end
    if value ~= nil then into[name] = { name = name, value = text_of(value), from = from } end
end

---The defaults, some of which depend on other values.
local function defaults_of(file, set)
    local said <const> = {}
    for name, value in pairs(file) do said[name] = tonumber(value) or value end
    for name, text in pairs(set) do said[name] = tonumber(text) or text end
    return require("dbrun.batch.define.rules").with_defaults(said)
end

---@param job dbrun.batch.JobRow
---@return dbrun.batch.Value[]
function M.of(job)
    local found <const> = {}
    local file <const>, set <const> = job.file_values or {}, job.set_values or {}
    for name, value in pairs(defaults_of(file, set)) do add(found, name, value, "default") end
    for name, value in pairs(file) do add(found, name, value, "file") end
    for name, value in pairs(set) do add(found, name, value, "set") end
    local list <const>, rest <const> = {}, {}
    for _, name in ipairs(NAMES) do
        list[#list + 1] = found[name]
        found[name] = nil
    end
    for name in pairs(found) do rest[#rest + 1] = name end
    table.sort(rest)
    for _, name in ipairs(rest) do list[#list + 1] = found[name] end
    return list
end

return M
