--- Work on many rows of a database that is in use: in chunks that commit, by one machine or several; it can be
--- interrupted, throttled, watched and gone on with.
---
---     return require("dbrun.batch").job {
---         name = "orders-cents", table = "orders", where = "cents is null",
---         run = "update orders set cents = round(amount * 100) where :chunk",
---     }
---
--- `dbrun batch run FILE` runs it. The manual's chapter "batch" has the options.
local args <const> = require "dbrun.args"
local define <const> = require "dbrun.batch.define"

local M = {}

---@class dbrun.batch.Job
---@field definition dbrun.batch.Definition
---@field name string
---Raises the error of dbrun.error.
local Job = {}
local meta <const> = { __index = Job, __name = "dbrun.batch.Job" }

---@param definition dbrun.batch.Definition
---@return dbrun.batch.Job
local function job_of(definition)
    return setmetatable({ definition = definition, name = definition.name }, meta)
end

local RUN <const> = {
    workers = args.whole(1), limit = args.whole(1), seconds = args.some_seconds, adopt = "boolean",
    reconnect = args.seconds, count = "boolean", force = "boolean", target = "string", on = "function",
    signals = "boolean",
}

---Runs the job in this program, until it is done or the run ends.
---@param opts? dbrun.batch.RunOptions
---@return table ended {state, rows, chunks, failed, seconds, found, share, why}
---```lua
---db.async:exec "create table orders (id int primary key, amount numeric, cents int)"
---db.async:exec "insert into orders select i, i / 100.0 from generate_series(1, 5000) i"
---local job = batch.job {
---    name = "orders-cents", table = "orders", where = "cents is null",
---    run = "update orders set cents = round(amount * 100) where :chunk",
---}
---local ended = job:run()
---print(ended.state, ended.rows)  --> done  5000
---db.async:exec "drop table orders, dbrun_batch_jobs, dbrun_batch_ranges"
---```
function Job:run(opts)
    args.self("run", self, meta, "a job", "job")
    opts = args.options("job:run", opts, RUN)
    return require("dbrun.batch.work.run").start(self.definition, opts)
end

---Starts the job in the database, or checks that it is there, and works on nothing: others do, by `dbrun batch run`.
---@param opts? dbrun.batch.RunOptions
---@return string state "running", "paused", "done", ...
---```lua
---db.async:exec "create table orders (id int primary key, cents int)"
---local job = batch.job {
---    name = "orders-cents", table = "orders", run = "update orders set cents = 0 where :chunk",
---}
---print(job:start())  --> done
---db.async:exec "drop table orders, dbrun_batch_jobs, dbrun_batch_ranges"
---```
function Job:start(opts)
    args.self("start", self, meta, "a job", "job")
    opts = args.options("job:start", opts, RUN)
    return require("dbrun.batch.work.run").only_start(self.definition, opts)
end

---Is it a job of batch.job, batch.purge, ...?
---@param v any
---@return boolean
---```lua
---print(batch.is_job {})  --> false
---```
function M.is_job(v)
    return getmetatable(v) == meta
end

---A job: a statement, or a function, that runs for each chunk of a table's rows.
---@param options dbrun.batch.Options
---@return dbrun.batch.Job
---```lua
---local job = batch.job {
---    name = "orders-cents", table = "orders", where = "cents is null",
---    run = "update orders set cents = round(amount * 100) where :chunk",
---}
---print(job.name)  --> orders-cents
---```
function M.job(options)
    return job_of(define.of("run", options))
end

return M
