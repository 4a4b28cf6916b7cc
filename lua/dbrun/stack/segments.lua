--- The System V shared memory segment of a PostgreSQL cluster, by which servers notice each other. A server that is
--- killed leaves it behind, and only the next start on the same data removes it: data that is thrown away needs this.

local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

--- What postmaster.pid says: the process that made the segment, the segment's key and its number. A process that was
--- killed at once may have noted itself, and not yet its segment.
local function noted(data)
    local path = data .. "/postmaster.pid"
    local stat = fs.stat(path)
    if not stat then return nil end
    local lines = {}
    for line in fs.read(path):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
    local creator = (lines[1] or ""):match "^%-?(%d+)"
    if not creator then return nil end
    local key, id = (lines[7] or ""):match "^%s*(%d+)%s+(%d+)%s*$"
    return { creator = creator, since = math.floor(stat.mtime), id = id,
        key = key and math.tointeger(tonumber(key)) & 0xffffffff }
end

local SIZE <const> = "56" -- bytes: PGShmemHeader, where the rest is in anonymous memory

--- Is it the segment of the note? Its number, and that of the process, may belong to another one by now.
local function is_its(note, words)
    if words[5] ~= note.creator then return false end
    if note.id then
        local key = math.tointeger(tonumber(words[1])) -- printed as a signed number
        return words[2] == note.id and key ~= nil and key & 0xffffffff == note.key
    end
    local changed = math.tointeger(tonumber(words[14]))
    return words[4] == SIZE and changed ~= nil and changed >= note.since
end

--- The number of the segment that was left, and whether a process is attached to it.
---@return string? id
---@return boolean? used
local function left(note)
    local f <close> = io.open("/proc/sysvipc/shm", "rb")
    for line in f and f:lines() or function() end do
        local words = {}
        for word in line:gmatch "%S+" do words[#words + 1] = word end
        -- key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime
        if is_its(note, words) then return words[2], words[7] ~= "0" end
    end
end

--- A dead process may be attached a moment longer: a program that reads of it in /proc at its end (`ps` does) keeps its
--- memory until it is done.
local function unused(note)
    local id, used
    daemon.poll(5, function()
        id, used = left(note)
        return not used
    end)
    return not used and id or nil
end

--- Removes the segment of a cluster that no server works on, as the user who owns the data. One that a process stays
--- attached to is left alone.
---@param data string folder of the cluster
---@param user dbrun.process.User?
function M.remove(data, user)
    local note = noted(data)
    local id = note and unused(note)
    local ipcrm = id and programs.which("ipcrm")
    if not ipcrm then return end
    process.run {
        ipcrm, "-m", id, cwd = "/", uid = user and user.uid, gid = user and user.gid, stderr = "stdout",
        timeout = 10,
    }
end

return M
