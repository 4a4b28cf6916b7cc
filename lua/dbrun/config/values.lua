--- The value of each key: checked, converted; and the URLs, which are computed from several keys.
local errors = require "dbrun.error"
local keys = require "dbrun.config.keys"
local sources = require "dbrun.config.sources"

local M = {}

local function raise(key, source, message, hint)
    errors.fail("config", ("%s (%s): %s"):format(key, source, message), hint)
end

---The checked value of one of the known keys, without computed ones.
local function typed(state, key)
    local spec <const> = keys.specs[key]
    local raw <const>, source <const> = sources.lookup(state, key)
    if raw == nil then
        if key:find "^DB" then require "dbrun.config.mistyped".warn_of_defaults(state) end
        return spec.folder and require "dbrun.project".path(spec.default) or spec.default, source
    end
    local value <const>, expected <const>, hint <const> = spec.parse(raw)
    if value == nil then
        raise(key, source, "expected " .. expected, hint)
    end
    if spec.folder and source ~= "argument" then
        return require "dbrun.project".path(value), source
    end
    if spec.secret then
        local user <const> = sources.lookup(state, spec.user)
        sources.remember(value, user, spec.dbname and sources.lookup(state, spec.dbname))
    end
    return value, source
end

---The parsed URL of a key, its password registered as a secret; nil when the key is not given.
---@param parse fun(text: string, what: string): table
local function address(state, key, parse)
    local text <const>, source <const> = sources.lookup(state, key)
    if text == nil then
        return nil
    end
    local label <const> = ("%s (%s)"):format(key, source)
    if type(text) ~= "string" then
        errors.fail("config", ("%s: expected a string, got %s"):format(label, type(text)))
    end
    local parsed <const> = parse(text, label)
    sources.remember(parsed.password, parsed.user, parsed.username, parsed.dbname)
    sources.remember(parsed.params.sslpassword)
    sources.remember(parsed.params.sentinel_password, parsed.params.sentinel_username)
    return parsed, label
end

---Logs which single keys differ from the URL that overrides them.
---@param url_label string
---@param pairs_ {key: string, url: any}[] each key with the URL's value for the same thing
local function note_contradictions(state, url_label, pairs_)
    local others = {}
    for _, pair in ipairs(pairs_) do
        local raw <const>, source <const> = sources.lookup(state, pair.key)
        local says <const> = tostring(raw)
        -- Kubernetes sets POSTGRES_PORT=tcp://... for a service of that name: ignore it.
        if raw ~= nil and says ~= tostring(pair.url == nil and "" or pair.url) and not says:find "^tcp://" then
            others[#others + 1] = ("%s (%s)"):format(pair.key, source)
        end
    end
    if #others > 0 then
        sources.log("warn", ("%s overrides %s, which differ%s from it"):format(url_label, table.concat(others, ", "),
            #others == 1 and "s" or ""))
    end
end

local POSTGRES_KEYS <const> = { "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB" }
local REDIS_KEYS <const> = { "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME", "REDIS_PASSWORD" }

local function postgres_from_keys(state)
    local host <const>, port <const> = typed(state, "POSTGRES_HOST"), typed(state, "POSTGRES_PORT")
    local hosts = {}
    for name in ((host or "") .. ","):gmatch "([^,]*)," do
        hosts[#hosts + 1] = { host = name ~= "" and name or nil, port = port }
    end
    return {
        hosts = hosts,
        user = typed(state, "POSTGRES_USER"),
        password = typed(state, "POSTGRES_PASSWORD"),
        dbname = typed(state, "POSTGRES_DB"),
        params = {},
    }
end

local function async_database_url(state)
    local url <const> = require "dbrun.url"
    local parsed, label = address(state, "DATABASE_URL", url.parse_postgres)
    if parsed then
        local first <const> = #parsed.hosts == 1 and parsed.hosts[1] or {}
        if not sources.explicit(state, "DATABASE_URL") then
            note_contradictions(state, label, {
                { key = "POSTGRES_HOST", url = first.host },
                { key = "POSTGRES_PORT", url = first.port },
                { key = "POSTGRES_USER", url = parsed.user },
                { key = "POSTGRES_PASSWORD", url = parsed.password },
                { key = "POSTGRES_DB", url = parsed.dbname },
            })
        end
        return url.build_postgres(parsed), label
    end
    label = sources.given(state, POSTGRES_KEYS)
    if not label then
        require "dbrun.config.mistyped".warn(state, { "DATABASE_URL", table.unpack(POSTGRES_KEYS) })
        return "postgresql://", "default"
    end
    return url.build_postgres(postgres_from_keys(state)), label
end

---A run on a database given for this run only (`--stack`, an argument) must not migrate the one named in a file.
local function sync_database_url(state)
    local parsed, label
    if sources.explicit(state, "MIGRATION_DATABASE_URL") or not sources.explicit(state, "DATABASE_URL") then
        local url <const> = require "dbrun.url"
        parsed, label = address(state, "MIGRATION_DATABASE_URL", url.parse_postgres)
        if parsed then
            return url.build_postgres(parsed), label
        end
    end
    return M.get(state, "async_database_url")
end

local function redis_url(state)
    local url <const> = require "dbrun.url"
    local parsed, label = address(state, "REDIS_URL", url.parse_redis)
    if parsed then
        if not sources.explicit(state, "REDIS_URL") then
            note_contradictions(state, label, {
                { key = "REDIS_HOST", url = parsed.host or parsed.path },
                { key = "REDIS_PORT", url = parsed.port },
                { key = "REDIS_DB", url = parsed.db },
                { key = "REDIS_USERNAME", url = parsed.username },
                { key = "REDIS_PASSWORD", url = parsed.password },
            })
        end
        return url.build_redis(parsed), label
    end
    local host <const> = typed(state, "REDIS_HOST")
    local socket <const> = host:find "^/" and host or nil
    label = sources.given(state, REDIS_KEYS)
    if not label then
        require "dbrun.config.mistyped".warn(state, { "REDIS_URL", table.unpack(REDIS_KEYS) })
        label = "default"
    end
    return url.build_redis {
        path = socket,
        host = not socket and host or nil,
        port = not socket and typed(state, "REDIS_PORT") or nil,
        db = typed(state, "REDIS_DB"),
        username = typed(state, "REDIS_USERNAME"),
        password = typed(state, "REDIS_PASSWORD"),
    }, label
end

---The keys that are computed from others, each with its function.
---@type table<string, fun(state: dbrun.ConfigState): string, string>
M.computed = {
    async_database_url = async_database_url,
    sync_database_url = sync_database_url,
    redis_url = redis_url,
}
---@type string[]
M.computed_order = { "async_database_url", "sync_database_url", "redis_url" }

---The value of any key and where it comes from.
local function resolve(state, key)
    if M.computed[key] then
        return M.computed[key](state)
    end
    local spec <const> = keys.specs[key]
    if spec and spec.address then
        address(state, key, require "dbrun.url"["parse_" .. spec.address])
        return sources.lookup(state, key)
    elseif spec then
        return typed(state, key)
    end
    local raw <const>, source <const> = sources.find(state, key)
    if type(raw) == "string" and #raw >= 8 and require "dbrun.config.mask".by_name(key) then
        sources.remember(raw)
    end
    return raw, source
end

---The value of any key, computed once, and where it comes from. Raises when the value is wrong.
---@param state dbrun.ConfigState
---@param key string
---@return any value
---@return string source
function M.get(state, key)
    if not state.sources[key] then
        state.values[key], state.sources[key] = resolve(state, key)
    end
    return state.values[key], state.sources[key]
end

return M
