-- Migrations that are killed, or fail, in the middle: what the next run makes of it.
local core = require "dbrun.core"
local fs = require "dbrun.fs"
local process = require "dbrun.process"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

local PROJECT <const> = {
    ["1_tables.sql"] = [[
-- migrate:up
create table a (id int primary key, v int);
insert into a select n, n from generate_series(1, 50) n;
-- migrate:down
drop table a;
]],
    ["2_mixed.sql"] = [[
-- migrate:up transaction:false
create table runs (what text);
insert into runs values ('first');
create index concurrently a_v_idx on a (v);
insert into runs values ('second');
create index concurrently on a (v, id);
vacuum a;
set search_path = public;
begin;
insert into runs values ('third');
insert into runs values ('fourth');
commit;
drop index concurrently a_v_idx;
update a set v = v + 1;
-- migrate:down
]],
    ["3_backfill.lua"] = [[
return { up = function(ctx)
    ctx.db:exec "alter table a add w int"
    ctx.db:query("update a set w = v * $1", 2)
end }
]],
    ["4_last.sql"] = "-- migrate:up\ninsert into runs values ('last');\n-- migrate:down\n",
}

describe("a migration that was interrupted", function()
    local url, database, dir

    before_each(function()
        url, database = servers.database()
        dir = nil
    end)
    after_each(function()
        if dir then fs.rmtree(dir) end
    end)

    local function sql(text)
        return servers.shared_postgres():psql(text, database)
    end

    local function migrate(...)
        return scripts.run("migrate", { ... }, { DATABASE_URL = url })
    end

    ---Everything that counts, in one text.
    local function state()
        return sql [[
            select (select string_agg(version, ' ' order by version) from schema_migrations) || E'\n'
                || (select string_agg(what, ' ' order by what) from runs) || E'\n'
                || (select count(*) || ' ' || sum(v) || ' ' || sum(w) from a) || E'\n'
                || (select string_agg(indexrelid::regclass || ' ' || indisvalid, ',' order by indexrelid::regclass::text)
                      from pg_index where indrelid = 'a'::regclass) || E'\n'
                || (select string_agg(concat(version, direction, done, at_work), ' ' order by version)
                      from schema_migrations_dbrun)]]
    end

    local END_STATE <const> = "1 2 3 4\nfirst fourth last second third\n50 1325 2650\n"
        .. "a_pkey true,a_v_id_idx true\n10 20 30 40"

    local function crash(at)
        return process.run { core.options.program, "--no-env", fs.realpath "spec/support/migrate/crash.lua",
            tostring(at), url, dir, timeout = 60 }
    end

    it("by kill -9 before each of its messages to the server ends the same after a plain up", function()
        dir = scripts.folder(PROJECT)
        local killed, at = 0, 1
        while true do
            local result = crash(at)
            if result.code == 0 then break end
            assert.equal("KILL", result.signal and (result.signal:gsub("^SIG", "")), result.stderr)
            killed = killed + 1
            local up = migrate("up", "--dir", dir)
            assert.equal(0, up.code, ("killed before message %d:\n%s"):format(at, up.text))
            assert.equal(END_STATE, state(), ("killed before message %d"):format(at))
            sql [[drop table a, runs, schema_migrations, schema_migrations_dbrun]]
            at = at + 1
        end
        assert.is_true(killed > 60, killed .. " messages only")
        assert.equal(END_STATE, state())
    end)

    it("and killed again and again, at another message each time, ends the same", function()
        dir = scripts.folder(PROJECT)
        local rounds = 0
        repeat
            rounds = rounds + 1
            local result = crash(25 + rounds % 7)
        until result.code == 0 or rounds > 40
        assert.equal(0, migrate("up", "--dir", dir).code)
        assert.equal(END_STATE, state())
    end)
end)
