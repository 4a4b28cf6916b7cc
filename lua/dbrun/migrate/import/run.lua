--- Converts the migrations of another tool: files of its folder become dbrun's, and what it has applied is recorded as
--- applied. First everything is read and reported; if something is refused, nothing is written.
local compose = require "dbrun.migrate.import.compose"
local errors = require "dbrun.error"
local files = require "dbrun.migrate.read.files"
local fs = require "dbrun.fs"
local ledger = require "dbrun.migrate.book.ledger"
local lock = require "dbrun.migrate.run.lock"
local places = require "dbrun.migrate.import.place"
local records = require "dbrun.migrate.book.records"
local session = require "dbrun.migrate.run.session"
local settings = require "dbrun.migrate.run.settings"

local M = {}

local TOOLS <const> = {
    ["golang-migrate"] = "golang_migrate", goose = "goose", flyway = "flyway", alembic = "alembic",
}

---@type string[]
M.TOOLS = { "goose", "golang-migrate", "flyway", "alembic" }

---@class dbrun.migrate.import.Plan
---@field tool table the module of the tool
---@field entries dbrun.migrate.import.Entry[]
---@field others dbrun.migrate.import.Refusal[] files that are not migrations
---@field extra table<string, string> files besides migrations (hooks), by path
---@field extra_done table<string, true> the extra files whose work is done in this database
---@field more table[] data of the tool's module about them
---@field dir string folder for the migrations
---@field refused integer

local function check_target(entry, dir)
    local path = dir .. "/" .. entry.target
    if fs.exists(path) then
        if fs.read(path) == entry.text then return end
        compose.refuse(entry, entry.sources[1], nil, "%s is there already, with another text", path)
    end
end

---Versions of other files that are already in the folder.
local function check_folder(plan)
    if not fs.exists(plan.dir) then return end
    local own = {}
    for _, entry in ipairs(plan.entries) do own[entry.version] = entry end
    for _, file in ipairs(files.list { plan.dir }) do
        local entry = own[file.version]
        if entry and entry.target ~= file.name then
            compose.refuse(entry, entry.sources[1], nil, "%s has its version already", file.path)
        end
    end
end

---Reads the folder of the other tool.
---@param tool string
---@param opts { from: string, dir: string, placeholders?: table<string, string>, hooks?: string, from_table?: string }
---@return dbrun.migrate.import.Plan
function M.plan(tool, opts)
    if not TOOLS[tool] then
        errors.fail("usage", ("migrate.import knows no '%s'"):format(tool), "it knows " .. table.concat(M.TOOLS, ", "))
    end
    local stat = fs.stat(opts.from)
    if not stat or stat.kind ~= "folder" then
        errors.fail("config", ("there is no folder '%s'"):format(opts.from))
    end
    if fs.exists(opts.dir) and fs.realpath(opts.dir) == fs.realpath(opts.from) then
        errors.fail("config", ("%s is the folder of %s itself: dbrun's files need another"):format(opts.dir, tool),
            "--dir scripts/migrations")
    end
    local module = require("dbrun.migrate.import." .. TOOLS[tool])
    local entries, others, extra, more = module.read(opts.from:gsub("(.)/+$", "%1"), opts)
    local plan = {
        tool = module, entries = entries, others = others, extra = extra or {}, extra_done = {}, more = more or {},
        dir = opts.dir:gsub("(.)/+$", "%1"), refused = 0,
    }
    if #entries == 0 then
        errors.fail("config", ("there are no migrations of %s in %s"):format(module.NAME, opts.from))
    end
    compose.name(entries)
    for _, entry in ipairs(entries) do
        compose.text(entry)
        if entry.text then check_target(entry, plan.dir) end
    end
    check_folder(plan)
    for path, text in pairs(plan.extra) do
        if fs.exists(path) and fs.read(path) ~= text then
            entries[1].refused = entries[1].refused
                or { source = path, message = "is there already, with another text" }
        end
    end
    for _, entry in ipairs(entries) do
        if entry.refused then plan.refused = plan.refused + 1 end
    end
    return plan
end

