--- A job's source in place of a table: a list, the result of a query, a CSV file.
local batch = require "dbrun.batch"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local jobs = require "dbrun.batch.state.jobs"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local KEYS <const> = "select count(*) from pg_class where relname like 'dbrun_batch_keys_%' and relkind = 'r'"

describe("the source of a batch", function()
    local engine, n
    setup(function()
        engine = db.engine { url = servers.database() }
        engine:exec "create table orders (id int primary key, region text, note text, seen int not null default 0)"
    end)
    teardown(function() engine:close() end)
    before_each(function()
        engine:exec "truncate orders; insert into orders select i, 'r' || i % 3 from generate_series(1, 300) i"
        n = (n or 0) + 1
    end)

    local function job(more)
        local options = {
            name = "job-" .. n, engine = engine, size = 10, run = "update orders set seen = seen + 1 where :chunk",
        }
        for key, value in pairs(more) do options[key] = value end
        return batch.job(options)
    end

    ---The ids that were seen; fails when one was seen twice.
    local function seen()
        assert.equal(0, engine:value "select count(*) from orders where seen > 1")
        return engine:value "select string_agg(id::text, ' ' order by id) from orders where seen = 1"
    end

    describe("as a list", function()
        it("is walked once, in chunks, and its table is dropped when the job is done", function()
            local given = job { source = batch.list { 7, 3, 100, 3, 999 }, size = 2, min = 1 }
            local ended = given:run()
            assert.same({ "done", 3, 2 }, { ended.state, ended.rows, ended.chunks })
            assert.equal("3 7 100", seen())
            assert.equal(0, engine:value(KEYS))
            assert.equal("done", given:run().state) -- and does not start again
            assert.equal("3 7 100", seen())
        end)

        it("gives rows to a function, and conditions to a statement with an alias", function()
            local got = {}
            job {
                table = batch.list { { id = 1, region = "r1" }, { id = 2, region = "r0" }, { id = 3, region = "r0" } },
                run = function(_, chunk)
                    for _, row in ipairs(chunk:rows()) do got[#got + 1] = row.id .. row.region end
                    assert.equal(#chunk:rows { "id" }, #chunk:rows "region")
                    return 0
                end,
            }:run()
            assert.equal("1r1 2r0 3r0", table.concat(got, " "))
            n = n + 1
            local ended = job {
                source = batch.list { { id = 1, region = "r1" }, { id = 2, region = "r0" }, { id = 3, region = "r0" } },
                as = "o", run = "update orders o set seen = 1 from orders p where p.id = o.id and :chunk",
            }:run()
            assert.equal(2, ended.rows)
            assert.equal("1 3", seen())
        end)

        it("can have keys of any type", function()
            engine:exec "create table if not exists things (key uuid primary key, seen int)"
            engine:exec "insert into things values ('00000000-0000-0000-0000-000000000001', 0)"
            local ended = job {
                source = batch.list({ "00000000-0000-0000-0000-000000000001" },
                    { key = "key", types = { key = "uuid" } }),
                run = "update things set seen = 1 where :chunk",
            }:run()
            assert.equal(1, ended.rows)
        end)

        it("is checked", function()
            local function message(...) return pg.raised(batch.list, ...).message end
            assert.equal("batch.list: the list is empty", message {})
            assert.equal("batch.list: element 3 is nil, and others follow", message { 1, 2, nil, 4 })
            assert.equal("batch.list: element 2: 'id' is not valid UTF-8", message { "a", "\xff" })
            assert.equal("batch.query: the query ends with ';': leave it out",
                pg.raised(batch.query, "select 1 as id; ", "id").message)
            assert.equal("batch.list: element 2 is a table, and the first is a number", message { 1, { id = 1 } })
            assert.equal("batch.list: element 2: 'id' is text, and that of the first is bigint", message { 1, "2" })
            assert.equal("batch.list: element 1: 'id' must be a number or a string, got a boolean", message { true })
            assert.equal("batch.list: element 2 has 'more', which the first has not",
                message { { id = 1 }, { id = 2, more = 3 } })
            assert.equal("batch.list: types: there is no column 'key'", message({ 1 }, { types = { key = "int" } }))
            local e = pg.raised(job, { source = batch.list { 1 }, where = "id > 5" })
            assert.equal("batch.job: where is for a table, and source is a list of 1", e.message)
            assert.equal("batch.job: source is none", pg.raised(job, { source = {} }).message)
        end)

        it("is refused when it has changed; forget drops its table", function()
            job { source = batch.list { 1, 2, 3 }, size = 1, min = 1 }:run { limit = 1 }
            local e = pg.raised(function() job { source = batch.list { 1, 2, 4 }, size = 1, min = 1 }:run() end)
            assert.match("has changed since it was started", e.message)
            assert.equal(1, engine:value(KEYS))
            local conn <close> = engine:acquire()
            jobs.cancel(conn, "job-" .. n)
            jobs.forget(conn, "job-" .. n)
            assert.equal(0, engine:value(KEYS))
        end)
    end)

    describe("as a query", function()
        it("runs once: a resumed job has the same keys", function()
            local given = job {
                source = batch.query([[select region, id from orders where id <= :last and seen = 0
                    union all select null, 1]], { "region", "id" }, { last = 40 }),
            }
            assert.equal(10, given:run { limit = 10 }.rows)
            engine:exec "update orders set id = id + 1000 where id in (39, 40)" -- and 41 is not among them
            assert.equal("done", given:run { workers = 2 }.state)
            local ids = {}
            for i = 1, 40 do ids[i] = i < 39 and i or nil end
            assert.is_true(#seen() >= #table.concat(ids, " "))
            assert.equal(0, engine:value "select count(*) from orders where seen > 0 and id between 41 and 999")
            assert.equal(0, engine:value(KEYS))
        end)

        it("raises the server's error, and leaves no job", function()
            local e = pg.raised(function()
                job { source = batch.query("select nothing from orders", "nothing") }:run()
            end)
            assert.equal("42703", e.sqlstate)
            assert.equal("the keys of the job: a query", e.context)
            assert.equal(0, engine:value(KEYS))
        end)
    end)

    describe("as a CSV file", function()
        local dir, path
        before_each(function()
            dir = fs.mkdtemp()
            path = dir .. "/notes.csv"
            local lines = { "id,note" }
            for i = 1, 100 do lines[i + 1] = ('%d,"note\n%d"'):format(i, i) end
            fs.write(path, table.concat(lines, "\r\n"))
        end)
        after_each(function() fs.rmtree(dir) end)

        local SET <const> = "update orders set note = :note, seen = seen + 1 where id = :id"

        it("runs a statement for each record, and resumes at its position", function()
            local given = job { source = batch.csv(path, { types = { id = "integer" } }), run = SET }
            assert.equal(20, given:run { limit = 20 }.rows)
            local ended = given:run { workers = 3 }
            assert.same({ "done", 80 }, { ended.state, ended.rows })
            assert.equal(100, engine:value "select count(*) from orders where seen = 1 and note = E'note\\n' || id")
        end)

        it("gives its rows to a function", function()
            local lines = {}
            local ended = job {
                source = batch.csv(path),
                run = function(_, chunk)
                    for _, row in ipairs(chunk:rows()) do lines[#lines + 1] = row.id end
                    assert.is_true(math.type(chunk.last) == "integer")
                    return #chunk:rows { "id" }
                end,
            }:run()
            assert.same({ 100, 100, "100" }, { ended.rows, #lines, lines[100] })
        end)

        it("sets a malformed record aside, and processes the rest", function()
            fs.write(path, "id,note\n1,a\n2,b\n3\n4,d\n5,e\n")
            local ended = job { source = batch.csv(path), run = "update orders set seen = 1 where id = :id::int",
                on_error = "split" }:run()
            assert.same({ 4, 1 }, { ended.rows, ended.failed })
            assert.equal("1 2 4 5", seen())
            n = n + 1
            local e = pg.raised(function()
                job { source = batch.csv(path), run = "update orders set seen = 1 where id = :id::int" }:run()
            end)
            assert.equal("notes.csv line 4: it has 1 field, expected 2", e.message)
        end)

        it("sets a record aside that has a field with invalid text", function()
            fs.write(path, "id,note\n1,a\n\n2,\xff\n3,a\0b\n")
            local ended = job { source = batch.csv(path, { types = { id = "integer" } }), run = SET,
                on_error = "split" }:run()
            assert.same({ "1", 1, 2 }, { seen(), ended.rows, ended.failed })
            n = n + 1
            local e = pg.raised(function() job { source = batch.csv(path), run = "select :id, :note" }:run() end)
            assert.same({ "22P04", "notes.csv line 4: note: it is not valid UTF-8" }, { e.sqlstate, e.message })
        end)

        it("has a column for each parameter, or leaves no job behind", function()
            local given = job { source = batch.csv(path), run = "select :id, :started, :text" }
            local e = pg.raised(function() given:run() end)
            assert.match("^batch.csv: run has the parameter :text, and '[^']+' has no column of this name$", e.message)
            assert.match("^its columns are: id, note; ", e.hint)
            assert.equal(0, engine:value("select count(*) from dbrun_batch_jobs where name = $1", given.name))
        end)

        it("is refused when it has changed or is missing", function()
            local given = job { source = batch.csv(path, { types = { id = "integer" } }), run = SET }
            given:run { limit = 20 }
            fs.write(path, fs.read(path) .. "\r\n101,x")
            local e = pg.raised(function() given:run() end)
            assert.match("cannot go on where it was: the file has %d+ bytes, SHA%-256 %x+ now, and had ", e.message)
            fs.unlink(path)
            assert.match("is not there$", pg.raised(function() given:run() end).message)
        end)
    end)
end)
