--- The job of the database that a name means: the job's own name (`-` and `_` are equal), or the name or path of its
--- file.
local errors = require "dbrun.error"
local find = require "dbrun.batch.show.find"
local jobs = require "dbrun.batch.state.jobs"
local nearest = require "dbrun.nearest"
local schemas = require "dbrun.batch.state.schema"

local M = {}

---What is said where the tables are missing or empty.
---@param conn table
---@return string
function M.never(conn)
    local place <const> = schemas.place(conn)
    local others <const> = schemas.others(conn, place)
    if #others == 0 then return "no batch job was ever started in this database" end
    return ("no batch job was ever started in the schema %s; those of %s: DBRUN_BATCH_SCHEMA=%s"):format(place.schema,
        table.concat(others, ", "), others[1])
end

---@param conn table
---@param name string
---@return dbrun.batch.JobRow
---Raises an error that lists the existing jobs.
function M.row(conn, name)
    local row = jobs.find(conn, name)
    if row then return row end
    local all <const>, names <const> = jobs.list(conn), {}
    local of_file <const> = find.name_of(name)
    for i, one in ipairs(all) do
        names[i] = one.name
        if one.name == of_file then row = one end
    end
    for _, one in ipairs(all) do
        if not row and find.alike(one.name) == find.alike(name) then row = one end
    end
    if row then return row end
    if #all == 0 then
        errors.fail("query", ("no job '%s': %s"):format(name, M.never(conn)), of_file and "dbrun batch run " .. name
            .. " starts it" or nil)
    end
    local near <const> = nearest.find(name, names)
    errors.fail("query", ("no job '%s' was started in this database"):format(name),
        near and ("did you mean '%s'?"):format(near)
            or #names <= 10 and "it has " .. table.concat(names, ", ") or "dbrun batch list shows those that were")
end

---The name itself, see row.
---@param conn table
---@param name string
---@return string
function M.of(conn, name)
    return M.row(conn, name).name
end

return M
