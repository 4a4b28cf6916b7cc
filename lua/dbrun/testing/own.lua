--- The servers that `dbrun test` starts for one run, in .dbrun/test-PID-STARTED, and removes after it.
local cli = require "dbrun.command_line"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local task = require "dbrun.task"

local M = {}

local function dbrun(folder, ...)
    local words <const> = { core.options.program, "--no-env", "stack", ... }
    words.cwd, words.timeout = folder, 120
    return process.run(words)
end

--- Stops the servers of a run and removes their folder.
---@param folder string
function M.remove(folder)
    local result <const> = dbrun(folder, "reset", "--force")
    if result.code ~= 0 then cli.note("test: ", (result.stderr:gsub("%s+$", ""))) end
    fs.rmtree(folder)
end

--- The same by a separate program, which survives this one. An interrupted program has 2 seconds to end, and a second
--- Ctrl-C ends it at once; servers on a busy machine can take longer to stop.
local function remove_detached(folder)
    local child <const> = process.start {
        core.options.program, "--no-env", "-e", ("require('dbrun.testing.own').remove(%q)"):format(folder),
        cwd = fs.dirname(folder), detached = true, stderr = "inherit",
    }
    child:wait()
end

--- Removes the servers of a killed run: its process is gone, or another one has its pid now.
local function remove_left(above)
    for _, name in ipairs(fs.exists(above) and fs.list(above) or {}) do
        local pid <const>, started <const> = name:match "^test%-(%d+)%-(%d+)$"
        if pid and not process.alive(math.tointeger(tonumber(pid)), math.tointeger(tonumber(started))) then
            M.remove(fs.join(above, name))
        end
    end
end

--- Starts a separate stack for this run.
---@return { urls: table<string, string>, [string]: any } servers a value to close
function M.start()
    local above <const> = fs.join(fs.cwd(), ".dbrun")
    remove_left(above)
    local me <const> = process.pid()
    local folder <const> = fs.join(above, ("test-%d-%d"):format(me, process.info(me).start))
    -- `dbrun stack` uses an existing stack folder, regardless of the folders above it.
    fs.mkdir_p(fs.join(folder, ".dbrun", "stack"))
    local ignore <const> = fs.join(above, ".gitignore")
    if not fs.exists(ignore) then fs.write(ignore, "*\n") end
    local servers <const> = { urls = {} }
    local function remove() task.shield(remove_detached, folder) end
    local _ <close> = setmetatable({}, { __close = function()
        if not getmetatable(servers) then remove() end
    end })
    local result <const> = dbrun(folder, "up")
    if result.code ~= 0 then
        errors.raise {
            kind = result.code == cli.USAGE and "config" or "io", message = "the servers for the specs did not start",
            detail = result.stderr,
        }
    end
    for key, value in dbrun(folder, "env").stdout:gmatch "([%u_]+)=([^\n]+)" do servers.urls[key] = value end
    return setmetatable(servers, { __close = remove })
end

return M
