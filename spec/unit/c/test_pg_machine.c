/* The PostgreSQL machine under the blocking driver, on a real server. */
#include "base/deadline.h"
#include "check.h"
#include "connect/pg.h"
#include "io/poll.h"
#include "pg/machine.h"
#include "pg_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct pg_server server;
static int forgotten;

static void forget(void *data, int ref)
{
    (void)data;
    forgotten += ref;
}

static PGconn *connect_to(const char *dir, const char *dbname, double seconds, struct error *err)
{
    const char *keywords[] = {"host", "user", "dbname", NULL};
    const char *values[] = {dir, "postgres", dbname, NULL};
    return connect_pg(keywords, values, dir, deadline_in(seconds), NULL, err);
}

static void open_machine(struct pg_machine *m, uint32_t cache)
{
    struct error err = {0};
    PGconn *conn = connect_to(server.dir, "postgres", 10, &err);
    CHECK(conn != NULL);
    CHECK(pg_machine_init(m, conn, cache, forget, NULL));
}

/* Steps until it has ended; false when `seconds` pass first. */
static bool run(struct pg_machine *m, double seconds)
{
    uint64_t deadline = deadline_in(seconds);
    unsigned want = pg_machine_step(m, 0);
    while (want != PG_DONE) {
        unsigned ready = 0;
        if (io_poll(pg_machine_fd(m), want, deadline, NULL, &ready) != IO_READY)
            return false;
        want = pg_machine_step(m, ready);
    }
    return true;
}

static bool query(struct pg_machine *m, const char *sql, const char *param)
{
    const Oid types[] = {0};
    const char *values[] = {param};
    const int lengths[] = {0};
    const int formats[] = {0};
    struct pg_params p = {
        .n = param ? 1 : 0, .types = types, .values = values, .lengths = lengths, .formats = formats};
    return pg_machine_query(m, sql, strlen(sql), &p) && run(m, 10);
}

static bool simple(struct pg_machine *m, const char *sql)
{
    return pg_machine_simple(m, sql) && run(m, 10);
}

static bool copy(struct pg_machine *m, const char *sql)
{
    return pg_machine_copy(m, sql) && run(m, 10);
}

static void test_prepares_on_second_sight(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    const char *sql = "select $1::int8 as n";
    CHECK(query(&m, sql, "41"));
    CHECK(!m.entry->prepared);
    CHECK(strcmp(PQgetvalue(m.result, 0, 0), "41") == 0);
    CHECK(query(&m, sql, "42"));
    CHECK(m.entry->prepared);
    CHECK(query(&m, sql, "43"));
    CHECK(PQfformat(m.result, 0) == 1);
    CHECK(PQgetlength(m.result, 0, 0) == 8);
    CHECK(m.state == PG_IDLE);
    CHECK(pg_machine_is_clean(&m));
    pg_machine_close(&m);
}

static void test_evicts_the_oldest(void)
{
    struct pg_machine m;
    open_machine(&m, 2);
    forgotten = 0;
    const char *sqls[] = {"select 1", "select 2", "select 3"};
    for (int round = 0; round < 2; round++)
        CHECK(query(&m, sqls[0], NULL));
    m.entry->ref = 7;
    for (int i = 1; i < 3; i++)
        for (int round = 0; round < 3; round++)
            CHECK(query(&m, sqls[i], NULL));
    CHECK(forgotten == 7);
    CHECK(query(&m, "select count(*)::int8 from pg_prepared_statements where name like 'dbrun%'", NULL));
    CHECK(strcmp(PQgetvalue(m.result, 0, 0), "2") == 0);
    pg_machine_close(&m);
}

static void test_error_keeps_the_connection(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    for (int i = 0; i < 3; i++) {
        CHECK(query(&m, "select 1 / $1::int", "0"));
        CHECK(m.error.kind == ERROR_QUERY);
        CHECK(strcmp(m.error.field[ERROR_SQLSTATE], "22012") == 0);
        CHECK(m.error.outcome == OUTCOME_FAILED);
        CHECK(m.result == NULL);
        CHECK(m.state == PG_IDLE);
    }
    CHECK(query(&m, "select 1 / $1::int", "1"));
    CHECK(!error_is_set(&m.error));
    pg_machine_close(&m);
}

