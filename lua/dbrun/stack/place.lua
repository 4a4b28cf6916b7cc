--- The place of a folder's stack: .dbrun/stack/ below it, unless the servers cannot work there.
---
--- Parts move elsewhere for three reasons: a unix socket's path has at most 107 bytes, and no comma (libpq takes that
--- for a list of hosts); the servers' configuration files cannot express line ends in a path; and the servers' user
--- (root's stack runs as another user) may not be able to enter the folder. The decision is written to the file
--- `place`, so that it stays the same.

local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local programs = require "dbrun.stack.programs"

local M = {}

--- Can a socket be in this folder, and can a client name it?
local function takes_sockets(path)
    return #path + #"/.s.PGSQL.5432" <= 107 and not path:find("[%c,]")
end

local private <const> = tonumber("700", 8)

---@class dbrun.stack.Place
---@field folder string .dbrun/stack
---@field data string holds postgres/, redis/ and the logs
---@field sockets string
---@field user dbrun.process.User? the servers' user; nil = the current user

local function read_record(path)
    local record = {}
    if not fs.exists(path) then return record end
    for line in fs.read(path):gmatch("[^\n]+") do
        local key, value = line:match("^(%w+)=(.*)$")
        if key then record[key] = value:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end) end
    end
    return record
end

local function write_record(path, record)
    local lines = {}
    for _, key in ipairs { "folder", "data", "sockets" } do
        local value = record[key]:gsub("[%c%%]", function(c) return ("%%%02X"):format(c:byte()) end)
        lines[#lines + 1] = key .. "=" .. value
    end
    fs.write(path, table.concat(lines, "\n") .. "\n")
end

--- The record is valid only for the folder it was written for: a copy of a project must not use the original's servers.
--- A project that was moved keeps its place.
local function still_valid(record, folder)
    if not record.folder then return {} end
    if record.folder == folder then return record end
    local moved = not fs.exists(record.folder .. "/place")
    local new = {}
    for _, key in ipairs { "data", "sockets" } do
        local path = record[key] or ""
        local inside = path:sub(1, #record.folder + 1) == record.folder .. "/"
        if inside then
            new[key] = folder .. path:sub(#record.folder + 1)
        elseif moved and path ~= "" then
            new[key] = path
        end
    end
    if new.sockets and not takes_sockets(new.sockets) then new.sockets = nil end
    return new
end

--- Can the user work in this folder, which belongs to him? Tried as that user, because the modes of all folders above,
--- access lists and mount options matter.
local function reachable(path, user)
    if not user then return true end
    return process.run {
        "/bin/sh", "-c", 'cd "$1" && test -w . && test -x .', "sh", path,
        cwd = "/", uid = user.uid, gid = user.gid, timeout = 10,
    }.ok
end

local function give(path, user)
    if user then fs.chown(path, user.uid, user.gid) end
    fs.chmod(path, private)
end

--- Makes a private folder elsewhere.
local function elsewhere(bases, user)
    for _, base in ipairs(bases) do
        if base and base:sub(1, 1) == "/" and fs.access(base, "w") then
            local path = fs.mkdtemp(base:gsub("/+$", "") .. "/dbrun-")
            give(path, user)
            if reachable(path, user) then return path end
            fs.rmdir(path)
        end
    end
    return errors.raise {
        kind = "io",
        message = ("there is no folder that %s can work in"):format(user and ("user '" .. user.name .. "'") or "we"),
        detail = "tried: " .. table.concat(bases, ", "),
    }
end

--- Is the folder there, ours and private? Raises when it belongs to another user.
local function usable(path, user)
    local there = path and fs.stat(path, true)
    if not there then return false end
    local owner = user and user.uid or process.uid()
    if there.kind ~= "folder" or there.uid ~= owner then
        local name = process.user(there.uid)
        errors.fail("io", ("'%s' belongs to user %s"):format(path, name and name.name or there.uid),
            "use the stack as the user who made it, or remove .dbrun/stack and make a new one")
    end
    if there.mode & 63 ~= 0 then fs.chmod(path, private) end
    return true
end

local function make_inside(path, user)
    fs.mkdir(path, private)
    give(path, user)
    if reachable(path, user) then return path end
    fs.rmdir(path)
    return nil
end

local function decide_data(folder, record, user)
    if usable(record.data, user) then return record.data end
    local inside = folder .. "/data"
    return not inside:find("%c") and make_inside(inside, user) or elsewhere({ "/var/tmp", "/tmp" }, user)
end

local function decide_sockets(folder, record, user)
    if usable(record.sockets, user) then return record.sockets end
    local inside = folder .. "/sockets"
    if takes_sockets(inside) then
        local made = make_inside(inside, user)
        if made then return made end
    end
    local runtime_dir = not user and os.getenv("XDG_RUNTIME_DIR")
    local bases = { "/tmp", "/var/tmp" }
    if runtime_dir and takes_sockets(runtime_dir .. "/dbrun-XXXXXX") then
        table.insert(bases, 1, runtime_dir)
    end
    return elsewhere(bases, user)
end

--- The stack's folder for the current folder; it may not exist.
---@return string
function M.folder()
    return fs.join(fs.cwd(), ".dbrun", "stack")
end

--- Makes the stack's folder, and keeps it out of version control.
---@return string folder
function M.make_folder()
    local folder = M.folder()
    if not fs.exists(folder) then
        fs.mkdir_p(folder)
        local ignore = fs.dirname(folder) .. "/.gitignore"
        if not fs.exists(ignore) then fs.write(ignore, "*\n") end
    end
    return folder
end

local function data_owner(record)
    local there = record.data and fs.stat(record.data)
    return there and there.uid
end

--- The place of the stack; nil when it was never made.
---@return dbrun.stack.Place?
function M.find()
    local folder = M.folder()
    local record = still_valid(read_record(folder .. "/place"), folder)
    if not record.data or not record.sockets then return nil end
    if not fs.exists(record.data) or not fs.exists(record.sockets) then return nil end
    return {
        folder = folder, data = record.data, sockets = record.sockets,
        user = programs.server_user(data_owner(record)),
    }
end

--- The place of the stack, which is made if needed. The caller holds the stack's lock.
---@return dbrun.stack.Place
function M.make()
    local folder = M.folder()
    local path = folder .. "/place"
    local old = read_record(path)
    local record = still_valid(old, folder)
    local user = programs.server_user(data_owner(record))
    local new = { folder = folder }
    new.data = decide_data(folder, record, user)
    new.sockets = decide_sockets(folder, record, user)
    if new.folder ~= old.folder or new.data ~= old.data or new.sockets ~= old.sockets then
        write_record(path, new)
        -- Says in a folder elsewhere which project it belongs to.
        if new.data ~= folder .. "/data" then fs.write(new.data .. "/belongs-to", folder .. "\n") end
    end
    return { folder = folder, data = new.data, sockets = new.sockets, user = user }
end

--- Removes data and sockets. The servers must be down; the caller holds the lock.
---@param place dbrun.stack.Place
function M.remove(place)
    fs.rmtree(place.data)
    fs.rmtree(place.sockets)
    fs.unlink(place.folder .. "/place")
end

return M
