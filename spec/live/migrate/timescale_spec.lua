-- Migrations and seeds on TimescaleDB. Debian does not package it: without it all is pending.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local seed = require "dbrun.seed"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local FULL <const> = [[
create schema "S x"; create schema app;
create table conditions (at timestamptz not null, device int not null, temp float default 1.5, note text,
    primary key (device, at));
select create_hypertable('conditions', by_range('at', interval '3 days'));
select add_dimension('conditions', by_hash('device', 4));
create index on conditions (temp) where temp > 10;
create table refs (device int, at timestamptz, foreign key (device, at) references conditions);
create function tf() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger t1 before insert on conditions for each row execute function tf();
alter table conditions set (timescaledb.compress, timescaledb.compress_segmentby = 'device',
    timescaledb.compress_orderby = 'at desc nulls last, temp');
alter table conditions replica identity full; alter table conditions cluster on conditions_pkey;
create table "S x".ints (t int not null, d text, "q""x" int, unique (t));
select create_hypertable('"S x".ints', 't', chunk_time_interval => 10, create_default_indexes => false);
create function app.now_int() returns int language sql stable as $$ select 5 $$;
select set_integer_now_func('"S x".ints', 'app.now_int');
alter table "S x".ints set (timescaledb.compress, timescaledb.compress_segmentby = '',
    timescaledb.compress_orderby = 't');
create table plain (ts timestamp not null);
select create_hypertable('plain', 'ts', chunk_time_interval => interval '90 min');
create policy p on plain using (true); alter table plain enable row level security;

create materialized view app.hourly with (timescaledb.continuous, timescaledb.materialized_only = false) as
    select time_bucket('1 hour', at) as bucket, device, avg(temp) as t from conditions group by 1, 2 with no data;
create materialized view app.daily with (timescaledb.continuous, timescaledb.create_group_indexes = false) as
    select time_bucket('1 day', bucket) as bucket, max(t) as t from app.hourly group by 1 with no data;
create materialized view "S x"."Agg ""1" with (timescaledb.continuous) as
    select time_bucket(5, t) as b, count(*) as n, "q""x" from "S x".ints group by 1, 3 with no data;
alter materialized view "S x"."Agg ""1" rename column n to "N ''n";
comment on view app.hourly is 'by ''hour'''; comment on column "S x"."Agg ""1"."N ''n" is 'it''s \ back';
create index on app.hourly (t); create index named_idx on app.hourly (device, t);
alter materialized view app.hourly set (timescaledb.compress = true, timescaledb.compress_segmentby = 'device');
create view app.above as select bucket, t from app.hourly where t > 1;
create view public.higher as select * from app.above;
create materialized view mv as select "N ''n" as n from "S x"."Agg ""1"; create unique index mvi on mv (n);
comment on view public.higher is 'on a view on an aggregate';

select add_compression_policy('conditions', interval '7 days');
select add_retention_policy('conditions', interval '30 days', schedule_interval => interval '2 days',
    timezone => 'Europe/Berlin', initial_start => '2025-01-01 00:00+00');
select add_reorder_policy('conditions', 'conditions_at_idx');
select alter_job(job_id, max_retries => 7, scheduled => false) from timescaledb_information.jobs
 where proc_name = 'policy_reorder';
select add_continuous_aggregate_policy('app.hourly', interval '3 days', interval '1 hour', interval '30 minutes');
select add_continuous_aggregate_policy('app.daily', null, interval '1 day', interval '1 day');
select add_continuous_aggregate_policy('"S x"."Agg ""1"', 20, 5, interval '1 hour');
select add_retention_policy('app.hourly', interval '100 days'); select add_retention_policy('"S x".ints', 5000);
select alter_job(job_id, config => config || '{"verbose_log": true}') from timescaledb_information.jobs
 where proc_name = 'policy_retention' and hypertable_name = 'ints';
create procedure app.job(job_id int, config jsonb) language plpgsql as $$ begin perform 1; end $$;
select add_job('app.job', interval '1 hour', config => '{"a": "it''s"}', scheduled => false);
insert into conditions values ('2025-01-01', 1, 2), ('2025-02-01', 2, 3); insert into "S x".ints values (1, 'a', 1)]]

