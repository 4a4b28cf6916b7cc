-- Every check of the server, on a server with all conditions, as a role without any right, as one of pg_monitor, and as
-- the owner: each finds the condition, or says that it cannot see it.
local db = require "dbrun.db"
local fs = require "dbrun.fs"
local json = require "dbrun.json"
local scripts = require "spec.support.scripts"
local servers = require "spec.support.servers"
local task = require "dbrun.task"

---Limits that are exceeded at once, for conditions that cannot be made older or larger.
local EXPECT <const> = [[return {
    { limit = "postgres.transactions", warn = 0 }, { limit = "postgres.idle_in_transaction", warn = 1e6, fail = 1e6 },
    { limit = "postgres.locks", warn = 0 }, { limit = "postgres.prepared_transactions", warn = 0 },
    { limit = "postgres.xmin_horizon", warn = 0 }, { limit = "postgres.wraparound", warn = 1e-10 },
    { limit = "postgres.slots", warn = 0 }, { limit = "postgres.capacity", warn = 0 },
}]]

---The checks that must not pass, and their messages.
local PRESENT <const> = {
    ["postgres.transactions"] = "has had one open", ["postgres.wraparound"] = "vacuum does not keep up",
    ["postgres.dead_rows"] = "worn: 15,000 dead", ["postgres.invalid_indexes"] = "twice_n",
    ["postgres.locks"] = "has waited %S+ m?s at held for backend %d+",
    ["postgres.prepared_transactions"] = "'left over' of owner in postgres",
    ["postgres.xmin_horizon"] = "holds rows that were removed",
    ["postgres.sequences"] = "counted_id_seq: 93.1 %% used %(2000000000 of 2147483647%)",
    ["postgres.archiving"] = "archiving %w+ fails", ["postgres.pending_restart"] = "max_locks_per_transaction",
    ["postgres.unchecked"] = "ruled: positive is not validated\nruled: watch is disabled",
    ["postgres.autovacuum"] = "large", ["postgres.replica_identity"] = "shared",
    ["postgres.replication"] = "the replication slot 'left' is not used and keeps",
    ["postgres.capacity"] = "almost all", ["postgres.settings"] = "ruin the database",
}

local MAKE <const> = [[
create role nobody login; create role watcher login; grant pg_monitor to watcher; create role owner login superuser;
create schema apart; set search_path = apart, public;
create table public.worn (n int) with (autovacuum_enabled = false);
insert into public.worn select generate_series(1, 20000); delete from public.worn where n <= 15000;
create table public.twice (n int); insert into public.twice values (1), (1);
create table public.held (n int); create table public.spare (n int);
create table public.counted (id serial); select setval('public.counted_id_seq', 2000000000);
create table public.ruled (n int); alter table public.ruled add constraint positive check (n > 0) not valid;
create function public.watch() returns trigger language plpgsql as 'begin return new; end';
create trigger watch before insert on public.ruled execute function public.watch();
alter table public.ruled disable trigger watch;
create table public.large (n int) with (autovacuum_enabled = false);
insert into public.large select generate_series(1, 20000);
create table public.shared (n int); create publication told for table public.shared;
create table public.logged as select generate_series(1, 999);
select pg_create_physical_replication_slot('left', true);
alter system set max_locks_per_transaction = 100;
select pg_reload_conf(), pg_switch_wal();
]]

describe("dbrun verify, as a role with and without rights:", function()
    local pg, root, holder, waiter

    setup(function()
        root = fs.mkdtemp()
        fs.write(root .. "/expect.lua", EXPECT)
        pg = servers.postgres { settings = { max_prepared_transactions = 2, wal_level = "logical", archive_mode = "on",
            archive_command = "false" } }
        pg:psql(MAKE)
        assert.is_false((pcall(pg.psql, pg, "create unique index concurrently twice_n on public.twice (n)")))
        pg:psql "set role owner; begin; insert into public.spare values (1); prepare transaction 'left over'"
        holder = db.engine { url = pg:address { user = "owner" }, application_name = "holder" }
    end)
    teardown(function()
        pg:close()
        fs.rmtree(root)
    end)

    ---Runs `fn` while one session of `owner` holds a table and another waits for it.
    local function beside(fn)
        local first, second = holder:acquire(), holder:acquire()
        first:exec "begin; set local lock_timeout = 9000; lock table public.held in share mode; select 1"
        local group <close> = task.group()
        waiter = group:spawn(function() pcall(second.exec, second, "insert into public.held values (2)") end)
        for _ = 1, 500 do
            if pg:psql "select count(*) from pg_locks where not granted" ~= "0"
                and pg:psql "select failed_count > 0 from pg_stat_archiver" == "t"
                and pg:psql "select count(*) from pg_settings where pending_restart" == "1" then break end
            task.sleep(0.02)
        end
        local ok, e = pcall(fn)
        first:exec "rollback"
        waiter:join()
        first:release()
        second:release()
        if not ok then error(e, 0) end
    end

    local function report(user)
        local result = scripts.run("verify", { "--format", "json", "--only", "postgres", "--expect",
            root .. "/expect.lua" }, { DATABASE_URL = pg:address { user = user } })
        local checks = {}
        for _, check in ipairs(json.decode(result.stdout).checks) do checks[check.name] = check end
        return checks
    end

    for _, user in ipairs { "nobody", "watcher", "owner" } do
        it(user .. " gets every finding, or a message that it cannot be seen", function()
            beside(function()
                local checks = report(user)
                for name, text in pairs(PRESENT) do
                    local check = checks[name]
                    local shown = ("%s as %s: %s\n%s"):format(name, user, check.text, check.cause or "")
                    assert.is_true(check.status == "WARN" or check.status == "FAIL", shown)
                    local blind = check.cause:find "cannot see"
                    assert.is_true(check.cause:find(text) ~= nil or user ~= "owner" and blind ~= nil, shown)
                    if blind then assert.matches("^grant .* to " .. user .. ";$", check.remedy[1]) end
                end
                for _, name in ipairs { "postgres.server", "postgres.transactions", "postgres.capacity" } do
                    local blind = (checks[name].cause or ""):find "cannot see other roles' sessions" ~= nil
                    if name ~= "postgres.capacity" then assert.equal(user == "nobody", blind, name) end
                end
            end)
        end)
    end
end)
