--- A CSV file that a job walks. A position is the byte where a record begins, and its line for messages. The file is
--- identified by its size and SHA-256: a job does not resume with another one. Only one machine has the file, so a
--- second one cannot join.
local csv <const> = require "dbrun.csv"
local core <const> = require "dbrun.core"
local errors <const> = require "dbrun.error"
local args <const> = require "dbrun.args"
local fs <const> = require "dbrun.fs"
local parse <const> = require "dbrun.csv.parse"
local process <const> = require "dbrun.process"

local M = {}

local PIECE <const> = 1 << 16

-- ---- the file ----

local known <const> = {} -- hashes of unchanged files, by path

local function stat_of(path)
    local stat <const> = fs.stat(path)
    if not stat or stat.kind ~= "file" then
        errors.fail("usage", ("batch.csv: '%s' is not there"):format(path),
            "the file is read on the machine where the job was started: only this one can work on it")
    end
    return stat
end

---The SHA-256 of the file, by a system program, so that a large file does not block the tasks of this one.
local function hash_of(path, stat)
    local before <const> = known[path]
    if before and before.settled and before.size == stat.size and before.mtime == stat.mtime then
        return before.sha256
    end
    local result <const> = process.run {
        "sha256sum", stdin_from = { file = path }, stderr = "capture", dry_run = "run",
    }
    local sha256 <const> = result.ok and result.stdout:match "^%x+"
    if not sha256 then
        errors.fail("io", ("cannot read '%s': %s"):format(path, (result.stderr:gsub("%s+$", ""))))
    end
    -- A file that was written a moment ago can change again without a new modification time.
    known[path] = { size = stat.size, mtime = stat.mtime, sha256 = sha256, settled = os.time() - stat.mtime > 2 }
    return sha256
end

-- ---- the walk ----

---@class dbrun.batch.CsvWalk a walk that is not SQL: bounds are { byte, line }
---@field sql false
---@field identity table
local Walk = {}
Walk.__index = Walk

local function place_of(self, bound)
    if not bound then return self.first end
    return { byte = math.tointeger(tonumber(bound[1])), line = math.tointeger(tonumber(bound[2])) }
end

local function bound_of(byte, line)
    return { ("%d"):format(byte), ("%d"):format(line) }
end

---Raises when the file has changed since the walk was opened.
local function check_same(self)
    local now <const> = stat_of(self.path)
    if now.size ~= self.stat.size or now.mtime ~= self.stat.mtime then
        errors.fail("usage", ("batch.csv: '%s' was changed while it is read"):format(self.path),
            "the places of its records are other ones now: dbrun batch forget starts the job anew")
    end
end

---The records from a place on.
local function records(self, place)
    check_same(self)
    local file <const>, why <const> = io.open(self.path, "rb")
    if not file then errors.fail("io", "batch.csv: " .. why) end
    file:seek("set", place.byte)
    return file, parse.records(function() return file:read(PIECE) end, self.options.delimiter or ",",
        self.options.quote or '"', place)
end

---The end of the file.
---@return string[]? bound nil: it has no record
function Walk:last_bound()
    return self.first.byte < self.stat.size and bound_of(self.stat.size, math.maxinteger) or nil
end

---The place `size` records after another, but not after `upto`.
---@param after string[]|nil nil: the first record
---@param size integer
---@param upto? string[] default: the end of the file
---@return {bound: string[], fits: integer, looked: integer, final: boolean}? step nil: there are no more
function Walk:next_bound(after, size, upto)
    local from <const>, stop <const> = place_of(self, after), upto and place_of(self, upto).byte or self.stat.size
    if from.byte >= stop then return nil end
    local file <close>, next_record <const> = records(self, from)
    local n, byte, line = 0, from.byte, from.line
    while n < size and byte < stop do
        local record <const> = next_record()
        if not record then break end
        byte, line = record.stop, record.below
        if record.text ~= "" then n = n + 1 end
    end
    io.type(file)
    local final <const> = byte >= stop
    return { bound = final and upto or bound_of(byte, line), fits = n, looked = n, final = final }
end