static void test_several_statements(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    CHECK(
        simple(&m, "create temp table t (i int); insert into t values (1), (2); select i from t order by i"));
    CHECK(PQntuples(m.result) == 2);
    CHECK(simple(&m, "select 1; select nope; select 2"));
    CHECK(strcmp(m.error.field[ERROR_SQLSTATE], "42703") == 0);
    CHECK(simple(&m, ""));
    CHECK(!error_is_set(&m.error));
    pg_machine_close(&m);
}

static void test_too_many_parameters(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    struct pg_params p = {.n = 65536};
    CHECK(!pg_machine_query(&m, "select 1", 8, &p));
    CHECK(m.error.outcome == OUTCOME_NOT_SENT);
    CHECK(query(&m, "select 1", NULL));
    pg_machine_close(&m);
}

static void test_busy_is_refused(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    CHECK(pg_machine_simple(&m, "select pg_sleep(0.05)"));
    struct pg_params none = {0};
    CHECK(!pg_machine_query(&m, "select 1", 8, &none));
    CHECK(m.error.kind == ERROR_USAGE);
    pg_machine_close(&m);
}

static void test_cancelled_and_used_again(void)
{
    struct pg_machine m;
    char why[256];
    open_machine(&m, 10);
    CHECK(pg_machine_simple(&m, "select pg_sleep(30)"));
    CHECK(!run(&m, 0.1));
    PGcancel *c = PQgetCancel(m.conn);
    CHECK(PQcancel(c, why, sizeof why) == 1);
    PQfreeCancel(c);
    pg_machine_discard(&m);
    CHECK(run(&m, 5));
    CHECK(m.state == PG_IDLE);
    CHECK(query(&m, "select $1::int8", "5"));
    CHECK(strcmp(PQgetvalue(m.result, 0, 0), "5") == 0);
    pg_machine_close(&m);
}

static void test_copy_in(void)
{
    struct pg_machine m;
    char row[64];
    open_machine(&m, 10);
    CHECK(simple(&m, "create temp table c (i int8, t text)"));
    CHECK(copy(&m, "copy c from stdin"));
    CHECK(m.state == PG_COPY_IN);
    for (int i = 0; i < 200000; i++) {
        int n = snprintf(row, sizeof row, "%d\tsome text that fills the socket\n", i);
        int rc = pg_machine_copy_put(&m, row, (size_t)n);
        CHECK(rc >= 0);
        if (rc == 0)
            CHECK(run(&m, 10));
    }
    pg_machine_copy_end(&m, NULL);
    CHECK(run(&m, 10));
    CHECK(strcmp(PQcmdTuples(m.result), "200000") == 0);
    CHECK(copy(&m, "copy c from stdin"));
    pg_machine_copy_end(&m, "the producer failed");
    CHECK(run(&m, 10));
    CHECK(strcmp(m.error.field[ERROR_SQLSTATE], "57014") == 0);
    CHECK(query(&m, "select count(*) from c", NULL));
    CHECK(strcmp(PQgetvalue(m.result, 0, 0), "200000") == 0);
    pg_machine_close(&m);
}

static void test_copy_out(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    CHECK(copy(&m, "copy (select generate_series(1, 1000)) to stdout"));
    CHECK(m.state == PG_COPY_OUT);
    int rows = 0;
    char *row;
    int n;
    while ((n = pg_machine_copy_get(&m, &row)) >= 0) {
        if (n > 0) {
            rows++;
            PQfreemem(row);
        } else {
            unsigned ready;
            io_poll(pg_machine_fd(&m), IO_READ, deadline_in(5), NULL, &ready);
            PQconsumeInput(m.conn);
        }
    }
    CHECK(rows == 1000);
    CHECK(run(&m, 5));
    CHECK(copy(&m, "copy (select generate_series(1, 100000)) to stdout"));
    pg_machine_discard(&m);
    CHECK(run(&m, 5));
    CHECK(m.state == PG_IDLE);
    CHECK(query(&m, "select 1", NULL));
    pg_machine_close(&m);
}

