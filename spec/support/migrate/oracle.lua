--- Compares how psql and dbrun run a migration file: in two databases on one server, with the same schemas and roles.
local core = require "dbrun.core"
local db = require "dbrun.db"
local errors = require "dbrun.error"
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"
local process = require "dbrun.process"
local script = require "dbrun.migrate.read.script"
local servers = require "spec.support.servers"

local M = {}

---@class spec.migrate.Oracle
---@field pg spec.Postgres
---@field url { psql: string, dbrun: string }
---@field engine { psql: dbrun.Engine, dbrun: dbrun.Engine }
---@field dir string
local Oracle = {}
Oracle.__index = Oracle

local LEDGER <const> = "books.schema_migrations"

---Starts the server.
---@return spec.migrate.Oracle
function M.new()
    local pg = servers.postgres { settings = {
        log_statement = "all", log_line_prefix = "@@%p|%a|%d@@", synchronous_commit = "off", log_min_messages = "error",
        log_min_error_statement = "panic", log_connections = "off",
    } }
    local self = setmetatable({ pg = pg, url = {}, engine = {}, dir = fs.mkdtemp() }, Oracle)
    pg:psql "create role spec_a; create role spec_b"
    for _, who in ipairs { "psql", "dbrun" } do
        pg:psql("create database " .. who)
        self.url[who] = pg:address { database = who }
        self.engine[who] = db.engine { url = self.url[who], size = 1, mode = "sync", application_name = "oracle" }
    end
    return self
end

function Oracle:close()
    for _, engine in pairs(self.engine) do engine:close() end
    fs.rmtree(self.dir)
    self.pg:close()
end

local BEGIN <const> = [[
create schema %s; create schema %s_b; grant all on schema %s, %s_b to public; create sequence %s.drawn;
grant all on sequence %s.drawn to public;
create procedure %s.work() language plpgsql as $$
begin perform nextval('%s.drawn'); commit; perform nextval('%s.drawn'); end $$]]

---Writes the file into a new folder, and makes its schemas in both databases.
---@param file spec.migrate.RandomFile
---@param number integer
---@return string folder
---@return string path
function Oracle:prepare(file, number)
    local folder <const> = ("%s/%d"):format(self.dir, number)
    fs.mkdir_p(folder)
    local path <const> = ("%s/%d_x.sql"):format(folder, number)
    fs.write(path, file.text)
    for _, engine in pairs(self.engine) do
        engine:exec((BEGIN:gsub("%%s", file.name)))
    end
    return folder, path
end

function Oracle:forget(file, folder)
    for _, engine in pairs(self.engine) do
        engine:exec(("drop schema %s, %s_b cascade"):format(file.name, file.name))
    end
    fs.rmtree(folder)
end

local function with_path(url, name)
    return url .. "&options=-c%20search_path%3D" .. name
end

---@class spec.migrate.Run
---@field sqlstate? string nil: without an error
---@field line? integer the line that the error names
---@field error? string
---@field statements string[] the statements that the server received

