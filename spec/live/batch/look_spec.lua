-- Checks of jobs on a real server: the dry run, the trial, the check, and refusals before the first chunk.
local batch = require "dbrun.batch"
local db = require "dbrun.db"
local define = require "dbrun.batch.define"
local look = require "dbrun.batch.look"
local servers = require "spec.support.servers"
local walks = require "dbrun.batch.walk"

local engine, conn, url

setup(function()
    url = servers.database()
    engine = db.engine { url = url, size = 4 }
    conn = engine:acquire()
    conn:exec [[
        set client_min_messages = error;
        create table orders (id int primary key, amount numeric, cents int, twice int generated always as (cents * 2)
            stored, note text default repeat('x', 100));
        insert into orders (id, amount, cents) select i, i / 4.0, case when i % 4 = 0 then i end
            from generate_series(1, 24000) i;
        analyze orders]]
end)
teardown(function()
    conn:release()
    engine:close()
end)

local function definition(options)
    options.name, options.engine = options.name or "job", options.engine or engine
    options.table = options.table or "orders"
    return define.of("run", options)
end

local function backfill(options)
    options.where, options.run = options.where or "cents is null", options.run
        or "update orders set cents = round(amount * 100) where :chunk"
    return definition(options)
end

local function text_of(found) return table.concat(found.lines, "\n") end

local function has(found, text)
    assert.is_truthy(text_of(found):find(text, 1, true), ("no '%s' in\n%s"):format(text, text_of(found)))
end

local function purge(name, where)
    return definition { table = name, where = where, run = ("delete from %s where :chunk"):format(name) }
end

--- The server, as another role sees it.
local function engine_as(role)
    local address <const> = url .. (url:find("?", 1, true) and "&" or "?") .. "options=-c%20role%3D" .. role
    return db.engine { url = address, size = 2 }
end

---The walk of a definition, and the reasons for which its run is refused.
local function dangers(d) return look.dangers(conn, d, walks.open(conn, d)) end

---The contents of the database, to find changes.
local function state_of_all()
    return conn:value [[select count(*) || ' ' || coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)
        from pg_stat_user_tables]] .. conn:value "select sum(cents) || ' ' || count(*) from orders"
end