static void test_terminated(void)
{
    struct pg_machine m;
    struct pg_machine killer;
    char sql[64];
    open_machine(&m, 10);
    open_machine(&killer, 0);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", PQbackendPID(m.conn));
    CHECK(pg_machine_simple(&m, "select pg_sleep(30)"));
    CHECK(simple(&killer, sql));
    CHECK(run(&m, 5));
    CHECK(m.state == PG_BROKEN);
    CHECK(m.error.kind == ERROR_CONNECT);
    CHECK(strcmp(m.error.field[ERROR_SQLSTATE], "57P01") == 0);
    struct pg_params none = {0};
    CHECK(!pg_machine_query(&m, "select 1", 8, &none));
    CHECK(m.error.outcome == OUTCOME_NOT_SENT);
    pg_machine_close(&m);
    pg_machine_close(&killer);
}

static void test_transaction_state(void)
{
    struct pg_machine m;
    open_machine(&m, 10);
    CHECK(simple(&m, "begin"));
    CHECK(pg_machine_in_transaction(&m));
    CHECK(!pg_machine_is_clean(&m));
    CHECK(simple(&m, "select nope"));
    CHECK(pg_machine_in_transaction(&m));
    CHECK(simple(&m, "rollback"));
    CHECK(pg_machine_is_clean(&m));
    pg_machine_close(&m);
}

static void test_connect_tells_the_layer(void)
{
    struct error err = {0};
    CHECK(connect_to(server.dir, "nope", 5, &err) == NULL);
    CHECK(err.kind == ERROR_CONNECT);
    CHECK(strcmp(err.field[ERROR_SQLSTATE], "3D000") == 0);
    CHECK(strcmp(err.field[ERROR_LAYER], "database") == 0);
    error_clear(&err);
    CHECK(connect_to("/nonexistent", "postgres", 5, &err) == NULL);
    CHECK(strcmp(err.field[ERROR_LAYER], "network") == 0);
    CHECK(err.outcome == OUTCOME_NOT_SENT);
    error_clear(&err);
}

/* A peer that accepts the connection and sends nothing. */
static void test_connect_deadline(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/dbrun-ctest-XXXXXX";
    CHECK(mkdtemp(dir) != NULL);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/.s.PGSQL.5432", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, 1) == 0);
    struct error err = {0};
    uint64_t from = mono_now();
    CHECK(connect_to(dir, "postgres", 0.3, &err) == NULL);
    double took = (double)(mono_now() - from) / (double)NS_PER_S;
    CHECK(took >= 0.3 && took < 5);
    CHECK(err.kind == ERROR_TIMEOUT);
    CHECK(strcmp(err.field[ERROR_LAYER], "time") == 0);
    error_clear(&err);
    close(fd);
    unlink(addr.sun_path);
    rmdir(dir);
}

int main(void)
{
    if (pg_server_start(&server)) {
        TEST("a statement is prepared when it is seen again, and then answers in binary",
             test_prepares_on_second_sight);
        TEST("the statement used least recently leaves the cache and the server", test_evicts_the_oldest);
        TEST("an error leaves the connection usable, prepared or not", test_error_keeps_the_connection);
        TEST("several statements give the last result or the first error", test_several_statements);
        TEST("65,536 parameters are refused before anything is sent", test_too_many_parameters);
        TEST("a busy connection refuses a second statement", test_busy_is_refused);
        TEST("a cancelled statement is drained and the connection used again", test_cancelled_and_used_again);
        TEST("COPY in counts its rows, and can be made to fail", test_copy_in);
        TEST("COPY out is read to the end, or thrown away", test_copy_out);
        TEST("a backend that is terminated says why, and nothing is sent after it", test_terminated);
        TEST("the transaction state is known", test_transaction_state);
        TEST("a failed connect reports how far it came", test_connect_tells_the_layer);
        TEST("a connect to a peer that sends nothing fails at the deadline", test_connect_deadline);
    }
    pg_server_stop(&server);
    return check_end("pg_machine"); /* no test run = failed */
}