---A place in the middle of the next `keys` records, where a range can be cut.
---@param after string[]|nil
---@param upto string[]
---@param keys integer
---@return {bound: string[], middle: string[]}? cut nil: there are fewer than two
function Walk:cut_bound(after, upto, keys)
    local whole <const> = self:next_bound(after, keys, upto)
    if not whole or whole.fits < 2 then return nil end
    return { bound = whole.bound, middle = self:next_bound(after, whole.fits // 2, upto).bound }
end

---Whether a place is between two others.
---@param middle string[]
---@param after string[]
---@param upto string[]
---@return boolean
function Walk:is_between(middle, after, upto)
    local byte <const> = place_of(self, middle).byte
    return place_of(self, after).byte < byte and byte < place_of(self, upto).byte
end

---The first field of a row that PostgreSQL cannot store as text, and why.
local function no_text(row)
    for name, value in pairs(row) do
        if type(value) == "string" then
            if not utf8.len(value) then return name, "it is not valid UTF-8" end
            if value:find("\0", 1, true) then return name, "it has a NUL byte" end
        end
    end
end

---A record that cannot be taken is an error of SQLSTATE 22P04, which names its line: what becomes of it the job's
---on_error says.
local function raise_bad(self, line, reason)
    errors.raise {
        kind = "query", sqlstate = "22P04", outcome = "failed",
        message = ("%s line %d: %s"):format(fs.basename(self.path), line, reason),
        hint = "correct the record before the job's first run; on_error = \"split\" goes on without it",
    }
end

---The rows of a chunk.
---@param _tx table
---@param after string[]|nil
---@param upto string[]
---@param columns? string[] default: all
---@param texts? boolean raises for a field that no text of PostgreSQL can be
---@return table[]
function Walk:read(_tx, after, upto, columns, texts)
    check_same(self)
    local options <const>, stop <const> = {}, place_of(self, upto)
    for key, value in pairs(self.options) do options[key] = value end
    options.from = place_of(self, after)
    local reader <close> = csv.reader(self.path, options)
    local rows <const> = {}
    while true do
        local row = reader()
        local bad <const> = reader.bad[1]
        if bad and bad.line < stop.line then raise_bad(self, bad.line, bad.reason) end
        if not row or reader.byte > stop.byte then return rows end
        local field <const>, why = no_text(texts and row or {})
        if field then raise_bad(self, reader.at, ("%s: %s"):format(tostring(field), why)) end
        if columns and reader.columns then
            local some <const> = {}
            for _, name in ipairs(columns) do some[name] = row[name] end
            row = some
        end
        rows[#rows + 1] = row
        if reader.byte == stop.byte then return rows end
    end
end

-- ---- the source ----

---@class dbrun.batch.CsvSource
---@field kind "csv"
---@field text string for people
---@field hash string
local Source = {}
Source.__index = Source

---@return dbrun.batch.CsvWalk
function Source:open()
    local stat <const> = stat_of(self.path)
    local reader <close> = csv.reader(self.path, self.options)
    return setmetatable({
        sql = false, path = self.path, options = self.options, stat = stat, columns = reader.columns,
        first = { byte = reader.byte, line = reader.line },
        key = { { name = "byte", ident = "byte", type = "bigint" } }, pins = {},
        -- The modification time is not part of the identity: a copy of the file counts as the same file.
        identity = { file = { ("%d bytes"):format(stat.size), "SHA-256 " .. hash_of(self.path, stat) } },
        value = function(bound) return bound and math.tointeger(tonumber(bound[1])) end,
    }, Walk)
end

---Nothing was made.
function Source.forget() end

---Raises for a parameter of a statement that is no column of the file and has no other value.
local function check_names(walk, definition, sql)
    local set <const> = { started = true }
    for name in pairs(definition.params or {}) do set[name] = true end
    for _, name in ipairs(walk.columns or {}) do set[name] = true end
    local plan <const> = walk.columns and core.pg.named(sql) or {}
    for i = 2, #plan do
        if not set[plan[i]] then
            errors.fail("usage", ("batch.csv: run has the parameter :%s, and '%s' has no column of this name"):format(
                plan[i], walk.path), ("its columns are: %s; header = { \"a\", \"b\", ... } names them anew"):format(
                core.text.escape(table.concat(walk.columns, ", "))))
        end
    end
end

---The work of a statement: it is run with each record, whose columns are its parameters.
---@param definition dbrun.batch.Job
---@return function
function Source.work(_, definition)
    local statements <const> = type(definition.run) == "table" and definition.run or { definition.run }
    return function(walk)
        for _, sql in ipairs(statements) do check_names(walk, definition, sql) end
        return function(tx, chunk)
            local rows <const> = walk:read(tx, chunk.after, chunk.upto, nil, true)
            for i, row in ipairs(rows) do
                if walk.columns then
                    local values <const> = { started = chunk.started }
                    for name, value in pairs(definition.params or {}) do values[name] = value end
                    for _, name in ipairs(walk.columns) do
                        values[name] = row[name] == nil and core.null or row[name]
                    end
                    rows[i] = values
                end
            end
            local n = 0
            for _, sql in ipairs(statements) do n = #rows > 0 and tx:execute_many(sql, rows) or 0 end
            return n
        end
    end
end

local OPTIONS <const> = {
    header = args.one_type_of("boolean", "table"), types = "table", delimiter = "string", quote = "string",
    null = "string", required = "table",
}

---@param path string
---@param opts? table as for batch.csv
---@return dbrun.batch.CsvSource
function M.source(path, opts)
    args.check("batch.csv", "the path", path, args.path)
    opts = args.options("batch.csv", opts, OPTIONS)
    local parts <const> = {}
    for _, key in ipairs { "delimiter", "quote", "null" } do parts[#parts + 1] = tostring(opts[key]) end
    parts[#parts + 1] = type(opts.header) == "table" and table.concat(opts.header, "\0") or tostring(opts.header)
    return setmetatable({
        kind = "csv", path = path, options = opts, text = fs.basename(path), hash = table.concat(parts, "\0"),
    }, Source)
end

return M
