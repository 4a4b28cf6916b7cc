--- batch.archive into files: each row is in them once, despite crashes.
local batch = require "dbrun.batch"
local crashes = require "spec.support.batch_crash"
local csv = require "dbrun.csv"
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local pg = require "spec.support.pg"
local process = require "dbrun.process"
local servers = require "spec.support.servers"

describe("a batch that archives into files", function()
    local url, engine, dir
    before_each(function()
        url = servers.database()
        engine = db.engine { url = url }
        engine:exec [[
            create table orders (id int primary key, note text, at timestamptz default '2020-01-01 00:00:00Z');
            insert into orders select i, case when i % 2 = 0 then E'two\n"lines", ' || i end
              from generate_series(1, 700) i]]
        dir = fs.mkdtemp()
    end)
    after_each(function()
        engine:close()
        fs.rmtree(dir)
    end)

    local function archive(name, where, size)
        return batch.archive {
            name = "a", engine = engine, table = "orders", where = where or "id <= 600", size = size or 100,
            to = { file = dir .. "/" .. name },
        }
    end

    ---The ids in all files of CSV, sorted; no file has an incomplete row.
    local function ids_of(texts)
        local ids = {}
        for _, text in ipairs(texts) do
            local reader = csv.reader(function()
                local piece = text
                text = nil
                return piece
            end, { types = { id = "integer" }, strict = true })
            for row in reader do
                assert.equal(row.id % 2 == 0 and 'two\n"lines", ' .. row.id or nil, row.note)
                ids[#ids + 1] = row.id
            end
        end
        table.sort(ids)
        return ids
    end

    local function texts()
        local list = {}
        for _, name in ipairs(fs.list(dir)) do
            local path = dir .. "/" .. name
            list[#list + 1] = name:find "%.gz$" and process.run { "gzip", "-dc", path }.stdout or fs.read(path)
        end
        return list
    end

    local function upto(n)
        local list = {}
        for i = 1, n do list[i] = i end
        return list
    end

    it("writes CSV and JSON lines, compressed too, a file for each worker", function()
        engine:exec "create table kept as table orders"
        for _, name in ipairs { "%w.csv", "%w.csv.gz" } do
            local ended = archive(name):run { workers = 2 }
            assert.same({ "done", 600 }, { ended.state, ended.rows })
            assert.same(upto(600), ids_of(texts()))
            assert.equal(100, engine:value "select count(*) from orders")
            for _, file in ipairs(fs.list(dir)) do
                assert.match(name:gsub("%%w", "%%d"):gsub("%.", "%%.") .. "$", file)
                fs.unlink(dir .. "/" .. file)
            end
            engine:exec "truncate orders; insert into orders table kept"
            engine:exec "drop table dbrun_batch_jobs, dbrun_batch_ranges"
        end
        engine:exec "alter table orders add doc json default E'[1,\\r\\n2]'"
        archive("rows-%w.jsonl"):run()
        local n = 0
        for line in io.lines(dir .. "/rows-1.jsonl") do
            n = n + 1
            assert.same({ id = n, note = n % 2 == 0 and 'two\n"lines", ' .. n or db.null,
                at = "2020-01-01T00:00:00+00:00", doc = { 1, 2 } }, json.decode(line))
        end
        assert.equal(600, n)
    end)

    it("has each row once after crashes, and cuts off incomplete rows", function()
        local crash <close> = crashes.new(url, ([[return require("dbrun.batch").archive {
            name = "a", table = "orders", where = "id <= 600", size = 100, lock_timeout = 0.9,
            to = { file = %q } }]]):format(dir .. "/rows-%w.csv"))
        -- The very first chunk: written, not committed.
        crash:at(engine, "orders", 50, "commit")
        assert.is_true(#fs.read(dir .. "/rows-1.csv") > 1000)
        assert.equal(700, engine:value "select count(*) from orders")
        -- Committed after its worker was gone.
        crash:at(engine, "orders", 250, "commit", true)
        local left = engine:value "select count(*) from orders"
        assert.is_true(left < 600)
        -- Written and not committed, again.
        crash:at(engine, "orders", 450, "commit")
        local before = #fs.read(dir .. "/rows-1.csv")
        assert.equal(engine:value [[select max((note ->> key)::float8) from dbrun_batch_ranges, jsonb_object_keys(note)
            key]] < before, true)
        assert.match("^done\t", (crash:finish(2)))
        assert.equal(100, engine:value "select count(*) from orders")
        assert.is_true(fs.exists(dir .. "/rows-1.csv"))
        assert.same({}, { table.unpack(fs.list(dir), 3) }) -- no lock files
        assert.same(upto(600), ids_of(texts()))
    end)

    it("says what is wrong with its files", function()
        assert.equal("batch.archive: the file's name has no %w", pg.raised(archive, "rows.csv").message)
        assert.match("^batch.archive: to.format is missing", pg.raised(archive, "rows-%w.txt").message)
        local e = pg.raised(batch.archive, { name = "a", table = "orders", where = "true", to = { fil = "x" } })
        assert.match("unknown option 'fil'", e.message)
        fs.write(dir .. "/plain", "")
        e = pg.raised(function() archive("plain/%w.csv"):run() end)
        assert.equal("io", e.kind)
        assert.equal(700, engine:value "select count(*) from orders")
    end)
end)
