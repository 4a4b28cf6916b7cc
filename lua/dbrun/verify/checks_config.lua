--- Whether the configuration is complete and well-formed.
local errors = require "dbrun.error"

local M = {}

---The keys that a URL overrides, which are not checked.
local SHADOWED <const> = {
    POSTGRES_HOST = "DATABASE_URL", POSTGRES_PORT = "DATABASE_URL", POSTGRES_USER = "DATABASE_URL",
    POSTGRES_PASSWORD = "DATABASE_URL", POSTGRES_DB = "DATABASE_URL", REDIS_HOST = "REDIS_URL",
    REDIS_PORT = "REDIS_URL", REDIS_DB = "REDIS_URL", REDIS_USERNAME = "REDIS_URL", REDIS_PASSWORD = "REDIS_URL",
}

---All wrong values, so that they can be corrected at once.
---@param first dbrun.Error what config.check raised
local function all_wrong(config, first)
    local rows, given = config.explain(), {}
    for _, row in ipairs(rows) do given[row.key] = row.value ~= nil or row.error ~= nil end
    local causes, remedy, seen = { first.message }, { first.hint }, { [first.message] = true }
    for _, row in ipairs(rows) do
        if row.error and not seen[row.error] and not given[SHADOWED[row.key]] then
            seen[row.error] = true
            causes[#causes + 1], remedy[#remedy + 1] = row.error, row.hint
        end
    end
    remedy[#remedy + 1] = "dbrun config   (shows where each value comes from)"
    return {
        status = "FAIL", text = #causes == 1 and "a wrong value" or #causes .. " wrong values",
        layer = "configuration", cause = table.concat(causes, "\n"), remedy = remedy,
    }
end

---@type dbrun.verify.Check
M.configuration = {
    name = "configuration",
    about = "every value of the environment and .env is well-formed",
    run = function(ctx)
        local config = ctx.config
        local ok, notes = pcall(config.check)
        if not ok then
            if not errors.is(notes, "config") then error(notes, 0) end
            return all_wrong(config, notes)
        end
        local text = ("PostgreSQL from %s, Redis from %s"):format(config.source "async_database_url",
            config.source "redis_url")
        if #notes == 0 then return text end
        return {
            status = "WARN", text = text, cause = table.concat(notes, "\n"),
            remedy = { "correct the name, or remove the key; dbrun config lists the known keys" },
        }
    end,
}

return M
