--- Runs pg_dump, and removes from its text what differs from one run to the next.
local errors = require "dbrun.error"
local process = require "dbrun.process"
local split = require "dbrun.migrate.read.split"
local url = require "dbrun.url"

local M = {}

---\restrict stands above the first statement, \unrestrict is the last line. They have a new key in every run, and would
---make every dump differ. Between them such a line is part of a string.
local function without_key(text)
    local at = 1
    while true do
        local first <const>, last <const> = text:find("^[^\n]*\n", at)
        if not first then break end
        local line <const> = text:sub(first, last)
        if line:find "^\\restrict " then
            text = text:sub(1, first - 1) .. text:sub(last + 1)
            break
        end
        if not (line:find "^%s*$" or line:find "^%-%-") then break end
        at = last + 1
    end
    return (text:gsub("\n\\unrestrict [^\n]*(%s*)$", "%1"))
end

local VERSION <const> = "pg_attver=%d+"

---Some releases of the server (such as 15.20) keep an internal number among the options of columns. Their pg_dump
---leaves it out, but that of an earlier minor release, which is otherwise suitable, writes it. The number differs in
---each database, and servers of earlier releases refuse it.
local function without_column_versions(text)
    if not text:find(VERSION) then return text end
    local parts, kept = {}, 1
    for _, statement in ipairs((split.split(text))) do
        local sql <const> = statement.sql
        local from, to, options = sql:find "^ALTER [A-Z ]*TABLE .* ALTER COLUMN .* SET %(([^()]*)%)$"
        if from and options:find(VERSION) then
            local rest <const> = options:gsub(",? ?" .. VERSION, "", 1):gsub("^, ", "")
            parts[#parts + 1] = text:sub(kept, statement.first - 1)
            parts[#parts + 1] = rest ~= "" and sql:sub(1, to - #options - 2) .. "(" .. rest .. ")" or nil
            kept = statement.first + #sql
            if rest == "" then kept = select(2, text:find("^;\n?", kept)) + 1 end
        end
    end
    return table.concat(parts) .. text:sub(kept)
end

local function hint_for(why)
    if why:find "server version mismatch" then
        return "pg_dump must be of the server's version or a later one, and that one the first in PATH"
    end
    if why:find "permission denied" then
        return "pg_dump locks and reads what it writes: grant select on all tables and sequences, and usage on their "
            .. "schemas, to the role, or let MIGRATION_DATABASE_URL name an owner"
    end
end

---The schema of a database, without owners and privileges.
---@param address string its URL
---@param options string[] more options of pg_dump
---@return string
---Raises an error of kind `query` with what pg_dump says.
function M.schema(address, options)
    local parsed = url.parse_postgres(address, "the database's URL")
    local password = parsed.password
    parsed.password = nil
    local result = process.run {
        "pg_dump", "--format=plain", "--encoding=UTF8", "--schema-only", "--no-privileges", "--no-owner",
        "--dbname=" .. url.build_postgres(parsed),
        env = { PGPASSWORD = password or nil }, max_output = 1 << 30, table.unpack(options),
    }
    if result.code == 0 then return without_column_versions(without_key(result.stdout)) end
    local why <const> = (result.stderr or ""):gsub("%s+$", "")
    errors.fail("query", "pg_dump failed: " .. why, hint_for(why))
end

return M
