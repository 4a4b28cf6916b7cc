/* The listener under both drivers, on a real server. */
#include "base/deadline.h"
#include "check.h"
#include "connect/pg.h"
#include "io/watch.h"
#include "pg/listener.h"
#include "pg_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct pg_server server;
static bool on_loop; /* the driver: the loop, or poll(2) */

/* The received notifications, and their listener. */
struct ear {
    struct pg_listener l;
    uv_loop_t loop;
    struct io_watch *watch; /* on the loop */
    unsigned n;
    unsigned full_at; /* 0 = never */
    unsigned deaf_at; /* out of memory at this one; 0 = never */
    char first[16];
    char last[16];
    int pid;
};

static bool hear(void *data, PGnotify *n)
{
    struct ear *e = data;
    if (e->n + 1 == e->deaf_at)
        return false;
    if (e->n == 0)
        snprintf(e->first, sizeof e->first, "%s", n->extra);
    snprintf(e->last, sizeof e->last, "%s", n->extra);
    e->pid = n->be_pid;
    e->n++;
    if (e->n == e->full_at)
        e->l.full = true;
    PQfreemem(n);
    return true;
}

static PGconn *connect_server(void)
{
    const char *keywords[] = {"host", "user", "dbname", NULL};
    const char *values[] = {server.dir, "postgres", "postgres", NULL};
    struct error err = {0};
    PGconn *conn = connect_pg(keywords, values, server.dir, deadline_in(10), NULL, &err);
    CHECK(conn != NULL);
    return conn;
}

static void on_ready(void *data, unsigned events)
{
    struct ear *e = data;
    io_watch_want(e->watch, pg_listener_step(&e->l, events));
}

static void on_late(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* One step when the socket is ready, under either driver; false when `seconds` passed first. */
static bool step(struct ear *e, double seconds)
{
    unsigned ready = 0;
    if (!on_loop) {
        unsigned want = pg_listener_want(&e->l);
        if (io_poll(want ? pg_machine_fd(&e->l.m) : -1, want, deadline_in(seconds), NULL, &ready) != IO_READY)
            return false;
        pg_listener_step(&e->l, ready);
        return true;
    }
    bool late = false;
    uv_timer_t timer;
    CHECK(uv_timer_init(&e->loop, &timer) == 0);
    timer.data = &late;
    io_watch_want(e->watch, pg_listener_want(&e->l));
    uv_timer_start(&timer, on_late, (uint64_t)(seconds * 1000), 0);
    uv_run(&e->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&e->loop, UV_RUN_NOWAIT);
    return !late;
}

/* Steps until this many were received. */
static bool heard(struct ear *e, unsigned n)
{
    while (e->n < n && !error_is_set(&e->l.lost))
        if (!step(e, 10))
            return false;
    return e->n == n;
}

/* Runs a statement of the listener to its end. */
static bool run(struct ear *e, const char *sql)
{
    if (!pg_listener_exec(&e->l, sql))
        return false;
    while (pg_listener_is_busy(&e->l))
        if (!step(e, 10))
            return false;
    return !error_is_set(&e->l.lost);
}

static bool lost(struct ear *e)
{
    while (!error_is_set(&e->l.lost))
        if (!step(e, 10))
            return false;
    return true;
}

static void ear_open(struct ear *e, const char *sql)
{
    *e = (struct ear){0};
    PGconn *conn = connect_server();
    CHECK(pg_listener_init(&e->l, conn, hear, e));
    if (on_loop) {
        CHECK(uv_loop_init(&e->loop) == 0);
        e->watch = io_watch_open(&e->loop, PQsocket(conn), on_ready, e);
        CHECK(e->watch != NULL);
    }
    CHECK(run(e, sql));
}

static void ear_close(struct ear *e)
{
    if (on_loop) {
        io_watch_close(e->watch);
        uv_run(&e->loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&e->loop) == 0);
    }
    pg_listener_close(&e->l);
}

/* Runs a statement in another session, blocking. */
static void others(const char *sql)
{
    PGconn *conn = connect_server();
    CHECK(PQsetnonblocking(conn, 0) == 0);
    PGresult *r = PQexec(conn, sql);
    CHECK(PQresultStatus(r) == PGRES_TUPLES_OK);
    PQclear(r);
    PQfinish(conn);
}

static void terminate(const struct ear *e)
{
    char sql[64];
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d, 10000)", PQbackendPID(e->l.m.conn));
    others(sql);
}

static void test_hears(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    others("select pg_notify('news', 'n' || i) from generate_series(1, 1000) i");
    CHECK(heard(&e, 1000));
    CHECK_STR(e.first, "n1");
    CHECK_STR(e.last, "n1000");
    CHECK(e.pid > 0 && e.pid != PQbackendPID(e.l.m.conn));
    CHECK(run(&e, "unlisten news; listen sport"));
    others("select pg_notify('news', 'no'), pg_notify('sport', 'yes')");
    CHECK(heard(&e, 1001));
    CHECK_STR(e.last, "yes");
    ear_close(&e);
}

/* Notifications that arrive with the replies to its own statements. */
static void test_hears_itself(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    CHECK(run(&e, "select pg_notify('news', 'mine')"));
    CHECK(heard(&e, 1));
    CHECK_EQ(e.pid, PQbackendPID(e.l.m.conn));
    CHECK(run(&e, ""));
    ear_close(&e);
}

