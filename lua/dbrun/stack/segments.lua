--- The System V shared memory segment of a PostgreSQL cluster, by which servers notice each other. A killed server
--- leaves it behind, and only the next start on the same data removes it, so it must be removed together with the data.

local daemon = require "dbrun.stack.daemon"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

--- The record in postmaster.pid: the process that made the segment, the segment's key and its number. A process that
--- was killed at once may have recorded itself, but not yet its segment.
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

--- Whether it is the recorded segment: its number, and that of the process, may have been reused.
local function is_its(note, words)
    if words[5] ~= note.creator then return false end
    if note.id then
        local key = math.tointeger(tonumber(words[1])) -- printed as a signed number
        return words[2] == note.id and key ~= nil and key & 0xffffffff == note.key
    end
    local changed = math.tointeger(tonumber(words[14]))
    return words[4] == SIZE and changed ~= nil and changed >= note.since
end

--- The number of the left-over segment, and whether a process is attached to it.
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

--- A dead process can stay attached a moment longer: a program that reads its /proc entry at its end (as `ps` does)
--- keeps its memory until the read is done.
local function unused(note)
    local id, used
    daemon.poll(5, function()
        id, used = left(note)
        return not used
    end)
    return not used and id or nil
end

--- Removes the segment of a cluster without a server, as the user who owns the data. A segment to which a process stays
--- attached is left alone.
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
