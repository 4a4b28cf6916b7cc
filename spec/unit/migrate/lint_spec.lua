-- Findings of lint in migrations, and statements without findings.
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"
local lint = require "dbrun.migrate.show.lint"
local scripts = require "spec.support.scripts"

---For each rule: texts in which it finds something, and texts in which it does not.
local RULES <const> = {
    ["index-not-concurrent"] = {
        bad = { "create index on t (a);", "create unique index i on s.t (a);" },
        good = { "create table t (a int); create index on t (a);", "create index on only t (a);",
            "create index on t (a) with (timescaledb.transaction_per_chunk);",
            "create table public.s (a int); create index on s (a);",
            "create table s (a int); create index on public.s (a);",
            "create table s as select * from json_table('[]', '$' columns (a int)); create index on s (a);",
            "create materialized view if not exists q.\"V\" as select 1 + as; create index on q.\"V\" (a);",
            "set search_path = q; create table s (a int); create index on q.s (a);",
            "create temp table s (a int); create index on s (a);", "select 1 as a into s; create index on s (a);",
            "do $$begin create table s (a int); create index on s (a); end$$;" },
    },
    ["drop-index-not-concurrent"] = {
        bad = { "drop index i;" },
        good = { "drop view v;", "create table t (a int); create index i on t (a); drop index i;" },
    },
    ["reindex-not-concurrent"] = { bad = { "reindex table t;" }, good = { "select 1;" } },
    ["concurrently-in-transaction"] = {
        bad = { "create index concurrently i on t (a);", "vacuum t;", "alter system set work_mem = '1MB';" },
        good = { "analyze t;" },
    },
    ["volatile-default"] = {
        bad = { "alter table t add c uuid default gen_random_uuid();", "alter table t add id bigserial;" },
        good = {
            "alter table t add c text default left('abc', 2);",
            "alter table t add c bigint default (extract(epoch from now()) * 1000)::bigint;",
            "alter table t add c timestamptz default now();", "alter table t add c int default 1 + 2;",
            "create table t (); alter table t add c uuid default gen_random_uuid();" },
    },
    ["stored-generated-column"] = {
        bad = { "alter table t add c int generated always as (a + 1) stored;" },
        good = { "create table t (a int, c int generated always as (a + 1) stored);" },
    },
    ["not-null-without-check"] = {
        bad = { "alter table t alter c set not null;" },
        good = { "alter table t add constraint k check (c is not null) not valid;\n"
            .. "alter table t validate constraint k; alter table t alter c set not null;",
            "create table if not exists t (a int); alter table public.t alter a set not null;" },
    },
    ["partitioned-refuses"] = {
        bad = { "create table p (a int) partition by list (a); create index concurrently on p (a);" },
        good = { "create table p (a int); create index concurrently on p (a);" },
    },
    ["domain-column"] = {
        bad = { "create domain d as int check (value > 0); alter table t add c d;" },
        good = { "create domain d as int; alter table t add c d;" },
    },
    ["not-null-column-without-default"] = {
        bad = {
            "alter table t add c int not null default null;",
            "alter table t add c int primary key;",
            "alter table t add c int not null;",
            "truncate t; insert into t values (1); alter table t add c int not null;",
            "delete from t where a = 1; alter table t add c int not null;" },
        good = {
            "alter table t add c bigint generated always as identity primary key;",
            "alter table t add c int not null default 0;", "truncate public.t; alter table t add c int not null;",
            "delete from t; alter table t add c int not null;" },
    },
    ["type-change"] = {
        bad = { "alter table t alter c type bigint;", "alter table t alter c type varchar(5);",
            "alter table t alter c type text using lower(c);" },
        good = { "alter table t alter c set default 1;", "alter table t alter c type text;" },
    },
    ["foreign-key-without-not-valid"] = {
        bad = { "alter table t add foreign key (a) references u (id);" },
        good = { "alter table t add constraint f foreign key (a) references u (id) not valid;" },
    },
    ["check-without-not-valid"] = {
        bad = { "alter table t add check (a > 0);" }, good = { "alter table t add check (a > 0) not valid;" },
    },
    ["unique-without-index"] = {
        bad = { "alter table t add unique (a);", "alter table t add primary key (a);" },
        good = { "alter table t add constraint u unique using index i;" },
    },
    ["exclusion-constraint"] = {
        bad = { "alter table t add exclude using gist (r with &&);" },
        good = { "create table t (r int4range, exclude using gist (r with &&));" },
    },
    ["validate-with-add"] = {
        bad = { "alter table t add check (a > 0) not valid; alter table t validate constraint k;" },
        good = { "alter table t validate constraint k;" },
    },
    ["rename"] = {
        bad = { "alter table t rename to u;", "alter table t rename a to b;", "alter type y rename to z;",
            "alter function f(int) rename to g;", "alter type e rename value 'a' to 'b';", "alter view v rename to w;",
            "alter type y rename attribute a to b;", "alter schema s rename to u;", "alter sequence q rename to r;",
            "alter materialized view v rename to w;", "alter procedure p rename to q;", "alter domain d rename to e;" },
        good = { "alter index i rename to j;", "create table t (a int); alter table t rename a to b;",
            "create type y as enum (); alter type y rename to z;", "alter table t rename constraint k to l;" },
    },
    ["set-schema"] = {
        bad = { "alter table t set schema s;", "alter function f() set schema s;", "alter type y set schema s;" },
        good = { "create table t (); alter table t set schema s;" },
    },
    ["drop-not-null"] = {
        bad = { "alter table t alter c drop not null;" },
        good = { "create table t (c int not null); alter table t alter c drop not null;" },
    },
    ["detach-not-concurrent"] = {
        bad = { "alter table t detach partition u;" }, good = { "alter table t detach partition u concurrently;" },
    },
    ["attach-without-check"] = {
        bad = { "alter table t attach partition u for values from (1) to (2);",
            "create table t (a int, b int) partition by range (a);\n"
            .. "alter table u add check (b > 0); alter table t attach partition u for values from (1) to (2);",
            "alter table u add check (a > 0) not valid; alter table t attach partition u default;" },
        good = { "create table u (a int); alter table t attach partition u for values from (1) to (2);",
            "create table t (a int) partition by range (a);\n"
            .. "alter table u add check (a >= 1 and a < 2);\n"
            .. "alter table t attach partition u for values from (1) to (2);",
            "alter index i attach partition j;" },
    },
    ["create-trigger"] = {
        bad = { "create trigger g after insert on t for each row execute function f();" },
        good = { "create table t (); create trigger g after insert on t for each row execute function f();" },
    },
    ["lock-table"] = {
        bad = { "lock table t;", "lock t in share row exclusive mode;", "do $$begin lock table t; end$$;" },
        good = { "lock t in access share mode;", "create table t (); lock table t;", "lock t in row exclusive mode;" },
    },
    ["disable-trigger"] = {
        bad = { "alter table t enable replica trigger g;",
            "alter table t disable trigger all;", "alter table t disable trigger user;",
            "alter table t disable trigger g;", "alter table t disable rule r;" },
        good = { "alter table t enable trigger g;", "alter table t enable always trigger g;" },
    },
    ["triggers-off"] = {
        bad = {
            "select set_config('session_replication_role', 'replica', false);",
            "set session_replication_role = replica;", "set local session_replication_role to 'replica';" },
        good = {
            "select set_config('session_replication_role', 'origin', false);",
            "set session_replication_role = origin;", "reset session_replication_role;" },
    },
    ["drop-object"] = {
        bad = { "drop view v;", "drop function f(int);", "drop type y;", "drop materialized view v;", "drop domain d;",
            "drop procedure p;", "drop sequence q;", "drop schema s;", "drop extension x;", "drop aggregate a(int);" },
        good = { "create view v as select 1; drop view v;", "drop view v; create view v as select 1;",
            "drop function f(int); create function f(a bigint) returns int language sql as 'select 1';",
            "drop trigger g on t;", "drop policy p on t;" },
    },
    ["domain-constraint"] = {
        bad = { "alter domain d add constraint k check (value > 0);", "alter domain d set not null;" },
        good = { "alter domain d add constraint k check (value > 0) not valid;", "alter domain d set default 1;",
            "create domain d as int; alter domain d add constraint k check (value > 0);" },
    },
    ["long-name"] = {
        bad = { "create table " .. ("n"):rep(64) .. " ();", 'select 1 as "' .. ("\u{e4}"):rep(32) .. '";' },
        good = { "create table " .. ("n"):rep(63) .. " ();", "select '" .. ("n"):rep(80) .. "';",
            'select 1 as "' .. ("n"):rep(62) .. '""";' },
    },
    ["json-column"] = {
        bad = {
            "create type y as (a json);",
            "create domain y as json;",
            "create table t (a json);", "alter table t add a json;", "alter table t alter a type json;" },
        good = {
            "create type y as (a jsonb);",
            "create table t (a jsonb);", "select '{}'::json;" },
    },
    ["no-lock-timeout"] = {
        bad = { "set lock_timeout = 0;", "set local lock_timeout = '0';", "set lock_timeout to '0s';",
            "reset lock_timeout;", "set lock_timeout to default;", "select set_config('lock_timeout', '0', true);",
            "reset all;", "select pg_catalog.set_config('lock_timeout', 0::text, false);",
            "do $$begin perform set_config('lock_timeout', '0', true); end$$;" },
        good = {
            "alter role r set lock_timeout = 0;",
            "set lock_timeout = '10s';", "set statement_timeout = 0;", "set lock_timeout = 500;" },
    },
    ["two-strong-locks"] = {
        bad = { "alter table t add a int; alter table u add a int;", "alter table t add a int; truncate u;",
            "create index on t (a); drop table u;", "do $$begin alter table t add a int; end$$; lock table u;" },
        good = { "alter table t add a int; alter table t add b int;", "alter table t add a int; update u set a = 1;",
            "create table t (); alter table t add a int; alter table u add a int;",
            "alter table t add a int; alter table public.t add b int;",
            "create table n (t int references t, u int references u);" },
    },
    ["foreign-key-without-index"] = {
        bad = { "create table t (a int references u);", "alter table t add foreign key (a, b) references u not valid;",
            "create table t (a int references u); create index on t (b, a);",
            "create table t (a int references u); create index on t (a) where a > 5;" },
        good = { "create table t (a int references u); create index on t (a);",
            "create table t (a int primary key references u);", "create table t (a int unique references u);",
            "create table t (a int, b int, foreign key (a, b) references u, primary key (b, a, c));",
            "create index on public.t (a); alter table t add foreign key (a) references u not valid;",
            "alter table t add a int references u; alter table t drop a;",
            "create table s.t (a int references u); alter table s.t drop constraint t_a_fkey;",
            "create table t (a int constraint k references u); alter table t drop constraint k;" },
    },
    ["refused"] = {
        bad = { "begin; select 1; commit;", "rollback;", "select 1;\ncommit;", "prepare transaction 'x';",
            "select 1; /* select 2;", "select 'x;", "select $a$ x;", 'select "x;' },
        good = { "savepoint s; select 1; rollback to s;", "select '/*'; -- /*" },
    },
    ["hypertable-index"] = {
        bad = { "select create_hypertable('t', by_range('a'), migrate_data => true);\ncreate index on t (b);" },
        good = { "create index on t (b);", "select create_hypertable('t', by_range('a'));\n"
            .. "create index on t (b) with (timescaledb.transaction_per_chunk);" },
    },
    ["hypertable-refuses"] = {
        bad = { "select create_hypertable('public.t', 'a'); create index concurrently on t (b);",
            "create table t (a int) with (tsdb.hypertable); reindex table concurrently t;",
            "create table t (a int) with (timescaledb.hypertable); alter table t add unique using index i;",
            "create unique index on t (b) with (timescaledb.transaction_per_chunk);" },
        good = { "create table t (a int) with (tsdb.hypertable); create index on t (a);" },
    },
    ["drop-column"] = { bad = { "alter table t drop a;" }, good = { "alter table t drop constraint k;" } },
    ["drop-table"] = { bad = { "drop table t;" }, good = { "create table t (); drop table t;" } },
    ["truncate"] = { bad = { "truncate t;" }, good = { "delete from t where a = 1;" } },
    ["unbounded-update"] = {
        bad = {
            "update t set a = 1 where true::boolean;",
            "do $$begin with x as (delete from t returning a) insert into u select * from x; end$$;",
            "explain analyze update t set a = 1;",
            "update t set a = 1;", "delete from t;", "update t set a = 1 where true;", "delete from t where 1 = 1;",
            "update t set a = 1 where a = a and not false;", "update t set a = 1 where 't'::bool or b = 2;",
            "alter table t alter b set not null; update t set a = 1 where b is not null;",
            "with x as (delete from t returning *) select * from x;", "do $$begin update t set a = 1; end$$;",
            "do $$declare i int; begin if i > 0 then loop update t set a = 1 returning a into i; end loop; "
            .. "end if; end$$;",
            "do $x$begin execute 'update t set a = 1'; end$x$;",
            "do $$begin execute format('delete from %I', n); end$$;" },
        good = {
            "explain update t set a = 1;",
            "update t set a = 1 where b = 2;", "update t set a = 1 where true and b = 2;",
            "do $$begin update t set a = 1 where b = 2; end$$;", "delete from t where b is not null;",
            "do language plperl 'update t set a = 1;';", "create table t (a int); update t set a = 1;" },
    },
    ["data-beside-schema"] = {
        bad = {
            "alter table t add c int; merge into t using u on t.a = u.a when matched then delete;",
            "alter table t add c int; update t set c = 1 where a = 1;" },
        good = { "update t set c = 1 where a = 1;" },
    },
    ["set-tablespace-or-logged"] = {
        bad = {
            "alter table all in tablespace a set tablespace b;",
            "alter table t set unlogged;" }, good = { "alter table t set (fillfactor = 70);" },
    },
    ["full-vacuum"] = { bad = { "vacuum full t;", "cluster t using i;" }, good = { "vacuum t;" } },
    ["refresh-not-concurrent"] = {
        bad = { "refresh materialized view v;" }, good = { "refresh materialized view concurrently v;" },
    },
    ["enum-value-used"] = {
        bad = { "alter type m add value 'new'; insert into t values ('new');" },
        good = { "alter type m add value 'new'; insert into t values ('old');" },
    },
    ["timescaledb-in-transaction"] = {
        bad = { "call refresh_continuous_aggregate('v', null, null);",
            "create materialized view v with (timescaledb.continuous) as select 1;",
            "create materialized view v with (tsdb.continuous) as select 1;",
            "create index on t (a) with (timescaledb.transaction_per_chunk);", "select move_chunk('c', 'a', 'b');",
            "call merge_chunks('a', 'b', concurrently => true);" },
        good = { "create materialized view v with (tsdb.continuous) as select 1 with no data;",
            "call merge_chunks('a', 'b');", "call merge_chunks('a', 'b', concurrently => false);",
            "select recompress_chunk('c');", "call recompress_chunk('c');",
            "create index on t (a) with (timescaledb.transaction_per_chunk = false);",
            "create materialized view v with (timescaledb.continuous) as select 1 with no data;" },
    },
    ["hypertable-migrate-data"] = {
        bad = { "select create_hypertable('t', 'time', migrate_data => true);" },
        good = { "select create_hypertable('t', 'time');", "select create_hypertable('t', 'a', migrate_data => false);",
            "create table t (a int); select create_hypertable('t', 'a', migrate_data := true);" },
    },
    ["drop-cascade"] = { bad = { "drop view v cascade;" }, good = { "drop view v;" } },
    ["not-looked-at"] = { bad = { "craete table t ();" }, good = { "create table t ();" } },
}

