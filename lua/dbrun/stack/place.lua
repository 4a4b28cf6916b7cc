--- The place of a folder's stack: .dbrun/stack/ below it, unless the servers cannot work there.
---
--- Parts move elsewhere for three reasons: a unix socket's path has at most 107 bytes, and no comma (for libpq a list
--- of hosts); the servers' configuration files cannot express line ends in a path; and the servers' user
--- (root's stack runs as another user) may not be able to enter the folder. The decision is written to the file
--- `place`, so that it stays the same. That file is only a claim: a folder elsewhere is used, and removed, only when it
--- carries this stack's mark, the file `belongs-to`; and what is removed are the files that a stack makes, by name.

local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local project = require "dbrun.project"
local programs = require "dbrun.stack.programs"

local M = {}

--- Whether a socket can be in this folder, and a client can name it.
local function takes_sockets(path)
    return #path + #"/.s.PGSQL.5432" <= 107 and not path:find("[%c,]")
end

local private <const> = tonumber("700", 8)

---@class dbrun.stack.Place
---@field folder string .dbrun/stack
---@field data string holds postgres/, redis/ and the logs
---@field sockets string for the end of a stack: nil when they are not its own
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

local MARK <const> = "/belongs-to"
local NAMES <const> = { data = "/data", sockets = "/sockets" }

--- Whether the path is the part of that name of the stack in this folder.
local function inside(folder, part, path)
    return path == folder .. NAMES[part]
end

--- Whether there is something other than a folder: a link would lead to files that the stack has not made.
local function no_folder(path)
    local there = fs.stat(path, true)
    return there ~= nil and there.kind ~= "folder"
end

--- Refuses a link in place of a part of the stack, or of a file of the servers.
local function refuse_links(folder)
    for _, name in ipairs { "/data", "/sockets", "/data/postgres", "/data/redis" } do
        local path = folder .. name
        if no_folder(path) then
            errors.fail("io", ("'%s' is not a folder, but a %s: the stack uses only its own folders"):format(path,
                fs.stat(path, true).kind),
                "nothing was touched there; remove it, or put a link in place of .dbrun as a whole")
        end
    end
end

--- Whether a folder elsewhere is marked as belonging to the stack in `owner`.
local function marked(path, owner)
    local there = path:sub(1, 1) == "/" and fs.stat(path .. MARK, true)
    return there and there.kind == "file" and fs.read(path .. MARK) == owner .. "\n" or false
end

--- The record is valid only for the folder it was written for: a copy of a project must not use the original's servers.
--- A project that was moved keeps its place.
---@return {data: string?, sockets: string?} record
---@return string[] foreign folders that the record names and that do not carry its mark
local function still_valid(record, folder)
    local new, foreign = {}, {}
    if not record.folder then return new, foreign end
    local moved = record.folder ~= folder and not fs.exists(record.folder .. "/place")
    for _, part in ipairs { "data", "sockets" } do
        local path = record[part] or ""
        if inside(record.folder, part, path) then
            local own = folder .. NAMES[part]
            if no_folder(own) then foreign[#foreign + 1] = own else new[part] = own end
        elseif path ~= "" and (moved or record.folder == folder) then
            if not fs.exists(path) or marked(path, record.folder) or marked(path, folder) then
                new[part] = path
            elseif path ~= foreign[#foreign] then
                foreign[#foreign + 1] = path
            end
        end
    end
    if new.sockets and not takes_sockets(new.sockets) then new.sockets = nil end
    return new, foreign
end

local function refuse_foreign(folder, foreign)
    if not foreign[1] then return end
    errors.fail("io", ("'%s/place' names '%s', which does not carry the mark of this stack (a file belongs-to with the "
        .. "line '%s')"):format(folder, foreign[1], folder),
        "nothing was touched there; `dbrun stack reset` forgets that folder and leaves it as it is")
end

--- Whether the user can work in this folder, which belongs to that user. Tested as that user, because the modes of all
--- parent folders, access lists and mount options matter.
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

--- Whether the folder exists, is this user's and private. Raises when it belongs to another user.
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
    local path = folder .. "/data"
    return not path:find("%c") and make_inside(path, user) or elsewhere({ "/var/tmp", "/tmp" }, user)
end

local function decide_sockets(folder, record, user)
    if usable(record.sockets, user) then return record.sockets end
    local path = folder .. "/sockets"
    if takes_sockets(path) then
        local made = make_inside(path, user)
        if made then return made end
    end
    local runtime_dir = not user and os.getenv("XDG_RUNTIME_DIR")
    local bases = { "/tmp", "/var/tmp" }
    if runtime_dir and takes_sockets(runtime_dir .. "/dbrun-XXXXXX") then
        table.insert(bases, 1, runtime_dir)
    end
    return elsewhere(bases, user)
end

--- The folder with links resolved. A stack that is found through a link (two work trees can share one .dbrun) is the
--- same stack, with the same name: two names would mean two servers on one data folder.
local function real(folder)
    if fs.exists(folder) then return fs.realpath(folder) end
    local above = fs.dirname(folder)
    return fs.exists(above) and fs.join(fs.realpath(above), fs.basename(folder)) or folder
end

--- The stack's folder, in that of the project. It may not exist.
---@return string
function M.folder()
    return real(fs.join(project.folder(), ".dbrun", "stack"))
end

--- Refuses the stack of another user, whose servers and files this one cannot reach. Root can.
local function refuse_other_user(folder)
    local there = process.uid() ~= 0 and fs.stat(folder)
    if not there or there.uid == process.uid() then return end
    local name = process.user(there.uid)
    errors.fail("io", ("the stack in '%s' belongs to user %s"):format(folder, name and name.name or there.uid),
        "use it as that user, or work in a folder of your own")
end

--- Makes the stack's folder, and keeps it out of version control.
---@return string folder
function M.make_folder()
    local folder = M.folder()
    refuse_other_user(folder)
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

--- The place of the stack, if all of it exists and is its own; nil when it was never made.
---@param folder? string default: M.folder()
---@return dbrun.stack.Place?
function M.find(folder)
    folder = folder or M.folder()
    refuse_other_user(folder)
    refuse_links(folder)
    local record, foreign = still_valid(read_record(folder .. "/place"), folder)
    refuse_foreign(folder, foreign)
    if not record.data or not record.sockets then return nil end
    if not fs.exists(record.data) or not fs.exists(record.sockets) then return nil end
    return {
        folder = folder, data = record.data, sockets = record.sockets,
        user = programs.server_user(data_owner(record)),
    }
end

--- Marks a folder elsewhere with the project that it belongs to.
local function mark(path, folder)
    if not marked(path, folder) then fs.write(path .. MARK, folder .. "\n") end
end

--- The place of the stack, which is made if needed. The caller holds the stack's lock.
---@return dbrun.stack.Place
function M.make()
    local folder = M.folder()
    local path = folder .. "/place"
    refuse_links(folder)
    local old = read_record(path)
    local record, foreign = still_valid(old, folder)
    refuse_foreign(folder, foreign)
    local user = programs.server_user(data_owner(record))
    local new = { folder = folder }
    new.data = decide_data(folder, record, user)
    new.sockets = decide_sockets(folder, record, user)
    for _, part in ipairs { "data", "sockets" } do
        if not inside(folder, part, new[part]) then mark(new[part], folder) end
    end
    if new.folder ~= old.folder or new.data ~= old.data or new.sockets ~= old.sockets then write_record(path, new) end
    return { folder = folder, data = new.data, sockets = new.sockets, user = user }
end

--- The files that a stack makes in each of its folders.
local MADE <const> = {
    data = { "^postgres$", "^postgres%.new", "^redis$", "^postgres%.log", "^redis%.log", "^belongs%-to$" },
    sockets = { "^%.s%.PGSQL%.", "^redis%.sock$", "^belongs%-to$" },
}

local function is_made(part, name)
    for _, pattern in ipairs(MADE[part]) do
        if name:find(pattern) then return true end
    end
    return false
end

--- Removes what the stack made in a folder, and the folder when it is empty then.
local function remove_part(part, path)
    local there = fs.stat(path, true)
    if not there or there.kind ~= "folder" then return there and path or nil end
    local others = false
    for _, name in ipairs(fs.list(path)) do
        if not is_made(part, name) then
            others = true
        elseif name ~= MARK:sub(2) then
            fs.rmtree(fs.join(path, name))
        end
    end
    if fs.exists(path .. MARK) then fs.unlink(path .. MARK) end
    if others then return path end
    fs.rmdir(path)
end

--- Removes what the stack made, and its record. The servers must be down; the caller holds the lock.
---@param folder string
---@return string[]? left folders that were left because they, or something in them, are not the stack's; nil = there
---was nothing to remove
function M.remove(folder)
    local old = read_record(folder .. "/place")
    local record, left = still_valid(old, folder)
    if not old.folder then return nil end
    for _, part in ipairs { "data", "sockets" } do
        left[#left + 1] = record[part] and remove_part(part, record[part])
    end
    fs.unlink(folder .. "/place")
    return left
end

--- The part of the place that is the stack's own and holds its servers: for the end of a stack whose record is wrong.
---@param folder string
---@return dbrun.stack.Place?
function M.own(folder)
    local record = still_valid(read_record(folder .. "/place"), folder)
    if not record.data or not fs.exists(record.data) then return nil end
    return {
        folder = folder, data = record.data, sockets = record.sockets,
        user = programs.server_user(data_owner(record)),
    }
end

return M
