--- Makes dbrun's files from another tool's: the text of a migration, its transaction, version and name; and refuses
--- what cannot be converted.
local aftermath = require "dbrun.migrate.run.aftermath"
local blocks = require "dbrun.migrate.read.blocks"
local control = require "dbrun.migrate.read.control"
local split = require "dbrun.migrate.read.split"

local M = {}

---@class dbrun.migrate.import.Part the SQL of one direction
---@field sql string
---@field source string file it comes from
---@field line integer? of its first line in that file (default 1)
---@field transaction? boolean false: the other tool runs it without one
---@field detects? boolean the other tool runs it without a transaction if a statement needs that
---@field blocks? boolean the other tool sends it as it is: its own BEGIN and COMMIT count

---@class dbrun.migrate.import.Refusal
---@field source string
---@field line? integer
---@field message string

---@class dbrun.migrate.import.Entry one migration
---@field version string digits, by which the other tool sorts them (as numbers)
---@field id? string what the other tool calls the version (default: the number)
---@field name string
---@field sources string[] files
---@field up? dbrun.migrate.import.Part
---@field down? dbrun.migrate.import.Part
---@field changes string[] what differs from the source, in words
---@field checksum? integer Flyway's checksum
---@field refused? dbrun.migrate.import.Refusal
---@field applied? boolean
---@field target? string name of dbrun's file
---@field text? string

---@param entry dbrun.migrate.import.Entry
---@param source string
---@param line integer?
---@param message string
function M.refuse(entry, source, line, message, ...)
    entry.refused = entry.refused or { source = source, line = line, message = message:format(...) }
end

---The number of a line that dbrun would mistake for its own directive.
local function directive_in(sql)
    local number = 0
    for line in (sql .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        local word = line:match "^%-%-%s*migrate:(%l+)"
        if word == "up" or word == "down" then return number end
    end
end

local MAY_COMMIT <const> = { ["do"] = true, call = true }

---Whether a statement must run outside a transaction. DO and CALL must if they end transactions, which they can do only
---when they run alone.
local function is_outside(statement, alone)
    if MAY_COMMIT[split.first_words(statement.sql, 1)] and not alone then return false end
    return aftermath.outside(statement.tree_sql or statement.sql) ~= nil
end

---Why a part cannot run in one transaction.
local function needs_no_transaction(part, statements)
    for _, statement in ipairs(statements) do
        if part.detects and is_outside(statement, part.blocks and #statements == 1) then
            return ("line %d cannot run in a transaction"):format(part.line + statement.line - 1)
        elseif part.blocks and control.of(statement) then
            return "it has transactions of its own"
        end
    end
end

---Checks one direction, and decides about its transaction.
local function check(entry, part, direction)
    part.line = part.line or 1
    local function refuse(line, message, ...)
        M.refuse(entry, part.source, part.line + line - 1, message, ...)
    end
    local line = directive_in(part.sql)
    if line then return refuse(line, "this line would be a directive of dbrun") end
    local section = { sql = part.sql, line = 1, options = {}, transaction = part.transaction ~= false }
    local read = blocks.of(section, direction)
    local why = section.transaction and needs_no_transaction(part, read.statements)
    if why then
        section.transaction = false
        entry.changes[#entry.changes + 1] = ("%s: transaction:false, because %s"):format(direction, why)
        read = blocks.of(section, direction)
    end
    part.transaction = section.transaction
    if read.refused then refuse(read.refused.line, "%s", read.refused.message) end
end

local function section_text(part, direction)
    if not part then return ("-- migrate:%s\n"):format(direction) end
    local sql = part.sql:gsub("^\xEF\xBB\xBF", "")
    return ("-- migrate:%s%s\n%s%s"):format(direction, part.transaction == false and " transaction:false" or "", sql,
        (sql == "" or sql:sub(-1) == "\n") and "" or "\n")
end

---Makes the text of a migration.
---@param entry dbrun.migrate.import.Entry
function M.text(entry)
    if entry.refused then return end
    check(entry, entry.up, "up")
    if entry.down then
        check(entry, entry.down, "down")
    else
        entry.changes[#entry.changes + 1] = "its down section is empty: there is no file for it"
    end
    entry.text = section_text(entry.up, "up") .. "\n" .. section_text(entry.down, "down")
end

---Gives all entries, in the order in which they run, names and versions of one width. The width is that of the longest
---version, or greater (with leading zeros) if the version of a new file would otherwise sort before one of these.
---@param entries dbrun.migrate.import.Entry[]
function M.name(entries)
    local width, last = 0, ""
    for _, entry in ipairs(entries) do width = math.max(width, #entry.version) end
    local function padded(entry) return ("0"):rep(width - #entry.version) .. entry.version end
    for _, entry in ipairs(entries) do
        if padded(entry) > last then last = padded(entry) end
    end
    local now <const> = os.date "!%Y%m%d%H%M%S"
    if last >= now then width = math.max(width + 1, #now) end
    for _, entry in ipairs(entries) do
        local version = padded(entry)
        local name = entry.name:gsub("[^%w_.\x80-\xff-]+", "_"):gsub("^[_.]+", "")
        entry.version = version
        entry.target = version .. (name ~= "" and "_" .. name or "") .. ".sql"
    end
end

---Compares versions as numbers of any length.
---@param a string
---@param b string
---@return boolean
function M.before(a, b)
    a, b = a:gsub("^0+", ""), b:gsub("^0+", "")
    if #a ~= #b then return #a < #b end
    return a < b
end

return M
