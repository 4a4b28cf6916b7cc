--- The schema as SQL, as dbmate writes it: pg_dump without owners and privileges, then the versions.
local catalog = require "dbrun.db.catalog"
local dump_timescale = require "dbrun.migrate.show.dump_timescale"
local ledger = require "dbrun.migrate.book.ledger"
local pg_dump = require "dbrun.migrate.show.pg_dump"
local records = require "dbrun.migrate.book.records"
local session = require "dbrun.migrate.run.session"

local M = {}

---The blank lines and comments at the top name versions of programs and change with them.
local function tidy(text)
    while true do
        local line, rest = text:match "^([^\n]*)\n(.*)$"
        if not line or not (line:find "^%s*$" or line:find "^%-%-") then return text end
        text = rest
    end
end

local VERSIONS <const> = catalog.sql "select {quote_literal}(version) as version from %s order by version"
local NAME <const> = catalog.sql "select {quote_ident}($1) {||} '.' {||} {quote_ident}($2)"

---@param opts dbrun.migrate.Options
---@return string
function M.text(opts)
    return session.reading(opts, function(conn)
        local book = ledger.locate(conn, opts.table)
        local options = { "--exclude-table=" .. records.table(book) }
        local schema = dump_timescale.schema(conn, opts.url, options) or pg_dump.schema(opts.url, options)
        local out = { schema, "\n--\n-- Dbmate schema migrations\n--\n\n" }
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
