--- Jobs that move rows out of a table: into another table, another database, or files.
local args <const> = require "dbrun.args"
local columns <const> = require "dbrun.batch.kinds.columns"
local core <const> = require "dbrun.core"
local databases <const> = require "dbrun.batch.kinds.database"
local define <const> = require "dbrun.batch.define"
local errors <const> = require "dbrun.error"
local files <const> = require "dbrun.batch.kinds.files"
local purge <const> = require "dbrun.batch.kinds.purge"
local transfer <const> = require "dbrun.batch.kinds.transfer"
local value <const> = require "dbrun.table.value"

local M = {}

local FN <const> = "batch.archive"

---The DELETE of a chunk, which returns the columns.
local function delete_sql(definition, walk, chunk, names)
    return define.expand(definition, walk, ("delete from %s where :chunk returning %s"):format(
        transfer.table(walk), columns.list(names, walk.alias .. ".")), chunk.open)
end

---Raises when a table has changed since the columns were compared. It is checked after the statement, whose locks
---prevent changes until the commit.
local function check_shape(tx, moved)
    if columns.shape(tx, moved.oids) ~= moved.shape then
        errors.fail("usage", FN .. ": the columns of the table, or of its archive, have changed since the job began",
            "nothing of this chunk was moved; run the job again: it compares them anew")
    end
end

local function names_of(list)
    local names <const> = {}
    for i, column in ipairs(list) do names[i] = column.name end
    return names
end

-- ---- into a table ----

local INTO <const> = "insert into %s (%s) overriding system value select %s from moved"
local BOTH <const> = "with moved as (%s), kept as (%s returning 1) "
    .. "select (select pg_catalog.count(*) from moved) as gone, (select pg_catalog.count(*) from kept) as come"

---Moves the rows of a chunk, and counts them on both sides where some may be left out.
local function move(tx, delete, moved, values)
    local list <const> = columns.list(moved.names)
    local into <const> = INTO:format(moved.to, list, list)
    if not moved.gated then return tx:query(("with moved as (%s) %s"):format(delete, into), values).affected end
    local row <const> = tx:one(BOTH:format(delete, into), values)
    if row.gone ~= row.come then
        errors.fail("query", ("%s: of %d rows %d came into %s: a trigger or a rule there leaves some out"):format(FN,
            row.gone, row.come, moved.to), "nothing of this chunk was moved")
    end
    return row.come
end

local function to_table(definition, to)
    return function(walk)
        local moved
        return function(tx, chunk)
            if not moved then
                local target <const> = columns.table(tx, to, FN .. ": the archive")
                if walk.oid == target.oid then errors.usage(FN, "to is the table itself") end
                local oids <const> = { walk.oid, target.oid }
                moved = {
                    oids = oids, shape = columns.shape(tx, oids), to = target.relation,
                    gated = columns.gated(tx, target.oid),
                    names = columns.moved(FN, columns.of(tx, walk.oid), columns.of(tx, target.oid), to, false),
                }
            end
            local n <const> = move(tx, delete_sql(definition, walk, chunk, moved.names), moved,
                define.named(definition, chunk))
            check_shape(tx, moved)
            return n
        end
    end
end

-- ---- into another database ----

local function to_database(definition, database)
    return function(walk)
        local moved
        local function compare(tx, target)
            moved = columns.compare(FN, walk, tx, target, definition.table, database.text)
            moved.oids = { walk.oid }
            moved.shape = columns.shape(tx, moved.oids)
        end
        return function(tx, chunk)
            transfer.pin(tx)
            local rows
            database.engine:transaction({ isolation = "read committed", read_only = false }, function(target)
                if not moved then compare(tx, target) end
                rows = transfer.send(tx, delete_sql(definition, walk, chunk, moved.names),
                    define.named(definition, chunk), target, moved)
                check_shape(tx, moved)
            end)
            return rows
        end
    end
end

-- ---- into files ----

local LINES <const> = "with moved as (%s) select pg_catalog.row_to_json(moved)::pg_catalog.text as line from moved"

