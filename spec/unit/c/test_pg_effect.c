/* The effects of SQL on prepared statements. */
#include "check.h"
#include "pg/effect.h"

enum {
    PLAN = PG_HAS_PLAN,
    SCHEMA = PG_CHANGES_SCHEMA,
    SESSION = PG_CHANGES_SESSION,
    ENDS = PG_ENDS,
    RUNS = PG_RUNS
};

static void check(const char *sql, unsigned expected)
{
    unsigned effect = pg_effect_of(sql, strlen(sql), true);
    if (effect != expected)
        fprintf(stderr, "in: %s\n", sql);
    CHECK_EQ(effect, expected);
}

static void test_plans(void)
{
    check("", 0);
    check("-- nothing", 0);
    check("select 1", PLAN);
    check(" /* a */ (SELECT 1) union select 2", PLAN);
    check("with x as (insert into t values (1) returning *) select * from x", PLAN);
    check("insert into t select * from u", PLAN);
    check("insert /* a */ into t values (1)", PLAN);
    check("merge into t using u on true when matched then delete", PLAN);
    check("select 'into', \"into\", $$ into $$, created, prepared from t", PLAN);
    check("selection", SCHEMA | SESSION);
    check("begin", 0);
    check("prepare p as select 1", 0);
    check("execute p", RUNS);
    check("declare c cursor for select 1", 0);
    check("fetch all from c", RUNS);
    check("copy (select 1) to stdout", RUNS);
}

static void check_concurrent(void)
{
    static const char *const with[] = {
        "create index concurrently on t (a)",
        "CREATE UNIQUE INDEX /* a */ CONCURRENTLY IF NOT EXISTS \"i\" ON t (a)",
        "; reindex table concurrently t",
        "reindex (verbose, concurrently) index i",
        "reindex (concurrently true) index i",
        "drop index concurrently if exists i",
        "alter table a.b detach partition \"c\" concurrently;",
    };
    static const char *const without[] = {
        "create index on t (a)",
        "create index \"concurrently\" on t (a)",
        "create unique",
        "reindex table t",
        "reindex (concurrently false) table t",
        "drop index i",
        "drop table concurrently",
        "alter table a detach partition c finalize",
        "alter table a detach partition c",
        "alter table detach alter b set default 'partition' -- concurrently",
    };
    for (size_t i = 0; i < sizeof with / sizeof *with; i++)
        check(with[i], SCHEMA | SESSION | PG_MAY_COMMIT | PG_CONCURRENT);
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        check(without[i], SCHEMA | SESSION);
}

static void test_changes(void)
{
    check("create table t (a int)", SCHEMA | SESSION);
    check("alter table t add b int", SCHEMA | SESSION);
    check("do 'begin end'", SCHEMA | SESSION);
    check("do 'begin Commit; end'", SCHEMA | SESSION | PG_MAY_COMMIT);
    check("DO $$ begin call p(); end $$", SCHEMA | SESSION | PG_MAY_COMMIT);
    check("call p()", SCHEMA | SESSION | PG_MAY_COMMIT);
    check("truncate t", SCHEMA | SESSION);
    check_concurrent();
    check("set timezone = 'UTC'", SESSION);
    check("reset all", SESSION);
    check("discard plans", SESSION);
    check("select 1 into temp t", PLAN | SCHEMA | SESSION);
    check("with x as (select 1) select * INTO t from x", PLAN | SCHEMA | SESSION);
    check("with x as (insert into t values (1) returning *) select * into u from x", PLAN | SCHEMA | SESSION);
    check("select set_config('a.b', 'c', false)", PLAN | SESSION);
    check("select pg_catalog . \"set_config\" ('a.b', 'c', false)", PLAN | SESSION);
    check("select 'set_config'", PLAN);
    check("select set_config('search_path', $1, true)", PLAN | SESSION);
    check("select set_config($1, $2, true)", PLAN | SESSION);
    check("select set_config('lock_timeout' || $1, $2, true)", PLAN | SESSION);
    check("select set_config(setting_name => 'lock_timeout', new_value => $2, is_local => true)",
          PLAN | SESSION);
    check("select set_config('lock_timeout', $1, true), set_config('TimeZone', $2, true)", PLAN | SESSION);
    check("select set_config", PLAN | SESSION);
    check("select set_config(", PLAN | SESSION);
    check("select set_config('lock_timeout'", PLAN | SESSION);
    check("explain select 1", RUNS);
    check("explain analyze create table t as select 1", RUNS | SCHEMA | SESSION);
    check("explain analyze select 1 into t", RUNS | SCHEMA | SESSION);
}

/* A time limit changes no meaning: what is prepared stays. */
static void test_harmless(void)
{
    check("select set_config('lock_timeout', $1, true)", PLAN);
    check("select pg_catalog . \"set_config\" ( /* a */ 'jit' , 'off', true), a from t", PLAN);
    check("select set_config('application_name', $1, true), set_config('statement_timeout', '5s', true)",
          PLAN);
    check("set lock_timeout = '1s'", SESSION);
}

static void test_ends(void)
{
    check("commit", ENDS);
    check("END", ENDS);
    check("rollback to savepoint a", ENDS);
    check("abort", ENDS);
    check("commit prepared 'x'", ENDS | SCHEMA | SESSION);
    check("rollback prepared 'x'", ENDS | SCHEMA | SESSION);
    check("prepare transaction 'x'", SCHEMA | SESSION);
}

static void test_several(void)
{
    check("begin; select 1; commit", PLAN | ENDS);
    check(";; ; drop table t", SCHEMA | SESSION);
    check("select 1; set a.b = 1", PLAN | SESSION);
    check("savepoint a; create table t (); release a", SCHEMA | SESSION);
}

/* The end of a string with a backslash is unknown. */
static void test_backslashes(void)
{
    const char *sql = "select 'a\\'; drop table t; --'";
    CHECK(pg_effect_of(sql, strlen(sql), false) & PG_CHANGES_SCHEMA);
    CHECK(pg_effect_of("select 1", 8, false) == PG_HAS_PLAN);
}

int main(void)
{
    TEST("statements with a plan are distinguished from utility statements", test_plans);
    TEST("DDL and settings are found, also in a SELECT", test_changes);
    TEST("a limit that set_config sets changes no meaning", test_harmless);
    TEST("the end of a transaction is found, also a rollback to a savepoint", test_ends);
    TEST("several statements have the effects of each", test_several);
    TEST("a backslash without standard_conforming_strings can hide anything", test_backslashes);
    return check_end("pg_effect");
}
