--- batch.copy, and batch.archive into another database: rows arrive as they are, by their key.
local batch = require "dbrun.batch"
local crashes = require "spec.support.batch_crash"
local db = require "dbrun.db"
local pg = require "spec.support.pg"
local servers = require "spec.support.servers"

local TABLE <const> = [[
create type mood as enum ('good', 'bad');
create table orders (id int, region text collate "C", note text, price numeric(10, 2), mood mood, tags text[],
    raw bytea, doc json, span interval, at timestamptz, f float8, twice int generated always as (id * 2) stored,
    primary key (region, id))]]
local ROWS <const> = [[
insert into orders (id, region, note, price, mood, tags, raw, doc, span, at, f)
select i, 'r' || i % 3, nullif(E'a\t\\N\n"' || i, E'a\t\\N\n"7'), i / 4.0, 'bad', array['x,"y"', null], '\x000aff',
       '{"b": 1.10, "a": 12345678901234567890, "b": 2}', '-1 mon +2 days -00:00:03.5', '2020-06-01 12:00+02', 1 / 3.0
  from generate_series(1, 500) i]]
local SUM <const> = "select md5(string_agg(o::text, E'\\n' order by region, id)) from orders o"

describe("a batch into another database", function()
    local url, source, target, target_url
    before_each(function()
        url, target_url = servers.database(), servers.database()
        source, target = db.engine { url = url }, db.engine { url = target_url }
        source:exec(TABLE)
        target:exec(TABLE)
        source:exec(ROWS)
    end)
    after_each(function()
        source:close()
        target:close()
    end)

    local function count(engine, where)
        return engine:value("select count(*) from orders where " .. (where or "true"))
    end

    local function copy(more)
        local options = { name = "c", from = source, to = target, table = "orders", size = 100 }
        for key, value in pairs(more or {}) do options[key] = value end
        return batch.copy(options)
    end

    it("copies rows as they are, and updates existing ones", function()
        source:exec(("alter database %s set datestyle to 'SQL, DMY'"):format(source:value "select current_database()"))
        source:invalidate()
        target:exec "insert into orders (id, region, note) values (1, 'r1', 'old'), (1000, 'r1', 'stays')"
        local ended = copy():run { workers = 2 }
        assert.same({ "done", 500 }, { ended.state, ended.rows })
        assert.equal("stays", target:value "delete from orders where id = 1000 returning note")
        assert.equal(500, count(target))
        assert.equal(source:transaction(function(tx)
            tx:exec "set local datestyle to 'ISO, MDY'"
            return tx:value(SUM)
        end), target:value(SUM))
        -- The job's state is in the database that is written.
        assert.is_nil(source:value "select to_regclass('dbrun_batch_jobs')")
        assert.equal("done", target:value "select state from dbrun_batch_jobs")
    end)

    it("copies the rows that match where, once", function()
        local job = copy { where = "id <= 50 and note is not null" }
        local ended = job:run()
        assert.same({ "done", 49 }, { ended.state, ended.rows })
        assert.same({ 49, 0 }, { count(target), count(target, "id > 50") })
        local check = require("dbrun.batch.look").check
        assert.same({ 0, 49 }, { check(job).status, check(job).data.compared.target })
        target:exec "update orders set note = 'changed' where id = 8"
        local found = check(job)
        assert.same({ 1, 1 }, { found.status, found.data.compared.differ })
    end)

    it("compares columns by name and type, and needs a unique index on the target", function()
        target:exec "alter table orders alter price type numeric(12, 2), alter f type real"
        local e = pg.raised(function() copy():run() end)
        assert.match("^batch.copy: columns of the table in .* have other types: 'price' is numeric%(10,2%) here and "
            .. "numeric%(12,2%) there; 'f' is double precision here and real there$", e.message)
        target:exec "alter table orders alter price type numeric(10, 2), alter f type float8, drop column note"
        e = pg.raised(function() copy():run() end)
        assert.match(" lacks the column 'note'$", e.message)
        target:exec "alter table orders add note text, drop constraint orders_pkey"
        e = pg.raised(function() copy():run() end)
        assert.match(" has no unique index on %('region', 'id'%): an existing row could not be found$",
            e.message)
        assert.equal('create unique index concurrently on "public"."orders" ("region", "id")', e.hint)
        target:exec [[create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
            alter table orders alter region type text collate loose, add unique (region, id)]]
        e = pg.raised(function() copy():run() end)
        assert.match(" on %('region', 'id'%) has a collation that is not deterministic: ", e.message)
        target:exec "drop table orders"
        e = pg.raised(function() copy():run() end)
        assert.match("the table 'orders' is not there$", e.message)
        assert.match("to must be an engine or the address of a database",
            pg.raised(copy, { to = "reports" }).message)
    end)

    it("is another job with another database of the same server", function()
        local function hash(to)
            return batch.archive({ name = "a", table = "t", where = "true", to = to }).definition.hash
        end
        assert.not_equal(hash "postgres://localhost/a", hash "postgres://localhost/b")
        assert.equal(hash "postgres://u:x@localhost/a", hash "postgres://u:y@localhost/a")
    end)

    it("archives at least once: a crash between the commits loses no row, and repeats the same rows", function()
        local crash <close> = crashes.new(url, ([[return require("dbrun.batch").archive {
            name = "a", table = "orders", where = "id <= 400", size = 100, lock_timeout = 0.9, to = %q }]])
            :format(target_url))
        crash:at(source, "orders", 150, "commit")
        -- Committed there, not deleted here.
        assert.is_true(count(source) + count(target) > 500)
        assert.equal(1, count(source, "id = 150"))
        assert.equal(1, count(target, "id = 150"))
        assert.match("^done\t", (crash:finish(2)))
        assert.same({ 100, 400, 400 },
            { count(source), count(target), target:value "select count(distinct (region, id)) from orders" })
        assert.equal(0, count(target, "doc::text <> '{\"b\": 1.10, \"a\": 12345678901234567890, \"b\": 2}'"))
    end)

    it("stops when a trigger on the target leaves rows out", function()
        target:exec [[create function few() returns trigger language plpgsql as $$
            begin return case when new.id % 10 <> 0 then new end; end $$;
            create trigger few before insert on orders for each row execute function few()]]
        local e = pg.raised(function() copy():run() end)
        assert.match('^%d+ of the rows are not in "public"."orders": a trigger, a rule or a policy there ', e.message)
        assert.equal(0, count(target))
    end)

    it("copies each chunk once when its process is killed", function()
        target:exec [[create function hold() returns trigger language plpgsql as $$
            begin if new.id = 250 then perform pg_sleep(30); end if; return new; end $$]]
        target:exec "create trigger hold before insert on orders for each row execute function hold()"
        local crash <close> = crashes.new(target_url, ([[return require("dbrun.batch").copy {
            name = "c", table = "orders", from = %q, to = %q, size = 100, timeout = 40 }]]):format(url, target_url))
        crash:while_it(target, "query like '%dbrun_upsert%' and wait_event = 'PgSleep'")
        local done = target:value "select sum(rows)::int from dbrun_batch_ranges"
        assert.equal(done, count(target))
        target:exec "drop trigger hold on orders"
        assert.match("^done\t", (crash:finish(2)))
        assert.same({ 500, source:value(SUM) }, { count(target), target:value(SUM) })
        assert.equal(500, target:value "select sum(rows)::int from dbrun_batch_ranges")
    end)
end)
