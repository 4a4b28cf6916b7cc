--- Batch jobs under faults: starts and kills processes that work on a job, and counts how often each row was processed.
---
---     local job = batch.job { name = "count", table = "t", run = "update t set n = n + 1 where :chunk" }
---     local worker <close> = batch.start(job, { url = url, workers = 2 })
---     worker:kill()                            -- with SIGKILL
---     local result = worker:finish(60)         -- result.ended: what Job:run returned; result.error: what it raised
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local task = require "dbrun.task"

local M = {}

--- Works on a job and prints its events, a line of JSON each; the last line is the result.
local RUNNER <const> = [[
local errors, json, task = require "dbrun.error", require "dbrun.json", require "dbrun.task"
io.stdout:setvbuf "line"
local options <const> = json.decode(os.getenv "RUN")
local chunks <const> = os.getenv "CHUNKS"
function options.on(event)
    if event.what ~= "chunk" or chunks then
        event.at = task.now()
        print(json.encode(event))
    end
end
local job <const> = load(os.getenv "JOB", "=job")()
local ok <const>, e <const> = pcall(job.run, job, options)
print(json.encode(ok and { ended = e }
    or { error = tostring(e), sqlstate = errors.is(e) and e.sqlstate or nil, kind = errors.is(e) and e.kind or nil }))
os.exit(ok and (e.signal == "SIGINT" and 130 or e.signal == "SIGTERM" and 143 or 0) or 1)
]]

