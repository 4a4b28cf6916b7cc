--- Where the values of the configuration come from: `--stack`, arguments, environment, the `.env` file.
local core = require "dbrun.core"
local errors = require "dbrun.error"

local M = {}

---@class dbrun.ConfigState
---@field arguments table<string, any>
---@field options dbrun.ConfigOptions
---@field overlay table<string, string>|nil nil = nothing was read yet
---@field dotenv dbrun.Dotenv|false|nil false = there is none
---@field values table<string, any> what was computed already
---@field sources table<string, string> for each key that was computed, where it comes from
---@param level "debug"|"info"|"warn"|"error"
---@param text string
function M.log(level, text)
    if core.log and core.log.write then
        core.log.write(level, text)
    end
end

---Registers a password as a secret, also in its URL-encoded form. One that equals the name of the user or the database
---is left out: masking it would make every message unreadable and hide nothing.
---@param password string|nil
---@param ... string|nil names of the user, the database
function M.remember(password, ...)
    if not password or not (core.log and core.log.secret) then
        return
    end
    for i = 1, select("#", ...) do
        if select(i, ...) == password then
            return
        end
    end
    core.log.secret(password)
    core.log.secret((require "dbrun.url".encode(password)))
end

---@param path string|nil as given by --env-file
local function read_dotenv(path)
    local dotenv <const> = require "dbrun.dotenv"
    local parsed <const> = dotenv.read(path or require "dbrun.project".path ".env")
    if not parsed then
        if path then
            errors.fail("config", "the environment file " .. path .. " does not exist", "it was given by --env-file")
        end
        return false
    end
    for _, place in ipairs(parsed.duplicates) do
        M.log("warn", ("%s line %d: %s is given in line %d too; the last one counts"):format(parsed.name,
            place.line, place.key, place.first))
    end
    for _, place in ipairs(parsed.expansions) do
        M.log("warn", ("%s line %d: the '$' in %s is taken literally; single quotes show that this is intended"):format(
            parsed.name, place.line, place.key))
    end
    return parsed
end

---The log's settings come from the file, if neither the command line nor the environment sets them.
---@param parsed dbrun.Dotenv
local function set_log(parsed, host)
    for key, set in pairs { DBRUN_LOG = core.log.level, DBRUN_LOG_FORMAT = core.log.format } do
        local value <const> = parsed.values[key]
        local given <const> = key == "DBRUN_LOG" and host.log or key == "DBRUN_LOG_FORMAT" and host.log_format
        if value and value ~= "" and not given and not pcall(set, value) then
            errors.fail("config", ("%s (%s line %d): expected %s"):format(key, parsed.name, parsed.lines[key],
                key == "DBRUN_LOG" and "one of error, warn, info, debug" or "text or json"))
        end
    end
end

---Reads the options of the command line and the file, at the first access. A command line with its own rules for files
---(dbmate's) stores what it has read in the host's options, as `dotenv`.
---@param state dbrun.ConfigState
local function read_sources(state)
    local host <const> = core.options or {}
    local options <const> = state.options
    state.dotenv = false
    if host.dotenv and not (options.env_file or options.no_env) then
        state.dotenv = host.dotenv
    elseif options.env_file or not (options.no_env or host.no_env) then
        state.dotenv = read_dotenv(options.env_file or host.env_file)
    end
    state.overlay = host.overlay or {}
    if state.dotenv and not options.env_file then set_log(state.dotenv, host) end
end

---The value of a key as it was given, and its source.
---@param state dbrun.ConfigState
---@param key string
---@return any value nil when it is given nowhere
---@return string source
function M.find(state, key)
    if not state.overlay then
        read_sources(state)
    end
    local value = state.overlay[key]
    if value ~= nil then
        return value, "--stack"
    end
    value = state.arguments[key]
    if value ~= nil then
        return value, "argument"
    end
    local environ <const> = state.options.environ
    if environ then
        value = environ[key]
    else
        value = os.getenv(key)
    end
    if value ~= nil then
        return value, "environment"
    end
    value = state.dotenv and state.dotenv.values[key]
    if value then
        local dotenv <const> = state.dotenv
        return value, ("%s line %d"):format(dotenv.names and dotenv.names[key] or dotenv.name, dotenv.lines[key])
    end
    return nil, "default"
end

---The same, but an empty text counts as not given, and hides the sources after it.
---@param state dbrun.ConfigState
---@param key string
---@return any value nil when it is given nowhere
---@return string source
function M.lookup(state, key)
    local value <const>, source <const> = M.find(state, key)
    if value == "" then
        return nil, "default"
    end
    return value, source
end

---Whether a key was given for this run only (an argument, `--stack`).
---@param state dbrun.ConfigState
---@param key string
---@return boolean
function M.explicit(state, key)
    local _, source <const> = M.find(state, key)
    return source == "--stack" or source == "argument"
end
---The keys of a list that are given, with their sources, for errors: "POSTGRES_HOST (environment), ...".
---@param state dbrun.ConfigState
---@param list string[] names of keys
---@return string|nil label nil when none is given
function M.given(state, list)
    local found = {}
    for _, key in ipairs(list) do
        local raw <const>, source <const> = M.lookup(state, key)
        if raw ~= nil then
            found[#found + 1] = ("%s (%s)"):format(key, source)
        end
    end
    return #found > 0 and table.concat(found, ", ") or nil
end

return M
