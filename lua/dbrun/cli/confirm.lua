--- The question before something that cannot be undone: asked at the terminal itself, even if standard input is
--- redirected.
local command_line = require "dbrun.command_line"
local errors = require "dbrun.error"
local tty = require "dbrun.tty"

local M = {}

--- Whether the configuration names a PostgreSQL server.
local function has_database(config)
    for _, key in ipairs { "DATABASE_URL", "POSTGRES_HOST", "POSTGRES_DB" } do
        if config[key] then return true end
    end
    return os.getenv "PGHOST" ~= nil or os.getenv "PGDATABASE" ~= nil or os.getenv "PGSERVICE" ~= nil
end

---The database that the script's pool reaches, by the server's name for it; nil if none is configured.
---@return string? line
local function target()
    local config = require "dbrun.config"
    if not has_database(config) then return nil end
    local targets = require "dbrun.target"
    local conn <close> = require "dbrun.db".async:acquire()
    local text = targets.describe(conn, config.async_database_url)
    local free, why = pcall(targets.check, conn, config.async_database_url)
    if not free and not (errors.is(why, "usage")) then error(why, 0) end
    return "Target: " .. text .. (free and "" or "  PROTECTED")
end

---@param text string the question
---@param asks_nothing boolean --yes was given
---@param has_yes boolean the script has --yes
---@return boolean
function M.ask(text, asks_nothing, has_yes)
    if asks_nothing then return true end
    local terminal <close> = io.open("/dev/tty", "r+")
    if not terminal then
        errors.fail("usage", ("cannot ask '%s': there is no terminal"):format(command_line.one_line(text)),
            has_yes and "--yes answers it" or "cli.run { confirm = true, ... } gives the script --yes")
    end
    terminal:setvbuf "no"
    local line = target()
    if line then terminal:write(tty.printable(line), "\n") end
    terminal:write(tty.printable(text), " [y/N] ")
    local answer = terminal:read "l"
    if not answer then terminal:write "\n" end
    answer = (answer or ""):match "^%s*(.-)%s*$":lower()
    return answer == "y" or answer == "yes"
end

return M
