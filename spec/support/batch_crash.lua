--- Runs a batch job in a separate process, and kills that process in the middle of a chunk.
---
---     local crash <close> = crashes.new(url, [[return require("dbrun.batch").purge { ... }]])
---     crash:at(engine, "orders", 250, "before")    -- killed as it deletes the row with that id
---     crash:at(engine, "orders", 250, "commit")    -- killed as it commits that row's chunk
---     local result = crash:finish()                -- runs it again, to its end
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local process = require "dbrun.process"

local M = {}

local Crash = {}
local meta = { __index = Crash, __close = function(self) fs.rmtree(self.dir) end }

local RUN <const> = [[
local job = dofile(arg[1])
local ended = job:run { workers = tonumber(arg[2]) }
print(ended.state, ended.rows)
]]

---@param url string of the database
---@param job string the file that returns the job
---@param env? table<string, string>
function M.new(url, job, env)
    local dir = fs.mkdtemp()
    fs.write(dir .. "/job.lua", job)
    fs.write(dir .. "/run.lua", RUN)
    local all = { DATABASE_URL = url }
    for key, value in pairs(env or {}) do all[key] = value end
    return setmetatable({ dir = dir, env = all }, meta)
end

local function command(self, workers)
    return {
        core.options.program, "--no-env", self.dir .. "/run.lua", self.dir .. "/job.lua", tostring(workers or 1),
        env = self.env, stdout = "capture", stderr = "capture",
    }
end

---Starts the job, and kills its process once a session of the database matches the condition.
---@param engine table
---@param state string a condition on pg_stat_activity
---@param goes_on? boolean the server does not notice, and commits what the process has sent
---@param release? fun() lets the session go on
function Crash:while_it(engine, state, goes_on, release)
    local child = process.start(command(self))
    local waiting = pg.eventually(20, function()
        local result = child:wait(0)
        if result then error("the job ended before its crash: " .. result.stdout .. result.stderr) end
        return engine:value(("select pid from pg_stat_activity where datname = current_database() and pid <> "
            .. "pg_backend_pid() and %s"):format(state))
    end, "the wait of the chunk")
    child:kill "KILL"
    child:wait(10)
    if not goes_on then engine:query("select pg_terminate_backend($1)", waiting) end
    if release then release() end
    pg.eventually(20, function()
        return engine:value("select count(*) from pg_stat_activity where pid = $1", waiting) == 0
    end, "the end of the killed worker's session")
end

local HOLD <const> = [[
create or replace function hold() returns trigger language plpgsql as $$
begin
    if old.id = %d then perform pg_advisory_xact_lock(7); end if;
    return old;
end $$;
drop trigger if exists hold on %s;
create %s trigger hold %s delete on %s %s for each row execute function hold()]]

---Kills the process while its chunk waits. The session is then terminated, as the server does by itself after a while,
---and rolls back; with `goes_on` it goes on, and commits what the process has sent.
---@param engine table
---@param relation string the table whose rows are deleted
---@param id integer the row at which it waits
---@param moment "before"|"commit" as the row is deleted, or as its chunk commits
---@param goes_on? boolean
function Crash:at(engine, relation, id, moment, goes_on)
    local at_commit = moment == "commit"
    engine:exec(HOLD:format(id, relation, at_commit and "constraint" or "", at_commit and "after" or "before", relation,
        at_commit and "deferrable initially deferred" or ""))
    local conn <close> = engine:acquire()
    conn:query "select pg_advisory_lock(7)"
    self:while_it(engine, "wait_event_type = 'Lock' and wait_event = 'advisory'", goes_on, function()
        conn:query "select pg_advisory_unlock(7)"
    end)
    engine:exec(("drop trigger hold on %s"):format(relation))
end

---Runs the job to its end.
---@param workers? integer
---@return string what "done	700"
---@return dbrun.process.Result
function Crash:finish(workers)
    local spec = command(self, workers)
    spec.timeout = 30
    local result = process.run(spec)
    if not result.ok then error(result.stdout .. result.stderr) end
    return (result.stdout:gsub("%s+$", "")), result
end

return M