---Asks the database what is applied.
---@param conn table
---@param plan dbrun.migrate.import.Plan
---@param from_table? string
---@return dbrun.migrate.import.Place
function M.look(conn, plan, from_table)
    local place = places.find(conn, plan.tool, from_table)
    if not place.exists then return place end
    local set = plan.tool.applied(conn, place, plan.entries, plan)
    for _, entry in ipairs(plan.entries) do
        entry.applied = set[entry.id] == true
        set[entry.id] = nil
    end
    local missing = {}
    for id in pairs(set) do missing[#missing + 1] = id end
    table.sort(missing, compose.before)
    if #missing > 0 then
        errors.fail("query", ("%s says that %s %s applied, and there is no file for %s"):format(place.sql,
            table.concat(missing, ", "), #missing == 1 and "is" or "are", #missing == 1 and "it" or "them"),
            "is this the folder, and the version of it, that this database was made with?")
    end
    return place
end

---Raises if dbrun has already migrated this database, and lacks a version that the other tool lists as applied: it may
---have been undone since.
local function check_later(plan, there, place)
    local known, later = 0, {}
    for _, entry in ipairs(plan.entries) do
        if there[entry.version] then known = known + 1
        elseif entry.applied then later[#later + 1] = entry.version end
    end
    if known == 0 or #later == 0 then return end
    local them <const> = #later == 1 and "it" or "them"
    errors.fail("query", ("dbrun has recorded %d of these migrations already, but not %s, which %s calls applied")
        :format(known, table.concat(later, ", "), place.sql),
        ("'migrate down' may have taken %s back; if %s applied %s since: dbrun migrate stamp VERSION"):format(them,
            plan.tool.NAME, them))
end

---Records what is applied, in one transaction.
---@param conn table
---@param plan dbrun.migrate.import.Plan
---@param place dbrun.migrate.import.Place
---@param table_name string
---@return string? moved what the other tool's table is called now
---@return integer stamped
---@return integer recorded of the migrations, before
function M.stamp(conn, plan, place, table_name)
    local moved, stamped, recorded = nil, 0, 0
    conn:transaction(function(tx)
        moved = places.move_aside(tx, place, plan.tool, ledger.locate(tx, table_name, true))
        local book = ledger.locate(tx, table_name)
        ledger.create(tx, book)
        records.create(tx, book)
        local there = ledger.applied(tx, book)
        check_later(plan, there, place)
        for _, entry in ipairs(plan.entries) do
            if there[entry.version] then
                recorded = recorded + 1
            elseif entry.applied then
                local file = { version = entry.version, name = entry.target, path = plan.dir .. "/" .. entry.target }
                ledger.insert(tx, book, entry.version)
                records.applied(tx, book, file, files.checksum(file))
                stamped = stamped + 1
            end
        end
        if plan.tool.stamp_extra then plan.tool.stamp_extra(tx, plan) end
    end)
    return moved, stamped, recorded
end

---Writes the files, then calls `fn`; if `fn` fails, removes the files that are new.
---@param plan dbrun.migrate.import.Plan
---@param fn fun()
function M.write(plan, fn)
    local written = {}
    local ok, e = pcall(function()
        local function put(path, text)
            if fs.exists(path) then return end
            fs.mkdir_p(fs.dirname(path))
            fs.write(path, text)
            written[#written + 1] = path
        end
        for _, entry in ipairs(plan.entries) do put(plan.dir .. "/" .. entry.target, entry.text) end
        for path, text in pairs(plan.extra) do put(path, text) end
        fn()
    end)
    if ok then return end
    for _, path in ipairs(written) do fs.unlink(path) end
    error(e, 0)
end

---@class dbrun.migrate.import.Result
---@field plan dbrun.migrate.import.Plan
---@field stamped integer
---@field recorded? integer migrations that dbrun had recorded before; nil without a database
---@field moved? string
---@field known boolean the other tool's table is in this database

---Runs the import.
---@param tool string
---@param opts table from, dirs, table, from_table, files_only, url, target, ...; listener.plan is called with the plan
---    before anything is written
---@return dbrun.migrate.import.Result
function M.run(tool, opts)
    local plan = M.plan(tool, { from = opts.from, dir = opts.dirs[1], placeholders = opts.placeholders,
        from_table = opts.from_table,
        hooks = opts.hooks or require("dbrun.config").DBRUN_HOOKS_DIR })
    local report = opts.listener and opts.listener.plan or function() end
    local function refuse_some()
        if plan.refused == 0 then return end
        errors.fail("query", ("%d of %d migrations cannot be taken over: nothing was written"):format(plan.refused,
            #plan.entries))
    end
    if opts.files_only then
        report(plan)
        refuse_some()
        M.write(plan, function() end)
        return { plan = plan, stamped = 0, known = false }
    end
    opts.makes_hooks = true
    return session.writing(opts, function(conn)
        local held <close> = lock.hold(conn, ledger.locate(conn, opts.table, true), opts, settings.pooled(conn),
            opts.listener and opts.listener.waiting or function() end)
        local place = M.look(conn, plan, opts.from_table)
        report(plan)
        refuse_some()
        held:check()
        local result = { plan = plan, known = place.exists }
        M.write(plan, function()
            result.moved, result.stamped, result.recorded = M.stamp(conn, plan, place, opts.table)
        end)
        return result
    end)
end

return M
