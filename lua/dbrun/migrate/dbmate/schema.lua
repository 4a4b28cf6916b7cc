--- The schema file of dbmate: written by pg_dump, followed by the versions, and run statement by statement.
local catalog = require "dbrun.db.catalog"
local control = require "dbrun.migrate.read.control"
local core = require "dbrun.core"
local errors = require "dbrun.error"
local process = require "dbrun.process"
local sending = require "dbrun.migrate.run.send"
local split = require "dbrun.migrate.read.split"
local tree = require "dbrun.sql.tree"
local url = require "dbrun.url"

local M = {}

-- ---- writing ----

---@param argv string[]
---@param env? table<string, string>
---@return string stdout
local function run(argv, env)
    local spec = table.move(argv, 1, #argv, 1, { env = env, max_output = 1 << 30 })
    local result = process.run(spec)
    if result.code == 0 then return result.stdout end
    errors.fail("query", ((result.stderr or ""):gsub("%s+$", "")))
end

---Whether pg_dump knows --restrict-key (15.14, 16.10, 17.6 and later).
local FIRST <const> = { [15] = 14, [16] = 10, [17] = 6 }

local function knows_restrict_key()
    local major, minor = run({ "pg_dump", "--version" }):match "%(PostgreSQL%) (%d+)%.(%d+)"
    major, minor = math.tointeger(tonumber(major)), math.tointeger(tonumber(minor))
    if not major then return false end
    return major > 17 or FIRST[major] ~= nil and minor >= FIRST[major]
end

---dbrun's own records, for this and other tables of versions: recognised by a set of columns that no other table has.
local RECORDS <const> = catalog.sql [[
select {quote_ident}(n.nspname) {||} '.' {||} {quote_ident}(c.relname) as name
  from {pg_class} c join {pg_namespace} n on n.oid {=} c.relnamespace
 where c.relkind {=} 'r' and {right}(c.relname::{text}, 6) {=} '_dbrun'
   and 2 {=} (select {count}(*) from {pg_attribute} a where a.attrelid {=} c.oid and not a.attisdropped
                 and (a.attname {=} 'done_checksum' or a.attname {=} 'backend_start'))
 order by 1]]

local function pg_dump(conn, address, more)
    local argv = { "pg_dump", "--format=plain", "--encoding=UTF8", "--schema-only", "--no-privileges", "--no-owner" }
    if knows_restrict_key() then argv[#argv + 1] = "--restrict-key=dbmate" end
    for _, row in ipairs(conn:query(RECORDS)) do argv[#argv + 1] = "--exclude-table=" .. row.name end
    for _, schema in ipairs(address.schemas) do
        argv[#argv + 1], argv[#argv + 2] = "--schema", schema
    end
    table.move(more, 1, #more, #argv + 1, argv)
    local parsed = url.parse_postgres(address.bare)
    local password = parsed.password
    parsed.password = nil
    argv[#argv + 1] = url.build_postgres(parsed)
    return run(argv, { PGPASSWORD = password })
end

local VERSIONS <const> = catalog.sql "select {quote_literal}(version) as version from %s order by version"
local NAME <const> = catalog.sql "select {quote_ident}($1) {||} '.' {||} {quote_ident}($2)"

local function versions(conn, book)
    local list = {}
    for _, row in ipairs(conn:query(VERSIONS:format(book.sql))) do list[#list + 1] = "(" .. row.version .. ")" end
    if #list == 0 then return "" end
    return ("INSERT INTO %s (version) VALUES\n    %s;\n"):format(conn:value(NAME, book.schema, book.name),
        table.concat(list, ",\n    "))
end

---The text without the comments and blank lines at its top, which differ between program versions.
local function without_head(text)
    local at = 1
    while true do
        local line, behind = text:match("^([^\n]*)\n()", at)
        if not line or not (line == "" or line:find "^%-%-") then return text:sub(at) end
        at = behind
    end
end

---The schema as dbmate writes it.
---@param conn table
---@param address dbrun.migrate.dbmate.Address
---@param book dbrun.migrate.Ledger it exists
---@param more string[] further arguments of pg_dump
---@return string
function M.dump(conn, address, book, more)
    return without_head(pg_dump(conn, address, more) .. "\n--\n-- Dbmate schema migrations\n--\n\n"
        .. versions(conn, book))
end

-- ---- running ----

local SKIPPED <const> = { restrict = true, unrestrict = true }

local function fail(path, text, at, hint, message, ...)
    local _, newlines = text:sub(1, at - 1):gsub("\n", "")
    errors.raise { kind = "query", file = path, line = newlines + 1, hint = hint,
        message = ("%s:%d: %s"):format(path, newlines + 1, message:format(...)) }
end

---Where the line of a command of psql ends: \restrict and \unrestrict are for psql itself, others are refused.
local function command_end(text, at, path)
    local word, stop = text:match("^\\(%a*)[^\n]*()", at)
    if SKIPPED[word] then return stop end
    fail(path, text, at, "run the file with: psql -f " .. path, "'\\%s' is a command of psql", word)
end

local COPY <const> = "^[Cc][Oo][Pp][Yy]%s[^\n;]-%s[Ff][Rr][Oo][Mm]%s+[Ss][Tt][Dd][Ii][Nn]%s*;[^\n]*\n()"

---The data after COPY ... FROM stdin, and the end of the line `\.` after them. Nil: another statement.
local function data_of(text, at, path)
    local from = text:match(COPY, at)
    if not from then return nil end
    local stop, behind = text:match("\n()\\%.\r?()\n", from - 1)
    if not stop then stop, behind = text:match("\n()\\%.\r?()$", from - 1) end
    if not stop then fail(path, text, at, "pg_dump ends them so", "the data of this COPY do not end with \\.") end
    return text:sub(from, stop - 1), from, behind
end

---The text for the parser: psql's commands are replaced by blanks, so that the positions of the statements stay.
---Only a backslash at the beginning of a statement is a command of psql; one within a string is not.
---@return string text
---@return table<integer, string> data of COPY, by the place where the statement begins
local function without_commands(text, path)
    local out, from, at, between, data = {}, 1, 1, true, {}
    local function blank(first, behind)
        out[#out + 1] = text:sub(from, first - 1) .. text:sub(first, behind - 1):gsub("[^\n]", " ")
        from, at = behind, behind
    end
    while true do
        local behind, kind = core.sql.scan(text, at)
        if not behind then break end
        local piece, is_gap = text:sub(at, behind - 1), kind == "blank" or kind == "comment"
        local rows, first, stop
        if between and kind == "word" then rows, first, stop = data_of(text, at, path) end
        if between and piece:sub(1, 1) == "\\" then
            blank(at, command_end(text, at, path))
        elseif rows then
            data[at] = rows
            blank(first, stop)
        else
            if not is_gap then between = piece == ";" end
            at = behind
        end
    end
    return table.concat(out) .. text:sub(from), data
end

---Sends the rows after a COPY.
local function copy(conn, statement, rows)
    local kind, body = tree.of(statement.sql)
    if kind ~= "CopyStmt" or body.options then
        errors.fail("query", "only COPY name (columns) FROM stdin, as pg_dump writes it, can have its data in the file")
    end
    local columns = {}
    for i, node in ipairs(body.attlist or {}) do columns[i] = node.String.sval end
    conn:copy_in({ body.relation.schemaname or body.relation.relname,
        body.relation.schemaname and body.relation.relname }, columns, rows)
end

---Whether the text has its own BEGIN, COMMIT or ROLLBACK.
local function has_blocks(statements)
    for _, statement in ipairs(statements) do
        if control.of(statement) then return true end
    end
    return false
end

---Runs a schema file: in one transaction, so that a failure leaves nothing, unless the file has its own transactions.
---@param conn table
---@param text string
---@param path string for errors
function M.load(conn, text, path)
    local data
    text, data = without_commands(text:gsub("^\xEF\xBB\xBF", ""), path)
    local open = split.unfinished(text)
    if open then
        errors.raise { kind = "query", file = path, line = open.line,
            message = ("%s:%d: this %s has no end"):format(path, open.line, open.what), hint = "close it" }
    end
    local statements = split.split(text)
    local current
    local function all()
        for _, statement in ipairs(statements) do
            current = statement
            local rows = data[statement.first]
            if rows then copy(conn, statement, rows) else conn:exec(statement.sql) end
        end
        current = nil
    end
    local ok, e
    if has_blocks(statements) then
        ok, e = pcall(all)
    else
        ok, e = pcall(conn.transaction, conn, all)
    end
    if ok then return end
    if not current or not errors.is(e) or sending.is_interruption(e) then error(e, 0) end
    if e.sqlstate == "25001" then
        e.hint = "load runs the file in one transaction; statement by statement runs it: psql -f " .. path
    end
    error(require("dbrun.migrate.show.report").failed(e, path, current, has_blocks(statements)
        and "The statements before it stay." or "Nothing of the file was kept."), 0)
end

return M
