--- The schema of a database with TimescaleDB. pg_dump writes chunks and catalogs of the extension as ordinary tables,
--- and hypertables as tables without partitions; here the schemas of the extension are left out, and calls recreate
--- hypertables, continuous aggregates, policies and jobs.
local dump_order = require "dbrun.migrate.show.dump_order"
local calls = require "dbrun.migrate.show.timescale_calls"
local errors = require "dbrun.error"
local pg_dump = require "dbrun.migrate.show.pg_dump"
local split = require "dbrun.migrate.read.split"
local timescale_facts = require "dbrun.migrate.show.timescale_facts"

local scan <const> = require "dbrun.core".sql.scan

local M = {}

local function pattern(schema, name)
    return ('"%s"."%s"'):format(schema:gsub('"', '""'), name:gsub('"', '""'))
end

---Without the settings and comments that pg_dump begins and ends with.
local function body_of(text)
    local _, behind = text:find "\nSET row_security = off;\n"
    return (text:sub((behind or 0) + 1):gsub("%s*%-%-\n%-%- PostgreSQL database dump complete\n%-%-%s*$", "\n"))
end

---The relation that a statement names after the word ONLY.
---@return string? relation as it is quoted there
---@return integer from byte where ONLY begins
---@return integer to byte where the relation begins
local function only(sql)
    local from, to, relation
    for behind, kind, at in scan, sql, 1 do
        local piece <const> = sql:sub(at, behind - 1)
        if to then
            if kind ~= "word" and kind ~= "quoted" and piece ~= "." then break end
            relation = (relation or "") .. piece
        elseif from then
            if kind ~= "blank" then
                to, relation = at, piece
            end
        elseif piece == "ONLY" then
            from = at
        elseif piece == "(" then
            break
        end
    end
    return relation, from, to
end

---The statements on hypertables without ONLY, which TimescaleDB refuses, and without the triggers of older releases,
---which create_hypertable makes.
local function for_hypertables(text, hypertables)
    local is_hypertable, parts, from = {}, {}, 1
    for _, h in ipairs(hypertables) do is_hypertable[h.relation] = true end
    for _, statement in ipairs((split.split(text))) do
        local sql, keep = statement.sql, statement.sql
        if sql:find "^ALTER TABLE ONLY " or sql:find "^CREATE %u*%s?INDEX " then
            local relation <const>, at <const>, behind <const> = only(sql)
            if is_hypertable[relation] then keep = sql:sub(1, at - 1) .. sql:sub(behind) end
        end
        local trigger = sql:match "^CREATE TRIGGER ([%w_]+) "
        if trigger == "ts_insert_blocker" or trigger == "ts_cagg_invalidation_trigger" then
            keep = "-- made by TimescaleDB itself"
        end
        if keep ~= sql then
            parts[#parts + 1] = text:sub(from, statement.first - 1) .. keep
            from = statement.first + #sql
        end
    end
    return table.concat(parts) .. text:sub(from)
end

local function section(title, statements)
    if #statements == 0 then return "" end
    return ("\n--\n-- TimescaleDB: %s\n--\n\n%s\n\n"):format(title, table.concat(statements, "\n"))
end

---The facts, read with every name written out, and times and intervals in one form.
local function read(conn)
    return conn:transaction(function(tx)
        tx:exec [[set transaction isolation level repeatable read, read only; set local search_path = '';
            set local intervalstyle = 'postgres'; set local datestyle = 'iso'; set local timezone = 'UTC';
            set local quote_all_identifiers = off]]
        return timescale_facts.read(tx)
    end)
end

---@param conn table
---@param address string the database's URL
---@param options string[] options for pg_dump
---@return string? text nil where TimescaleDB is not in the database
---Raises an error of kind `query` that names objects that a dump cannot express.
function M.schema(conn, address, options)
    local facts = read(conn)
    if not facts then return nil end
    local hypertables, rest = calls.hypertables(facts), calls.rest(facts)
    if #facts.refused > 0 then
        errors.fail("query", "the dump cannot write what makes these again:\n  " .. table.concat(facts.refused, "\n  "),
            "back the database up with pg_dump --format=custom, which keeps the catalogs of TimescaleDB as they are")
    end
    local out, above = table.move(options, 1, #options, 2, { "--exclude-schema=_timescaledb_*" }), {}
    for _, a in ipairs(facts.aggregates) do
        out[#out + 1] = "--exclude-table=" .. pattern(a.row.user_view_schema, a.row.user_view_name)
    end
    for _, view in ipairs(facts.views) do
        out[#out + 1] = "--exclude-table=" .. pattern(view.schema, view.name)
        above[#above + 1] = "--table=" .. pattern(view.schema, view.name)
    end
    local function part(name)
        return pg_dump.schema(address, table.move(out, 1, #out, 2, { "--section=" .. name }))
    end
    local before = part "pre-data":gsub("%-%-\n%-%- PostgreSQL database dump complete\n%-%-%s*$", "")
    local behind <const>, last <const> = dump_order.take_last(body_of(part "post-data"))
    return table.concat {
        dump_order.by_name(before), section("hypertables", hypertables),
        for_hypertables(behind, facts.hypertables),
        section("compression, continuous aggregates, policies and jobs", rest),
        #above > 0 and body_of(pg_dump.schema(address, above)) or "",
        section("statistics of these views", facts.statistics), last,
        "\n--\n-- PostgreSQL database dump complete\n--\n\n",
    }
end

return M
