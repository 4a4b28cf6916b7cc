--- The schema as SQL, as dbmate writes it: pg_dump without owners and privileges, then the versions.
local catalog = require "dbrun.db.catalog"
local dump_timescale = require "dbrun.migrate.show.dump_timescale"
local ledger = require "dbrun.migrate.book.ledger"
local pg_dump = require "dbrun.migrate.show.pg_dump"
local records = require "dbrun.migrate.book.records"
local session = require "dbrun.migrate.run.session"

local M = {}

---The blank lines and comments at the top, which name program versions and change with them.
local function tidy(text)
    while true do
        local line, rest = text:match "^([^\n]*)\n(.*)$"
        if not line or not (line:find "^%s*$" or line:find "^%-%-") then return text end
        text = rest
    end
end

local VERSIONS <const> = catalog.sql "select {quote_literal}(version) as version from %s order by version"
local NAME <const> = catalog.sql "select {quote_ident}($1) {||} '.' {||} {quote_ident}($2)"

---Tables that Citus distributes, if it is installed.
local CITUS <const> = "select pg_catalog.to_regclass('pg_catalog.pg_dist_partition') is not null"
local DISTRIBUTED <const> = catalog.sql [[
select {string_agg}(name, ', ' order by name) from (select logicalrelid::{text} as name
    from pg_catalog.pg_dist_partition order by 1 limit 20) x]]

---What the dump leaves out, in a sentence.
local function lacks(conn)
    local names <const> = conn:value(CITUS) and conn:value(DISTRIBUTED)
    return names and ("the dump does not say how Citus distributes its tables (%s): loaded, they are ordinary ones "
        .. "until create_distributed_table() and create_reference_table() are called"):format(names) or nil
end

---@param opts dbrun.migrate.Options
---@return string text
---@return string? lacks what it does not say, for a warning
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
        return tidy(table.concat(out)), lacks(conn)
    end)
end

return M
