--- Files and folders, synchronous. Functions raise errors of kind `io` that name path and cause.
---
--- Raises errors of kind `io` that name path and cause.

local args = require "dbrun.args"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local task = require "dbrun.task"

local fs = core.fs

local M = {}

local path_rule <const>, mode_rule <const> = args.path, args.whole(0, 0xfff)

local function check_path(fn, path)
    args.check(fn, "path", path, path_rule)
end

---@class dbrun.fs.Stat
---@field kind "file"|"folder"|"link"|"socket"|"fifo"|"device"
---@field size integer bytes
---@field mode integer rights, such as 0x1C0 for 0700
---@field uid integer
---@field gid integer
---@field dev integer
---@field ino integer
---@field mtime number seconds since 1970

--- The file, folder or link at this path; nil when there is none.
---@param path string
---@param no_follow? boolean true: the link itself, not its target
---@return dbrun.fs.Stat?
---```lua
---print(fs.stat("/etc/passwd").kind, fs.stat "/no/such/file")  --> file
---```
function M.stat(path, no_follow)
    check_path("fs.stat", path)
    args.optional("fs.stat", "no_follow", no_follow, "boolean")
    return fs.stat(path, no_follow)
end

---Whether there is anything at this path. A dangling link does not count.
---@param path string
---@return boolean
---```lua
---print(fs.exists "/etc/passwd", fs.exists "/no/such/file")  --> true  false
---```
function M.exists(path)
    check_path("fs.exists", path)
    return fs.stat(path) ~= nil
end

local RIGHT <const> = args.one_of("r", "w", "x")

--- Whether the current user may read, write or execute it.
---@param path string
---@param right? "r"|"w"|"x" default "r"
---@return boolean
---```lua
---print(fs.access("/etc/passwd"), fs.access("/etc/passwd", "x"))  --> true  false
---```
function M.access(path, right)
    check_path("fs.access", path)
    args.optional("fs.access", "right", right, RIGHT)
    return fs.access(path, right)
end

--- Joins path and name; an absolute name is returned unchanged.
---@param path string
---@param ... string
---@return string
---```lua
---print(fs.join("logs", "app.log"), fs.join("logs", "/var/log"))  --> logs/app.log  /var/log
---```
function M.join(path, ...)
    args.check("fs.join", "path", path, "string")
    args.each("fs.join", "name", "string", ...)
    for _, name in ipairs { ... } do
        if name:sub(1, 1) == "/" then
            path = name
        else
            path = path:gsub("([^/])$", "%1/") .. name
        end
    end
    return path
end

---The folder of a path: all before its last slash.
---@param path string
---@return string folder "." when the path has none
---```lua
---print(fs.dirname "/var/log/app.log", fs.dirname "app.log")  --> /var/log  .
---```
function M.dirname(path)
    args.check("fs.dirname", "path", path, "string")
    local dir = path:gsub("/+$", ""):match("^(.*)/[^/]*$")
    if not dir then return path:sub(1, 1) == "/" and "/" or "." end
    return dir == "" and "/" or dir
end

---The last name of a path.
---@param path string
---@return string
---```lua
---print(fs.basename "/var/log/app.log")  --> app.log
---```
function M.basename(path)
    args.check("fs.basename", "path", path, "string")
    return (path:gsub("/+$", ""):match("[^/]*$"))
end

