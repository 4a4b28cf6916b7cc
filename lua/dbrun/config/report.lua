--- The whole configuration as a list, and its check.
local errors = require "dbrun.error"
local keys = require "dbrun.config.keys"
local sources = require "dbrun.config.sources"
local values = require "dbrun.config.values"

local M = {}

---Keys that are given but not known, by name: from the file, the arguments and the overlay.
local function custom_keys(state)
    sources.lookup(state, "DATABASE_URL") -- from here on the file has been read
    local seen, list = {}, {}
    local function add(key)
        if not keys.specs[key] and not seen[key] then
            seen[key] = true
            list[#list + 1] = key
        end
    end
    for _, key in ipairs(state.dotenv and state.dotenv.order or {}) do
        add(key)
    end
    for key in pairs(state.arguments) do
        add(key)
    end
    for key in pairs(state.overlay) do
        add(key)
    end
    table.sort(list)
    return list
end

---Keys that belong to an address are not checked when a URL overrides them.
local function in_use(state, key)
    if key:find "^POSTGRES_" then
        return sources.lookup(state, "DATABASE_URL") == nil
    elseif keys.redis_part[key] then
        return sources.lookup(state, "REDIS_URL") == nil
    end
    return true
end

---One row of the explanation; a wrong value is reported in the row instead of raised.
local function row(state, key)
    local ok <const>, value <const>, source <const> = pcall(values.get, state, key)
    if ok then
        return { key = key, value = keys.shown(key, value), source = source }
    elseif not errors.is(value, "config") then
        error(value, 0)
    end
    local _, where <const> = sources.lookup(state, key)
    if not in_use(state, key) then
        return { key = key, value = "(not used)", source = where }
    end
    local source_of <const> = values.computed[key] and "computed" or where
    return { key = key, source = source_of, error = value.message, hint = value.hint }
end

---Every key: the known ones in their order, the computed ones, the project's own by name.
---@param state dbrun.ConfigState
---@return dbrun.ConfigRow[]
function M.explain(state)
    local rows = {}
    for _, key in ipairs(keys.order) do
        rows[#rows + 1] = row(state, key)
    end
    for _, key in ipairs(values.computed_order) do
        rows[#rows + 1] = row(state, key)
    end
    for _, key in ipairs(custom_keys(state)) do
        rows[#rows + 1] = row(state, key)
    end
    return rows
end

---Checks all keys in use and raises the first error. Returns notes on unknown keys of the file and the
---environment that resemble a known one.
---@param state dbrun.ConfigState
---@return string[] notes
function M.check(state)
    for _, key in ipairs(keys.order) do
        if in_use(state, key) then
            values.get(state, key)
        end
    end
    for _, key in ipairs(values.computed_order) do
        values.get(state, key)
    end
    return require "dbrun.config.mistyped".notes(state, keys.order)
end

return M
