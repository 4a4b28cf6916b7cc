--- The System V shared memory segment of a PostgreSQL cluster, by which servers notice each other. A server that is
--- killed leaves it behind, and only the next start on the same data removes it: data that is thrown away needs this.

local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

--- What postmaster.pid says: the process that made the segment, the segment's key and its number.
local function noted(data)
    local path = data .. "/postmaster.pid"
    if not fs.exists(path) then return nil end
    local lines = {}
    for line in fs.read(path):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
    local key, id = (lines[7] or ""):match "^%s*(%d+)%s+(%d+)%s*$"
    if not key then return nil end
    return { creator = lines[1]:match "^%-?(%d+)", key = key, id = id }
end

--- Is the segment still the one that was noted, and not in use? Its number may belong to another one by now.
local function is_left(note)
    local f <close> = io.open("/proc/sysvipc/shm", "rb")
    for line in f and f:lines() or function() end do
        local words = {}
        for word in line:gmatch "%S+" do words[#words + 1] = word end
        -- key shmid perms size cpid lpid nattch ...; the key is printed as a signed number
        local key = math.tointeger(tonumber(words[1]))
        if words[2] == note.id and key and key & 0xffffffff == math.tointeger(tonumber(note.key)) & 0xffffffff then
            return words[5] == note.creator and words[7] == "0"
        end
    end
    return false
end

--- Removes the segment of a cluster that no server works on, as the user who owns the data.
---@param data string folder of the cluster
---@param user dbrun.process.User?
function M.remove(data, user)
    local note = noted(data)
    local ipcrm = note and is_left(note) and programs.which("ipcrm")
    if not ipcrm then return end
    process.run {
        ipcrm, "-m", note.id, cwd = "/", uid = user and user.uid, gid = user and user.gid, stderr = "stdout",
        timeout = 10,
    }
end

return M
