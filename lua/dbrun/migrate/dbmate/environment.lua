--- The variables that dbmate's command line reads: those of the process, then those of the files that --env-file names.
local core = require "dbrun.core"
local dotenv = require "dbrun.dotenv"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

---dbmate expands $NAME, ${NAME} and $(NAME) outside single quotes.
local EXPANSION <const> = "%$%(?{?[A-Z0-9_]"

---Whether the value of the key is in single quotes.
local function is_literal(text, line)
    local number = 0
    for content in (text .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        if number == line then return content:find "[=:]%s*'" ~= nil end
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
---@return fun(name: string): string? lookup a process variable overrides the files, an earlier file a later one
---@return dbrun.Dotenv merged the content of the files, for dbrun's own configuration, which reads only these files
---Raises an error of kind `config` for a broken file; a missing one is skipped. `lookup` raises for a value that dbmate
---would expand.
function M.read(list)
    local paths <const> = files_of(list)
    local merged = {
        name = paths[1], values = {}, lines = {}, names = {}, order = {}, duplicates = {}, expansions = {},
    }
    for _, path in ipairs(paths) do
        local parsed = dotenv.read(path, nil, true)
        for _, key in ipairs(parsed and parsed.order or {}) do
            if not merged.values[key] then
                merged.values[key], merged.lines[key], merged.names[key] = parsed.values[key], parsed.lines[key], path
                merged.order[#merged.order + 1] = key
            end
        end
    end
    local function lookup(name)
        local value = os.getenv(name)
        if value then return value end
        value = merged.values[name]
        local path <const>, line <const> = merged.names[name], merged.lines[name]
        if value and value:find(EXPANSION) and not is_literal(fs.read(path), line) then
            errors.fail("config", ("%s line %d: dbmate would put another value for the $ in %s, dbrun does not"):format(
                path, line, name), "write the value out, in single quotes")
        end
        return value
    end
    return lookup, merged
end

return M
