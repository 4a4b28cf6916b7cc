--- The variables of the input: the globals, then the names of the prompt. The prompt makes no globals, and a script's
--- own global of such a name takes precedence.
local M = {}

local MODULES <const> = {
    db = function() return require "dbrun.db" end,
    redis = function() return require "dbrun.redis" end,
    task = function() return require "dbrun.task" end,
    json = function() return require "dbrun.json" end,
    config = function() return require "dbrun.config" end,
}

--- The names for Tab, without opening a connection.
---@type table<string, function|string>
M.KINDS = { r = "redis client", conn = "connection" }
for name, module in pairs(MODULES) do M.KINDS[name] = module end

---Makes the table that is _ENV of the input.
---@param session dbrun.prompt.Session
---@return table
function M.new(session)
    local function value(name)
        if MODULES[name] then return MODULES[name]() end
        if name == "r" then return require "dbrun.redis".get() end
        if name == "conn" then return session:conn() end
        if name == "_" then return session.last end
    end
    return setmetatable({}, {
        __index = function(_, name)
            local own <const> = rawget(_G, name)
            if own ~= nil then return own end
            local ours <const> = value(name)
            if ours ~= nil then return ours end
            return _G[name]
        end,
        __newindex = function(_, name, new) _G[name] = new end,
        __pairs = function() return pairs(_G) end,
    })
end

---Compiles the input: as an expression if it is one.
---@param text string
---@param env table
---@return function|nil chunk
---@return string|nil message
---@return boolean|nil incomplete more lines may make it whole
function M.compile(text, env)
    local expression <const> = text:match "^%s*=(.*)$"
    if expression then text = "return " .. expression end
    local chunk = load("return " .. text, "=stdin", "t", env)
    if chunk then return chunk end
    local message
    chunk, message = load(text, "=stdin", "t", env)
    if chunk then return chunk end
    return nil, message, message:sub(-5) == "<eof>"
end

return M
