--- The parts of a psql file that are not SQL: the rows after a COPY ... FROM stdin, and psql's own commands, which
--- begin with a backslash. Files from pg_dump have both. The rows are taken out of the text and kept with their
--- statement; the lines \restrict and \unrestrict are left out; every other command is refused, because dbrun is not
--- psql.
local split = require "dbrun.migrate.read.split"
local stream = require "dbrun.sql.stream"

local M = {}

---@class dbrun.migrate.CopyData
---@field text string the rows, without the line `\.`
---@field line integer number of the first row's line

---@class dbrun.migrate.PsqlText
---@field sql string the text without rows and commands, its lines where they were
---@field data table<integer, dbrun.migrate.CopyData> by the byte where the COPY begins in `sql`
---@field refused? dbrun.migrate.Refusal

-- ---- commands ----

local SKIPPED <const> = { restrict = true, unrestrict = true }

local HINTS <const> = {}

local function hint_for(names, hint)
    for name in names:gmatch "%S+" do HINTS[name] = hint end
end

hint_for("c connect", "leave it out: a file runs in the database of its address")
hint_for("i ir include include_relative", "put the text of that file here, or make it a file of its own")
hint_for("copy", "write COPY ... FROM stdin with the rows below it and a last line \\., or a Lua file with copy_in")
hint_for("set unset if elif else endif getenv prompt gset bind", "variables and conditions are psql's: write the "
    .. "value, or a Lua file")
hint_for("g gx gexec gdesc crosstabview watch ; parse", "end the statement with a semicolon")
hint_for(".", "it ends the rows of a COPY ... FROM stdin: there is none before it")
hint_for("encoding", "files are read as UTF-8: convert this one, and leave the line out")

local OTHERS <const> = "leave it out: of psql's commands only \\restrict and \\unrestrict, which pg_dump writes, may "
    .. "be here"

local function refusal(line, message, hint)
    return { line = line, message = message, hint = hint }
end

local function refuse_command(line, name)
    return refusal(line, ("\\%s is a command of psql, not a statement"):format(name), HINTS[name] or OTHERS)
end

-- ---- COPY ----

---The rows from byte `from` on: where they end, and where the line `\.` ends.
local function end_of_rows(sql, from)
    local last, behind = sql:find("\n\\%.\r?\n", from - 1)
    if not last then last, behind = sql:find("\n\\%.\r?$", from - 1) end
    return last, behind
end

-- ---- reading ----

local Reader <const> = {}
Reader.__index = Reader

function Reader:line_of(at)
    local _, newlines = self.sql:sub(self.counted, at - 1):gsub("\n", "")
    self.line, self.counted = self.line + newlines, at
    return self.line
end

---Removes a piece from the text, but keeps its line breaks.
function Reader:cut(from, to)
    local parts <const> = self.parts
    parts[#parts + 1] = self.sql:sub(self.kept, from - 1)
    local _, newlines = self.sql:sub(from, to):gsub("\n", "")
    parts[#parts + 1] = ("\n"):rep(newlines)
    self.removed = self.removed + (to - from + 1) - newlines
    self.kept = to + 1
    return to + 1
end

function Reader:refuse(refused)
    self.refused = self.refused or refused
    return #self.sql + 1
end

function Reader:statement(first, last, semicolon)
    local sql <const> = self.sql
    local text <const> = sql:sub(first, last)
    if stream.of(text) ~= "in" then return nil end
    semicolon = semicolon or #sql
    local line_end <const> = sql:find("\n", semicolon, true) or #sql + 1
    local rest <const> = sql:sub(semicolon + 1, line_end - 1)
    if not rest:find "^%s*$" and not rest:find "^%s*%-%-" then
        return self:refuse(refusal(self:line_of(semicolon), "the rows of a COPY ... FROM stdin begin in the line below "
            .. "it, and more follows it in this one", "put that after the rows"))
    end
    local rows_end <const>, behind <const> = end_of_rows(sql, line_end + 1)
    if not rows_end then
        return self:refuse(refusal(self:line_of(first), "the rows of this COPY ... FROM stdin have no end: they would "
            .. "take in all that follows", "end them with a line \\."))
    end
    local begin <const> = first - self.removed
    self.data[begin] = { text = sql:sub(line_end + 1, rows_end), line = self:line_of(line_end + 1) }
    return self:cut(line_end + 1, behind)
end

function Reader:backslash(at, inside)
    local sql <const> = self.sql
    local name <const> = sql:match("^[%a_]+", at + 1) or sql:match("^%S", at + 1) or ""
    if inside or not SKIPPED[name] then return self:refuse(refuse_command(self:line_of(at), name)) end
    return self:cut(at, (sql:find("\n", at, true) or #sql + 1) - 1)
end

---@param sql string
---@param line? integer number of its first line (default 1)
---@param escapes? boolean standard_conforming_strings is off at the beginning
---@return dbrun.migrate.PsqlText
function M.read(sql, line, escapes)
    if not sql:find("\\", 1, true) and not sql:lower():find "std[io]" then return { sql = sql, data = {} } end
    local reader <const> = setmetatable({
        sql = sql, line = line or 1, counted = 1, parts = {}, kept = 1, removed = 0, data = {},
    }, Reader)
    split.walk(sql, escapes, {
        statement = function(first, last, _, semicolon) return reader:statement(first, last, semicolon) end,
        backslash = function(at, inside) return reader:backslash(at, inside) end,
    })
    reader.parts[#reader.parts + 1] = sql:sub(reader.kept)
    return { sql = table.concat(reader.parts), data = reader.data, refused = reader.refused }
end

return M