describe("lint", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function found(text, down, opts)
        opts = opts or {}
        opts.dirs = { dir }
        fs.write(dir .. "/1_x.sql", "-- migrate:up\n" .. text .. "\n-- migrate:down\n" .. (down or "select 1;") .. "\n")
        local names = {}
        for _, finding in ipairs(migrate.lint(opts)) do names[finding.rule] = finding end
        return names
    end

    for name, texts in pairs(RULES) do
        it("finds " .. name .. ", and not in harmless statements", function()
            for _, text in ipairs(texts.bad) do
                local finding = found(text)[name]
                assert.is_table(finding, text)
                assert.matches("%S", finding.why)
                assert.matches("%S", finding.safe)
            end
            for _, text in ipairs(texts.good) do assert.is_nil(found(text)[name], text) end
        end)
    end

    it("finds a missing down", function()
        assert.is_table(found("create table t ();", "")["missing-down"])
        assert.is_nil(found("create table t ();", "drop table t;")["missing-down"])
        assert.is_nil(found("-- lint: allow missing-down\ncreate table t ();", "")["missing-down"])
    end)

    it("has a test here for each rule", function()
        local elsewhere = { ["missing-down"] = true, unreadable = true }
        for _, rule in ipairs(lint.RULES) do
            assert.is_true(RULES[rule.name] ~= nil or rule.style or elsewhere[rule.name] or false, rule.name)
            assert.matches("^%l+$", rule.severity)
        end
    end)

    it("has rules of style on request", function()
        local text = "create table t (id serial primary key, a varchar(5), b timestamp);"
        local names = found(text, nil, { style = true })
        for _, rule in ipairs(lint.RULES) do
            if rule.style then
                assert.is_table(names[rule.name], rule.name)
                assert.is_nil(found(text)[rule.name])
                assert.is_nil(found("create table t (id bigint generated always as identity primary key, a text, "
                    .. "b timestamptz);", nil, { style = true })[rule.name])
            end
        end
    end)

    it("has one finding for a file, rule and table, with a count", function()
        local finding = found("alter table t drop a, drop b;\nalter table public.t drop c;\n"
            .. "alter table u drop c;", nil)["drop-column"]
        assert.equal("u", finding.table)
        local list = migrate.lint { dirs = { dir } }
        assert.equal(3, #list)
        assert.equal("t", list[1].table)
        assert.equal(3, list[1].count)
        assert.same({ 2, 3 }, list[1].lines)
        assert.equal("error", list[1].severity)
        assert.equal("two-strong-locks", list[3].rule)
    end)

    it("checks down sections only on request", function()
        assert.is_nil(found("create table t ();", "create index on u (a);")["index-not-concurrent"])
        local finding = found("create table t ();", "create index on u (a);", { down = true })["index-not-concurrent"]
        assert.equal("down", finding.direction)
    end)

    it("knows tables from earlier files, also when only one file is named", function()
        fs.write(dir .. "/1_a.sql", "-- migrate:up\ncreate table t (a varchar(10), b int, c numeric(5, 2), "
            .. "d int not null);"
            .. "\nselect create_hypertable('t', 'b');\ncreate index t_b on t (b);\n-- migrate:down\ndrop table t;\n")
        local function second(text)
            fs.write(dir .. "/2_b.sql", "-- migrate:up\n" .. text .. "\n-- migrate:down\nselect 1;\n")
            local names = {}
            for _, finding in ipairs(migrate.lint { files = { dir .. "/2_b.sql" } }) do
                names[#names + 1] = finding.rule
            end
            return table.concat(names, " ")
        end
        for _, text in ipairs { "alter table t alter a type varchar(20)", "alter table public.t alter a type text",
            "alter table t alter c type numeric(9, 2)", "alter table t alter c type numeric", "drop index t_b",
            "alter table t alter d set not null",
            "alter table t alter a type varchar(20), alter a type varchar(30)" } do
            assert.equal("", second(text), text)
        end
        for _, text in ipairs { "alter table t alter a type varchar(5)", "alter table t alter b type text",
            "alter table t alter c type numeric(9, 3)", "alter table t alter a type varchar(20) using 'x'" } do
            assert.equal("type-change", second(text), text)
        end
        assert.equal("hypertable-index", second "create index on t (a)")
        assert.equal("index-not-concurrent", second "create index on u (a)")
    end)

    it("continues after a file that cannot be read", function()
        fs.write(dir .. "/1_a.sql", "select 1;\n")
        fs.write(dir .. "/2_b.sql", "-- migrate:up\ntruncate t;\n-- migrate:down\n-- lint: allow missing-down\n")
        local list = migrate.lint { dirs = { dir } }
        assert.equal("unreadable", list[1].rule)
        assert.equal("truncate", list[2].rule)
        assert.has_error(function() migrate.lint { files = { dir .. "/3_c.sql" } } end)
    end)

    it("can be switched off for one statement by a comment, for that rule only", function()
        assert.same({}, found "-- lint: allow truncate\ntruncate t;")
        assert.same({}, found "truncate t -- lint: allow truncate, drop-table\n;")
        assert.same({}, found "truncate t; -- lint: allow truncate")
        assert.equal(3, found("truncate t; -- lint: allow truncate\ntruncate u;").truncate.line)
        assert.is_table(found("-- lint: allow drop-table\ntruncate t;").truncate)
        assert.is_table(found('truncate "-- lint: allow truncate";').truncate)
        local finding = found("-- lint: allow truncate\ntruncate t;\n\ntruncate u;").truncate
        assert.equal(5, finding.line)
    end)

    it("names file and line on the command line and exits with 1; with nothing found with 0", function()
        fs.write(dir .. "/1_x.sql", "-- migrate:up\n\nalter table t add c int,\n  drop d;\n"
            .. "-- migrate:down\nselect 1;\n")
        fs.write(dir .. "/2_y.sql", "-- migrate:up\ncreate table y ();\n-- migrate:down\ndrop table y;\n")
        local result = scripts.run("migrate", { "lint", "--dir", dir })
        assert.equal(1, result.code, result.text)
        assert.matches(dir .. "/1_x.sql:3: t.d is dropped [drop-column]", result.stdout, 1, true)
        result = scripts.run("migrate", { "lint", "--dir", dir, "--from", "2" })
        assert.equal(0, result.code, result.text)
        assert.equal(0, scripts.run("migrate", { "lint", dir .. "/2_y.sql" }).code)
        assert.matches("drop%-column", scripts.run("migrate", { "lint", "--rules" }).stdout)
    end)
end)
