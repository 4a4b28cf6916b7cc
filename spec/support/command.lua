--- Runs shell commands in an empty folder where `lua` is dbrun, or the stock lua5.4: both under the same
--- name, so that what they print can be compared byte by byte.

local core <const> = require "dbrun.core"

local M <const> = {}

local function read_file(path)
    local f <close> = io.open(path, "rb")
    return f and f:read "a"
end

local function write_file(path, text)
    local f <close> = assert(io.open(path, "wb"))
    assert(f:write(text))
end

local SCRIPT <const> = [[
    cd $dir/folder && unset LUA_INIT LUA_INIT_5_4 LUA_PATH LUA_CPATH LUA_PATH_5_4 LUA_CPATH_5_4 DBRUN_LUA_DIR
    PATH=$dir/$whose:$PATH timeout -k 1 30 sh $dir/command >$dir/out 2>$dir/err </dev/null]]

--- For what has to happen once the program runs: its script says when (READY), the command waits for that. A start
--- may take longer than any sleep.
M.WAIT = "until [ -e ready ]; do sleep 0.02; done; "
M.READY = ' io.open("ready", "w"):close() '

---@class dbrun.spec.Ended
---@field out string
---@field err string
---@field code integer exit status

---@param command string for sh; `lua` is the program
---@param files? table<string, string> what the folder holds: name -> contents
---@param whose? "ours"|"theirs" which program (default: ours)
---@return dbrun.spec.Ended
function M.run(command, files, whose)
    local p <close> = io.popen "mktemp -d"
    local dir <const> = p:read "l"
    assert(os.execute(("cd %s && mkdir folder ours theirs && ln -s '%s' ours/lua && ln -s /usr/bin/lua5.4 theirs/lua")
        :format(dir, core.options.program)))
    for name, text in pairs(files or {}) do
        write_file(dir .. "/folder/" .. name, text)
    end
    write_file(dir .. "/command", command)
    local _, _, code = os.execute((SCRIPT:gsub("$(%l+)", { dir = dir, whose = whose or "ours" })))
    local ended <const> = { out = read_file(dir .. "/out"), err = read_file(dir .. "/err"), code = code }
    os.execute("rm -rf " .. dir)
    return ended
end

return M
