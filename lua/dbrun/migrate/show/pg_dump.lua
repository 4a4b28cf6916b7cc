--- Runs pg_dump, and takes off its text what differs from one run to the next.
local errors = require "dbrun.error"
local process = require "dbrun.process"
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
    if result.code == 0 then return without_key(result.stdout) end
    errors.fail("query", "pg_dump failed: " .. (result.stderr or ""):gsub("%s+$", ""),
        "pg_dump must not be older than the server")
end

return M
