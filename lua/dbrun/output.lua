--- Where a command's results go: standard output, or a file that is written completely or not at all.
local core = require "dbrun.core"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

--- The exit status when the reader of a pipe has closed it: 128 + SIGPIPE.
M.BROKEN = 141

---@class dbrun.Output
---@field file file*
---@field name string for messages
---@field terminal boolean
---@field temporary? string the file's temporary name
---@field lock? dbrun.fs.Lock a lock on that name, held as long as the program lives
---@field path? string the file's final name
---@field pipe? boolean it is a pipe, whose reader can close it
---@field broken boolean the reader has closed the pipe
local Output <const> = {}
local Metatable <const> = { __index = Output }

local function new(fields)
    fields.broken = false
    return setmetatable(fields, Metatable)
end

---Standard output. A pipe is opened again, so that the program prints nothing when the reader closes it.
---@return dbrun.Output
function M.stdout()
    local stat <const> = fs.stat "/proc/self/fd/1"
    local pipe <const> = stat and stat.kind == "fifo" and io.open("/proc/self/fd/1", "wb") or nil
    return new { file = pipe or io.stdout, name = "standard output", terminal = core.tty.isatty(1), pipe = pipe ~= nil }
end

---Removes temporary files of this output that killed runs have left: their locks are free.
local function remove_left(target)
    local folder <const>, prefix <const> = fs.dirname(target), fs.basename(target) .. "."
    local listed <const>, names <const> = pcall(fs.list, folder)
    for _, name in ipairs(listed and names or {}) do
        if name:sub(1, #prefix) == prefix and name:find("^%x+%.new$", #prefix + 1) and #name == #prefix + 16 then
            local path <const> = fs.join(folder, name)
            local ok <const>, lock <const> = pcall(fs.lock, path) -- another user's file: it stays
            if ok and lock then
                os.remove(path)
                lock:release()
            end
        end
    end
end

local STDOUT <const> = { ["/dev/stdout"] = true, ["/dev/fd/1"] = true, ["/proc/self/fd/1"] = true }

---A file. A device or a pipe is written to; a link stays, and its target is replaced.
---@param path string
---@return dbrun.Output
---Raises an error of kind `io`.
function M.to_file(path)
    if STDOUT[path] then return M.stdout() end
    local stat = fs.stat(path)
    if stat and stat.kind == "folder" then errors.fail("io", ("cannot write %s: it is a folder"):format(path)) end
    -- The target of /dev/stderr does not belong to this program, so it is not replaced.
    if stat and (stat.kind ~= "file" or path:find "^/dev/" or path:find "^/proc/") then
        local file <const>, why <const> = io.open(path, "ab")
        if not file then errors.fail("io", ("cannot write %s"):format(why)) end
        return new { file = file, name = path, terminal = false }
    end
    local target <const> = stat and fs.realpath(path) or path
    remove_left(target)
    local temporary <const> = ("%s.%s.new"):format(target, core.redis.random_token():sub(1, 12))
    local locked <const>, lock <const> = pcall(fs.lock, temporary) -- else io.open reports the cause
    local file <const>, why <const> = io.open(temporary, "wb")
    if not file then errors.fail("io", ("cannot write %s: %s"):format(path, (why:gsub("^.*: ", "")))) end
    if stat then fs.chmod(temporary, stat.mode) end
    return new { file = file, name = path, terminal = false, temporary = temporary, path = target,
        lock = locked and lock or nil }
end

---Writes texts as they are.
---@param ... string|number
---@return dbrun.Output? self as a file's write
---Raises an error of kind `io`; with code "EPIPE" when the reader has closed the pipe.
function Output:write(...)
    local ok <const>, why <const>, number <const> = self.file:write(...)
    if ok then return self end
    self.broken = number == 32
    errors.fail("io", ("cannot write to %s: %s"):format(self.name, why))
end

---Moves the written file to its final name.
function Output:flush()
    local ok <const>, why <const>, number <const> = self.file:flush()
    if ok then return end
    self.broken = number == 32
    errors.fail("io", ("cannot write to %s: %s"):format(self.name, why))
end

---Finishes the output: the file gets its final name. Raises an error of kind `io`.
function Output:finish()
    self:flush()
    if self.file ~= io.stdout then
        local ok <const>, why <const> = self.file:close()
        if not ok then errors.fail("io", ("cannot write to %s: %s"):format(self.name, why)) end
    end
    if self.temporary then
        fs.rename(self.temporary, self.path)
        self.temporary = nil
    end
end

---Removes a file that was not finished.
function Output:close()
    if self.file ~= io.stdout and io.type(self.file) == "file" then self.file:close() end
    if self.temporary then
        os.remove(self.temporary)
        self.temporary = nil
    end
end
Metatable.__close = Output.close

return M
