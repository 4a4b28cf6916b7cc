--- Operations on records and files: stamp, verify, repair.
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local ledger = require "dbrun.migrate.book.ledger"
local records = require "dbrun.migrate.book.records"
local session = require "dbrun.migrate.run.session"
local state = require "dbrun.migrate.run.state"

local M = {}

---@class dbrun.migrate.Finding
---@field kind "changed"|"missing"|"late"|"half-done"
---@field version string
---@field name string
---@field text string what is wrong, in words
---@field hint string

local function runner() return require "dbrun.migrate.run.runner" end

---@param opts dbrun.migrate.Options
---@param wanted dbrun.migrate.File[] the files to record as applied
function M.stamp(opts, wanted)
    local all = files.some(opts.dirs)
    return session.writing(opts, function(conn)
        return runner().locked(conn, opts, function(run)
            local result, keep = { added = {}, removed = {} }, {}
            conn:transaction(function(tx)
                local applied, by_version = ledger.applied(tx, run.book), records.all(tx, run.book)
                for _, file in ipairs(wanted) do
                    keep[file.version] = true
                    local record = by_version[file.version]
                    if not applied[file.version] or record and record.direction then -- the latter is half undone
                        if not applied[file.version] then ledger.insert(tx, run.book, file.version) end
                        records.applied(tx, run.book, file, files.checksum(file))
                        result.added[#result.added + 1] = file
                    end
                end
                for _, file in ipairs(all) do
                    if applied[file.version] and not keep[file.version] then
                        ledger.delete(tx, run.book, file.version)
                        records.delete(tx, run.book, file.version)
                        result.removed[#result.removed + 1] = file
                    end
                end
            end)
            return result
        end)
    end)
end

-- ---- verify ----

local function half_done(record, name)
    return {
        kind = "half-done", version = record.version, name = name,
        text = records.how_far(record),
        hint = ("'%s' continues it"):format(record.direction),
    }
end

local function of_file(file, applied, record, last)
    if record and record.direction then return half_done(record, file.name) end
    if applied and record and record.checksum ~= files.checksum(file) then
        return {
            kind = "changed", version = file.version, name = file.name,
            text = ("changed since it was applied%s"):format(
                record.applied_at and " at " .. tostring(record.applied_at) or ""),
            hint = "restore it and write a new migration; 'repair' if the change has no effect",
        }
    end
    if not applied and last and file.name < last then
        return {
            kind = "late", version = file.version, name = file.name,
            text = ("pending, but the later %s is applied already"):format(last),
            hint = "give it a newer version, or apply it anyway: 'up' does, 'up --strict' does not",
        }
    end
end

local function findings(conn, opts, list)
    local book = ledger.locate(conn, opts.table)
    local applied, by_version, on_disk, out = ledger.applied(conn, book), records.all(conn, book), {}, {}
    local last
    local compared, unknown = 0, 0
    for _, file in ipairs(list) do
        on_disk[file.version] = true
        if applied[file.version] then
            last = file.name
            if by_version[file.version] then compared = compared + 1 else unknown = unknown + 1 end
        end
    end
    for _, file in ipairs(list) do
        out[#out + 1] = of_file(file, applied[file.version], by_version[file.version], last)
    end
    local gone = {}
    for version in pairs(applied) do
        if not on_disk[version] then gone[#gone + 1] = version end
    end
    for version, record in pairs(by_version) do
        if record.direction and not on_disk[version] and not applied[version] then gone[#gone + 1] = version end
    end
    table.sort(gone)
    for _, version in ipairs(gone) do
        local record = by_version[version]
        out[#out + 1] = {
            kind = "missing", version = version, name = record and record.name or version,
            text = "in the database, but its file is missing",
            hint = "restore the file (another branch?); 'repair --missing' removes the record",
        }
    end
    return out, compared, unknown
end

---@param opts dbrun.migrate.Options
---@return dbrun.migrate.Finding[]
---@return integer compared applied files whose checksum is known
---@return integer unknown applied files without one
function M.verify(opts)
    local list = files.list(opts.dirs)
    return session.reading(opts, function(conn) return findings(conn, opts, list) end)
end

-- ---- repair ----

---Where the next run of a half-done migration begins.
local function set_statement(tx, run, opts, list)
    local record = records.one(tx, run.book, opts.version)
    if not record or not record.direction then
        errors.fail("usage", ("the migration '%s' is not half done"):format(opts.version), "dbrun migrate verify")
    end
    local work
    for _, file in ipairs(list) do
        if file.version == opts.version then work = runner().prepare(file, record.direction, tx) end
    end
    if not work then
        errors.fail("usage", ("there is no file with the version '%s'"):format(opts.version))
    end
    local steps = work.steps or {}
    if opts.statement > #steps + 1 then
        errors.fail("usage", ("%s has %d statements"):format(work.file.path, #steps))
    end
    if opts.statement == 1 and record.direction == "up" then
        records.delete(tx, run.book, opts.version)
    else
        local last = steps[opts.statement - 1]
        -- The session state after an earlier statement is unknown, so the SETs of the file are repeated.
        local left = opts.statement > record.done and state.without_left(record.session) or nil
        records.progress(tx, run.book, work, opts.statement - 1, last and last.checksum or "", left)
    end
    return ("%s: the next run begins with statement %d"):format(work.file.name, opts.statement)
end

local function align(tx, run, opts, list)
    local applied, by_version, on_disk, done = ledger.applied(tx, run.book), records.all(tx, run.book), {}, {}
    for _, file in ipairs(list) do
        on_disk[file.version] = true
        local record, checksum = by_version[file.version], files.checksum(file)
        if applied[file.version] and not (record and (record.direction or record.checksum == checksum)) then
            records.applied(tx, run.book, file, checksum)
            done[#done + 1] = ("%s: %s"):format(file.name, record and "its checksum was updated" or "recorded")
        end
    end
    for version in pairs(applied) do
        if opts.missing and not on_disk[version] then
            ledger.delete(tx, run.book, version)
            records.delete(tx, run.book, version)
            done[#done + 1] = version .. ": record removed, it has no file"
        end
    end
    for version, record in pairs(by_version) do
        if not applied[version] and (not record.direction or opts.missing and not on_disk[version]) then
            records.delete(tx, run.book, version)
            done[#done + 1] = record.name .. ": record removed, it is not applied"
        end
    end
    table.sort(done)
    return done
end

---@param opts dbrun.migrate.Options|{ missing?: boolean, version?: string, statement?: integer }
---@return string[] done
function M.repair(opts)
    if (opts.version == nil) ~= (opts.statement == nil) then
        errors.usage("repair", "--version and --statement belong together")
    end
    if opts.missing and opts.version then
        errors.usage("repair", "--missing, or --version and --statement, not both")
    end
    -- Without any file, all records would be removed: the folder is the wrong one.
    local list = (opts.missing and files.some or files.list)(opts.dirs)
    return session.writing(opts, function(conn)
        return runner().locked(conn, opts, function(run)
            return conn:transaction(function(tx)
                if opts.version then return { set_statement(tx, run, opts, list) } end
                return align(tx, run, opts, list)
            end)
        end)
    end)
end

return M
