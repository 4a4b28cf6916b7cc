--- Work on many rows of a database that is in use: in chunks that commit, by one machine or several. A job can be
--- interrupted, throttled, watched and resumed.
---
---     return require("dbrun.batch").job {
---         name = "orders-cents", table = "orders", where = "cents is null",
---         run = "update orders set cents = round(amount * 100) where :chunk",
---     }
---
--- `dbrun batch run FILE` runs it. See the manual's chapter "batch".
---
--- Raises errors of kind `usage`.
local args <const> = require "dbrun.args"
local define <const> = require "dbrun.batch.define"

local M = {}

---@class dbrun.batch.Options
---@field name string the job's identity in the database
---@field table? string the table that the job walks: "orders", "app.orders"
---@field source? table batch.list, batch.query or batch.csv, instead of a table
---@field as? string the table's name in `where` and `run`
---@field key? string|string[] columns of a unique index (the primary key)
---@field where? string the rows that still need work
---@field params? table<string, any> values of :name
---@field run? string|string[]|fun(tx: table, chunk: table): integer a statement with :chunk or :range, several, or a
---function that returns the number of rows
---@field after? fun(chunk: table, rows: integer) called after each COMMIT
---@field size? integer rows of the first chunk (1000)
---@field min? integer rows of the smallest chunk (10)
---@field max? integer rows of the largest chunk (20000)
---@field look? integer keys read, at most, to find a chunk (100000)
---@field target? number seconds that a chunk should take (0.5)
---@field timeout? number seconds that a chunk can take at most (4 * target)
---@field duty? number share of the time spent working (1)
---@field rate? number rows per second
---@field hours? string when it may work: "22:00-06:00 Europe/Berlin"
---@field lock_timeout? number seconds that a chunk waits for a lock (0.2)
---@field settings? table<string, string|number|boolean> of the server, for each chunk
---@field throttle? table<string, any> load limits at which the job waits
---@field critical? table<string, any> load limits at which the job is paused
---@field on_error? "stop"|"skip"|"split" what an error in the data does (stop)
---@field max_failed? integer failed ranges before it stops (100)
---@field passes? integer how often the table is walked, with `where` (2)
---@field follow? boolean goes on with new rows at the end of a growing key
---@field ties? boolean a key that is not unique: one value is one chunk
---@field nulls? "skip" rows whose key has a NULL are left out
---@field lock? boolean chunk:rows locks its rows (true)
---@field compressed? boolean also works on compressed chunks of a hypertable
---@field blind? boolean goes on without signals that cannot be read
---@field force? boolean runs a job that would be refused as dangerous
---@field replicas? table[] engines of standbys that the primary does not show
---@field engine? dbrun.Engine|string where the table and the state are (the configured database)

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

---Registers the job in the database, or checks that it is registered, without working on it: `dbrun batch run` does the
---work.
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

---Whether a value is a job of batch.job, batch.purge, ...
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

-- ---- kinds: jobs whose `run` is built in ----

---A job that deletes the rows that match `where`. Each chunk is one statement, which commits with the position: each
---row is deleted once, even after a crash.
---@param options dbrun.batch.Options table and where at least
---@return dbrun.batch.Job
---```lua
---local job = batch.purge {
---    name = "old-sessions", table = "session",
---    where = "seen < :started - interval '90 days'", -- the job's start, on the server's clock
---}
---print(job.name)  --> old-sessions
---```
function M.purge(options)
    return job_of(require("dbrun.batch.kinds.purge").of(options))
end

