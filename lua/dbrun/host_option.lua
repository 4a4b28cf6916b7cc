--- Options of the dbrun program, which must stand before the name of a script or command: for errors about options that
--- stand after it.
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"

local M = {}

---Whether it is an option of the dbrun program. Always false under another host, which has none.
---@param option string with its dashes: "--stack"
---@return boolean
function M.is(option)
    if not core.words then return false end
    for _, known in ipairs((core.words())) do
        if known.name == option then return option == "-C" or option:find "^%-%-%l" ~= nil end
    end
    return false
end

---Raises for -h with a word behind it, where psql and redis-cli take a host: the help, with the exit status 0, would be
---taken for the work.
---@param argv string[]
function M.no_host(argv)
    for i, word in ipairs(argv) do
        if word == "-h" and argv[i + 1] and not argv[i + 1]:find "^%-" then
            errors.fail("usage", "-h shows the help, and takes no host",
                "the servers are those of DATABASE_URL and REDIS_URL: dbrun config shows them")
        end
    end
end

return M