---Everything that was logged since `from` for one application, dbrun's own statements left out.
local function logged(self, from, application)
    local file <close> = assert(io.open(self.pg.logfile, "rb"))
    file:seek("set", from)
    local text <const> = file:read "a":gsub("\n\t", "\n")
    local list = {}
    for app, rest in text:gmatch "@@%d+|([^|]*)|[^@]*@@(.-)%f[@\0]" do
        local sql = app == application and rest:match "^LOG:%s+statement: (.*)$"
        if sql then list[#list + 1] = sql end
    end
    return list
end

local OWN <const> = {
    "/%* dbrun %*/%s*$", "^select E'search_path', pg_catalog", "client_connection_check_interval",
    "^SET datestyle = ISO",
    "^reset all; reset session", "^set local role to default", "^set local session authorization def",
    "^set lock_timeout = '%d+ms'", "^set local %a+_timeout = '", "^drop index concurrently if exists",
    "^create schema if not exists", "^create table if not exists \"books\"",
}

local function is_own(sql)
    for _, pattern in ipairs(OWN) do
        if sql:find(pattern) then return true end
    end
    return false
end

---A statement without its comments, blanks and semicolons.
local function bare(sql, escapes)
    local out, at = {}, 1
    while true do
        local behind, kind = core.sql.scan(sql, at, escapes)
        if not behind then break end
        if kind ~= "blank" and kind ~= "comment" then out[#out + 1] = sql:sub(at, behind - 1) end
        at = behind
    end
    return (table.concat(out, " "):gsub("[; ]+$", ""))
end

---The statements of a log, without those that the program itself sends around the file's.
local function only_file(list, escapes)
    local out = {}
    for _, sql in ipairs(list) do
        local text <const> = not is_own(sql) and sql ~= "BEGIN" and sql ~= "COMMIT" and sql ~= "ROLLBACK"
            and bare(sql, escapes[#out + 1]) or ""
        if text ~= "" then out[#out + 1] = text end
    end
    return out
end

---Whether a backslash escapes in plain strings, for each statement of a file.
local function escapes_of(file)
    local list = {}
    local text <const> = file.text:gsub("^\xEF\xBB\xBF", "")
    for i, statement in ipairs((script.read(text, 1))) do list[i] = statement.escapes end
    return list
end

---@return spec.migrate.Run
function Oracle:psql(file, path)
    local from <const> = fs.stat(self.pg.logfile).size
    local result = process.run { self.pg:client "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v",
        "VERBOSITY=sqlstate", "-f", path, "-d", with_path(self.url.psql, file.name),
        file.transaction and "-1" or "-t", timeout = 60, env = { PGAPPNAME = "psql" } }
    local line, state = result.stderr:match "psql:[^\n]-:(%d+): ERROR:%s+(%w+)"
    if not result.ok and not state then state, line = result.stderr:match "ERROR:%s+(%w+)", 0 end
    return {
        sqlstate = not result.ok and (state or "?" .. result.stderr) or nil, line = math.tointeger(line or 0),
        error = result.stderr, statements = only_file(logged(self, from, "psql"), escapes_of(file)),
    }
end

---@return spec.migrate.Run
function Oracle:dbrun(file, folder)
    local from <const> = fs.stat(self.pg.logfile).size
    local ok, e = pcall(migrate.up, { url = with_path(self.url.dbrun, file.name), dirs = { folder }, table = LEDGER })
    if not ok and not errors.is(e) then error(e, 0) end
    return {
        sqlstate = not ok and (e.sqlstate or "refused") or nil, line = not ok and e.line or nil,
        error = not ok and ("%s\n%s"):format(e.text or e.message, e.hint) or nil,
        statements = only_file(logged(self, from, "dbrun migrate"), escapes_of(file)),
    }
end

---Runs dbrun and kills it before its message number `at`. Returns whether it ended before that.
---@return boolean
function Oracle:crash(file, folder, at)
    local result = process.run { core.options.program, "--no-env", "spec/support/migrate/crash.lua", tostring(at),
        with_path(self.url.dbrun, file.name), folder, LEDGER, timeout = 60 }
    return result.signal == nil
end

local STATE <const> = [[
select coalesce(string_agg(x, E'\n' order by x), '') from (
    select concat_ws(' ', 'relation', c.oid::regclass, relkind, pg_get_userbyid(relowner), obj_description(c.oid),
        (select string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull,
            pg_get_expr(adbin, adrelid)), ',' order by attnum)
           from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
          where attrelid = c.oid and attnum > 0 and not attisdropped),
        (select concat(indisvalid, indisunique) from pg_index where indexrelid = c.oid)) as x
      from pg_class c where relnamespace = any ($1) and relkind <> 't'
    union all
    select concat_ws(' ', 'function', pg_get_userbyid(proowner), pg_get_functiondef(oid))
      from pg_proc where pronamespace = any ($1)
    union all
    select pg_get_ruledef(r.oid) from pg_rewrite r join pg_class c on c.oid = ev_class
     where relnamespace = any ($1)) as x]]

---The contents of a file's schemas, as text to compare.
---@param who "psql"|"dbrun"
---@return string
function Oracle:state(who, file, sequences)
    local engine <const> = self.engine[who]
    local names <const> = ("array['%s'::regnamespace, '%s_b'::regnamespace]"):format(file.name, file.name)
    local out = { engine:value((STATE:gsub("%$1", names))) }
    for _, row in ipairs(engine:query(("select oid::regclass::text as name from pg_class where relnamespace = any (%s) "
        .. "and relkind = any ('{r,S}') order by 1"):format(names))) do
        local is_sequence <const> = row.name:find "%.drawn$"
        if not is_sequence then
            out[#out + 1] = row.name .. ": " .. engine:value(("select coalesce(string_agg(x::text, '|' "
                .. "order by x::text), '') from %s x"):format(row.name))
        elseif sequences then
            out[#out + 1] = row.name .. engine:value(("select concat(last_value, is_called) from %s"):format(row.name))
        end
    end
    return table.concat(out, "\n")
end

---Whether the file is recorded as applied.
---@return boolean
function Oracle:is_recorded(number)
    local engine <const> = self.engine.dbrun
    if not engine:value "select to_regclass('books.schema_migrations') is not null" then return false end
    return engine:value("select exists (select from books.schema_migrations where version = $1)", tostring(number))
end

return M