static void test_refused(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    CHECK(pg_listener_exec(&e.l, "select pg_sleep(0.02)"));
    CHECK(!pg_listener_exec(&e.l, "listen more"));
    CHECK_EQ(e.l.m.error.kind, ERROR_USAGE);
    while (pg_listener_is_busy(&e.l) && step(&e, 10))
        ;
    CHECK(run(&e, "listen"));
    CHECK_STR(e.l.m.error.field[ERROR_SQLSTATE], "42601");
    CHECK(run(&e, "listen more"));
    CHECK(!error_is_set(&e.l.m.error));
    others("select pg_notify('more', 'x')");
    CHECK(heard(&e, 1));
    ear_close(&e);
}

static void test_full(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    e.full_at = 1;
    others("select pg_notify('news', '1')");
    CHECK(heard(&e, 1));
    CHECK_EQ(pg_listener_want(&e.l), 0);
    others("select pg_notify('news', '2')");
    CHECK(!step(&e, 0.02));
    CHECK_EQ(e.n, 1);
    CHECK(run(&e, "listen more")); /* its reply comes after the notification */
    CHECK_EQ(e.n, 2);
    CHECK_EQ(pg_listener_want(&e.l), 0);
    others("select pg_notify('more', '3')");
    CHECK(!step(&e, 0.02));
    e.l.full = false;
    CHECK_EQ(pg_listener_want(&e.l), PG_WANT_READ);
    CHECK(heard(&e, 3));
    ear_close(&e);
}

static void test_no_memory(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    e.deaf_at = 2;
    others("select pg_notify('news', '1'), pg_notify('news', '2'), pg_notify('news', '3')");
    CHECK(lost(&e));
    CHECK_EQ(e.n, 1);
    CHECK_STR(e.l.lost.message, "the listening connection was lost: not enough memory for a notification");
    CHECK_EQ(pg_listener_want(&e.l), 0);
    ear_close(&e);
}

/* Between statements the server's last message arrives as a notice. */
static void test_terminated(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    others("select pg_notify('news', 'before')");
    /* A server that stops immediately may not have sent it yet. */
    unsigned ready = 0;
    CHECK(io_poll(pg_machine_fd(&e.l.m), IO_READ, deadline_in(10), NULL, &ready) == IO_READY);
    terminate(&e);
    CHECK(lost(&e));
    CHECK_EQ(e.n, 1); /* earlier notifications are received nevertheless */
    CHECK_EQ(e.l.lost.kind, ERROR_CONNECT);
    CHECK(e.l.lost.retryable);
    CHECK_STR(e.l.lost.message,
              "the listening connection was lost: terminating connection due to administrator command");
    CHECK(!pg_listener_exec(&e.l, "listen more"));
    pg_listener_lose(&e.l, "another reason");
    CHECK(strstr(e.l.lost.message, "administrator") != NULL);
    ear_close(&e);
}

/* During a statement the last message is the statement's error. */
static void test_terminated_in_a_statement(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    CHECK(pg_listener_exec(&e.l, "select pg_sleep(30)"));
    terminate(&e);
    CHECK(lost(&e));
    CHECK(!pg_listener_is_busy(&e.l));
    CHECK_STR(e.l.lost.message,
              "the listening connection was lost: terminating connection due to administrator command");
    ear_close(&e);
}

/* The server's last message waits on the socket when a statement is sent. */
static void test_terminated_before_a_statement(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    terminate(&e);
    CHECK(!pg_listener_exec(&e.l, "listen more") || lost(&e));
    CHECK_STR(e.l.lost.message,
              "the listening connection was lost: terminating connection due to administrator command");
    ear_close(&e);
}

static void test_closed_without_a_word(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    shutdown(pg_machine_fd(&e.l.m), SHUT_RDWR);
    CHECK(lost(&e));
    CHECK_STR(e.l.lost.message,
              "the listening connection was lost: server closed the connection unexpectedly");
    ear_close(&e);
}

static void test_given_up(void)
{
    struct ear e;
    ear_open(&e, "listen news");
    CHECK(pg_listener_exec(&e.l, "select pg_sleep(30)"));
    uint64_t from = mono_now();
    pg_listener_lose(&e.l, "the server does not answer");
    CHECK(mono_now() - from < 5 * NS_PER_S);
    CHECK(!pg_listener_is_busy(&e.l));
    CHECK_EQ(pg_listener_want(&e.l), 0);
    CHECK_EQ(pg_listener_step(&e.l, PG_WANT_READ), 0);
    CHECK_STR(e.l.lost.message, "the listening connection was lost: the server does not answer");
    ear_close(&e);
}

static void tests(void)
{
    TEST("a listener receives from all of its channels, in order", test_hears);
    TEST("a listener receives notifications before the reply to its own statement", test_hears_itself);
    TEST("a refused statement leaves the listener usable", test_refused);
    TEST("a full listener reads nothing except the reply to a statement", test_full);
    TEST("running out of memory at a notification ends the listener", test_no_memory);
    TEST("the server's last message is in the error", test_terminated);
    TEST("the server's last message is in the error, also during a statement",
         test_terminated_in_a_statement);
    TEST("the last message is the error of a statement that finds it", test_terminated_before_a_statement);
    TEST("a connection that ends without a message is lost", test_closed_without_a_word);
    TEST("an abandoned listener waits for nothing", test_given_up);
}

int main(void)
{
    if (pg_server_start(&server)) {
        tests();
        on_loop = true;
        tests();
    }
    pg_server_stop(&server);
    return check_end("pg_listener"); /* no test run = failed */
}
