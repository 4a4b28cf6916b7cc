-- A job's effect on the server, and concurrent changes of its table.
local batch = require "dbrun.batch"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local engine

setup(function() engine = pg.engine { url = servers.database(), size = 6 } end)
teardown(function() engine:close() end)

--- A table t of n rows, with the even numbers as keys.
local function fresh(n)
    engine:exec("drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t")
    engine:exec("create table t (id int primary key, n int not null default 0)")
    engine:query("insert into t select 2 * i from generate_series(1, $1::int) i", n)
    engine:exec "analyze t"
end

it("no plan of a chunk is JIT-compiled, whatever its estimated cost", function()
    fresh(3000)
    local jit
    batch.job({
        name = "j", table = "t", engine = engine,
        run = function(tx, chunk)
            jit = tx:value "show jit"
            return #chunk:rows "id"
        end,
    }):run()
    assert.equal("off", jit)
end)

it("rows that are inserted into a chunk while it runs do not count as rows that `run` left out", function()
    fresh(1000)
    local inserted, first = false, nil
    local ended <const> = batch.job({
        name = "j", table = "t", where = "n = 0", engine = engine, size = 100, max = 100,
        run = function(tx, chunk)
            local list <const> = {}
            for i, row in ipairs(chunk:rows "id") do list[i] = row.id end
            local rows <const> = tx:query("update t set n = n + 1 where id = any ($1)", list).affected
            if not inserted then
                inserted, first = true, list[1] + 1
                engine:query("insert into t (id) values ($1)", first)
            end
            return rows
        end,
    }):run()
    assert.equal(1, engine:value("select n from t where id = $1", first))
    assert.same({ false, 0, 1001 }, { ended.keeps, ended.found, ended.rows })
end)

it("a chunk takes three round trips", function()
    fresh(400)
    local DELAY <const> = 0.05
    local shared <const>, name <const> = servers.shared_postgres(), engine:value "select current_database()"
    local proxy <close> = fake.proxy { to = shared }
    local least, chunks = math.huge, 0
    local job <const> = batch.job {
        name = "j", table = "t", engine = proxy:address_of(shared, { database = name }), size = 40, max = 40,
        run = "update t set n = n + 1 where :chunk",
    }
    job:run { on = function(event)
        if event.what == "begin" then proxy:delay("up", DELAY) end
        if event.what ~= "chunk" then return end
        chunks = chunks + 1
        if chunks > 1 and chunks <= 6 then least = math.min(least, event.seconds) end
        if chunks == 6 then proxy:delay("up", 0) end
    end }
    assert.equal(10, chunks)
    assert(least >= 2.9 * DELAY and least < 4 * DELAY, least)
end)
