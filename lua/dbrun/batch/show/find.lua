--- The files of batch jobs: DBRUN_BATCHES_DIR/NAME.lua, a job's name, or a path.
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local nearest = require "dbrun.nearest"

local M = {}

---@class dbrun.batch.File
---@field path string
---@field stem string file name without .lua

local function folder()
    return (require("dbrun.config").DBRUN_BATCHES_DIR:gsub("(.)/+$", "%1"))
end

---`-` and `_` are equal.
---@param name string
---@return string
function M.alike(name)
    return (name:gsub("_", "-"))
end

---The files of the folder by name; none where there is no folder.
---@return dbrun.batch.File[]
function M.list()
    local dir <const> = folder()
    if not fs.exists(dir) then return {} end
    local list <const> = {}
    for _, entry in ipairs(fs.list(dir)) do
        local stem <const> = entry:match "^([^.].*)%.lua$"
        if stem then list[#list + 1] = { path = dir .. "/" .. entry, stem = stem } end
    end
    return list
end

local function broken(path, why)
    errors.raise { kind = "config", message = ("%s is not a batch job: %s"):format(path, why),
        text = ("%s is not a batch job: %s"):format(path, why) }
end

---Runs a file and takes the job that it returns.
---@param path string
---@return dbrun.batch.Definition
---Raises an error of kind `config` when it does not compile, fails, or returns something else.
function M.load(path)
    local chunk <const>, why <const> = load((fs.read(path):gsub("^#[^\n]*", "")), "@" .. path, "t")
    if not chunk then broken(path, why) end
    local ok <const>, job <const> = xpcall(require("dbrun.exit_guard").call, function(e)
        return errors.is(e) and e or debug.traceback(tostring(e), 2)
    end, "the batch job " .. path, chunk)
    if not ok then
        if errors.is(job, "cancelled") then error(job, 0) end
        broken(path, tostring(job))
    end
    if not require("dbrun.batch").is_job(job) then
        broken(path, ("it returns %s instead of a job: return require(\"dbrun.batch\").job{...}"):format(
            job == nil and "nothing" or type(job) == "table" and "another table" or "a " .. type(job)))
    end
    return job.definition
end

---The file that has this name, or nil.
local function by_name(name, list)
    for _, same in ipairs { function(a, b) return a == b end, function(a, b) return M.alike(a) == M.alike(b) end } do
        for _, file in ipairs(list) do
            if same(file.stem, name) then return file end
        end
    end
end

---The file whose job has this name. Files that cannot be loaded are skipped here.
local function by_job(name, list)
    local known <const> = {}
    for _, file in ipairs(list) do
        local ok <const>, job <const> = pcall(M.load, file.path)
        if ok and M.alike(job.name) == M.alike(name) then return job, file, known end
        if not ok and errors.is(job, "cancelled") then error(job, 0) end
        known[#known + 1] = ok and job.name ~= file.stem and ("%s (%s.lua)"):format(job.name, file.stem) or file.stem
    end
    return nil, nil, known
end

local function unknown(name, list, known)
    local dir <const> = folder()
    if #list == 0 then
        errors.fail("config", ("no batch job is called '%s': %s"):format(name, fs.exists(dir)
            and ("%s has no *.lua"):format(dir) or ("there is no folder %s"):format(dir)),
            "name a file (./job.lua), or the folder by the key DBRUN_BATCHES_DIR")
    end
    local stems <const> = {}
    for i, file in ipairs(list) do stems[i] = file.stem end
    local near <const> = nearest.find(name, stems)
    errors.fail("config", ("no batch job is called '%s'; %s has %s"):format(name, dir, table.concat(known, ", ")),
        near and ("did you mean '%s'?"):format(near) or nil)
end

---Whether it is a path, not a name.
---@param name string
---@return boolean
function M.is_path(name)
    return name:find("/", 1, true) ~= nil or name:find "%.lua$" ~= nil
end

---The job of a name or a path.
---@param name string
---@return dbrun.batch.Definition job
---@return string path
---Raises an error of kind `config` that lists the existing jobs.
function M.job(name)
    if M.is_path(name) then
        if not fs.exists(name) then errors.fail("config", ("there is no file '%s'"):format(name)) end
        return M.load(name), name
    end
    local list <const> = M.list()
    local file = by_name(name, list)
    if file then return M.load(file.path), file.path end
    local job, found, known = by_job(name, list)
    if job then return job, found.path end
    return unknown(name, list, known)
end

---The name under which the database knows the job of a file, as far as the file says it.
---@param name string as people type it: the name of a job or a file, or a path
---@return string?
function M.name_of(name)
    local list <const> = M.is_path(name) and {} or M.list()
    local path <const> = M.is_path(name) and name or (by_name(name, list) or {}).path
    if not path or not fs.exists(path) then return nil end
    local ok <const>, job <const> = pcall(M.load, path)
    if not ok and errors.is(job, "cancelled") then error(job, 0) end
    return ok and job.name or nil
end

return M
