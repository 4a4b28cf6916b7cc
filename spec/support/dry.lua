--- Runs scripts with --dry-run and checks that the database is unchanged afterwards.
local core <const> = require "dbrun.core"
local process <const> = require "dbrun.process"
local servers <const> = require "spec.support.servers"

local M = {}

local TABLES <const> = [[
create table orders (id int primary key, note text);
create table items (id int primary key, order_id int not null references orders on delete cascade);
create table nodes (id int primary key, parent int references nodes deferrable initially deferred);
insert into orders select i, 'n' from generate_series(1, 2500) i;
insert into items select i, i from generate_series(1, 2500) i;
insert into nodes values (1, null);
]]

local CONTENTS <const> = [[
select (select md5(string_agg(t::text, ',' order by id)) from orders t) || (select md5(string_agg(t::text, ','
    order by id)) from items t) || (select md5(string_agg(t::text, ',' order by id)) from nodes t)
    || (select count(*) from pg_class) || (select count(*) from pg_attribute) || (select count(*) from pg_proc)]]

---@return { url: string, engine: dbrun.Engine, contents: string }
function M.database()
    local db <const> = require "dbrun.db"
    local url <const> = servers.database()
    local engine <const> = db.engine { url = url, size = 2 }
    engine:exec(TABLES)
    return { url = url, engine = engine, contents = engine:value(CONTENTS) }
end

---@param at table from M.database
---@return boolean
function M.is_unchanged(at)
    return at.engine:value(CONTENTS) == at.contents
end

--- The code that each run begins with.
local BEGIN <const> = [[
local db, task, errors = require "dbrun.db", require "dbrun.task", require "dbrun.error"
local function fails(fn, ...) local ok, e = pcall(fn, ...) assert(not ok, "no error") return e end
local e = db.async
]]

---The command line of a run.
---@param at table
---@param code string
---@param options? string[] more options of dbrun
---@param more? table<string, string> more environment variables
---@return table
function M.command(at, code, options, more)
    local argv <const> = { core.options.program, "--no-env", "--dry-run" }
    table.move(options or {}, 1, #(options or {}), #argv + 1, argv)
    argv[#argv + 1], argv[#argv + 2] = "-e", BEGIN .. code
    argv.env = { DATABASE_URL = at.url }
    for key, value in pairs(more or {}) do argv.env[key] = value end
    return argv
end

---Runs it to its end, without --dry-run.
---@return dbrun.process.Result
function M.run_for_real(at, code)
    local argv <const> = M.command(at, code)
    table.remove(argv, 3)
    assert(argv[2] == "--no-env" and argv[3] == "-e")
    argv.timeout = 60
    return process.run(argv)
end

---Runs it to its end.
---@return dbrun.process.Result
function M.run(...)
    local argv <const> = M.command(...)
    argv.timeout = 60
    return process.run(argv)
end

return M
