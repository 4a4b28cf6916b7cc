--- Migrations of golang-migrate: NUMBER_name.up.sql and NUMBER_name.down.sql, and a table with one row: the database's
--- version. A file is sent unchanged.
local compose = require "dbrun.migrate.import.compose"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"

local M = {}

M.NAME = "golang-migrate"
M.TABLE = "schema_migrations"
M.COLUMNS = { "version", "dirty" }
M.SHARES_NAME = true -- with dbrun's own

---@param folder string
---@return dbrun.migrate.import.Entry[] entries in the order in which they run
---@return dbrun.migrate.import.Refusal[] others files that are not migrations
function M.read(folder)
    local list, by_number, others = {}, {}, {}
    for _, name in ipairs(fs.list(folder)) do
        local version, label, direction = name:match "^(%d+)_(.*)%.(%l+)%..+$"
        if direction == "up" or direction == "down" then
            local number = version:gsub("^0+(%d)", "%1")
            local entry = by_number[number]
            if not entry then
                entry = { version = version, id = number, name = label, sources = {}, changes = {} }
                by_number[number], list[#list + 1] = entry, entry
            end
            entry.sources[#entry.sources + 1] = name
            if entry[direction] then
                compose.refuse(entry, name, nil, "%s has the same version and direction", entry[direction].source)
            end
            entry[direction] = {
                sql = fs.read(folder .. "/" .. name), source = name, blocks = true, detects = true,
            }
            if direction == "up" then entry.name, entry.version = label, version end
        elseif fs.stat(folder .. "/" .. name).kind ~= "folder" then
            others[#others + 1] = { source = name, message = "no file of golang-migrate" }
        end
    end
    for _, entry in ipairs(list) do
        if not entry.up then compose.refuse(entry, entry.down.source, nil, "there is no up file beside it") end
    end
    table.sort(list, function(a, b) return compose.before(a.id, b.id) end)
    return list, others
end

---The versions that are applied.
---@param conn table
---@param place dbrun.migrate.import.Place its table
---@param entries dbrun.migrate.import.Entry[]
---@return table<string, true>
function M.applied(conn, place, entries)
    local rows = conn:query(("select version::pg_catalog.text as version, dirty from %s"):format(place.sql))
    if #rows > 1 then
        errors.fail("query", ("%s has %d rows: golang-migrate keeps one"):format(place.sql, #rows))
    end
    local row, set = rows[1], {}
    if not row then return set end
    if row.dirty then
        errors.fail("query", ("%s is dirty: the migration %s failed half way"):format(place.sql, row.version),
            "bring the database in order, and run: migrate force VERSION")
    end
    for _, entry in ipairs(entries) do
        if not compose.before(row.version, entry.id) then set[entry.id] = true end
    end
    if not set[row.version] then set[row.version] = true end -- reported as missing
    return set
end

return M
