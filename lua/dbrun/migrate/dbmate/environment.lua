--- The variables that dbmate's command line reads: those of the process, then those of the files that --env-file names.
local core = require "dbrun.core"
local dotenv = require "dbrun.dotenv"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

---dbmate puts the value of NAME for $NAME, ${NAME} and $(NAME) outside of single quotes.
local EXPANSION <const> = "%$%(?{?[A-Z0-9_]"

---Is the value of the key in single quotes?
local function is_literal(text, line)
    local number = 0
    for content in (text .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        if number == line then return content:find "=%s*'" ~= nil end
    end
end

---@param list? string[] the files that were named (default: the host's --env-file, else .env)
---@return string[]
local function files_of(list)
    local host = core.options or {}
    if list then return list end
    if host.env_file then return { host.env_file } end
    return host.no_env and {} or { ".env" }
end

---@param list? string[] the files that --env-file names
---@return fun(name: string): string? lookup a variable of the process wins over the files, an earlier file over a later
---Raises an error of kind `config` for a file that is broken; one that is missing is passed over. `lookup` raises for a
---value that dbmate would expand.
function M.read(list)
    local found = {}
    for _, path in ipairs(files_of(list)) do
        local parsed = dotenv.read(path)
        for key, value in pairs(parsed and parsed.values or {}) do
            if not found[key] then found[key] = { value = value, path = path, line = parsed.lines[key] } end
        end
    end
    return function(name)
        local value = os.getenv(name)
        if value then return value end
        local entry = found[name]
        if not entry then return nil end
        if entry.value:find(EXPANSION) and not is_literal(fs.read(entry.path), entry.line) then
            errors.fail("config", ("%s line %d: dbmate would put another value for the $ in %s, dbrun does not"):format(
                entry.path, entry.line, name), "write the value out, in single quotes")
        end
        return entry.value
    end
end

return M
