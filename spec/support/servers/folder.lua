--- The folder of a test run's servers, locked while the run lives. A later run removes what dead runs
--- have left.

local daemon = require "dbrun.stack.daemon"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

local private <const>, passable <const> = tonumber("700", 8), tonumber("711", 8)

--- The user that runs the servers; nil = the current user.
M.user = programs.server_user()

---@return integer? uid
---@return integer? gid
function M.ids()
    if M.user then return M.user.uid, M.user.gid end
end

--- Makes a folder that belongs to the servers' user.
---@param path string
function M.make(path)
    fs.mkdir(path, private)
    if M.user then fs.chown(path, M.user.uid, M.user.gid) end
    return path
end

--- A unix socket's path has at most 107 bytes, so a long TMPDIR cannot be used.
local function base_folder()
    local dir = fs.tempdir()
    if #dir > 40 then dir = "/tmp" end
    local path = ("%s/dbrun-test-%d"):format(dir, (process.uid()))
    fs.mkdir(path, M.user and passable or private)
    local there = fs.stat(path, true)
    if there.kind ~= "folder" or there.uid ~= process.uid() then
        errors.raise { kind = "io", message = ("'%s' belongs to another user"):format(path) }
    end
    return path
end

--- Ends the servers of a run whose folder was renamed from `old` to `new`: a server's working directory has the new
--- name, its command line the old one.
local function end_servers(old, new)
    local listed, servers = pcall(fs.list, new)
    if not listed then return end -- another run has removed it
    for _, server in ipairs(servers) do
        for _, folder in ipairs { new, old } do
            for _, program in ipairs { "postgres", "redis-server" } do
                for _, p in ipairs((daemon.processes(program, ("%s/%s/data"):format(folder, server)))) do
                    daemon.stop(p.pid, { { "KILL", 5 } })
                end
            end
        end
    end
end

local shared

--- The folder that all runs of this user share: templates are kept there.
---@return string
function M.base()
    shared = shared or base_folder()
    return shared
end

--- A lock that protects the creation of a run's lock, attempts to take it, and the removal of a run's folder.
--- Otherwise another run could take a new lock file before its owner, or make a lock in a folder that is
--- being removed. While it is held, no folder of a dead run is removed.
---@return dbrun.fs.Lock
function M.guard()
    return assert(fs.lock(M.base() .. "/guard", 60), "the guard of " .. M.base() .. " is held for a minute")
end

--- Dead folders are renamed first; then several runs can remove one at the same time.
local function give_up(base, name)
    local gone = ("%s/gone-%s"):format(base, name)
    fs.rename(base .. "/" .. name, gone)
    return gone
end

--- Renames the folder of a dead run. Returns its new name, or nil when the run lives.
local function take(base, name)
    local dir = base .. "/" .. name
    local _ <close> = M.guard()
    local there = fs.stat(dir)
    if not there then return end
    local held = fs.exists(dir .. "/lock")
    -- A run that is just starting has no lock file yet: give it some time.
    if not held and os.time() - there.mtime < 60 then return end
    local lock <close> = held and fs.lock(dir .. "/lock") or nil
    if held and not lock then return end
    return give_up(base, name)
end

local function sweep(base)
    for _, name in ipairs(fs.list(base)) do
        local given_up = name:match "^gone%-(.*)"
        local gone = given_up and base .. "/" .. name or name:find "^run%-" and take(base, name)
        if gone then
            end_servers(("%s/%s"):format(base, given_up or name), gone)
            fs.rmtree(gone)
        end
    end
end

local run

--- The folder of this run.
---@return string
function M.run()
    if run then return run.path end
    local base = M.base()
    sweep(base)
    local _ <close> = M.guard()
    local path = fs.mkdtemp(base .. "/run-")
    if M.user then fs.chown(path, M.user.uid, M.user.gid) end
    run = { path = path, lock = assert(fs.lock(path .. "/lock"), "another process holds the new lock") }
    return path
end

local counter = 0

--- Makes a folder for one server in this run's folder.
---@param prefix string
---@return string
function M.new(prefix)
    counter = counter + 1
    return M.make(("%s/%s%d"):format(M.run(), prefix, counter))
end

--- Removes this run's folder after its servers have ended.
function M.remove()
    if not run then return end
    local gone
    do
        local _ <close> = M.guard()
        gone = give_up(M.base(), run.path:match "[^/]+$")
    end
    fs.rmtree(gone)
    run.lock:release()
    run = nil
end

--- An unused TCP port of 127.0.0.1. Another program can take it first, so callers try again.
---@return integer
function M.free_port()
    local used = {}
    for _, path in ipairs { "/proc/net/tcp", "/proc/net/tcp6" } do
        local f <close> = io.open(path)
        for line in f and f:lines() or function() end do
            local port = line:match("^%s*%d+: %x+:(%x%x%x%x) ")
            if port then used[tonumber(port, 16)] = true end
        end
    end
    while true do
        local port = math.random(15001, 20000) -- redis_server.lua has others
        if not used[port] then return port end
    end
end

return M