local function literal(value)
    if type(value) == "string" then return ("%q"):format(value) end
    if type(value) ~= "table" then return tostring(value) end
    local words <const> = {}
    for key, item in pairs(value) do words[#words + 1] = ("[%s] = %s"):format(literal(key), literal(item)) end
    return "{ " .. table.concat(words, ", ") .. " }"
end

---The source of a job: what `dbrun.batch`.job takes, without functions.
---@param definition table
---@return string
function M.job(definition)
    return ("return require('dbrun.batch').job(%s)"):format(literal(definition))
end

---@class spec.BatchWorker
---@field child dbrun.process.Child
---@field pid integer
---@field events table[] the events printed so far
local Worker = {}
local meta <const> = { __index = Worker, __name = "spec.BatchWorker" }

---Starts a process that works on a job.
---@param source string Lua that returns a job
---@param opts {url: string, workers?: integer, run?: table, env?: table, chunks?: boolean, words?: string[]} run: what
---Job:run takes; chunks: it prints an event for each chunk; words: in front of the program's command line
---@return spec.BatchWorker
function M.start(source, opts)
    local run <const> = { workers = opts.workers or 1, reconnect = 30, signals = true }
    for key, value in pairs(opts.run or {}) do run[key] = value end
    local env <const> = { JOB = source, RUN = json.encode(run), CHUNKS = opts.chunks and "1" or false }
    for key, value in pairs(opts.env or {}) do env[key] = value end
    env.DATABASE_URL = opts.url
    local command <const> = scripts.command("migrate", {}, env, {
        stdout = "capture", stderr = "stdout", pdeathsig = "KILL", stdin = RUNNER,
    })
    command[1], command[2], command[3] = core.options.program, "--no-env", "-"
    for i, word in ipairs(opts.words or {}) do table.insert(command, i, word) end
    local child <const> = process.start(command)
    return setmetatable({ child = child, pid = child.pid, events = {}, lines = {} }, meta)
end

local function take(worker, line)
    worker.lines[#worker.lines + 1] = line
    local ok <const>, event <const> = pcall(json.decode, line)
    if ok and type(event) == "table" then
        worker.events[#worker.events + 1] = event
        return event
    end
end

---Waits for an event with this name.
---@param what string
---@param seconds? number
---@return table event
function Worker:event(what, seconds)
    local stop <const> = task.now() + (seconds or 20)
    while task.now() < stop do
        local line <const> = self.child:read_line(math.max(0.01, stop - task.now()))
        if not line then break end
        local event <const> = take(self, line)
        if event and event.what == what then return event end
    end
    error(("no event '%s'; it said:\n%s"):format(what, table.concat(self.lines, "\n")), 2)
end

---@param signal? string default KILL
function Worker:kill(signal)
    self.child:kill(signal or "KILL")
    if not signal then self.child:wait(10) end
end

---Waits for its end.
---@param seconds? number
---@return {ended?: table, error?: string, code: integer, text: string, events: table[]}
function Worker:finish(seconds)
    local result <const> = self.child:wait(seconds or 60)
    for line in (result and result.stdout or ""):gmatch "[^\n]+" do take(self, line) end
    local text <const> = table.concat(self.lines, "\n")
    if not result then
        self.child:kill "KILL"
        error(("a worker did not end within %g s; it said:\n%s"):format(seconds or 60, text), 2)
    end
    local last <const> = self.events[#self.events] or {}
    return {
        ended = last.ended, error = last.error, sqlstate = last.sqlstate, code = result.code, text = text,
        events = self.events,
    }
end

function Worker:close()
    self.child:close()
end

meta.__close = Worker.close

---The number of its events with this name.
---@param what string
---@return integer
function Worker:count(what)
    local n = 0
    for _, event in ipairs(self.events) do
        if event.what == what then n = n + 1 end
    end
    return n
end

-- ---- the table ----

local TABLE <const> = [[
create table %s (id bigint primary key, n integer not null default 0, fill text) with (fillfactor = 60);
insert into %s (id, fill) select i, 'row ' || i from generate_series(1, %d) i;
analyze %s]]

---A table with a counter for each row: `id` from 1 to `rows`, `n` 0.
---@param conn table
---@param name string
---@param rows integer
function M.counters(conn, name, rows)
    for statement in TABLE:format(name, name, rows, name):gmatch "[^;]+" do conn:exec(statement) end
end

local SLOW <const> = [[
create or replace function slowly() returns trigger language plpgsql as
    $$ begin perform pg_sleep(%g); return null; end $$;
create trigger slowly after update on %s for each statement execute function slowly()]]

---Delays each statement that updates the table by `seconds`.
---@param conn table
---@param name string
---@param seconds number
function M.slow(conn, name, seconds)
    conn:exec(SLOW:format(seconds, name))
end

---How often rows were processed, as text: "1: 20000" when each of 20,000 rows was processed once.
---@param conn table
---@param name string
---@return string
function M.counted(conn, name)
    return conn:value(([[select string_agg(n || ': ' || rows, ', ' order by n)
        from (select n, count(*) as rows from %s group by n) x]]):format(name))
end

---The number of rows in the job's committed chunks.
---@param conn table
---@param name string of the job
---@return integer
function M.progress(conn, name)
    local there <const> = conn:value "select to_regclass('dbrun_batch_ranges') is not null"
    return there and conn:value("select coalesce(sum(rows), 0)::int8 from dbrun_batch_ranges where job = $1", name) or 0
end

---Everything about the ranges of a job, for messages.
---@param conn table
---@param name string
---@return string
function M.ranges(conn, name)
    local list <const> = {}
    for i, r in ipairs(conn:query("select * from dbrun_batch_ranges where job = $1 order by id", name)) do
        list[i] = ("%d: pass %d %s position %s next %s last %s owner %s taken %d chunks %d rows %d %s"):format(r.id,
            r.pass, r.state, r.position and r.position[1], r.next and r.next[1], r.last[1], tostring(r.owner), r.taken,
            r.chunks, r.rows, r.error and json.encode(r.error) or "")
    end
    return table.concat(list, "\n")
end

---A folder that is removed when its block ends.
---@return table closing with `path`
function M.folder()
    local path <const> = fs.mkdtemp()
    return setmetatable({ path = path }, { __close = function() fs.rmtree(path) end })
end

return M
