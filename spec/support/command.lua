--- Runs shell commands in an empty folder where `lua` is dbrun, or the stock lua5.4: both under the same
--- name, so that what they print can be compared byte by byte.

local core <const> = require "dbrun.core"
local fs <const> = require "dbrun.fs"
local process <const> = require "dbrun.process"

local M <const> = {}

local PROGRAMS <const> = { ours = core.options.program, theirs = "/usr/bin/lua5.4" }

-- Variables from the user's environment would affect only one of the two programs.
local UNSET <const> = {
    "LUA_INIT", "LUA_INIT_5_4", "LUA_PATH", "LUA_CPATH", "LUA_PATH_5_4", "LUA_CPATH_5_4", "DBRUN_LUA_DIR",
}

--- Waits until the program runs: its script says so (READY). A start can take longer than any sleep.
M.WAIT = "until [ -e ready ]; do sleep 0.02; done; "
M.READY = ' io.open("ready", "w"):close() '

--- The same for what the program does later, which may never be: after 10 s the command goes on without the file.
---@param name string of a file that the program makes
---@return string for sh
function M.once(name)
    return ("n=0; until [ -e %s ] || [ $n = 500 ]; do n=$((n + 1)); sleep 0.02; done; "):format(name)
end

---@class dbrun.spec.Ended
---@field out string
---@field err string
---@field code integer exit status

---@param command string for sh; `lua` is the program
---@param files? table<string, string> files in the folder: name -> contents
---@param whose? "ours"|"theirs" which program (default: ours)
---@return dbrun.spec.Ended
function M.run(command, files, whose)
    local dir <const> = fs.mkdtemp()
    local _ <close> = setmetatable({}, { __close = function() fs.rmtree(dir) end })
    fs.mkdir(dir .. "/folder")
    fs.mkdir(dir .. "/bin")
    fs.symlink(PROGRAMS[whose or "ours"], dir .. "/bin/lua")
    for name, text in pairs(files or {}) do
        fs.write(dir .. "/folder/" .. name, text)
    end
    fs.write(dir .. "/command", command)
    local env <const> = { PATH = dir .. "/bin:" .. os.getenv "PATH" }
    for _, name in ipairs(UNSET) do env[name] = false end
    local ended <const> = process.run {
        "sh", dir .. "/command", cwd = dir .. "/folder", env = env, timeout = 30, stdout = dir .. "/out",
        stderr = dir .. "/err",
    }
    return { out = fs.read(dir .. "/out"), err = fs.read(dir .. "/err"), code = ended.code }
end

return M
