--- The name and the version of the server. For old clients Valkey also reports a version of Redis, beside its own; with
--- extended-redis-compatibility it reports the name redis too.
local M = {}

---@class dbrun.verify.RedisServer
---@field name string "Redis", "Valkey"
---@field version string? of that server, nil when it does not say

---@param info table<string, string> the lines of INFO by their names
---@return dbrun.verify.RedisServer
function M.identify(info)
    local name <const> = info.valkey_version and "valkey" or info.server_name or "redis"
    local version <const> = info[name .. "_version"]
    if name == "redis" or not version then return { name = "Redis", version = info.redis_version } end
    return { name = name:sub(1, 1):upper() .. name:sub(2), version = version }
end

return M
