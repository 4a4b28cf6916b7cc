--- Migrations of Flyway: V (versioned), U (undo) and R (repeatable) files, and a table with a row for each that ran.
--- A repeatable migration becomes a hook that runs its SQL when it has changed; callbacks become hooks unchanged.
local aftermath = require "dbrun.migrate.run.aftermath"
local compose = require "dbrun.migrate.import.compose"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local hooks = require "dbrun.migrate.run.hooks"
local repeatable = require "dbrun.migrate.import.repeatable"
local split = require "dbrun.migrate.read.split"

local M = {}

M.NAME = "Flyway"
M.TABLE = "flyway_schema_history"
M.COLUMNS = { "installed_rank", "version", "type", "script", "checksum", "success" }

-- ---- versions ----

---The parts of "1.2" or "1_2", without zeros at the end: 1.0 is 1.
local function parts_of(text)
    local parts = {}
    for digits in text:gsub("_", "."):gmatch "[^.]+" do
        if not digits:find "^%d+$" then return nil end
        parts[#parts + 1] = digits:gsub("^0+(%d)", "%1")
    end
    while #parts > 1 and parts[#parts] == "0" do parts[#parts] = nil end
    return #parts > 0 and parts or nil
end

local function before(a, b)
    for i = 1, math.max(#a, #b) do
        local left, right = a[i] or "0", b[i] or "0"
        if left ~= right then return compose.before(left, right) end
    end
    return false
end

---Gives each entry a version of digits only, in the same order: each part of a version gets one width.
local function flatten(list)
    local widths = {}
    for _, entry in ipairs(list) do
        for i, digits in ipairs(entry.parts) do widths[i] = math.max(widths[i] or 1, #digits) end
    end
    for _, entry in ipairs(list) do
        local out = {}
        for i, width in ipairs(widths) do
            local digits = entry.parts[i] or "0"
            out[i] = ("0"):rep(width - #digits) .. digits
        end
        entry.version = table.concat(out)
    end
end

-- ---- texts ----

---Replaces the placeholders, whose names are case-insensitive. Returns the text; or nil, and the line and name of a
---placeholder without a value.
local function replace(text, values)
    local missing, line
    local out = text:gsub("()%${([^}\n]*)}", function(at, name)
        local value = values[name:lower()]
        if not value and not missing then
            local _, newlines = text:sub(1, at - 1):gsub("\n", "")
            missing, line = name, newlines + 1
        end
        return value
    end)
    if missing then return nil, line, missing end
    return out
end

---The settings in a .conf beside a script.
local function script_config(path)
    local config = {}
    for _, name in ipairs { path .. ".conf", (path:gsub("%.sql$", ".conf")) } do
        for line in (fs.exists(name) and fs.read(name) or ""):gmatch "[^\r\n]+" do
            local key, value = line:match "^%s*([%w.]+)%s*=%s*(.-)%s*$"
            if key then config[key:gsub("^flyway%.", "")] = value:lower() end
        end
    end
    return config
end

local KNOWN <const> = { executeInTransaction = true, placeholderReplacement = true, encoding = true }

---The SQL of a file with its placeholders replaced; refuses unknown ones.
local function read_part(entry, folder, name, values)
    local path = folder .. "/" .. name
    local config = script_config(path)
    for key in pairs(config) do
        if not KNOWN[key] then compose.refuse(entry, name, nil, "its .conf has %s, which dbrun has not", key) end
    end
    local text = fs.read(path):gsub("^\xEF\xBB\xBF", "")
    if config.placeholderReplacement ~= "false" then
        local replaced, line, missing = replace(text, values(name))
        if not replaced then
            compose.refuse(entry, name, line, "${%s} has no value: --placeholder %s=VALUE", missing, missing)
        end
        if replaced and replaced ~= text then entry.changes[#entry.changes + 1] = "placeholders of " .. name end
        text = replaced or text
    end
    local free = config.executeInTransaction == "false" or nil
    return { sql = text, source = name, transaction = not free, detects = true }
end

-- ---- files ----

local function all_files(folder, below, list)
    for _, name in ipairs(fs.list(folder .. (below ~= "" and "/" .. below or ""))) do
        local path = (below ~= "" and below .. "/" or "") .. name
        if fs.stat(folder .. "/" .. path).kind == "folder" then all_files(folder, path, list)
        else list[#list + 1] = path end
    end
    return list
end

local EVENTS <const> = {}
for _, event in ipairs(hooks.EVENTS) do EVENTS[event] = true end

local function placeholder_values(given)
    local values = {}
    for name, value in pairs(given or {}) do values[name:lower()] = value end
    return function(name)
        values["flyway:filename"] = fs.basename(name)
        return values
    end
end

---@class dbrun.migrate.import.FlywayRead what is read so far
---@field folder string
---@field values fun(name: string): table<string, string>
---@field list dbrun.migrate.import.Entry[]
---@field by_id table<string, dbrun.migrate.import.Entry>
---@field undo { id: string, name: string, parts: string[] }[]
---@field others dbrun.migrate.import.Refusal[]
---@field extra table<string, string> hooks, by path
---@field repeatables table[]
---@field hooks_dir string

local function add(state, name, parts, label)
    local id = table.concat(parts, ".")
    local entry = { id = id, parts = parts, name = label, sources = { name }, changes = {}, version = "" }
    local twin = state.by_id[id]
    if twin then compose.refuse(entry, name, nil, "%s has the same version", twin.sources[1]) end
    state.by_id[id] = twin or entry
    state.list[#state.list + 1] = entry
    return entry
end

---Records a file that is refused and is not a migration.
local function reject(state, name, message, ...)
    local entry = { id = name, parts = { "0" }, name = name, sources = { name }, changes = {}, version = "" }
    compose.refuse(entry, name, nil, message, ...)
    state.list[#state.list + 1] = entry
end

---Takes a hook; refuses a second one of its name (repeatable migrations and callbacks of different folders).
---@return boolean
local function add_hook(state, name, path, text)
    if state.extra[path] then
        reject(state, name, "%s comes from another file, too: rename one of the two", path)
        return false
    end
    state.extra[path] = text
    return true
end

---A repeatable migration becomes a hook.
local function add_repeatable(state, name, label)
    local entry = { changes = {} }
    local part = read_part(entry, state.folder, name, state.values)
    for _, statement in ipairs(split.split(part.sql)) do
        if aftermath.outside(statement.sql) then
            compose.refuse(entry, name, statement.line, "this statement cannot run in a transaction, as a hook does")
        end
    end
    if entry.refused then
        reject(state, name, "%s%s", entry.refused.line and ("line %d: "):format(entry.refused.line) or "",
            entry.refused.message)
        return
    end
    local path = ("%s/afterVersioned__%s.lua"):format(state.hooks_dir, (label:gsub("[^%w_.-]+", "_")))
    if not add_hook(state, name, path, repeatable.hook(label, part.sql)) then return end
    state.repeatables[#state.repeatables + 1] = {
        path = path, name = label, sql = part.sql, script = name,
        checksum = repeatable.crc32(fs.read(state.folder .. "/" .. name)),
        replaced = repeatable.crc32(part.sql), -- the files in which Flyway replaces placeholders
    }
end

local function add_callback(state, name, event)
    if not EVENTS[event] then return false end
    local entry = { changes = {} }
    local part = read_part(entry, state.folder, name, state.values)
    if entry.refused then
        reject(state, name, "%s", entry.refused.message)
    else
        add_hook(state, name, state.hooks_dir .. "/" .. fs.basename(name), part.sql)
    end
    return true
end

local function add_file(state, path)
    local base = fs.basename(path)
    local prefix, version, label, kind = base:match "^([VUB])([%d._]+)__(.*)%.(%w+)$"
    if not prefix then -- the description is optional
        label, prefix, version, kind = "", base:match "^([VUB])([%d._]+)%.(%w+)$"
    end
    local parts = version and parts_of(version)
    if kind == "java" or kind == "class" or base:find "^R__.*%.java$" then
        reject(state, path, "a migration in Java: write it in SQL, or in Lua")
    elseif prefix and kind == "sql" and not parts then
        reject(state, path, "'%s' is not a version", version)
    elseif prefix == "V" and kind == "sql" then
        local entry = add(state, path, parts, label)
        entry.up = read_part(entry, state.folder, path, state.values)
        entry.checksum = repeatable.crc32(fs.read(state.folder .. "/" .. path))
    elseif prefix == "U" and kind == "sql" then
        state.undo[#state.undo + 1] = { id = table.concat(parts, "."), name = path }
    elseif prefix == "B" and kind == "sql" then
        reject(state, path, "a baseline migration stands for others: dbrun has none")
    elseif base:find "^R__.*%.sql$" then
        add_repeatable(state, path, base:match "^R__(.*)%.sql$")
    elseif base:find "%.conf$" then
        return
    elseif not (base:find "%.sql$" and add_callback(state, path, base:match "^(%a+)")) then
        state.others[#state.others + 1] = { source = path, message = "no migration of Flyway" }
    end
end

---@param folder string
---@param opts { placeholders?: table<string, string>, hooks: string }
---@return dbrun.migrate.import.Entry[] entries in the order in which they run
---@return dbrun.migrate.import.Refusal[] others files that are not migrations
---@return table<string, string> extra hooks, by path
---@return table[] repeatables
function M.read(folder, opts)
    local state = {
        folder = folder, values = placeholder_values(opts.placeholders), list = {}, by_id = {}, undo = {}, others = {},
        extra = {}, repeatables = {}, hooks_dir = opts.hooks,
    }
    local names = all_files(folder, "", {})
    table.sort(names)
    for _, name in ipairs(names) do add_file(state, name) end
    for _, undo in ipairs(state.undo) do
        local entry = state.by_id[undo.id]
        if entry then
            entry.sources[#entry.sources + 1] = undo.name
            entry.down = read_part(entry, folder, undo.name, state.values)
        else
            reject(state, undo.name, "there is no versioned migration %s", undo.id)
        end
    end
    table.sort(state.list, function(a, b)
        if before(a.parts, b.parts) then return true end
        return not before(b.parts, a.parts) and a.sources[1] < b.sources[1]
    end)
    flatten(state.list)
    return state.list, state.others, state.extra, state.repeatables
end

-- ---- the database ----

local APPLIED <const> = { SQL = true, JDBC = true, SPRING_JDBC = true, SCRIPT = true, CUSTOM = true }
local GONE <const> = { UNDO_SQL = true, UNDO_JDBC = true, UNDO_SCRIPT = true, UNDO_SPRING_JDBC = true, DELETE = true }

---The versions that are applied.
---@param conn table
---@param place dbrun.migrate.import.Place its table
---@param entries dbrun.migrate.import.Entry[]
---@param plan dbrun.migrate.import.Plan
---@return table<string, true>
function M.applied(conn, place, entries, plan)
    local set, scripts, sums, baseline = {}, {}, {}, nil
    for _, row in ipairs(conn:query(([[
        select version::pg_catalog.text as version, type::pg_catalog.text as type, script::pg_catalog.text as script,
               checksum, success from %s order by installed_rank]]):format(place.sql))) do
        if not row.success then
            errors.fail("query", ("%s says that %s failed"):format(place.sql, row.script),
                "bring the database in order, and run: flyway repair")
        end
        local parts = row.version and parts_of(row.version)
        local id = parts and table.concat(parts, ".")
        if row.version and not id then set[row.version] = true -- told as one without a file
        elseif not id then scripts[row.script] = row.checksum
        elseif GONE[row.type] then set[id] = nil
        elseif APPLIED[row.type] then set[id], sums[id] = true, row.checksum
        elseif row.type == "BASELINE" or row.type == "SQL_BASELINE" then baseline = parts end
    end
    for _, entry in ipairs(entries) do
        if baseline and not before(baseline, entry.parts) then set[entry.id] = true end
        if entry.checksum and sums[entry.id] and sums[entry.id] ~= entry.checksum then
            entry.changes[#entry.changes + 1] = "its text is not the one that was applied (Flyway's checksum)"
        end
    end
    for _, one in ipairs(plan.more) do
        local sum = scripts[one.script]
        if sum and (sum == one.checksum or sum == one.replaced) then plan.extra_done[one.path] = true end
    end
    return set
end

---Records the repeatable migrations whose present text has run.
---@param tx table
---@param plan dbrun.migrate.import.Plan
function M.stamp_extra(tx, plan)
    for _, one in ipairs(plan.more) do
        if plan.extra_done[one.path] then repeatable.record(tx, one.name, one.sql) end
    end
end

return M
