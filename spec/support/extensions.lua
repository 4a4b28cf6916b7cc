--- Which extensions the servers of the specs can load. Asks initdb, because some builds have no pg_config.
local folder = require "spec.support.servers.folder"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

---@param name string of an extension of PostgreSQL
---@return boolean
function M.is_there(name)
    local uid, gid = folder.ids()
    local shown = process.run { programs.postgres().bindir .. "/initdb", "--show", "-D", "/", cwd = "/", uid = uid,
        gid = gid, env = programs.environment(), stderr = "stdout", timeout = 30 }
    local share = shown.stdout:match "share_path=([^\n]+)"
    return share ~= nil and fs.exists(("%s/extension/%s.control"):format(share, name))
end

return M