---The rows of a chunk as text, and their number.
local FORMATS <const> = {
    csv = function(tx, sql, values, header)
        local pieces <const> = {}
        for piece in tx:copy_out(sql, { raw = true, format = "csv", header = header }, values) do
            pieces[#pieces + 1] = piece
        end
        local text <const> = table.concat(pieces)
        local _, lines <const> = text:gsub('"[^"]*"', ""):gsub("\n", "")
        local rows <const> = header and lines - 1 or lines
        return rows > 0 and text or "", rows
    end,
    jsonl = function(tx, sql, values)
        local lines <const> = {}
        for row in tx:rows(LINES:format(sql), values) do
            lines[#lines + 1] = value.one_line_json(row.line)
        end
        lines[#lines + 1] = ""
        return table.concat(lines, "\n"), #lines - 1
    end,
}

local function job_of(env)
    return ("%s, started %s"):format(env.name, env.started)
end

---The workers of this run have ended: other workers may use their files.
local function release(env)
    for _, file in ipairs(env.files or {}) do file.lock:release() end
    env.files = nil
end

local function to_files(definition, to)
    local write <const> = FORMATS[to.format]
    return function(walk, env)
        local file, moved
        return function(tx, chunk)
            local notes <const> = env.notes(tx)
            if not file then
                file = files.take(to.file, job_of(env), notes, to.gzip)
                env.files = env.files or {}
                table.insert(env.files, file)
            end
            if not moved then
                moved = { oids = { walk.oid }, shape = columns.shape(tx, { walk.oid }) }
                moved.names = names_of(columns.of(tx, walk.oid))
            end
            transfer.pin(tx)
            local text <const>, rows <const> = write(tx, delete_sql(definition, walk, chunk, moved.names),
                define.named(definition, chunk), files.length(file, notes) == 0)
            check_shape(tx, moved)
            return rows, rows > 0 and files.append(file, notes, text) or nil
        end
    end
end

local FILE <const> = { file = args.path, format = args.one_of("csv", "jsonl") }

---The option `to` of files, checked and complete.
local function file_of(to)
    args.options(FN .. ": to", to, FILE)
    if not to.file then
        errors.fail("usage", FN .. ": to.file is missing: the name of the files", 'file = "archive/orders-%w.csv.gz"')
    end
    files.check(FN, to.file)
    local name <const>, gzip <const> = to.file:gsub("%.gz$", "")
    local format <const> = to.format or name:match "%.(%w+)$"
    if not FORMATS[format] then
        errors.fail("usage", FN .. ": to.format is missing, and the file's name does not tell it",
            'format = "csv" or "jsonl", or a name that ends with .csv, .jsonl, .csv.gz or .jsonl.gz')
    end
    return { file = to.file, format = format, gzip = gzip == 1 }
end

-- ---- the kind ----

local TO <const> = args.one_type_of("string", "table", "userdata")

local function target_of(to)
    if type(to) == "table" and not databases.is_engine(to) then
        local file <const> = file_of(to)
        return to_files, file, ("%s (%s%s)"):format(file.file, file.format, file.gzip and ", gzip" or ""), file
    elseif type(to) == "string" and not databases.is_address(to) then
        return to_table, to, to
    end
    local database <const> = databases.of(FN, "to", to)
    return to_database, database, database.text
end

---@param options table as for batch.archive
---@return dbrun.batch.Definition
function M.of(options)
    args.check(FN, "its argument", options, "table")
    args.check(FN, "table", options.table, "string")
    if options.to == nil then
        errors.fail("usage", FN .. ": to is missing: where the rows go",
            'to = "schema.table", an engine, the address of a database, or { file = "archive/orders-%w.csv.gz" }')
    end
    args.check(FN, "to", options.to, TO)
    purge.check_where(FN, options)
    local work_of <const>, target <const>, text <const>, file <const> = target_of(options.to)
    local definition, work
    definition = define.of("archive", options, {
        options = { to = TO }, texts = { to = text },
        work = function(walk, env)
            work = work or work_of(definition, target)
            return work(walk, env)
        end,
    })
    definition.hash = core.digest("sha256", definition.hash .. "\nto " .. text)
    definition.to = target
    if file then
        definition.close = release
        definition.finish = function(conn, env)
            release(env)
            files.finish(file.file, job_of(env), env.notes(conn))
        end
    end
    return definition
end

return M
