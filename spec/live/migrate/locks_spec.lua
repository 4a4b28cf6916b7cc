-- The locks that `plan` prints and lint uses are those that the server takes.
local db = require "dbrun.db"
local locks = require "dbrun.migrate.show.locks"
local migrations = require "spec.support.migrations"
local plan = require "dbrun.migrate.show.plan"

local SCHEMA <const> = [[
create table u (id int primary key, b int);
create table t (a int, b int not null, c varchar(10), d int default 1, constraint k check (a > 0),
    constraint nv check (b > 0) not valid);
create index i on t (b);
create table w (a int references u);
create table p (a int not null, b int) partition by range (a);
create table c1 partition of p for values from (1) to (10);
create table c2 (a int not null, b int);
create materialized view mv as select * from u;
create function tf() returns trigger language plpgsql as 'begin return null; end';
create trigger tg after insert on t for each row execute function tf();
create rule ru as on update to t do also select 1;
create policy po on t;
create table par (a int);
create table ch () inherits (par)]]

local STATEMENTS <const> = {
    "alter table t add column z int", "alter table t add column z int references u", "alter table t drop column d",
    "alter table t alter c type varchar(20)", "alter table t alter d set default 2",
    "alter table t alter d set not null", "alter table t alter b drop not null",
    "alter table t alter d set statistics 10",
    "alter table t alter c set storage external", "alter table t alter a set (n_distinct = 5)",
    "alter table t alter a reset (n_distinct)", "alter table t alter b add generated always as identity",
    "alter table t add constraint x check (a > 1) not valid", "alter table t add constraint x unique (a)",
    "alter table t add constraint x foreign key (a) references u not valid", "alter table t validate constraint nv",
    "alter table w validate constraint w_a_fkey", "alter table t drop constraint k",
    "alter table t rename constraint k to kk", "alter table w alter constraint w_a_fkey deferrable",
    "alter table t disable trigger tg", "alter table t enable trigger all", "alter table t enable replica trigger tg",
    "alter table t disable rule ru", "alter table t enable row level security", "alter table t cluster on i",
    "alter table t set without cluster", "alter table t set (fillfactor = 70)", "alter table t reset (fillfactor)",
    "alter table t set (user_catalog_table = true)", "alter table t set (toast.autovacuum_enabled = off)",
    "alter table t replica identity full", "alter table u add a int, inherit par", "alter table ch no inherit par",
    "alter table t rename to tt", "alter table t rename a to aa", "alter table t set schema other",
    "alter table p attach partition c2 for values from (100) to (200)", "alter table p detach partition c1",
    "create table c9 partition of p for values from (300) to (400)", "create table n (a int references u)",
    "create table n () inherits (par)", "create index x on t (a)", "create index x on only p (a)",
    "drop trigger tg on t", "drop rule ru on t", "drop policy po on t", "drop materialized view mv",
    "create trigger x after insert on t for each row execute function tf()",
    "create rule x as on delete to t do instead nothing", "create policy x on t", "alter policy po on t using (true)",
    "create statistics x on a, b from t", "truncate w, u", "refresh materialized view mv",
    "refresh materialized view mv with no data", "lock table t in share mode", "lock table t, u in exclusive mode",
    "update t set a = 1", "delete from t", "insert into w values (null)", "cluster t using i", "reindex index i",
    "reindex table par",
}

-- Only the server knows partitions and references to a table.
local TOLD <const> = { "t", "u", "w", "p", "c2", "mv", "par", "ch" }

describe("the locks of a plan", function()
    local url
    migrations.around(_ENV, function(...) url = ... end)

    it("are those that the server takes", function()
        local engine <close> = db.engine { url = url }
        local conn <close> = engine:acquire()
        conn:exec(SCHEMA)
        conn:exec "create schema other"
        for _, sql in ipairs(STATEMENTS) do
            conn:exec "begin"
            local oids = conn:query "select relname, oid from pg_class where relnamespace = 'public'::regnamespace"
            local by_oid = {}
            for _, row in ipairs(oids) do by_oid[row.oid] = row.relname end
            conn:exec(sql)
            local taken, planned = {}, {}
            for _, row in ipairs(conn:query [[select relation, upper(substring(regexp_replace(
                    regexp_replace(mode, 'Lock$', ''), '([A-Z])', ' \1', 'g'), 2)) as mode
                from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and granted]]) do
                local name = by_oid[row.relation]
                if name and row.mode ~= "ACCESS SHARE" then
                    taken[name] = taken[name] and locks.stronger(taken[name], row.mode) or row.mode
                end
            end
            conn:exec "rollback"
            for _, lock in ipairs(plan.locks(sql, {})) do planned[lock.table] = lock.mode end
            -- A statement about a table also locks its indexes, which a plan does not list; one about an index names no
            -- table.
            for _, name in ipairs(sql == "reindex index i" and { "i" } or TOLD) do
                assert.equal(taken[name], planned[name], sql .. ": " .. name)
            end
        end
    end)
end)
