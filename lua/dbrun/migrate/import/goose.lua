--- Migrations of goose: NUMBER_name.sql with `-- +goose Up` and `-- +goose Down`, and a table with a row for each time
--- that a version was applied (or, by old versions of goose, undone).
local compose = require "dbrun.migrate.import.compose"
local core = require "dbrun.core"
local fs = require "dbrun.fs"

local M = {}

M.NAME = "goose"
M.TABLE = "goose_db_version"
M.COLUMNS = { "id", "version_id", "is_applied" }

---How a block that StatementEnd ends is to be read: does it end within a statement, and does SQL stand behind its last
---semicolon, which goose 3.9 to 3.14 did not send? Not where this semicolon is within a string: they refused that.
---@param text string
---@return boolean open
---@return boolean unsent
local function ending(text)
    local semicolon <const> = #(text:match "^.*;" or "")
    local last, from, within
    for behind, kind, at in core.sql.scan, text, 1 do
        if kind ~= "blank" and kind ~= "comment" then
            last, from = text:sub(at, behind - 1), at
            within = within or (at < semicolon and semicolon < behind - 1)
        end
    end
    return last ~= nil and last ~= ";", semicolon > 0 and last ~= nil and from > semicolon and not within
end

---One file's lines, read as goose reads them. Directives become empty lines, so that the others keep their numbers.
local function parse(entry, text, source)
    local lines, part, block, free = { up = {}, down = {} }, nil, nil, false
    local began, number = {}, 0
    local function refuse(message, ...) compose.refuse(entry, source, number, message, ...) end
    for line in (text:gsub("^\xEF\xBB\xBF", ""):gsub("\r\n", "\n") .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        local directive = line:find "^%s*%-%-" and line:match "%+goose(.*)$"
        local word = directive and directive:gsub("%-%-", ""):match "^%s*(.-)%s*$":lower()
        local kept = line
        if word then
            kept = ""
            if word == "up" then
                if part then refuse "a second '-- +goose Up'" end
                part, began.up = "up", number
            elseif word == "down" then
                if part ~= "up" then refuse "'-- +goose Down' does not follow '-- +goose Up'" end
                part, began.down = "down", number
            elseif word == "no transaction" then
                free = true
            elseif word == "statementbegin" then
                block = { from = part and #lines[part] + 2 or 1 }
            elseif word == "statementend" then
                if not block then refuse "'-- +goose StatementEnd' without its begin" end
                local open, unsent = ending(part and table.concat(lines[part], "\n", block.from) or "")
                if unsent then
                    entry.changes[#entry.changes + 1] = ("%s: goose 3.9 to 3.14 did not send what stands behind the "
                        .. "last ';' of the block that ends in line %d"):format(part, number)
                end
                kept = open and ";" or ""
                block = nil
            elseif word == "envsub on" or word == "envsub off" then
                refuse "ENVSUB puts variables of the environment into the SQL: write their values out"
            else
                refuse("goose has no annotation '%s'", word)
            end
        end
        if part then
            lines[part][#lines[part] + 1] = kept
        elseif not word and not line:find "^%s*$" and not line:find "^%s*%-%-" then
            refuse "a statement stands before '-- +goose Up'"
        end
    end
    if block then refuse "'-- +goose StatementBegin' without its end" end
    if not part then refuse "there is no '-- +goose Up'" end
    if free then entry.changes[#entry.changes + 1] = "transaction:false for NO TRANSACTION" end
    for direction, from in pairs(began) do
        entry[direction] = {
            sql = table.concat(lines[direction], "\n", 2) .. "\n", source = source, line = from + 1,
            transaction = not free,
        }
    end
    entry.down = entry.down or { sql = "", source = source }
end

---@param folder string
---@return dbrun.migrate.import.Entry[] entries in the order in which they run
---@return dbrun.migrate.import.Refusal[] others files that are not migrations
function M.read(folder)
    local list, by_number, others = {}, {}, {}
    for _, name in ipairs(fs.list(folder)) do
        local version, label, kind = name:match "^(%d+)_(.*)%.(%l+)$"
        if version and (kind == "sql" or kind == "go") and not name:find "_test%.go$" then
            local entry = {
                version = version, id = version:gsub("^0+(%d)", "%1"), name = label, sources = { name }, changes = {},
            }
            local twin = by_number[entry.id]
            if twin then compose.refuse(entry, name, nil, "%s has the same version", twin.sources[1]) end
            by_number[entry.id], list[#list + 1] = entry, entry
            if entry.id == "0" then
                compose.refuse(entry, name, nil, "goose runs no version 0: it counts from 1")
            elseif kind == "go" then
                compose.refuse(entry, name, 1, "a migration in Go: write it in SQL, or in Lua")
            else
                parse(entry, fs.read(folder .. "/" .. name), name)
            end
        elseif fs.stat(folder .. "/" .. name).kind ~= "folder" then
            others[#others + 1] = { source = name, message = "no migration of goose" }
        end
    end
    table.sort(list, function(a, b) return compose.before(a.id, b.id) end)
    return list, others
end

---The versions whose last row says that they are applied.
---@param conn table
---@param place dbrun.migrate.import.Place its table
---@return table<string, true>
function M.applied(conn, place)
    local set, seen = {}, {}
    for _, row in ipairs(conn:query(([[
        select version_id::pg_catalog.text as version, is_applied from %s order by id desc]]):format(place.sql))) do
        if not seen[row.version] and row.version ~= "0" then
            seen[row.version], set[row.version] = true, row.is_applied or nil
        end
    end
    return set
end

return M
