--- batch.purge and batch.archive into a table: each row once, despite crashes; and refusals that name the cause.
local batch = require "dbrun.batch"
local crashes = require "spec.support.batch_crash"
local db = require "dbrun.db"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local raised = pg.raised

describe("a batch that deletes", function()
    local url, engine
    before_each(function()
        url = servers.database()
        engine = db.engine { url = url }
        engine:exec [[
            create table orders (id int primary key, note text, price numeric(10, 2) not null,
                                 twice numeric generated always as (price * 2) stored);
            insert into orders (id, note, price) select i, 'n' || i, i / 4.0 from generate_series(1, 1000) i]]
    end)
    after_each(function() engine:close() end)

    local function count(relation) return engine:value("select count(*) from " .. relation) end

    it("purges the rows that match, and no others", function()
        local ended = batch.purge {
            name = "p", engine = engine, table = "orders", as = "o", where = "o.id % 2 = 0", size = 100,
        }:run()
        assert.same({ "done", 500 }, { ended.state, ended.rows })
        assert.same({ 500, 0 }, { count "orders", count "orders where id % 2 = 0" })
    end)

    it("requires where", function()
        for _, kind in ipairs { "purge", "archive" } do
            local e = raised(batch[kind], { name = "p", table = "orders", to = "x" })
            assert.equal(("batch.%s: where is missing: it says which rows are deleted"):format(kind), e.message)
        end
        assert.match("to is missing", raised(batch.archive, { name = "p", table = "orders", where = "true" }).message)
    end)

    describe("into a table", function()
        before_each(function()
            engine:exec [[
                create schema old;
                create table old.orders (at timestamptz not null default now(), price numeric(10, 2) not null,
                    note text, id int generated always as identity primary key, twice numeric)]]
        end)

        local function archive(more)
            local options = { name = "a", engine = engine, table = "orders", where = "id <= 700", to = "old.orders",
                size = 100 }
            for key, value in pairs(more or {}) do options[key] = value end
            return batch.archive(options)
        end

        it("moves columns by name, including identity and generated ones", function()
            local ended = archive():run { workers = 2 }
            assert.same({ "done", 700 }, { ended.state, ended.rows })
            assert.equal(300, count "orders")
            assert.equal(700, engine:value [[select count(*) from old.orders
                where note = 'n' || id and price = round(id / 4.0, 2) and twice = price * 2]])
        end)

        it("moves each row once, whether a killed worker's chunk was committed or not", function()
            local crash <close> = crashes.new(url, [[return require("dbrun.batch").archive {
                name = "a", table = "orders", where = "id <= 700", to = "old.orders", size = 100,
                lock_timeout = 0.9 }]])
            crash:at(engine, "orders", 150, "before")
            assert.same({ 900, 100 }, { count "orders", count "old.orders" })
            crash:at(engine, "orders", 250, "commit", true)
            assert.equal(1000, count "orders" + count "old.orders")
            assert.match("^done\t", (crash:finish(2)))
            assert.same({ 300, 700, 700 },
                { count "orders", count "old.orders", engine:value "select count(distinct id) from old.orders" })
        end)

        it("refuses to lose a column, or to leave out a required one", function()
            engine:exec "alter table old.orders drop column note, drop column price"
            local e = raised(function() archive():run() end)
            assert.equal("batch.archive: old.orders lacks the columns 'note', 'price'", e.message)
            engine:exec "alter table old.orders add note text, add price numeric, add region text not null"
            e = raised(function() archive { name = "b" }:run() end)
            assert.equal("batch.archive: old.orders has the column 'region', NOT NULL and without a default, and the "
                .. "source does not", e.message)
            engine:exec "alter table old.orders drop region, alter price type numeric(10, 1), alter id type bigint"
            e = raised(function() archive { name = "e" }:run() end)
            assert.equal("batch.archive: columns of old.orders have other types, in which values would be lost: "
                .. "'price' is numeric(10,2) here and numeric(10,1) there", e.message)
            e = raised(function() archive { name = "c", to = "nowhere" }:run() end)
            assert.equal("batch.archive: the archive 'nowhere' is not there", e.message)
            e = raised(function() archive { name = "d", to = "orders" }:run() end)
            assert.equal("batch.archive: to is the table itself", e.message)
            assert.same({ 1000, 0 }, { count "orders", count "old.orders" })
        end)

        it("stops where a trigger of the archive leaves rows out", function()
            engine:exec [[create function few() returns trigger language plpgsql as $$
                begin return case when new.id % 10 <> 0 then new end; end $$;
                create trigger few before insert on old.orders for each row execute function few()]]
            local e = raised(function() archive():run() end)
            assert.equal("batch.archive: of 100 rows 90 came into \"old\".\"orders\": a trigger or a rule there leaves "
                .. "some out", e.message)
            assert.same({ 1000, 0 }, { count "orders", count "old.orders" })
            engine:exec "drop trigger few on old.orders"
            assert.equal("done", archive():run().state)
            assert.same({ 300, 700 }, { count "orders", count "old.orders" })
        end)

        it("stops when a column is added meanwhile, and goes on with it", function()
            local altered = false
            local e = raised(function()
                archive():run { on = function(event)
                    if event.what == "chunk" and not altered then
                        altered = true
                        engine:exec "alter table orders add extra int default 7"
                    end
                end }
            end)
            assert.match("have changed since the job began$", e.message)
            assert.equal(1000, count "orders" + count "old.orders")
            e = raised(function() archive():run() end)
            assert.equal("batch.archive: old.orders lacks the column 'extra'", e.message)
            engine:exec "alter table old.orders add extra int"
            assert.equal("done", archive():run().state)
            assert.same({ 300, 700 }, { count "orders", count "old.orders" })
            assert.is_true(count "old.orders where extra = 7" >= 500)
        end)
    end)
end)
