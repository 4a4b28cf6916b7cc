/* Which statement of a text ends its transaction. */
#include "check.h"
#include "pg/tx_text.h"

#include <string.h>

/* The rest of the text from that statement on; "" when there is none. */
static void ends_at(const char *sql, const char *expected)
{
    const char *end = sql_transaction_end(sql);
    CHECK_STR(end ? end : "", expected);
}

static void test_ends(void)
{
    ends_at("commit", "commit");
    ends_at("COMMIT WORK", "COMMIT WORK");
    ends_at("end", "end");
    ends_at("abort;", "abort;");
    ends_at("rollback and chain", "rollback and chain");
    ends_at("commit and no chain", "commit and no chain");
    ends_at("prepare/**/transaction 'x'", "prepare/**/transaction 'x'");
    ends_at("/* a */ -- b\n ; commit", "commit");
    ends_at("select 1; select ';'; rollback transaction; begin", "rollback transaction; begin");
    ends_at("begin; end", "end");
    ends_at("rollback to a; rollback", "rollback");
}

static void test_no_ends(void)
{
    ends_at("", "");
    ends_at(";;", "");
    ends_at("select 1", "");
    ends_at("select 'a; commit'", "");
    ends_at("select \"; commit\"", "");
    ends_at("select 1 -- ; commit", "");
    ends_at("do $$ begin commit; end $$", "");
    ends_at("rollback to a", "");
    ends_at("ROLLBACK /* x */ WORK TO SAVEPOINT a", "");
    ends_at("rollback transaction to a", "");
    ends_at("rollback prepared 'x'", "");
    ends_at("commit prepared 'x'", "");
    ends_at("prepare transaction_of as select 1", "");
    ends_at("prepare x as select 1", "");
    ends_at("savepoint commit", "");
    ends_at("committed", "");
}

static void test_bodies(void)
{
    ends_at("create function f() returns int begin atomic select 1; select case when true then 2 end; end",
            "");
    ends_at("create or replace procedure p() begin atomic insert into t values (1); end; commit", "commit");
    ends_at("create rule r as on insert to t do (select 1; select 2)", "");
    ends_at("create table t(a int); end", "end");
    ends_at("create function f() returns int return 1; abort", "abort");
    ends_at("create function f(); begin; commit", "commit");
}

int main(void)
{
    TEST("COMMIT, END, ROLLBACK, ABORT and PREPARE TRANSACTION end it", test_ends);
    TEST("nothing else ends it", test_no_ends);
    TEST("the statements of a routine's body do not count", test_bodies);
    return check_end("pg_tx_text");
}
