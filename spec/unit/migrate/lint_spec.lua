-- What lint finds in migrations, and what it leaves alone.
local fs = require "dbrun.fs"
local migrate = require "dbrun.migrate"
local lint = require "dbrun.migrate.show.lint"
local scripts = require "spec.support.scripts"

---For each rule: texts in which it finds something, and texts in which it does not.
local RULES <const> = {
    ["index-not-concurrent"] = {
        bad = { "create index on t (a);", "create unique index i on s.t (a);" },
        good = { "create table t (a int); create index on t (a);" },
    },
    ["refused"] = {
        bad = { "select 1;\ncommit;", "select 1; /* select 2;", "select 'a;", "prepare transaction 'x';" },
        good = { "savepoint a; select 1; rollback to a;" },
    },
    ["drop-index-not-concurrent"] = { bad = { "drop index i;" }, good = { "drop view v;" } },
    ["reindex-not-concurrent"] = { bad = { "reindex table t;" }, good = { "select 1;" } },
    ["concurrently-in-transaction"] = {
        bad = { "create index concurrently i on t (a);", "vacuum t;", "alter system set work_mem = '1MB';" },
        good = { "analyze t;" },
    },
    ["volatile-default"] = {
        bad = { "alter table t add c uuid default gen_random_uuid();", "alter table t add id bigserial;" },
        good = { "alter table t add c timestamptz default now();", "alter table t add c int default 1 + 2;",
            "create table t (); alter table t add c uuid default gen_random_uuid();" },
    },
    ["stored-generated-column"] = {
        bad = { "alter table t add c int generated always as (a + 1) stored;" },
        good = { "create table t (a int, c int generated always as (a + 1) stored);" },
    },
    ["not-null-without-check"] = {
        bad = { "alter table t alter c set not null;" },
        good = { "alter table t add constraint k check (c is not null) not valid;\n"
            .. "alter table t validate constraint k; alter table t alter c set not null;" },
    },
    ["not-null-column-without-default"] = {
        bad = { "alter table t add c int not null;" }, good = { "alter table t add c int not null default 0;" },
    },
    ["type-change"] = {
        bad = { "alter table t alter c type bigint;" }, good = { "alter table t alter c set default 1;" },
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
        bad = { "alter table t rename to u;", "alter table t rename a to b;" },
        good = { "alter index i rename to j;", "create table t (a int); alter table t rename a to b;" },
    },
    ["drop-column"] = { bad = { "alter table t drop a;" }, good = { "alter table t drop constraint k;" } },
    ["drop-table"] = { bad = { "drop table t;" }, good = { "create table t (); drop table t;" } },
    ["truncate"] = { bad = { "truncate t;" }, good = { "delete from t where a = 1;" } },
    ["unbounded-update"] = {
        bad = { "update t set a = 1;", "delete from t;" },
        good = { "update t set a = 1 where b = 2;", "create table t (a int); update t set a = 1;" },
    },
    ["data-beside-schema"] = {
        bad = { "alter table t add c int; update t set c = 1 where a = 1;" },
        good = { "update t set c = 1 where a = 1;" },
    },
    ["set-tablespace-or-logged"] = {
        bad = { "alter table t set unlogged;" }, good = { "alter table t set (fillfactor = 70);" },
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
            "create materialized view v with (timescaledb.continuous) as select 1;" },
        good = { "create materialized view v with (timescaledb.continuous) as select 1 with no data;" },
    },
    ["hypertable-migrate-data"] = {
        bad = { "select create_hypertable('t', 'time', migrate_data => true);" },
        good = { "select create_hypertable('t', 'time');" },
    },
    ["drop-cascade"] = { bad = { "drop view v cascade;" }, good = { "drop view v;" } },
    ["not-looked-at"] = { bad = { "craete table t ();" }, good = { "create table t ();" } },
}

describe("lint", function()
    local dir
    before_each(function() dir = fs.mkdtemp() end)
    after_each(function() fs.rmtree(dir) end)

    local function found(text, down)
        fs.write(dir .. "/1_x.sql", "-- migrate:up\n" .. text .. "\n-- migrate:down\n" .. (down or "select 1;") .. "\n")
        local names = {}
        for _, finding in ipairs(migrate.lint { dirs = { dir } }) do names[finding.rule] = finding end
        return names
    end

    for name, texts in pairs(RULES) do
        it("finds " .. name .. ", and not where there is nothing to find", function()
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

    it("knows at least 15 rules, each tried above", function()
        assert.is_true(#lint.RULES >= 15)
        for _, rule in ipairs(lint.RULES) do
            assert.is_true(RULES[rule.name] ~= nil or rule.name == "missing-down", rule.name)
        end
    end)

    it("is switched off for one statement by a comment, for that rule only", function()
        assert.same({}, found "-- lint: allow truncate\ntruncate t;")
        assert.same({}, found "truncate t -- lint: allow truncate, drop-table\n;")
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
