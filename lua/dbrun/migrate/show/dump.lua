--- The schema as SQL, as dbmate writes it: pg_dump without owners and privileges, then the versions.
local catalog = require "dbrun.db.catalog"
local errors = require "dbrun.error"
local ledger = require "dbrun.migrate.book.ledger"
local process = require "dbrun.process"
local records = require "dbrun.migrate.book.records"
local session = require "dbrun.migrate.run.session"
local url = require "dbrun.url"

local M = {}

---The blank lines and comments at the top name versions of programs and change with them; \restrict has a new key in
---every run, and would make every dump differ.
local function tidy(text)
    text = text:gsub("\n\\unrestrict [^\n]*", ""):gsub("\\restrict [^\n]*\n", "")
    while true do
        local line, rest = text:match "^([^\n]*)\n(.*)$"
        if not line or not (line:find "^%s*$" or line:find "^%-%-") then return text end
        text = rest
    end
end

local function pg_dump(opts, book)
    local parsed = url.parse_postgres(opts.url, "the database's URL")
    local password = parsed.password
    parsed.password = nil
    local result = process.run {
        "pg_dump", "--format=plain", "--encoding=UTF8", "--schema-only", "--no-privileges", "--no-owner",
        "--exclude-table=" .. records.table(book), "--dbname=" .. url.build_postgres(parsed),
        env = { PGPASSWORD = password or nil }, max_output = 1 << 30,
    }
    if result.code == 0 then return result.stdout end
    errors.fail("query", "pg_dump failed: " .. (result.stderr or ""):gsub("%s+$", ""),
        "pg_dump must not be older than the server")
end

local VERSIONS <const> = catalog.sql "select {quote_literal}(version) as version from %s order by version"
local NAME <const> = catalog.sql "select {quote_ident}($1) {||} '.' {||} {quote_ident}($2)"

---@param opts dbrun.migrate.Options
---@return string
function M.text(opts)
    return session.reading(opts, function(conn)
        local book = ledger.locate(conn, opts.table)
        local out = { pg_dump(opts, book), "\n--\n-- Dbmate schema migrations\n--\n\n" }
        local list = {}
        for _, row in ipairs(book.exists and conn:query(VERSIONS:format(book.sql)) or {}) do
            list[#list + 1] = "(" .. row.version .. ")"
        end
        if #list > 0 then
            out[3] = ("INSERT INTO %s (version) VALUES\n    %s;\n"):format(conn:value(NAME, book.schema, book.name),
                table.concat(list, ",\n    "))
        end
        return tidy(table.concat(out))
    end)
end

return M
