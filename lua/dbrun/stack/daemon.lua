--- Finds the server processes of a folder in /proc. A pid file alone is not enough: pids are reused, and files outlive
--- a crash.

local fs = require "dbrun.fs"
local process = require "dbrun.process"
local task = require "dbrun.task"

local M = {}

local function link(path)
    local ok, target = pcall(fs.readlink, path)
    return ok and target or nil
end

local function slurp(path)
    local f <close> = io.open(path, "rb")
    return f and f:read("a") or ""
end

--- Whether a process of this program works in this folder: decided by its current folder, or, if that cannot be read
--- (root without the right to trace), by its command line.
---@param pid integer
---@param name string "postgres" or "redis-server"
---@param folder string real path
---@return boolean? yes nil = the program is right, but its folder cannot be read
function M.works_in(pid, name, folder)
    if not process.alive(pid) then return false end
    local comm = slurp(("/proc/%d/comm"):format(pid)):match("^[^\n]*")
    if comm ~= name:sub(1, 15) then return false end
    local cwd = link(("/proc/%d/cwd"):format(pid))
    -- The folder of a running server was removed: Redis runs on, and only this finds it.
    if cwd then return cwd == folder or cwd == folder .. " (deleted)" end
    local command = slurp(("/proc/%d/cmdline"):format(pid))
    if command == "" then return false end -- it is exiting: memory, files and folder are released, the pid is not
    if command:find(folder, 1, true) then return true end
    return nil
end

---@class dbrun.stack.Found
---@field pid integer
---@field ppid integer

--- All processes of the program that work in the folder.
---@param name string
---@param folder string
---@return dbrun.stack.Found[] found
---@return integer[] unclear processes of this program whose folder cannot be read
function M.processes(name, folder)
    local found, unclear = {}, {}
    for _, entry in ipairs(fs.list("/proc")) do
        local pid = math.tointeger(tonumber(entry:match("^%d+$")))
        local yes = pid and M.works_in(pid, name, folder)
        local info = pid and yes ~= false and process.info(pid)
        if info then
            if yes then
                found[#found + 1] = { pid = pid, ppid = info.ppid }
            else
                unclear[#unclear + 1] = pid
            end
        end
    end
    return found, unclear
end

--- Calls `done` until it returns a true value or the time is over.
---@param seconds number
---@param done fun(): any
---@return any result what `done` returned; false when the time is over
function M.poll(seconds, done)
    local deadline = task.now() + seconds
    local pause = 0.002
    while true do
        local result = done()
        if result then return result end
        if task.now() >= deadline then return false end
        task.sleep(math.min(pause, math.max(0, deadline - task.now())))
        pause = math.min(pause * 1.3, 0.05)
    end
end

--- Waits until the process has ended.
---@param pid integer
---@param started integer? process.info(pid).start
---@param seconds number
---@return boolean ended
function M.wait_gone(pid, started, seconds)
    return M.poll(seconds, function() return not process.alive(pid, started) end)
end

--- Sends the signals one after the other until the process has ended.
---@param pid integer
---@param steps {[1]: string, [2]: number}[] signal, and seconds to wait after it
---@return boolean ended
function M.stop(pid, steps)
    local info = process.info(pid)
    if not info then return true end
    for _, step in ipairs(steps) do
        if not process.alive(pid, info.start) then return true end
        process.kill(pid, step[1])
        if M.wait_gone(pid, info.start, step[2]) then return true end
    end
    return not process.alive(pid, info.start)
end

--- The last lines of a text.
---@param text string
---@param n integer
---@return string
function M.last_lines(text, n)
    local lines = {}
    for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
    return table.concat(lines, "\n", math.max(1, #lines - n + 1))
end

--- Renames a large log; returns the present size of the log.
---@param path string
---@return integer size
function M.rotate(path)
    local there = fs.stat(path)
    if there and there.size > 8 * 1024 * 1024 then
        fs.rename(path, path .. ".1")
        return 0
    end
    return there and there.size or 0
end

--- The last lines appended to a log since it had this size.
---@param path string
---@param size integer
---@param n integer
---@return string
function M.log_since(path, size, n)
    if not fs.exists(path) then return "" end
    return M.last_lines(fs.read(path):sub(size + 1), n)
end

return M
