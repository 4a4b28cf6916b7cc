--- Migrations of Alembic, which are programs in Python: Alembic itself writes the SQL of each revision (`upgrade A:B
--- --sql`, `downgrade B:A --sql`). A revision that queries the database while it runs has no such SQL.
local compose = require "dbrun.migrate.import.compose"
local control = require "dbrun.migrate.read.control"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local split = require "dbrun.migrate.read.split"

local M = {}

M.NAME = "Alembic"
M.TABLE = "alembic_version"
M.COLUMNS = { "version_num" }

---The command that runs Alembic.
local function program()
    for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
        if fs.access(dir .. "/alembic", "x") then return { "alembic" } end
    end
    return { "python3", "-m", "alembic" }
end

---Runs Alembic in its folder.
local function call(folder, ...)
    local spec = program()
    for _, word in ipairs { ... } do spec[#spec + 1] = word end
    spec.cwd, spec.max_output = folder, 1 << 28
    return process.run(spec)
end

---The last line that is not empty.
local function last_line(text)
    return (text:gsub("%s+$", ""):match "[^\n]*$")
end

---@class dbrun.migrate.import.Revision
---@field id string
---@field parent string "base" for the first
---@field message string

---The revisions from the first to the last. Raises for several heads or a merge, which have no such order.
---@return dbrun.migrate.import.Revision[]
local function revisions(folder)
    local result = call(folder, "history", "--verbose")
    if result.code ~= 0 then
        errors.fail("config", "alembic history failed: " .. last_line(result.stderr),
            "--from is the folder of alembic.ini; alembic must be in the PATH, or a module of python3")
    end
    local list, current, heads = {}, nil, {}
    for line in (result.stdout .. "\n"):gmatch "(.-)\n" do
        local id, marks = line:match "^Rev: (%S+)(.*)$"
        if id then
            current = { id = id, message = "" }
            table.insert(list, 1, current)
            if marks:find("(head)", 1, true) then heads[#heads + 1] = id end
        elseif current and line:find "^Parent: " then
            current.parent = line:match "^Parent: (.*)$":gsub("^<base>$", "base")
        elseif current and (line:find "^Merges: " or line:find "^Branches into: ") then
            current.branch = true
        elseif current and current.message == "" and line:find "^    %S" then
            current.message = line:match "^    (.*)$"
        end
    end
    if #heads > 1 then
        errors.fail("query", "there are several heads: " .. table.concat(heads, ", "),
            "merge them and make one line of them before")
    end
    for i, revision in ipairs(list) do
        if revision.branch or revision.parent ~= (i == 1 and "base" or list[i - 1].id) then
            errors.fail("query", ("the revisions are no single line: %s"):format(revision.id),
                "dbrun has one order: make one of the branches first")
        end
    end
    return list
end

local OWN <const> = { "create table ", "insert into ", "update ", "delete from ", "drop table " }

---Whether a statement writes to Alembic's own table.
---@param own string name of the table
local function is_own(statement, own)
    local plain = split.plain(statement.sql)
    for _, words in ipairs(OWN) do
        if plain:sub(1, #words) == words then
            local name = plain:sub(#words + 1):match "^[%w_.\"]+" or ""
            return name:gsub('"', ""):match "[^.]*$" == own
        end
    end
    return false
end

---The SQL of one step without Alembic's own statements. It runs in dbrun's transaction, unless the step has several.
local function part_of(text, source, own)
    local kept, marks = {}, 0
    for _, statement in ipairs(split.split(text)) do
        if control.of(statement) then marks = marks + 1 end
        if not is_own(statement, own) then kept[#kept + 1] = statement end
    end
    local free, out = marks > 2, {}
    for i, statement in ipairs(kept) do
        local mark, behind, last = control.of(statement), kept[i + 1], kept[i - 1]
        local empty = mark == "begin" and behind and control.of(behind) == "commit"
            or mark == "commit" and last and control.of(last) == "begin"
        if free and not empty or not mark then out[#out + 1] = statement.sql .. ";\n" end
    end
    return { sql = table.concat(out, "\n"), source = source, transaction = not free and marks > 0 }
end

---@param folder string that of alembic.ini
---@param opts { from_table?: string }
---@return dbrun.migrate.import.Entry[] entries in the order in which they run
---@return dbrun.migrate.import.Refusal[] others
function M.read(folder, opts)
    local own <const> = (opts.from_table or M.TABLE):match "[^.]*$":lower()
    local entries = {}
    for i, revision in ipairs(revisions(folder)) do
        local entry = {
            version = ("%04d"):format(i), id = revision.id, name = revision.id .. "_" .. revision.message:lower(),
            sources = { revision.id }, changes = {},
        }
        entries[i] = entry
        local up = call(folder, "upgrade", ("%s:%s"):format(revision.parent, revision.id), "--sql")
        if up.code ~= 0 then
            compose.refuse(entry, revision.id, nil,
                "Alembic writes no SQL for it, as for one that asks the database: %s", last_line(up.stderr))
        else
            entry.up = part_of(up.stdout, revision.id, own)
            local down = call(folder, "downgrade", ("%s:%s"):format(revision.id, revision.parent), "--sql")
            if down.code == 0 then
                entry.down = part_of(down.stdout, revision.id, own)
            else
                entry.down = { sql = "", source = revision.id }
                entry.changes[1] = "its down section is empty, as Alembic writes no SQL for it: "
                    .. last_line(down.stderr)
            end
        end
    end
    return entries, {}
end

---The versions that are applied: the revision in the table, and all before it.
---@param conn table
---@param place dbrun.migrate.import.Place its table
---@param entries dbrun.migrate.import.Entry[]
---@return table<string, true>
function M.applied(conn, place, entries)
    local rows = conn:query(("select version_num::pg_catalog.text as id from %s"):format(place.sql))
    if #rows > 1 then
        errors.fail("query", ("%s has %d revisions: the database is at several heads"):format(place.sql, #rows))
    end
    local set = {}
    if not rows[1] then return set end
    for _, entry in ipairs(entries) do
        set[entry.id] = true
        if entry.id == rows[1].id then return set end
    end
    return { [rows[1].id] = true } -- reported as a version without a file
end

return M
