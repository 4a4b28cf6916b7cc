--- The hint when nothing is configured and the stack of this folder runs, which is probably what the user means.

local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local place = require "dbrun.stack.place"

local M = {}

local SERVERS <const> = {
    postgres = { program = "postgres", data = "/postgres", pid = "/postgres/postmaster.pid" },
    redis = { program = "redis-server", data = "/redis", pid = "/redis/redis.pid" },
}

local function runs(at, server)
    local f <close> = io.open(at.data .. server.pid, "rb")
    local pid = f and math.tointeger(tonumber((f:read "a" or ""):match "^%d+"))
    return pid and daemon.works_in(pid, server.program, at.data .. server.data) == true
end

--- The hint; nil when no such server runs here. Never raises, because it is called while another error is reported.
---@param name "postgres"|"redis"
---@return string?
function M.of(name)
    local found, at = pcall(place.find)
    if not found or not at then return nil end
    local asked, up = pcall(runs, at, SERVERS[name])
    if not asked or not up then return nil end
    local project = fs.dirname(fs.dirname(at.folder))
    local env = fs.join(project, ".env")
    return ("the private stack of '%s' runs: use it with --stack (dbrun --stack ...), or write its addresses down: "
        .. "dbrun stack env %s %s"):format(project, fs.exists(env) and ">>" or ">",
        project == fs.cwd() and ".env" or "'" .. env:gsub("'", "'\\''") .. "'")
end

return M