describe("a dry run", function()
    it("shows the first chunks, the plan and what to expect, and changes nothing", function()
        local before <const> = state_of_all()
        local found <const> = look.dry_run(backfill {})
        assert.equal(0, found.status)
        local d <const> = found.data
        assert.same({ name = "orders", key = { "id" }, index = "orders_pkey" }, d.table)
        assert.equal(3, #d.first.chunks)
        assert.same({ 1000, 1333 }, { d.first.chunks[1].rows, d.first.chunks[1].last })
        assert.equal(1333, d.first.chunks[2].first)
        assert.is_true(math.abs(d.rows.fits - 18000) < 600, "rows that fit: " .. d.rows.fits)
        assert.is_true(math.abs(d.chunks.count - 18) <= 1, "chunks: " .. d.chunks.count)
        assert.is_nil(d.plans[1].problem)
        has(found, "Index Scan using orders_pkey on orders")
        has(found, "a run makes the tables of batch jobs in the schema public")
        has(found, "nothing was changed")
        assert.equal(before, state_of_all())
        assert.is_nil(conn:value "select to_regclass('dbrun_batch_jobs')::text")
    end)

    it("works for a role that may not create the tables of the state", function()
        conn:exec [[create role reader; grant select, update on orders to reader;
            revoke create on schema public from public]]
        local reader <close> = engine_as "reader"
        has(look.dry_run(backfill { engine = reader }), "the role may not make them in the schema public: "
            .. "dbrun batch init")
    end)

    it("names the indexes that each row writes, and why", function()
        local effects = look.dry_run(backfill {}).data.targets[1]
        assert.is_true(effects.hot)
        assert.same({}, effects.indexes)
        conn:exec "create index by_twice on orders ((twice + 1)) where id > 5"
        local found <const> = look.dry_run(backfill {})
        effects = found.data.targets[1]
        assert.is_false(effects.hot)
        assert.same({ { column = "twice", index = "by_twice" } }, effects.why)
        assert.same({ "orders_pkey", "by_twice" }, effects.indexes)
        has(found, "no HOT, because twice is in by_twice")
        assert.is_true(look.dry_run(backfill { run = "update orders set amount = 1 where :chunk" }).data.targets[1].hot)
        conn:exec "drop index by_twice"
    end)

    it("names triggers that fire, and no others", function()
        conn:exec [[
            create function nothing() returns trigger language plpgsql as 'begin return new; end';
            create trigger a_on_cents before update of cents on orders for each row execute function nothing();
            create trigger b_on_note after update of note on orders for each row execute function nothing();
            create trigger c_off after update on orders for each row execute function nothing();
            alter table orders disable trigger c_off;
            create trigger d_on_delete after delete on orders for each statement execute function nothing()]]
        local found <const> = look.dry_run(backfill {})
        assert.same({ { name = "a_on_cents", calls = "nothing", each = "row", moment = "before" } },
            found.data.targets[1].triggers)
        has(found, "a_on_cents: before each row that is updated, calls nothing")
        has(look.dry_run(purge("orders", "id < 10")), "d_on_delete: after each statement, calls nothing")
        conn:exec "drop function nothing() cascade"
    end)

    it("says which policies hide rows from the role", function()
        conn:exec [[create role tenant; create table secured (id int primary key, n int);
            insert into secured values (1, 1); grant all on secured to tenant;
            alter table secured enable row level security;
            create policy own on secured for select using (n = 1);
            create policy others on secured for select to pg_monitor using (true)]]
        local d <const> = definition { table = "secured", run = "update secured set n = 2 where :chunk" }
        assert.is_nil(look.dry_run(d).data.targets[1].row_security)
        local tenant <close> = engine_as "tenant"
        d.engine = tenant
        local found <const> = look.dry_run(d)
        assert.same({ role = "tenant", policies = { "own" } }, found.data.targets[1].row_security)
        has(found, "row security applies to tenant (own)")
    end)

    it("says what it cannot see, and which rows are left out", function()
        conn:exec [[create table loose (id uuid primary key default gen_random_uuid(), k int unique);
            insert into loose (k) select case when i % 5 > 0 then i end from generate_series(1, 50) i]]
        local run <const> = "update loose set k = k where :chunk"
        has(look.dry_run(definition { table = "loose", run = run }), "(id is a uuid: new rows come anywhere)")
        local found = look.dry_run(purge("loose", "k > 3"))
        assert.same({}, found.data.notes)
        found = look.dry_run(definition { table = "loose", key = "k", nulls = "skip",
            run = "update loose set id = id where :chunk" })
        assert.equal(10, found.data.nulls)
        has(found, "10 rows whose key is NULL")
        has(look.dry_run(backfill {}), "known by a trial only")
    end)

    it("names the partitions that could be dropped instead", function()
        conn:exec [[create table parts (at date, id int, primary key (at, id)) partition by range (at);
            create table parts_2020 partition of parts for values from ('2020-01-01') to ('2021-01-01');
            create table parts_2021 partition of parts for values from ('2021-01-01') to ('2022-01-01');
            create table parts_2022 partition of parts for values from ('2022-01-01') to ('2023-01-01');
            insert into parts select date '2020-01-01' + i, i from generate_series(1, 1000) i]]
        local function whole(where) return look.dry_run(purge("parts", where)).data.partitions.whole end
        assert.same({ "parts_2020", "parts_2021" }, whole "at < '2022-01-01'")
        assert.same({ "parts_2020" }, whole "at < '2021-06-01'")
        assert.same({}, whole "at < '2022-01-01' and id % 2 = 0")
        assert.same({ "parts_2020", "parts_2021", "parts_2022" }, whole "at < :started - interval '1 year'")
    end)

    it("says when no row matches, and when the table is empty", function()
        local found = look.dry_run(backfill { where = "cents = -1" })
        assert.same({ 0, 0, 0 }, { found.status, #found.data.plans, found.data.rows.fits })
        has(found, "none: no row fits")
        conn:exec "create table empty (id int primary key)"
        has(look.dry_run(purge("empty", "id < 3")), "none: the table is empty")
    end)
end)

describe("a job that would do harm", function()
    it("is refused for foreign keys without an index, by name and with the remedy", function()
        conn:exec [[
            create table parent (id int primary key, n int);
            create table child (id int primary key, parent_id int references parent on delete cascade);
            create table "Grand child" (id int, "child id" int references child);
            insert into parent select i from generate_series(1, 100) i]]
        local list = dangers(purge("parent", "id < 10"))
        assert.equal(2, #list)
        assert.equal("child refers to parent by its foreign key child_parent_id_fkey, and has no index that begins "
            .. "with parent_id: each row that is deleted would read all of child", list[1].text)
        assert.equal("create index concurrently on public.child (parent_id)", list[1].hint)
        assert.equal('create index concurrently on public."Grand child" ("child id")', list[2].hint)
        local d <const> = purge("parent", "id < 10")
        assert.equal(1, look.dry_run(d).status)
        assert.equal(0, look.dry_run(d, { force = true }).status)
        has(look.dry_run(d), "--force does it all the same")
        -- An update of another column does not check the referencing rows.
        assert.same({}, dangers(definition { table = "parent", run = "update parent set n = 1 where :chunk" }))
        conn:exec 'create index on child (parent_id, id); create index on "Grand child" ("child id") where id > 3'
        list = dangers(purge("parent", "id < 10"))
        assert.equal(1, #list)
        conn:exec 'create index on "Grand child" ("child id") where "child id" is not null'
        assert.same({}, dangers(purge("parent", "id < 10")))
        has(look.dry_run(purge("parent", "id < 10")), "on delete cascade: its rows go, too; found by the index "
            .. "child_parent_id_id_idx")
    end)

    it("is refused for publications of tables without a replica identity", function()
        conn:exec [[create table published (id int not null, n int);
            create unique index published_key on published (id);
            insert into published values (1, 1);
            create publication changes for table published with (publish = 'insert, update')]]
        local function changing(run) return definition { table = "published", key = "id", run = run } end
        local d <const> = changing "update published set n = 2 where :chunk"
        local list <const> = dangers(d)
        assert.equal(1, #list)
        assert.matches("^the publication changes publishes UPDATE of published, and it has no primary", list[1].text)
        assert.equal("55000", look.try(d).data.error.sqlstate) -- the server refuses it, too
        assert.same({}, dangers(changing "delete from published where :chunk"))
        conn:exec "alter table published replica identity using index published_key"
        assert.same({}, dangers(d))
        assert.is_nil(look.try(d).data.error)
        conn:exec "drop publication changes"
    end)

    it("is refused when its statement does not reach the table through the key's index", function()
        local function problem(options, after, upto)
            local d <const> = backfill(options)
            return look.first_plan(conn, d, walks.open(conn, d),
                define.named(d, { after = after, upto = upto, started = "2024-01-01T00:00:00Z" }))
        end
        assert.is_nil(problem({}, nil, { "1000" }))
        local text <const> = problem({ run = "update orders set cents = 1 where (:chunk) or note = 'y'" },
            { "5" }, { "99" })
        assert.matches("^the statement does not reach orders through the index orders_pkey", text)
        assert.matches("Seq Scan on orders", text, 1, true)
        -- Few rows match: the chunk is the whole table, and reading all of it is right.
        assert.is_nil(problem({ where = "amount = 3" }, nil, { "24000" }))
        -- An object that only the statement before it creates is not known yet.
        assert.is_nil(problem({ run = {
            "create temporary table picked on commit drop as select id from orders where :chunk",
            "update orders set cents = 1 where :chunk and id in (select id from picked)",
        } }, { "5" }, { "99" }))
    end)
end)

describe("a trial", function()
    it("runs the first chunk and rolls it back", function()
        local before <const> = conn:value "select sum(cents) || ' ' || count(*) from orders"
        local found <const> = look.try(backfill {})
        local d <const> = found.data
        assert.same({ 0, 1000, 1333, false, 0 }, { found.status, d.rows, d.chunk.last, d.keeps, d.still })
        assert.same({ { table = "orders", mode = "RowExclusiveLock", blocks = false } }, d.locks)
        assert.is_true(d.wal_bytes > 100000)
        assert.is_true(d.total.fits > 15000 and d.total.fits < 24000, "rows that fit: " .. d.total.fits)
        assert.equal(before, conn:value "select sum(cents) || ' ' || count(*) from orders")
        has(found, "holds for no row of the chunk any more")
        assert.is_true(look.try(backfill { run = "update orders set amount = 1 where :chunk" }).data.keeps)
    end)

    it("of a function says beforehand which effects are real", function()
        local said <const> = {}
        local found <const> = look.try(backfill { run = function(tx, chunk)
            assert.equal(1000, #chunk:rows "id")
            assert.equal(1, #said)
            tx:exec "lock table orders in share mode"
            return tx:query("update orders set cents = 1 where id <= $1 and cents is null", chunk.last).affected
        end }, { say = function(text) said[#said + 1] = text end })
        assert.equal(1000, found.data.rows)
        assert.matches("done for real", said[1])
        has(found, "orders: ShareLock, which blocks others on the whole table")
    end)

    it("reports what the server refuses, also at COMMIT, and what takes too long", function()
        conn:exec "create table later (id int primary key, o int references orders deferrable initially deferred)"
        conn:exec "insert into later values (1, 1), (2, 2)"
        local d = look.try(definition { table = "later", run = "update later set o = -1 where :chunk" })
        assert.same({ 1, "23503" }, { d.status, d.data.error.sqlstate })
        d = look.try(definition { table = "later", target = 0.02, timeout = 0.05,
            run = "update later set o = 1 from (select pg_sleep(1)) s where :chunk" })
        has(d, "took longer than its timeout, 0.05 s")
        assert.equal("2", conn:value "select o::text from later where id = 2")
        d = look.try(definition { table = "later", where = "o = 7", run = "delete from later where :chunk" })
        assert.same({ 0, nil }, { d.status, d.data.chunk })
        local ok <const>, e <const> = pcall(look.try, definition { table = "later", run = function(tx)
            tx:exec "commit"
            return 1
        end }, { say = function() end })
        assert.is_false(ok)
        assert.equal("usage", e.kind)
    end)
end)

describe("a check", function()
    it("counts the rows that where still finds, in steps, and failed ranges and newer rows separately", function()
        conn:exec [[create table work (id int primary key, n int);
            insert into work select i, 0 from generate_series(1, 3000) i]]
        local options <const> = {
            name = "work", table = "work", where = "n = 0", size = 500, look = 500, on_error = "skip", engine = engine,
            run = "update work set n = 1 / (case when id = 700 then 0 else 1 end) where :chunk",
        }
        assert.equal(3000, look.check(define.of("run", options)).data.found)
        batch.job(options):run()
        conn:exec [[update work set n = 0 where id = 2000;
            insert into work select i, 0 from generate_series(3001, 3007) i]]
        local found <const> = look.check(batch.job(options))
        local d <const> = found.data
        assert.same({ 1, 1, 7, "done" }, { found.status, d.found, d.newer, d.state })
        assert.equal(1, #d.failed)
        assert.equal("22012", d.failed[1].sqlstate)
        assert.is_true((d.failed[1].first or 0) < 700 and d.failed[1].last >= 700 and d.failed[1].rows > 0)
        conn:exec "update work set n = 1"
        assert.equal(0, look.check(batch.job(options)).status)
        has(look.check(batch.job(options)), "work: no row is left")
    end)

    it("waits while a signal of the job is over its limit", function()
        local calls, said = 0, {}
        local d <const> = backfill { look = 8000, throttle = { mine = function()
            calls = calls + 1
            return calls == 2 and "the others come first" or nil
        end } }
        assert.equal(18000, look.check(d, { say = function(text) said[#said + 1] = text end }).data.found)
        assert.equal(3, calls)
        assert.equal(1, #said)
        assert.matches("^waiting: mine: the others come first", said[1])
    end)

    it("compares a copy with its source, range by range", function()
        local other <close> = db.engine { url = (servers.database()), size = 4 }
        local TABLE <const> = "create table copied (id int primary key, at timestamptz, f float8)"
        conn:exec(TABLE .. "; insert into copied select i, now(), i / 3.0 from generate_series(1, 1500) i")
        other:exec(TABLE)
        local copy <const> = batch.copy { name = "copy", table = "copied", from = engine, to = other, look = 1000 }
        copy:run()
        local found = look.check(copy)
        assert.same({ 0, 2, 0 }, { found.status, found.data.compared.ranges, found.data.compared.differ })
        other:exec "update copied set f = 0 where id = 1200; delete from copied where id = 3"
        found = look.check(copy)
        assert.same({ 1, 2, 1500, 1499 }, { found.status, found.data.compared.differ, found.data.compared.source,
            found.data.compared.target })
        has(found, "the start to 1000: 1,000 rows here, 999 rows in the copy")
    end)

    it("tries a list of keys, whose table is not kept", function()
        local job <const> = batch.job { name = "listed", source = batch.list { 4, 8 }, engine = engine,
            run = "update orders set note = 'y' where :chunk" }
        assert.equal(2, look.try(job).data.rows)
        assert.equal(0, conn:value "select count(*) from pg_class where relname like 'dbrun_batch_keys%'")
    end)

    it("refuses a job without where, because nothing shows which rows are done", function()
        local ok <const>, e <const> = pcall(look.check, definition { run = "update orders set cents = 1 where :chunk" })
        assert.is_false(ok)
        assert.matches("has no where", e.message)
    end)
end)