---A job that moves the rows that match `where` out of a table. To another table of the database
---(`to = "archive.orders"`) one statement moves them, exactly once. To another database (`to` is an engine or an
---address) they are upserted by key and committed there before they are deleted here: nothing is lost, and after a
---crash the same rows are written again. To files (`to = { file = "archive/orders-%w.csv.gz" }`, with `format = "csv"`
---or `"jsonl"` if the name has neither), each worker writes its own file (%w is its number, %h the machine). The rows
---are on the disk before the deletion commits; what a crash leaves after the last commit is cut off.
---@param options dbrun.batch.Options table, where and to at least
---@return dbrun.batch.Job
---Raises an error of kind `usage`, when the job runs, if the target lacks a column.
---```lua
---local job = batch.archive {
---    name = "orders-2019", table = "orders", where = "created_at < '2020-01-01'", to = "archive.orders",
---}
---print(job.name)  --> orders-2019
---```
function M.archive(options)
    return job_of(require("dbrun.batch.kinds.archive").of(options))
end

---A job that copies the rows of a table, all or those that match `where`, into the table of the same name in another
---database. Existing rows are updated by their key. The job's state is in the target: rows and position commit
---together, so each chunk is copied once. The copy is not a snapshot: rows that are deleted in the source before the
---job's position stay in the target.
---@param options dbrun.batch.Options from (default: the configured database), to and table at least
---@return dbrun.batch.Job
---Raises an error of kind `usage`, when the job runs, if columns are missing or have another type.
---```lua
---local job = batch.copy {
---    name = "orders-to-reports", table = "orders", to = "postgres://app@reports.example/shop",
---}
---print(job.name)  --> orders-to-reports
---```
function M.copy(options)
    return job_of(require("dbrun.batch.kinds.copy").of(options))
end

-- ---- sources: what a job walks instead of a table ----

---Keys as the source of a job: scalars, or rows as `{ id = 7, region = "eu" }`. They are written into a table when the
---job starts; `:chunk` in its run is `(id) in (the keys of the chunk)`, and `chunk:rows()` returns them. A duplicate
---key is taken once.
---@param list any[]
---@param opts? {key?: string, types?: table<string, string>} key: the column that scalars are of (default "id"); types:
---those of columns, where they are not bigint, double precision and text: `{ id = "uuid" }`
---@return dbrun.batch.KeysSource
---```lua
---local job = batch.job {
---    name = "recompute", source = batch.list { 4, 8, 15 },
---    run = "update orders set cents = round(amount * 100) where :chunk",
---}
---print(job.name)  --> recompute
---```
function M.list(list, opts)
    return require("dbrun.batch.kinds.list").source(list, opts)
end

---The keys that a query returns as the source of a job, for keys that come from a join or an aggregate and have no
---index to walk. The query runs once, when the job starts; its keys are written into a table. `:chunk` in the job's run
---is `(id) in (the keys of the chunk)`, and `chunk:rows()` returns them. NULL keys are skipped, and each key is taken
---once.
---@param sql string a SELECT; `:name` are parameters
---@param key string|string[] its columns that make the key
---@param values? table<string, any>
---@return dbrun.batch.KeysSource
---Raises the server's errors about the query when the job starts.
---```lua
---local job = batch.job {
---    name = "recount", source = batch.query("select distinct customer as id from orders", "id"),
---    run = "update customer c set orders = (select count(*) from orders o where o.customer = c.id) where :chunk",
---}
---print(job.name)  --> recount
---```
function M.query(sql, key, values)
    return require("dbrun.batch.kinds.query").source(sql, key, values)
end

---A CSV file as the source of a job: its records are walked instead of a table's rows. `run` as SQL has the columns as
---`:name` and is run for each record; a function gets the records of a chunk from `chunk:rows()`. The job resumes where
---it stopped, on the machine that has the file, as long as the file has not changed.
---@param path string
---@param opts? {header?: boolean|string[], types?: table, delimiter?: string, quote?: string, null?: string} as for
---csv.reader
---@return dbrun.batch.CsvSource
---Raises an error when the job runs, if the file does not exist.
---```lua
---local job = batch.job {
---    name = "prices", source = batch.csv("prices.csv", { types = { id = "integer" } }),
---    run = "update product set price = :price where id = :id",
---}
---print(job.name)  --> prices
---```
function M.csv(path, opts)
    return require("dbrun.batch.kinds.csv").source(path, opts)
end

return M
