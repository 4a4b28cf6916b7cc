-- A connection that is lost at a certain moment of a chunk.
local batch = require "dbrun.batch"
local fake = require "spec.support.fake"
local pg = require "spec.support.pg"
local schema = require "dbrun.batch.state.schema"
local servers = require "spec.support.servers"
local take = require "dbrun.batch.state.take"
local task = require "dbrun.task"

local engine, proxy, url

setup(function()
    local database <const>, name = servers.database()
    engine = pg.engine { url = database, size = 4 }
    proxy = fake.proxy { to = servers.shared_postgres() }
    url = proxy:address_of(servers.shared_postgres(), { database = name })
end)
teardown(function()
    engine:close()
    proxy:close()
end)

local function fresh(rows)
    engine:exec "drop table if exists dbrun_batch_jobs, dbrun_batch_ranges, t"
    engine:exec "create table t (id int primary key, n int not null default 0)"
    engine:query("insert into t select i from generate_series(1, $1::int) i", rows)
    engine:exec "analyze t"
end

local function counted()
    return engine:value "select min(n) || ' ' || max(n) || ' ' || count(*) from t"
end

--- Runs a job through the proxy; at(chunk) is called in its third chunk, before and after its rows are changed.
local function run(options, at)
    local n, retries = 0, {}
    options.name, options.table, options.engine, options.size, options.max = "j", "t", url, 100, 100
    options.run = function(tx, chunk)
        n = n + 1
        local third <const> = n == 3
        if third then at("before", chunk) end
        local rows <const> = tx:query("update t set n = n + 1 where id > $1 and id <= $2", chunk.first or 0,
            chunk.last).affected
        if third then at("after", chunk) end
        return rows
    end
    local ended <const> = batch.job(options):run { reconnect = 20, on = function(event)
        if event.what == "retry" then retries[#retries + 1] = event.text end
    end }
    return ended, retries
end

it("a chunk whose time limit passes while the server is unreachable is done later", function()
    fresh(1000)
    local ended <const>, retries <const> = run({ target = 0.1, timeout = 0.3 }, function(when)
        if when ~= "after" then return end
        proxy:refuse()
        proxy:hold "up"
        task.spawn(function()
            task.sleep(0.8)
            proxy:reset()
            proxy:pass "up"
            proxy:accept()
        end)
        task.sleep(10)
    end)
    assert.equal("done", ended.state)
    assert.equal("1 1 1000", counted())
    assert(#retries >= 1, #retries)
end)

it("a range without a chunk is not set aside, however often its connection is lost", function()
    fresh(10)
    local conn <close> = engine:acquire()
    local place <const> = schema.ensure(conn)
    local store <const> = { name = "j", me = "here:1/1", place = place }
    local id <const> = conn:value [[
        insert into dbrun_batch_ranges (job, pass, last, owner) values ('j', 1, '{10}', 'here:1/1') returning id]]
    local range
    for _ = 1, 6 do range = take.again(conn, store, { id = id }) end
    assert.same({ "open", 0 }, { range.state, range.taken })
    conn:query("update dbrun_batch_ranges set next = '{5}' where id = $1", id)
    for i = 1, 4 do assert.equal(i, take.again(conn, store, { id = id }).taken) end
    assert.is_nil(take.again(conn, store, { id = id }))
    local why <const> = conn:value "select error->>'message' from dbrun_batch_ranges where state = 'failed'"
    assert.equal("its worker ended 5 times", why)
end)