--- Names in a folder, sorted by bytes, without "." and "..".
---@param path string
---@return string[]
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/b", "")
---fs.write(dir .. "/a", "")
---print(table.concat(fs.list(dir), " "))  --> a b
---fs.rmtree(dir)
---```
function M.list(path)
    check_path("fs.list", path)
    local names = fs.list(path)
    table.sort(names)
    return names
end

--- Makes the folder and those above it that are missing.
---@param path string
---@param mode? integer mode of the new folders; default: from the umask
---```lua
---local dir = fs.mkdtemp()
---fs.mkdir_p(dir .. "/a/b/c")
---print(fs.stat(dir .. "/a/b/c").kind)  --> folder
---fs.rmtree(dir)
---```
function M.mkdir_p(path, mode)
    check_path("fs.mkdir_p", path)
    args.optional("fs.mkdir_p", "mode", mode, mode_rule)
    local missing = {}
    while not M.exists(path) do
        missing[#missing + 1] = path
        local above = M.dirname(path)
        if above == path then break end
        path = above
    end
    for i = #missing, 1, -1 do fs.mkdir(missing[i], mode) end
    local there = fs.stat(missing[1] or path)
    if there and there.kind ~= "folder" then
        errors.fail("io", ("'%s' exists, but it is not a folder"):format(missing[1] or path))
    end
end

--- Makes one folder; false when the path exists already.
---@param path string
---@param mode? integer
---@return boolean made
---```lua
---local dir = fs.mkdtemp()
---print(fs.mkdir(dir .. "/new"), fs.mkdir(dir .. "/new"))  --> true  false
---fs.rmtree(dir)
---```
function M.mkdir(path, mode)
    check_path("fs.mkdir", path)
    args.optional("fs.mkdir", "mode", mode, mode_rule)
    return fs.mkdir(path, mode)
end

--- What rmtree refuses to remove, and what it is.
local PRECIOUS <const> = { "the root", "the current folder", "the folder of all temporary files", "the home folder" }

--- Removes a folder with all below it, or one file. Links are removed, never followed. The root, the current folder,
--- the home folder, the folder for temporary files and all folders above them are refused, and so is a path that ends
--- in `.` or `..`.
---@param path string
---```lua
---local dir = fs.mkdtemp()
---fs.mkdir_p(dir .. "/a/b")
---fs.rmtree(dir)
---print(fs.exists(dir))  --> false
---```
function M.rmtree(path)
    check_path("fs.rmtree", path)
    local kept <const> = { "/", ".", M.tempdir(), os.getenv "HOME" }
    local hit <const> = fs.rmtree(path, kept)
    if hit == 0 then
        errors.fail("usage", ("fs.rmtree: '%s' ends in . or .., which is not the folder's own name"):format(path),
            "Nothing was removed. fs.realpath(path) is its name.")
    elseif hit then
        errors.fail("usage", ("fs.rmtree: '%s' is %s, or contains it"):format(path, PRECIOUS[hit]),
            "Nothing was removed. Name a folder below it; fs.mkdtemp() makes a folder of your own.")
    end
end

---Removes an empty folder.
---@param path string
---```lua
---local dir = fs.mkdtemp()
---fs.rmdir(dir) -- it must be empty
---print(fs.exists(dir))  --> false
---```
function M.rmdir(path)
    check_path("fs.rmdir", path)
    fs.rmdir(path)
end

---Removes a file or a link.
---@param path string
---@return boolean removed false when it was not there
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/note", "text")
---print(fs.unlink(dir .. "/note"), fs.unlink(dir .. "/note"))  --> true  false
---fs.rmtree(dir)
---```
function M.unlink(path)
    check_path("fs.unlink", path)
    return fs.unlink(path)
end