---TimescaleDB's objects of a database as text, without the numbers of objects.
local STATE <const> = [[
select 'h', hypertable_schema, hypertable_name, num_dimensions::text, compression_enabled::text, '', ''
  from timescaledb_information.hypertables
union all select 'd', hypertable_schema, hypertable_name, column_name, column_type::text,
       coalesce(time_interval::text, integer_interval::text, num_partitions::text), coalesce(integer_now_func, '')
  from timescaledb_information.dimensions where hypertable_schema not like '\_timescaledb%'
union all select 'c', hypertable_schema, hypertable_name, attname, segmentby_column_index::text,
       orderby_column_index::text,
       orderby_asc::text || orderby_nullsfirst::text from timescaledb_information.compression_settings
 where hypertable_schema not like '\_timescaledb%'
union all select 'a', view_schema, view_name, materialized_only::text, compression_enabled::text, view_definition, ''
  from timescaledb_information.continuous_aggregates
union all select 'j', hypertable_schema, hypertable_name, proc_name,
       schedule_interval || ' ' || max_runtime || ' ' || max_retries || ' ' || retry_period,
       scheduled || ' ' || fixed_schedule || ' ' || coalesce(initial_start::text, ''),
       (config - 'hypertable_id' - 'mat_hypertable_id')::text
  from timescaledb_information.jobs where job_id >= 1000 and proc_name <> 'job'
order by 1, 2, 3, 4, 5, 6, 7]]

