--- Protected targets: databases that no script may change unless its caller names them.
---
---     DBRUN_PROTECTED=*prod*,db.example.com/shop
---
--- Patterns, separated by commas or blanks, in which `*` stands for anything. One without a `/` is compared with the
--- name of the database and with the host; one with a `/` with "host/database".
local errors = require "dbrun.error"

local M = {}

local function matches(text, pattern)
    local lua_pattern = pattern:lower():gsub("[^%w*]", "%%%0"):gsub("%*", ".*")
    return text:lower():find("^" .. lua_pattern .. "$") ~= nil
end

---Whether a list of patterns names this database.
---@param patterns? string
---@param hosts string[] names under which the server is known
---@param database string
---@return string? pattern the one that does
function M.matching(patterns, hosts, database)
    for pattern in (patterns or ""):gmatch "[^,%s]+" do
        if not pattern:find("/", 1, true) and matches(database, pattern) then return pattern end
        for _, host in ipairs(hosts) do
            local text = pattern:find("/", 1, true) and host .. "/" .. database or host
            if matches(text, pattern) then return pattern end
        end
    end
end

local WHERE <const> = "select current_database()::text as database, host(inet_server_addr()) as address"

---Refuses to go on when the target is protected and was not named.
---@param conn table anything with `one`
---@param url string it was opened with
---@param named? string what the user calls the target: the database's name, or host/database
---Raises an error of kind `usage`.
function M.check(conn, url, named)
    local patterns = require("dbrun.config").DBRUN_PROTECTED
    if not named and not (patterns and patterns:find "%S") then return end
    local row = conn:one(WHERE)
    local hosts = { row.address }
    local ok, parsed = pcall(require("dbrun.url").parse_postgres, url, "url")
    for _, server in ipairs(ok and parsed.hosts or {}) do hosts[#hosts + 1] = server.host end
    if named then
        local fits = named == row.database
        for _, host in ipairs(hosts) do fits = fits or named == host .. "/" .. row.database end
        if fits then return end
        errors.raise {
            kind = "usage", message = ("the target is the database '%s', not '%s'"):format(row.database, named),
        }
    end
    local pattern = M.matching(patterns, hosts, row.database)
    if not pattern then return end
    errors.raise {
        kind = "usage",
        message = ("the database '%s' is protected (DBRUN_PROTECTED: %s): nothing was done"):format(
            row.database, pattern),
        hint = ("--target %s says that it is meant"):format(row.database),
    }
end

return M
