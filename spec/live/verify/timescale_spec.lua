-- The checks of TimescaleDB on a real one. Debian does not package it: without it all is pending, and schema_spec.lua
-- tests with tables that have the catalog's names.
local extensions = require "spec.support.extensions"
local fs = require "dbrun.fs"
local pg = require "spec.support.pg"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"

if not extensions.is_there "timescaledb" then
    describe("dbrun verify, about TimescaleDB:", function()
        pending "timescaledb is not installed: its specs are skipped"
    end)
    return
end

describe("dbrun verify, about TimescaleDB:", function()
    local server, root

    local function sql(text) return server:psql(text) end

    setup(function()
        server = servers.postgres { settings = {
            shared_preload_libraries = "timescaledb", max_worker_processes = 20,
            ["timescaledb.telemetry_level"] = "off",
        } }
        -- TimescaleDB's own jobs would fail on some releases of the server.
        sql [[begin; create extension timescaledb;
            select alter_job(job_id, scheduled => false) from timescaledb_information.jobs; commit;
            create role nobody login; create schema private;
            create table private.h (at timestamptz not null);
            select create_hypertable('private.h', by_range('at', interval '1 month'));
            create table ints (n bigint not null); select create_hypertable('ints', by_range('n', 86400));
            create table m (at timestamptz not null, d int, v float);
            select create_hypertable('m', by_range('at', interval '7 days'));
            insert into m select now() - g * interval '1 hour', g % 3, g from generate_series(1, 200) g;
            create procedure bad(job_id int, config jsonb) language plpgsql as
                $$ begin raise exception 'boom'; end $$;
            create procedure good(job_id int, config jsonb) language plpgsql as $$ begin perform 1; end $$;]]
    end)
    teardown(function() server:close() end)
    before_each(function() root = fs.mkdtemp() end)
    after_each(function() fs.rmtree(root) end)

    local function check(name, facts, opts)
        opts = opts or {}
        fs.write(root .. "/expect.lua", "return { " .. facts .. " }")
        local result = scripts.run("verify", { "--only", name, "--expect", root .. "/expect.lua",
            opts.strict and "--strict" or nil }, { DATABASE_URL = server:address { user = opts.user },
            REDIS_URL = "redis://127.0.0.1:1/0", DBRUN_MIGRATIONS_DIR = root })
        local status = result.stdout:match("(%u%u%u%u)  " .. name:gsub("%p", "%%%0") .. " ")
        return status, result.stdout
    end

    local function told(name, facts, wanted, cause, opts)
        local status, text = check(name, facts, opts)
        assert.equal(wanted, status, text)
        if cause then assert.matches(cause, text, 1, true) end
    end

    it("compares intervals by value, and numbers of integer hypertables", function()
        told("schema.hypertables", [[{ table = "private.h", chunk_interval = "30 days" },
            { table = "ints", chunk_interval = 86400 }, { table = "ints", chunk_interval = "86400" },
            { table = "m", chunk_interval = "168 hours", time_partitioned = "at" }]], "PASS", nil, { strict = true })
        local facts = [[{ table = "private.h", chunk_interval = "7 days" },
            { table = "ints", chunk_interval = "1 day" }, { table = "m", chunk_interval = "often" }]]
        told("schema.hypertables", facts, "FAIL", "private.h: chunks of 30 days, expected 7 days", { strict = true })
        told("schema.hypertables", facts, "WARN", "ints: chunks of 86400, expected 1 day")
        told("schema.hypertables", facts, "WARN", "m: chunks of 7 days, expected often")
        told("schema.time_partitioning", [[{ table = "ints", time_partitioned = "n" }]], "PASS",
            "ints: hypertable on n, 86400, 0 chunks")
    end)

    it("needs no right on the schemas of hypertables", function()
        told("schema.hypertables", [[{ table = "private.h", chunk_interval = "1 month", time_partitioned = "at" }]],
            "PASS", "3 hypertables", { user = "nobody", strict = true })
        told("schema.time_partitioning", [[{ table = "private.h", time_partitioned = "at" }]], "PASS", nil,
            { user = "nobody", strict = true })
        told("schema.tables", [[{ table = "private.h" }]], "WARN", "grant usage on schema private to nobody;",
            { user = "nobody" })
    end)

    it("checks expected policies of compression and retention", function()
        sql [[alter table m set (timescaledb.compress, timescaledb.compress_segmentby = 'd');
            select add_compression_policy('m', interval '30 days'), add_retention_policy('m', interval '90 days');]]
        finally(function() sql "select remove_compression_policy('m'), remove_retention_policy('m')" end)
        local function compare(fact)
            local _, text = check("schema.hypertables", ("{ table = 'm', %s }, { table = 'private.h', %s }"):format(
                fact, "compression = false, retention = false"))
            return text
        end
        assert.not_matches("m: ", compare "compression = '1 month', retention = '3 months'", 1, true)
        assert.not_matches("m: ", compare "compression = true, retention = true", 1, true)
        assert.matches("m: compression after 30 days, expected 7 days", compare "compression = '7 days'", 1, true)
        assert.matches("m: compression is on", compare "compression = false", 1, true)
        assert.matches("m: retention after 90 days, expected 1 year", compare "retention = '1 year'", 1, true)
        assert.matches("m: there is a retention policy", compare "retention = false", 1, true)
        local _, text = check("schema.hypertables", [[{ table = "ints", compression = "7 days", retention = true }]])
        assert.matches("ints: compression is off", text, 1, true)
        assert.matches("ints: no retention policy", text, 1, true)
    end)

    it("reports failed jobs, with their error, and paused or overdue ones", function()
        local bad, good = sql "select add_job('bad', '1 hour')", sql "select add_job('good', '1 hour')"
        finally(function()
            sql(("select delete_job(%s), delete_job(%s)"):format(bad, good))
            sql "select _timescaledb_functions.start_background_workers()"
        end)
        pg.eventually(30, function()
            return sql(("select last_run_status from timescaledb_information.job_stats where job_id = %s"):format(bad))
                == "Failed"
        end)
        told("schema.hypertables", "", "WARN", ("job %s (bad) failed the last time"):format(bad))
        told("schema.hypertables", "", "WARN", "boom (SQLSTATE P0001)", { strict = true })
        local _, text = check("schema.hypertables", "", { user = "nobody" })
        assert.not_matches("boom", text)
        assert.matches("only dbrun and the owner of the database may see why", text, 1, true)
        sql(("select alter_job(%s, scheduled => false)"):format(good))
        told("schema.hypertables", "", "WARN", ("job %s (good) is paused"):format(good))
        told("schema.hypertables", "", "WARN", ("select alter_job(%s, scheduled => true);"):format(good))
        sql "select _timescaledb_functions.stop_background_workers()"
        sql(("select alter_job(%s, scheduled => true, next_start => now() - interval '20 minutes')"):format(good))
        told("schema.hypertables", "", "WARN", ("job %s (good) is overdue: it was to start 20 min"):format(good))
        told("schema.hypertables", "{ limit = 'timescale.overdue', warn = 60, fail = 600 }", "FAIL", "is overdue")
    end)

    it("sees whether the scheduler runs", function()
        local job = sql "select add_job('good', '1 hour')"
        finally(function()
            sql "alter database postgres reset timescaledb.restoring"
            sql(("revoke pg_monitor from nobody; select delete_job(%s)"):format(job))
            sql "select _timescaledb_functions.start_background_workers()"
        end)
        pg.eventually(30, function()
            return sql "select count(*) from pg_stat_activity where backend_type ~ 'TimescaleDB.*Scheduler'" == "1"
        end)
        told("postgres.timescale", "", "PASS", "licence timescale, 1 job")
        told("postgres.timescale", "", "WARN", "grant pg_monitor to nobody;", { user = "nobody" })
        sql "grant pg_monitor to nobody"
        told("postgres.timescale", "", "PASS", nil, { user = "nobody" })
        sql "select _timescaledb_functions.stop_background_workers()"
        told("postgres.timescale", "", "FAIL", "the scheduler does not run in this database")
        sql "alter database postgres set timescaledb.restoring = on"
        told("postgres.timescale", "", "FAIL", "select timescaledb_post_restore();")
    end)

    it("sees an insufficient licence", function()
        local other <close> = servers.postgres { settings = {
            shared_preload_libraries = "timescaledb", ["timescaledb.license"] = "apache" } }
        other:psql "create extension timescaledb"
        fs.write(root .. "/expect.lua", "return { { aggregate = 'a' } }")
        local result = scripts.run("verify", { "--only", "postgres.timescale,schema.aggregates", "--expect",
            root .. "/expect.lua" }, { DATABASE_URL = other.url, REDIS_URL = "redis://127.0.0.1:1/0" })
        assert.matches("WARN  postgres.timescale ", result.stdout, 1, true)
        assert.matches("under the Apache licence", result.stdout, 1, true)
        assert.matches("a is not a continuous aggregate", result.stdout, 1, true)
    end)

    it("checks that continuous aggregates exist and are refreshed", function()
        sql [[create materialized view hourly with (timescaledb.continuous) as
            select time_bucket('1 hour', at) as b, d, avg(v) from m group by 1, 2 with no data]]
        finally(function() sql "drop materialized view hourly" end)
        told("schema.aggregates", "{ aggregate = 'hourly' }", "PASS", "hourly is there", { strict = true })
        told("schema.aggregates", "{ aggregate = 'hourly', refreshed_within = '3 hours' }", "WARN",
            "hourly has no refresh policy")
        sql "call refresh_continuous_aggregate('hourly', null, now())"
        told("schema.aggregates", "{ aggregate = 'hourly', refreshed_within = '3 hours' }", "PASS",
            "hourly: materialized up to", { strict = true })
        local job = sql [[select add_continuous_aggregate_policy('hourly', start_offset => interval '3 days',
            end_offset => interval '1 hour', schedule_interval => interval '1 hour', initial_start => now() + '1 day')]]
        told("schema.aggregates", "{ aggregate = 'hourly', refreshed_within = 7200 }", "FAIL",
            "hourly should be refreshed within 2 h 00 min, and was not, so far", { strict = true })
        sql(([[select alter_job(%s, scheduled => false); update _timescaledb_internal.bgw_job_stat
            set last_successful_finish = now() - interval '1 hour' where job_id = %s]]):format(job, job))
        told("schema.aggregates", "{ aggregate = 'hourly', refreshed_within = 'soon' }", "WARN",
            "refreshed_within of hourly is 'soon', no interval")
        told("schema.aggregates", "{ aggregate = 'm' }", "WARN", "m is not a continuous aggregate")
    end)
end)