describe("TimescaleDB:", function()
    if servers.shared_postgres():psql "select 1 from pg_available_extensions where name = 'timescaledb'" == "" then
        return pending "timescaledb is not installed"
    end
    local server, url, name, folder
    local count = 0

    local function database()
        count = count + 1
        local new = "timescale_" .. count
        server:psql("create database " .. new)
        return server:address { database = new }, new
    end

    setup(function()
        server = servers.postgres { settings = { shared_preload_libraries = "timescaledb", max_worker_processes = 20,
            ["timescaledb.telemetry_level"] = "off" } }
    end)
    teardown(function() server:close() end)
    before_each(function()
        url, name = database()
        server:psql("create extension timescaledb", name)
        folder = fs.mkdtemp()
    end)
    after_each(function() fs.rmtree(folder) end)

    local function migrate(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url, DBRUN_MIGRATIONS_DIR = folder,
            PATH = server.bindir .. ":" .. os.getenv "PATH" }) -- the server's own pg_dump, if it has one
    end

    local function dump()
        local result = migrate("dump", "--file", "-")
        assert.equal(0, result.code, result.text)
        return result.stdout
    end

    it("a dump makes the same database again", function()
        server:psql(FULL, name)
        local text, state = dump(), server:psql(STATE, name)
        assert.is_nil(text:find "CREATE %u+ _timescaledb")
        assert.is_nil(text:find("_hyper_", 1, true))
        url, name = database()
        local loaded = process.run { server:client "psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", url,
            stdin = text }
        assert.equal(0, loaded.code, loaded.stderr)
        assert.equal(text, dump())
        assert.equal(state, server:psql(STATE, name))
    end)

    it("a dump does not depend on existing chunks", function()
        server:psql([[create table devices (id int primary key); create table metrics (at timestamptz not null, d int);
            select create_hypertable('metrics', 'at'); create view both_of as select * from devices join metrics
                on d = id]], name)
        local before = dump()
        server:psql("insert into metrics select '2026-01-01'::timestamptz + i * interval '1 week', 1 "
            .. "from generate_series(1, 9) i", name)
        assert.equal(before, dump())
    end)

    it("a dump contains objects that need a certain order, and names with line breaks", function()
        server:psql([[
            create table "odd
on only" (at timestamptz not null, i int not null, primary key (at, i));
            select create_hypertable('"odd
on only"', 'at');
            alter table "odd
on only" replica identity using index "odd
on only_pkey";
            create index " ON ONLY x" on "odd
on only" (i);
            create materialized view agg with (timescaledb.continuous) as
                select time_bucket('1 day', at) as day, i, count(*) from "odd
on only" group by 1, 2 with no data;
            create materialized view above as select * from agg with no data;
            create statistics several on day, i from above;
            create publication everything for all tables; comment on publication everything is 'all';
            create publication one; alter publication one add table "odd
on only";
            create function refuse() returns event_trigger language plpgsql as
                $$ begin raise exception 'no views'; end $$;
            create event trigger refuse on ddl_command_start when tag in ('CREATE MATERIALIZED VIEW')
                execute function refuse()]], name)
        local text = dump()
        url, name = database()
        local loaded = process.run { server:client "psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", url,
            stdin = text }
        assert.equal(0, loaded.code, loaded.stderr)
        assert.equal(text, dump())
        assert.equal("i 2 1 1", server:psql([[select (select relreplident from pg_class where relname like 'odd%only'),
            (select count(*) from pg_publication), (select count(*) from pg_publication_rel),
            (select count(*) from pg_statistic_ext)]], name):gsub("|", " "))
    end)

    it("a dump names objects that it cannot write", function()
        server:psql([[
            create table h (at timestamptz not null); create schema chunks;
            select create_hypertable('h', 'at', associated_schema_name => 'chunks');
            create table g (at timestamptz not null, v int); select create_hypertable('g', 'at');
            create materialized view agg with (timescaledb.continuous) as
                select time_bucket('1 day', at) as day, max(v) from g group by 1 with no data;
            create function uses() returns setof agg language sql begin atomic select * from agg; end;
            select alter_job(add_retention_policy('g', interval '9 days'), job_name => 'my clean-up')]], name)
        local result = migrate("dump", "--file", "-")
        assert.equal(1, result.code)
        assert.equal("", result.stdout)
        for _, words in ipairs { "public.h, a hypertable with a schema", "function public.uses(), which uses",
            "the job my clean-up" } do
            assert.matches(words, result.stderr, 1, true)
        end
        assert.matches("hint: back the database up with pg_dump", result.stderr, 1, true)
    end)

    describe("an index by chunks", function()
        local INDEXES <const> = [[select string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' order by 1)
            from pg_index where indrelid = 'big'::regclass and indexrelid <> 'big_at_idx'::regclass]]

        ---Calls fn() while another session uses the last chunk.
        local function while_used(fn)
            local engine <close> = db.engine { url = url, size = 1 }
            engine:transaction(function(tx)
                tx:exec("lock table " .. tx:value "select max(c::text) from show_chunks('big') c"
                    .. " in row exclusive mode")
                fn()
            end)
        end

        before_each(function()
            server:psql([[create table big (at timestamptz, v int); select create_hypertable('big', 'at');
                insert into big select '2025-01-01'::timestamptz + i * interval '1 day', i
                  from generate_series(1, 30) i;
                create materialized view agg with (timescaledb.continuous) as
                    select time_bucket('1 day', at) as day, max(v) as v from big group by 1 with no data]], name)
            fs.write(folder .. "/1_index.sql", "-- migrate:up transaction:false\n"
                .. "create index v_idx on big (v) with (timescaledb.transaction_per_chunk);\n"
                .. "create index on agg (v) with (tsdb.transaction_per_chunk = true);\n-- migrate:down\n")
        end)

        it("that waited too long for a chunk leaves no partial index", function()
            while_used(function()
                local result = migrate("up", "--lock-timeout", "0.2", "--lock-retries", "0")
                assert.equal(1, result.code)
                assert.matches("lock timeout", result.stderr)
            end)
            assert.equal("", server:psql(INDEXES, name))
            assert.equal(0, migrate("up").code)
            assert.equal("v_idx true", server:psql(INDEXES, name))
        end)

        it("whose build was killed is dropped and rebuilt", function()
            local pid
            while_used(function()
                local run = scripts.start("migrate", { "up", "--lock-timeout", "60" }, { DATABASE_URL = url,
                    DBRUN_MIGRATIONS_DIR = folder })
                local waiting <const> = [[select pid from pg_stat_activity
                    where query like 'create index v_idx%' and wait_event_type = 'Lock']]
                local limit = task.now() + 20
                repeat
                    task.sleep(0.05)
                    pid = server:psql(waiting, name)
                until pid ~= "" or task.now() > limit
                run.child:kill "KILL"
                run.finish()
                server:psql(("select pg_terminate_backend(%s, 10000)"):format(pid))
            end)
            assert.equal("v_idx false", server:psql(INDEXES, name))
            local result = migrate "up"
            assert.equal(0, result.code, result.text)
            assert.equal("v_idx true", server:psql(INDEXES, name))
        end)
    end)

    it("upsert writes into hypertables, and into compressed chunks", function()
        local engine <close> = db.engine { url = url, size = 1 }
        engine:exec [[create table m (at timestamptz, d int, v float, unique (d, at));
            select create_hypertable('m', 'at');
            alter table m set (timescaledb.compress, timescaledb.compress_segmentby = 'd')]]
        local rows = {}
        for i = 1, 50 do rows[i] = { ("2025-%02d-01T00:00:00Z"):format(i % 12 + 1), i, i } end
        local function upsert()
            return engine:transaction(function(tx) return seed.upsert(tx, "m", { "d", "at" }, rows) end)
        end
        assert.equal(50, upsert())
        engine:exec "select compress_chunk(c) from show_chunks('m') c"
        assert.equal(0, upsert())
        rows[3][3], rows[51] = 99, { "2025-03-01T00:00:00Z", 77, 1 }
        assert.equal(2, upsert())
        assert.equal(1372, engine:value "select sum(v) from m")
    end)
end)
