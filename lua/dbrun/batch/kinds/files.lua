--- The files of an archive: one for each worker, which grows by one piece per chunk. The transaction that deletes the
--- rows records the length of the file; data beyond that length are from a chunk that did not commit, and are cut off
--- before more is written.
---
--- While the job runs, NAME.lock lies beside a file: its lock means that a worker of this machine writes the file, and
--- its text names the job that made the file. A file without a recorded length and without such a text is not the
--- job's: it is never touched.
local errors <const> = require "dbrun.error"
local fs <const> = require "dbrun.fs"
local log <const> = require "dbrun.log"
local process <const> = require "dbrun.process"

local M = {}

local MOST <const> = 1000 -- files of one job on one machine

---Raises kind `usage` unless it is a file's name with a place for the worker's number.
---@param fn string
---@param pattern string
function M.check(fn, pattern)
    local has_number = false
    for letter in pattern:gmatch "%%(.?)" do
        if letter ~= "w" and letter ~= "h" and letter ~= "%" then
            errors.fail("usage", ("%s: the file's name has %%%s"):format(fn, letter),
                "%w is the worker's number, %h the machine's name, %% a percent sign")
        end
        has_number = has_number or letter == "w"
    end
    if not has_number then
        errors.fail("usage", fn .. ": the file's name has no %w", "each worker writes a file of its own: orders-%w.csv")
    end
end

local function path_of(pattern, number)
    local letters <const> = { w = ("%d"):format(number), h = process.host_name(), ["%"] = "%" }
    local path <const> = pattern:gsub("%%(.)", letters)
    local folder <const> = fs.dirname(path)
    fs.mkdir_p(folder)
    return fs.join(fs.realpath(folder), fs.basename(path))
end

-- ---- child processes: system programs wait for the disk, while this program goes on ----

local function run(spec, path)
    spec.stderr, spec.max_output, spec.dry_run = "capture", false, "run"
    local result <const> = process.run(spec)
    if not result.ok then
        errors.fail("io", ("cannot write '%s': %s"):format(path, (result.stderr:gsub("%s+$", ""))),
            "the rows are still in the table; free some space, or check the rights, and run the job again")
    end
    return result.stdout
end

---Truncates the file to a length.
local function cut(path, at)
    run({ "truncate", "-s", ("%d"):format(at), "--", path }, path)
    run({ "sync", "--", path }, path)
end

---Appends to the file, whose end is `at`, and waits until the data are on disk.
---@param path string
---@param at integer
---@param data string
local function write_at(path, at, data)
    local before <const> = fs.stat(path)
    if before and before.size > at then cut(path, at) end
    run({ "dd", "of=" .. path, "oflag=append", "conv=notrunc,fsync", "bs=65536", "status=none", stdin = data }, path)
    local stat <const> = fs.stat(path)
    if not stat or stat.size ~= at + #data then
        errors.fail("io", ("'%s' has %s bytes after a write that makes it %d"):format(path, stat and stat.size or "no",
            at + #data), "does another program write it? The rows are still in the table.")
    end
end

local function compressed(data, path)
    return run({ "gzip", "-n", "-c", stdin = data }, path)
end

-- ---- which file ----

---@class dbrun.batch.File
---@field path string
---@field key string key of the recorded length: "machine:/path"
---@field lock dbrun.fs.Lock
---@field known boolean its lock file says that a recorded length was seen
---@field gzip boolean
---@field job string the lock file's text about the job

local function lock_text(job, state)
    return ("dbrun batch %s\n%s\n"):format(job, state)
end

local function write_lock(path, text)
    local file <close> = io.open(path, "wb") -- in place: a new file would not be locked
    if not file or not file:write(text) or not file:flush() then
        errors.fail("io", ("cannot write '%s'"):format(path))
    end
end

---The largest recorded length of a file.
local function noted(notes, key)
    local length
    for _, note in ipairs(notes) do
        local n <const> = math.tointeger(note[key])
        if n and (not length or n > length) then length = n end
    end
    return length
end

---Whether this job may write the file, whose lock is held.
local function is_ours(file, notes)
    local stat <const> = fs.stat(file.path)
    local length <const> = noted(notes, file.key)
    local ok <const>, said = pcall(fs.read, file.path .. ".lock")
    said = ok and said or ""
    if length then
        if not stat then
            log.warn(("archive: '%s' is gone, with the %d bytes that were written; another file is begun"):format(
                file.path, length))
            return false
        elseif stat.size < length then
            errors.fail("io", ("'%s' has %d bytes, and %d were written: rows of the archive are lost"):format(file.path,
                stat.size, length), "bring the file back, or move it away: then the job begins another one")
        end
        file.known = said == lock_text(file.job, "noted")
        return true
    elseif not stat then
        return true
    end
    -- The file's first chunk did not commit. With "noted" there was a recorded length, which is lost: then the file is
    -- left alone.
    return said == lock_text(file.job, "new")
end

---The first file that no other worker writes.
---@param pattern string
---@param job string name and start of the job
---@param notes table[]
---@param gzip boolean
---@return dbrun.batch.File
function M.take(pattern, job, notes, gzip)
    for number = 1, MOST do
        local path <const> = path_of(pattern, number)
        local lock_path <const> = path .. ".lock"
        local key <const> = process.host_name() .. ":" .. path
        local file <const> = { path = path, key = key, gzip = gzip, job = job, known = false }
        local was_there <const> = fs.exists(lock_path)
        if was_there or not fs.exists(path) or noted(notes, file.key) then
            file.lock = fs.lock(lock_path)
            if file.lock and is_ours(file, notes) then
                if not fs.exists(path) then
                    write_lock(lock_path, lock_text(job, "new"))
                    write_at(path, 0, "")
                    run({ "sync", fs.dirname(path), lock_path }, path)
                end
                return file
            elseif file.lock then
                if not was_there then fs.unlink(lock_path) end
                file.lock:release()
            end
        end
    end
    return errors.fail("io", ("no file of '%s' is free up to number %d"):format(pattern, MOST),
        "move away the files of older jobs")
end

---Writes a chunk's rows after the recorded length.
---@param file dbrun.batch.File
---@param notes table[]
---@param data string
---@return table note
function M.append(file, notes, data)
    local at <const> = M.length(file, notes)
    if at > 0 and not file.known then
        write_lock(file.path .. ".lock", lock_text(file.job, "noted"))
        file.known = true
    end
    if file.gzip then data = compressed(data, file.path) end
    write_at(file.path, at, data)
    return { [file.key] = at + #data }
end

---The recorded length of a file.
---@param file dbrun.batch.File
---@param notes table[]
---@return integer
function M.length(file, notes)
    return noted(notes, file.key) or 0
end

---The job is done: truncates the files of killed workers of this machine, and removes the lock files.
---@param pattern string
---@param job string
---@param notes table[]
function M.finish(pattern, job, notes)
    for number = 1, MOST do
        local path <const> = path_of(pattern, number)
        local lock_path <const> = path .. ".lock"
        local file <const> = { path = path, key = process.host_name() .. ":" .. path, job = job }
        local lock <const> = fs.exists(lock_path) and fs.lock(lock_path)
        if lock then
            local length <const> = noted(notes, file.key)
            local stat <const> = fs.stat(path)
            if stat and is_ours(file, notes) then
                if length and length < stat.size then cut(path, length) end
                if not length then fs.unlink(path) end
            end
            local ok <const>, said <const> = pcall(fs.read, lock_path)
            if ok and said:find(("dbrun batch %s\n"):format(job), 1, true) == 1 then fs.unlink(lock_path) end
            lock:release()
        end
    end
end

return M
