-- Knowledge of lint from earlier files, and from earlier statements of the same file.
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"

describe("lint with files before", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function write(name, text)
        fs.write(dir .. "/" .. name, "-- migrate:up\n" .. text .. "\n-- migrate:down\n-- lint: allow missing-down\n")
    end

    ---The rules with findings in the second file.
    local function found(before, text)
        write("1_a.sql", before)
        write("2_b.sql", text)
        local names = {}
        for _, finding in ipairs(migrate.lint { files = { dir .. "/2_b.sql" } }) do names[#names + 1] = finding.rule end
        return table.concat(names, " ")
    end

    ---Each case: the earlier statements, the statement, the rules.
    local function all(cases)
        for _, case in ipairs(cases) do assert.equal(case[3], found(case[1], case[2]), case[1] .. case[2]) end
    end

    it("distinguishes type changes that do not rewrite rows from others", function()
        all {
            { "create table t (c varchar(10));", "alter table t alter c type varchar(20) using c::varchar(20);", "" },
            { "create table t (c varchar(10));", "alter table t alter c type text using c;", "" },
            { "create table t (c varchar(10));", "alter table t alter c type varchar(20) using t.c;", "" },
            { "create table t (c varchar(10));", "alter table t alter c type varchar(20) using d;", "type-change" },
            { "create table t (c varchar(10));", "alter table t alter c type varchar(20) using c::text;",
                "type-change" },
            { "create table t (c varchar(10));", 'alter table t alter c type varchar(20) collate "C";', "" },
            { "create table t (c varchar(10) unique);", 'alter table t alter c type varchar(20) collate "C";',
                "type-change" },
            { 'create table t (c text collate "C" unique);', 'alter table t alter c type varchar collate "C";', "" },
            { 'create table t (c text collate "C" unique);', "alter table t alter c type varchar;", "type-change" },
            { "select 1;", 'alter table t alter c type text collate "C";', "type-change" },
            { "create table t (c interval(3));", "alter table t alter c type interval(6);", "" },
            { "create table t (c interval(3));", "alter table t alter c type interval;", "" },
            { "create table t (c interval);", "alter table t alter c type interval(3);", "type-change" },
            { "create table t (c interval year);", "alter table t alter c type interval day;", "type-change" },
            { "create table t (c int); alter table t add if not exists c varchar(9);",
                "alter table t alter c type varchar(20);", "type-change" },
        }
    end)

    it("accepts a check that also tests other conditions as a proof of NOT NULL", function()
        local set <const> = "alter table t alter a set not null;"
        all {
            { "create table t (a int check (a is not null and a > 0));", set, "" },
            { "create table t (a int, check (b > 0 and (t.a is not null and c > 1)));", set, "" },
            { "create table t (a int, check (a is not null or b > 0));", set, "not-null-without-check" },
            { "create table t (a int, check (not (a is not null and b > 0)));", set, "not-null-without-check" },
            { "alter table t add check (a is not null and a > 0) not valid;", set, "not-null-without-check" },
        }
    end)

    it("knows the effect of a primary key on the columns of an existing index", function()
        local key <const> = "alter table t add primary key using index i;"
        all {
            { "create table t (a int, b int not null); create unique index i on t (a, b);", key,
                "not-null-without-check" },
            { "create table t (a int not null, b int not null); create unique index i on t (a, b);", key, "" },
            { "create table t (a int check (a is not null)); create unique index i on t (a);", key, "" },
            { "create table t (a int);", key, "" },
            { "create table t (a int); create unique index i on t (a);", "alter table t add unique using index i;",
                "" },
        }
    end)

    it("accepts only an index that finds equal values for a foreign key", function()
        local without <const> = "foreign-key-without-index"
        local key <const> = "alter table t add foreign key (a) references u not valid;"
        all {
            { "create index on t using gin (a);", key, without },
            { "create index on t using hash (a);", key, "" },
            { "create index on t (a) where a is not null;", key, "" },
            { "create index on t (a) where b is not null;", key, without },
            { "create index on t (a) where a is not null and a > 5;", key, without },
        }
    end)

    it("ignores objects that the same file has created", function()
        all {
            { "create table t (a int);", "alter table t add c int; alter table t drop c;", "" },
            { "create table t (a int);", "alter table t add c int; alter table t rename c to d;"
                .. "alter table t drop d;", "" },
            { "create table t (a int);", "alter table t add c int not null default 1; "
                .. "alter table t alter c drop not null;", "" },
            { "create table t (a int);", "alter table t add if not exists a int; alter table t drop a;",
                "drop-column" },
            { "create table t (a int);", "create temp table t (b int); drop table t;", "" },
            { "create table t (a int);", "create temp table t (b int); drop table public.t;", "drop-table" },
            { "select 1;", "create type s.y as (a int); drop type s.y;", "" },
            { "select 1;", "create type s.y as (a int); drop type y;", "drop-object" },
            { "select 1;", "create type y as enum ('a'); alter type y rename to z; alter type z rename value 'a' to "
                .. "'b'; drop type z;", "" },
            { "select 1;", "create function s.f() returns int language sql as 'select 1'; alter function s.f() rename "
                .. "to g; drop function s.g();", "" },
        }
    end)

    it("knows the server's refusals for a partitioned table", function()
        local parent <const> = "create table p (a int) partition by range (a); create index i on p (a);"
        local alone <const> = "-- lint: allow concurrently-in-transaction foreign-key-without-index\n"
        all {
            { parent, alone .. "create index concurrently on p (a);", "partitioned-refuses" },
            { parent, alone .. "create index concurrently on only public.p (a);", "partitioned-refuses" },
            { parent, alone .. "drop index concurrently i;", "partitioned-refuses" },
            { parent, alone .. "alter table p add primary key using index k;", "partitioned-refuses" },
            { parent, alone .. "alter table p add foreign key (b) references t not valid;", "partitioned-refuses" },
            { parent, "create table c partition of p default;\n" .. alone
                .. "create index concurrently on c (a);", "" },
            { "create table t (a int);", alone .. "create index concurrently on t (a);", "" },
            { parent, "alter table p add unique (a);", "unique-without-index" },
        }
        for _, text in ipairs { "drop index i", "alter table p add unique (a)", "create index on p (a)",
            "alter table p add foreign key (a) references t" } do
            found(parent, text)
            local safe = migrate.lint { files = { dir .. "/2_b.sql" } }[1].safe
            assert.is_truthy(safe:find "parent" or safe:find "quiet hour", text .. ": " .. safe)
        end
    end)

    it("knows TimescaleDB's refusals for a hypertable and a continuous aggregate", function()
        local table_and_index <const> = "create table h (t timestamptz) with (tsdb.hypertable); "
            .. "create index i on h (t);"
        local view <const> = "create materialized view v with (timescaledb.continuous) as select 1 with no data;"
        local alone <const> = "-- lint: allow concurrently-in-transaction drop-object\n"
        all {
            { table_and_index, "reindex index i;", "hypertable-refuses" },
            { table_and_index, alone .. "reindex index concurrently i;", "hypertable-refuses" },
            { table_and_index, alone .. "drop index concurrently i;", "hypertable-refuses" },
            { table_and_index, "drop index i;", "" },
            { table_and_index, "reindex table h;", "" },
            { view, "create index on v (n);", "hypertable-index" },
            { view, alone .. "create index concurrently on v (n);", "hypertable-refuses" },
            { view, "refresh materialized view v;", "hypertable-refuses" },
            { view, "refresh materialized view concurrently public.v;", "hypertable-refuses" },
            { view, alone .. "drop view v;", "hypertable-refuses" },
            { view, alone .. "drop materialized view v;", "" },
            { "create materialized view v as select 1;", "refresh materialized view v;", "refresh-not-concurrent" },
        }
    end)

    it("knows domains with constraints", function()
        all {
            { "create domain d as int check (value > 0);", "alter table t add c d;", "domain-column" },
            { "create domain s.d as int not null;", "alter table t add c s.d default 1;", "domain-column" },
            { "create domain d as int; alter domain d add check (value > 0);", "alter table t add c public.d;",
                "domain-column" },
            { "create domain d as int default 5;", "alter table t add c d;", "" },
            { "create domain d as int check (value > 0);", "create table t (c d);", "" },
            { "create domain d as int check (value > 0);", "alter table t add c s.d;", "" },
        }
    end)

    it("reads the arguments of create_hypertable by name", function()
        local index <const> = "create index on t (a);"
        all {
            { "select create_hypertable(relation => 't', time_column_name => 'a');", index, "hypertable-index" },
            { "select create_hypertable(time_column_name => 'a', relation => 'public.t');", index, "hypertable-index" },
            { "select 1;", "select create_hypertable(migrate_data => true, relation => 't', "
                .. "dimension => by_range('a'));", "hypertable-migrate-data" },
        }
    end)
end)
