--- PostgreSQL in a dry run: which engines share a connection, and its part of the summary.
local command_line <const> = require "dbrun.command_line"
local connections <const> = require "dbrun.dry.connection"
local counts <const> = require "dbrun.dry.counts"
local engines <const> = require "dbrun.dry.engine"
local errors <const> = require "dbrun.error"
local leases <const> = require "dbrun.dry.lease"

local M = {}

---@type dbrun.dry.Connection[]
local all <const> = {}
---@type table<string, dbrun.dry.Connection>
local by_key <const> = {}

---@param late? boolean the script has begun
---Raises an error of kind `usage` when an engine was made before the dry run began.
function M.install(late)
    local options <const> = late and package.loaded["dbrun.db.options"]
    if options and options.opened then
        errors.fail("usage", "--dry-run: the script has opened a database before cli.run",
            "write it before the script's name: dbrun --dry-run NAME")
    end
end

local NO_MATTER <const> = { application_name = true, fallback_application_name = true }

--- Engines with another server, database, user, session or way to read values have another connection.
local function key_of(settings)
    local list <const> = {}
    for _, pair in ipairs(settings.params) do
        if not NO_MATTER[pair[1]] then list[#list + 1] = ("%q=%q"):format(pair[1], pair[2]) end
    end
    table.sort(list)
    for _, key in ipairs { "sync", "numeric_float", "exact_json", "epoch", "on_connect", "on_notice" } do
        list[#list + 1] = key .. "=" .. tostring(settings[key])
    end
    return table.concat(list, " ")
end

---The engine of a dry run.
---@param settings table of core.pg.engine
---@param url string
---@return dbrun.dry.Engine
function M.engine(settings, url)
    local key <const> = key_of(settings)
    local conn = by_key[key]
    if not conn then
        conn = connections.new(settings, url, all, leases.begun)
        by_key[key] = conn
        all[#all + 1] = conn
    end
    return engines.new(conn)
end

-- ---- the summary ----

local function add_tables(tables, conn, found, several)
    for oid, row in pairs(found.oids) do
        local names <const> = found.names[oid]
        if names then
            local name <const> = names.name
            local key <const> = several and conn.database .. ": " .. name or name
            local one <const> = tables[key] or { name = key, counts = { 0, 0, 0 }, named = false }
            for i = 1, 3 do one.counts[i] = one.counts[i] + row[i] end
            one.named = one.named or conn.targets[names.relation] or false
            tables[key] = one
        end
    end
end

local function change_lines(changes)
    local list <const> = {}
    for name, n in pairs(changes) do
        list[#list + 1] = n == 1 and name or ("%s x %s"):format(command_line.count(n), name)
    end
    table.sort(list)
    return #list > 0 and { "also run: " .. table.concat(list, ", ") } or {}
end

--- A table's name has the database only if the dry run uses several.
local function has_several()
    local names <const>, n = {}, 0
    for _, conn in ipairs(all) do
        if conn.database and not names[conn.database] then names[conn.database], n = true, n + 1 end
    end
    return n > 1
end

---Rolls back, and returns the lines of the summary.
---@return string[] lines
---@return string? problem what may have been kept, or was not done
function M.lines()
    local tables <const>, changes <const>, problems <const> = {}, {}, {}
    local several <const>, problem, wrote = has_several(), nil, false
    for _, conn in ipairs(all) do
        local found <const> = conn:finish()
        if found then
            add_tables(tables, conn, found, several)
            for _, row in ipairs(found.foreign or {}) do
                problems[#problems + 1] = ("the rows in %s are not counted: it is a foreign table"):format(row.name)
            end
            wrote = wrote or found.wrote
            for name, n in pairs(conn.changes) do changes[name] = (changes[name] or 0) + n end
            if conn.kept then problem = ("something of it may be kept in %s"):format(conn.database) end
            if conn.lost and not conn.kept then
                problem = problem or ("it did not run to its end: the transaction in %s was lost, and nothing of it "
                    .. "was kept"):format(conn.database)
            end
            if not conn.tracked then
                problems[#problems + 1] = ("the rows in %s are not counted: track_counts is off"):format(conn.database)
            end
            problems[#problems + 1] = found.problem
        end
    end
    local lines <const> = counts.lines(tables)
    for _, line in ipairs(change_lines(changes)) do lines[#lines + 1] = line end
    table.move(problems, 1, #problems, #lines + 1, lines)
    if wrote and #lines == 0 then lines[1] = "no row of a table would have changed" end
    return lines, problem
end


return M