---Renames a file or folder, on the same file system.
---@param from string
---@param to string replaced when it is a file
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/old", "text")
---fs.rename(dir .. "/old", dir .. "/new")
---print(fs.exists(dir .. "/old"), fs.read(dir .. "/new"))  --> false  text
---fs.rmtree(dir)
---```
function M.rename(from, to)
    args.check("fs.rename", "from", from, path_rule)
    args.check("fs.rename", "to", to, path_rule)
    fs.rename(from, to)
end

---The absolute path without links, `.` and `..`.
---@param path string
---@return string
---```lua
---print(fs.realpath "/etc/../etc/passwd")  --> /etc/passwd
---```
function M.realpath(path)
    check_path("fs.realpath", path)
    return fs.realpath(path)
end

---The target of a link.
---@param path string
---@return string target
---```lua
---local dir = fs.mkdtemp()
---fs.symlink("target", dir .. "/link")
---print(fs.readlink(dir .. "/link"))  --> target
---fs.rmtree(dir)
---```
function M.readlink(path)
    check_path("fs.readlink", path)
    return fs.readlink(path)
end

---Makes a symbolic link to `target`.
---@param target string
---@param path string
---```lua
---local dir = fs.mkdtemp()
---fs.symlink("/etc/passwd", dir .. "/link")
---print(fs.stat(dir .. "/link", true).kind)  --> link
---fs.rmtree(dir)
---```
function M.symlink(target, path)
    args.check("fs.symlink", "target", target, path_rule)
    check_path("fs.symlink", path)
    fs.symlink(target, path)
end

local ID <const> = args.whole(-1, 4294967295)

---Changes the user and group of a file.
---@param path string
---@param uid integer -1: unchanged
---@param gid integer -1: unchanged
---```lua
---local dir = fs.mkdtemp()
---fs.chown(dir, process.uid(), -1) -- the group stays
---fs.rmtree(dir)
---```
function M.chown(path, uid, gid)
    check_path("fs.chown", path)
    args.check("fs.chown", "uid", uid, ID)
    args.check("fs.chown", "gid", gid, ID)
    fs.chown(path, uid, gid)
end

---Sets who may read, write and execute a file.
---@param path string
---@param mode integer
---```lua
---local dir = fs.mkdtemp()
---fs.chmod(dir, tonumber("755", 8))
---print(("%o"):format(fs.stat(dir).mode))  --> 755
---fs.rmtree(dir)
---```
function M.chmod(path, mode)
    check_path("fs.chmod", path)
    args.check("fs.chmod", "mode", mode, mode_rule)
    fs.chmod(path, mode)
end

--- Free bytes for the current user on the file system of this path.
---@param path string
---@return integer
---```lua
---if fs.free_space "/tmp" < 1024 * 1024 then print "less than 1 MiB is left" end
---```
function M.free_space(path)
    check_path("fs.free_space", path)
    return fs.free_space(path)
end

---The working folder, an absolute path.
---@return string
---```lua
---print(fs.cwd():sub(1, 1))  --> /
---```
function M.cwd()
    return fs.cwd()
end

--- The whole file.
---@param path string
---@return string bytes
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/note", "one\ntwo\n")
---print(#fs.read(dir .. "/note"))  --> 8
---fs.rmtree(dir)
---```
function M.read(path)
    check_path("fs.read", path)
    local f <close>, reason, number = io.open(path, "rb")
    if not f then
        local cause = tostring(reason):sub(#path + 3)
        errors.fail("io", ("cannot read '%s': %s"):format(path, cause), fs.limit_hint(number))
    end
    local data, failure = f:read("a")
    if not data then
        errors.fail("io", ("cannot read '%s': %s"):format(path, failure))
    end
    return data
end

local counter = 0

local WRITE_OPTIONS <const> = { sync = "boolean", through = "boolean" }
local DATA <const> = args.one_type_of("string", "number")

--- Writes to an existing pipe, device or link target, without replacing it.
local function write_through(path, data)
    local file, problem = io.open(path, "wb")
    local ok = file
    if file then
        ok, problem = file:write(data)
        local closed, why = file:close()
        ok, problem = ok and closed, problem or why
    end
    if not ok then
        errors.fail("io", ("cannot write '%s': %s"):format(path, file and problem or problem:sub(#path + 3)))
    end
end

--- Writes the file completely or not at all: under another name first, then renamed. Replaces an existing file; without
--- `mode` its mode stays.
---@param path string
---@param data string|number a number is written as io.write writes it
---@param mode? integer
---@param opts? {sync?: boolean, through?: boolean} sync: on the disk before this returns; through: writes through a
---    link to its target, and into a pipe or a device (/dev/stdout), instead of replacing it by a file
---```lua
---local dir = fs.mkdtemp()
---fs.write(dir .. "/report.csv", "id,name\n1,Ada\n") -- all of it, or the file stays as it was
---print(fs.stat(dir .. "/report.csv").size)  --> 14
---fs.rmtree(dir)
---```
function M.write(path, data, mode, opts)
    check_path("fs.write", path)
    args.check("fs.write", "data", data, DATA)
    args.optional("fs.write", "mode", mode, mode_rule)
    opts = args.options("fs.write", opts, WRITE_OPTIONS)
    local old = fs.stat(path)
    local itself = opts.through and fs.stat(path, true)
    if itself and itself.kind ~= "file" and itself.kind ~= "folder" then return write_through(path, data) end
    counter = counter + 1
    local temporary = ("%s.%d.%d.new"):format(path, process.pid(), counter)
    fs.unlink(temporary)
    fs.write_new(temporary, data, mode or (old and old.mode), opts.sync, path)
    local ok, problem = pcall(fs.rename, temporary, path)
    if not ok then
        fs.unlink(temporary)
        errors.fail("io", ("cannot write '%s': %s"):format(path, (problem.message:gsub("^.*': ", ""))))
    end
end

--- The folder for temporary files, shared by all programs.
---@return string
---```lua
---print(fs.stat(fs.tempdir()).kind)  --> folder
---```
function M.tempdir()
    local dir = os.getenv("TMPDIR")
    if dir and dir:sub(1, 1) == "/" and fs.access(dir, "w") then return (dir:gsub("(.)/+$", "%1")) end
    return "/tmp"
end

--- A new folder that only the current user may enter.
---@param prefix? string path and beginning of the name; default "dbrun-" in the folder for temporary files
---@return string path
---```lua
---local dir = fs.mkdtemp()
---print(("%o"):format(fs.stat(dir).mode))  --> 700
---fs.rmtree(dir)
---```
function M.mkdtemp(prefix)
    args.optional("fs.mkdtemp", "prefix", prefix, path_rule)
    return fs.mkdtemp(prefix or (M.tempdir() .. "/dbrun-"))
end

---@class dbrun.fs.Lock
---Raises nothing else.
---@field release fun(self: dbrun.fs.Lock) releases it; `<close>` does so too
---```lua
---local dir = fs.mkdtemp()
---local lock = fs.lock(dir .. "/report.lock")
---lock:release()
---print(fs.lock(dir .. "/report.lock") ~= nil)  --> true
---fs.rmtree(dir)
---```

--- Takes an exclusive lock on a file, which is made if it is missing: `local lock <close> = fs.lock(path)`. The system
--- releases it when the program dies. Other tasks run while this one waits.
---@param path string
---@param wait? number seconds to wait for another holder; default 0
---@param mode? integer mode of the file
---@return dbrun.fs.Lock? lock nil when it stayed locked for that time
---```lua
---local dir = fs.mkdtemp()
---local lock <close> = fs.lock(dir .. "/report.lock")
---print(fs.lock(dir .. "/report.lock", 0.05)) -- another one has it  --> nil
---fs.rmtree(dir)
---```
function M.lock(path, wait, mode)
    check_path("fs.lock", path)
    args.optional("fs.lock", "wait", wait or nil, args.limit)
    args.optional("fs.lock", "mode", mode, mode_rule)
    local deadline <const> = task.now() + (wait or 0)
    local pause = 0.002
    while true do
        local lock = fs.try_lock(path, mode)
        if lock then return lock end
        local left = deadline - task.now()
        if left <= 0 then return nil end
        task.sleep(math.min(pause, left))
        pause = math.min(pause * 1.5, 0.05)
    end
end

local READ <const>, WRITE <const>, UNLINK <const>, LIST <const> =
    "fs.read(path)", "fs.write(path, data)", "fs.unlink(path)", "fs.list(path)"
local MOVE <const>, MKDIR <const>, RMTREE <const> = "fs.rename(from, to)", "fs.mkdir_p(path)", "fs.rmtree(path)"
local IS_FOLDER <const>, IS_FILE <const> = 'fs.stat(path).kind == "folder"', 'fs.stat(path).kind == "file"'

return args.answer_for_names(M, "fs", {
    readfile = READ, read_file = READ, slurp = READ, writefile = WRITE, write_file = WRITE,
    append = 'io.open(path, "a")', open = "io.open(path)", remove = UNLINK, delete = UNLINK, rm = UNLINK,
    rm_r = RMTREE, remove_all = RMTREE, mv = MOVE, move = MOVE, ls = LIST, dir = LIST, readdir = LIST, listdir = LIST,
    scandir = LIST, makedirs = MKDIR, mkdirs = MKDIR, mkdirp = MKDIR, attributes = "fs.stat(path)",
    lstat = "fs.stat(path, true)", isdir = IS_FOLDER, is_dir = IS_FOLDER,
    isfile = IS_FILE, is_file = IS_FILE, size = "fs.stat(path).size", currentdir = "fs.cwd()", getcwd = "fs.cwd()",
    tmpdir = "fs.tempdir()", mkstemp = "fs.mkdtemp()", touch = 'fs.write(path, "")',
})
