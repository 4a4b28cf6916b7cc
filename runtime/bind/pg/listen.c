#include "bind/pg/listen.h"

#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/pg/lease.h"
#include "pg/errors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEED_CLASS "dbrun.pg.feed"

/* Bytes of notifications that wait to be taken: there the reading stops, and goes on. */
enum { FULL_AT = 8 * 1024 * 1024, ROOM_AT = FULL_AT / 2 };

struct item {
    struct item *next;
    PGnotify *n;
};

struct feed {
    struct runtime *rt;
    PGconn *conn;        /* NULL = closed */
    struct io_watch *io; /* NULL on the sync engine */
    struct item *head;
    struct item *tail;
    size_t bytes;           /* in the list */
    struct wait *wait;      /* of the task that takes notifications */
    struct wait *exec_wait; /* of the one that runs a statement */
    bool taking;            /* that task has not gone on yet */
    bool changing;          /* nor this one */
    bool waits_to_send;     /* its statement comes after the one that nobody waits for */
    bool executing;
    bool flushing;
    bool paused;
    char *last_words; /* what the server said before it closed */
    struct error failure;
    struct error lost; /* set: the connection is of no use any more */
};

/* ---- the list ---- */

static size_t weight(const struct item *i)
{
    return sizeof *i + sizeof *i->n + strlen(i->n->relname) + strlen(i->n->extra);
}

static struct item *first(struct feed *f)
{
    struct item *i = f->head;
    f->head = i->next;
    if (!f->head)
        f->tail = NULL;
    f->bytes -= weight(i);
    return i;
}

static void free_item(struct item *i)
{
    PQfreemem(i->n);
    free(i);
}

/* False when memory is out. */
static bool append(struct feed *f, PGnotify *n)
{
    struct item *i = malloc(sizeof *i);
    if (!i) {
        PQfreemem(n);
        return false;
    }
    *i = (struct item){NULL, n};
    if (f->tail)
        f->tail->next = i;
    else
        f->head = i;
    f->tail = i;
    f->bytes += weight(i);
    return true;
}

/* ---- the connection: no Lua here ---- */

static void wake_all(struct feed *f)
{
    struct wait *w = f->wait;
    struct wait *x = f->exec_wait;
    f->wait = f->exec_wait = NULL;
    wait_wake(w);
    wait_wake(x);
}

static void lose(struct feed *f, const char *why)
{
    if (error_is_set(&f->lost))
        return;
    error_set(&f->lost, ERROR_CONNECT, "the connection that listens was lost: %s", why);
    f->lost.retryable = true;
    f->executing = false;
    if (f->io)
        io_watch_want(f->io, 0);
    wake_all(f);
}

static void lose_to_server(struct feed *f)
{
    char why[256];
    const char *text = f->last_words ? f->last_words : PQerrorMessage(f->conn);
    snprintf(why, sizeof why, "%.*s", (int)strcspn(text, "\n"), text);
    lose(f, why[0] ? why : "the server closed it");
}

/* A FATAL that nobody asked for comes as a notice. */
static void on_notice(void *data, const PGresult *r)
{
    struct feed *f = data;
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (!severity || !message || strcmp(severity, "FATAL") != 0)
        return;
    free(f->last_words);
    f->last_words = strdup(message);
}

static void take_results(struct feed *f)
{
    while (f->executing && !PQisBusy(f->conn)) {
        PGresult *r = PQgetResult(f->conn);
        if (!r) {
            f->executing = false;
            return;
        }
        if (PQresultStatus(r) == PGRES_FATAL_ERROR && !error_is_set(&f->failure))
            pg_error_from_result(&f->failure, r, NULL);
        PQclear(r);
    }
}

static void take_notifications(struct feed *f)
{
    for (;;) {
        PGnotify *n = PQnotifies(f->conn);
        if (!n)
            return;
        if (!append(f, n)) {
            lose(f, "not enough memory for a notification");
            return;
        }
    }
}

static unsigned interest(struct feed *f)
{
    f->paused = f->bytes >= FULL_AT;
    unsigned want = f->paused && !f->executing ? 0 : IO_READ;
    return want | (f->flushing ? IO_WRITE : 0);
}

/* Makes the progress that is possible now, and wakes whom it concerns. */
static void step(struct feed *f, unsigned ready)
{
    bool gone = false;
    if (error_is_set(&f->lost))
        return;
    if (ready & IO_READ)
        gone = !PQconsumeInput(f->conn);
    if (f->flushing) {
        int rc = PQflush(f->conn);
        gone = gone || rc < 0;
        f->flushing = rc > 0;
    }
    take_results(f);
    take_notifications(f);
    if (error_is_set(&f->lost))
        return;
    if (gone || PQstatus(f->conn) == CONNECTION_BAD) {
        lose_to_server(f);
        return;
    }
    if (f->io)
        io_watch_want(f->io, interest(f));
    if (f->head) {
        wait_wake(f->wait);
        f->wait = NULL;
    }
    if (!f->executing) {
        wait_wake(f->exec_wait);
        f->exec_wait = NULL;
    }
}

static void on_ready(void *data, unsigned events)
{
    step(data, events);
}

/* The sync engine: waits and steps. IO_READY: something happened. */
static enum io_status poll_once(struct feed *f, uint64_t deadline)
{
    const struct io_interrupt *intr = f->rt->interrupt.fd >= 0 ? &f->rt->interrupt : NULL;
    unsigned ready = 0;
    unsigned want = IO_READ | (f->flushing ? IO_WRITE : 0);
    enum io_status status = io_poll(PQsocket(f->conn), want, deadline, intr, &ready);
    if (status == IO_READY)
        step(f, ready);
    else if (status == IO_ERROR)
        lose(f, strerror(errno));
    return status;
}

/* ---- life ---- */

static void feed_close(struct feed *f)
{
    if (!f->conn)
        return;
    io_watch_close(f->io);
    f->io = NULL;
    PQfinish(f->conn);
    f->conn = NULL;
    f->executing = false;
    while (f->head)
        free_item(first(f));
    free(f->last_words);
    f->last_words = NULL;
    error_clear(&f->failure);
    error_clear(&f->lost);
    wake_all(f);
}

static int feed__gc(lua_State *L)
{
    feed_close(lua_touserdata(L, 1));
    return 0;
}

static int feed__close(lua_State *L)
{
    feed_close(luaL_checkudata(L, 1, FEED_CLASS));
    return 0;
}

static struct feed *check(lua_State *L)
{
    struct feed *f = luaL_checkudata(L, 1, FEED_CLASS);
    if (!f->conn)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "this listener has been closed");
    return f;
}

/* The link without its connection goes; the pool has room for another one. */
static PGconn *take_connection(struct pg_lease *lease)
{
    struct pg_link *link = lease->link;
    PGconn *conn = link->m.conn;
    lease->link = NULL;
    pool_detach(link->engine->pool, link->slot, mono_now());
    link->m.conn = NULL;
    pg_link_free(link);
    return conn;
}

int pg_listen_feed(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct pg_lease *lease = pg_lease_check(L);
    struct pg_link *link = pg_lease_link(L);
    bool sync = lease->engine->sync;
    if (!pg_machine_is_clean(&link->m))
        return bind_fail(L, rt, ERROR_USAGE, "a connection in a transaction cannot listen on its own");
    struct feed *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct feed){.rt = rt};
    luaL_setmetatable(L, FEED_CLASS);
    f->conn = take_connection(lease);
    PQsetNoticeReceiver(f->conn, on_notice, f);
    if (sync)
        return 1;
    f->io = io_watch_open(sched_loop(rt->sched), PQsocket(f->conn), on_ready, f);
    if (!f->io)
        return luaL_error(L, "not enough memory");
    step(f, 0); /* notifications may have come already */
    return 1;
}

/* ---- taking ---- */

static int raise_lost(lua_State *L, struct feed *f)
{
    struct error e = {0};
    error_copy(&e, &f->lost);
    return bind_error_raise(L, f->rt, &e);
}

/* -> channel, payload, pid */
static int push_first(lua_State *L, struct feed *f)
{
    const PGnotify *n = f->head->n;
    lua_pushstring(L, n->relname);
    lua_pushstring(L, n->extra);
    lua_pushinteger(L, n->be_pid);
    free_item(first(f));
    if (f->paused && f->io && f->bytes <= ROOM_AT)
        io_watch_want(f->io, interest(f));
    return 3;
}

static int interrupted(lua_State *L, struct feed *f)
{
    return bind_fail(L, f->rt, ERROR_CANCELLED, "interrupted");
}

static void abandon_next(struct wait *w)
{
    struct feed *f = w->data;
    f->wait = NULL;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct feed *f = (struct feed *)ctx;
    (void)status;
    f->taking = false;
    if (wait_end(task_wait(f->rt->sched)) == WAIT_CANCELLED)
        return task_raise_cancelled(L, f->rt->sched);
    if (f->head)
        return push_first(L, f);
    return error_is_set(&f->lost) ? raise_lost(L, f) : 0;
}

static int next_blocking(lua_State *L, struct feed *f, uint64_t deadline)
{
    while (!f->head && !error_is_set(&f->lost)) {
        enum io_status status = poll_once(f, deadline);
        if (status == IO_INTERRUPTED)
            return interrupted(L, f);
        if (status == IO_TIMEOUT)
            return 0;
    }
    return f->head ? push_first(L, f) : raise_lost(L, f);
}

/* next(seconds) -> channel, payload, pid; nothing when the time is over or the feed was closed. Raises an
 * error of kind `connect` when the connection is lost, after all that came before. */
static int feed__next(lua_State *L)
{
    struct feed *f = check(L);
    uint64_t deadline = deadline_in(luaL_optnumber(L, 2, HUGE_VAL));
    if (f->taking)
        return bind_fail(L, f->rt, ERROR_USAGE, "two tasks cannot take the events of one listener");
    if (f->io)
        task_check_park(L, f->rt->sched);
    else if (!f->head)
        step(f, 0); /* what came while a statement ran */
    if (f->head)
        return push_first(L, f);
    if (error_is_set(&f->lost))
        return raise_lost(L, f);
    if (!f->io)
        return next_blocking(L, f, deadline);
    f->taking = true;
    f->wait = wait_begin(f->rt->sched, deadline, abandon_next, f);
    return wait_park(L, f->wait, (lua_KContext)f, next_k);
}

/* ---- statements: LISTEN, UNLISTEN, and an empty one to see whether the server is there ---- */

static int exec_k(lua_State *L, int status, lua_KContext ctx);

static void abandon_exec(struct wait *w)
{
    struct feed *f = w->data;
    f->exec_wait = NULL;
    lose(f, mono_now() >= w->timer.deadline ? "the server does not answer" : "a statement on it was cut off");
}

/* False: the connection is lost. */
static bool begin(struct feed *f, const char *sql)
{
    error_clear(&f->failure);
    if (!PQsendQuery(f->conn, sql)) {
        lose_to_server(f);
        return false;
    }
    f->executing = true;
    f->flushing = PQflush(f->conn) != 0; /* an error shows itself in the first step */
    if (f->io)
        io_watch_want(f->io, interest(f));
    return true;
}

static int executed(lua_State *L, struct feed *f)
{
    struct error e = {0};
    f->changing = false;
    if (!f->conn)
        return bind_fail(L, f->rt, ERROR_USAGE, "this listener has been closed");
    if (error_is_set(&f->lost))
        return raise_lost(L, f);
    if (!error_is_set(&f->failure))
        return 0;
    error_move(&e, &f->failure);
    return bind_error_raise(L, f->rt, &e);
}

static int park_exec(lua_State *L, struct feed *f)
{
    f->exec_wait = wait_begin(f->rt->sched, deadline_in(lua_tonumber(L, 3)), abandon_exec, f);
    return wait_park(L, f->exec_wait, (lua_KContext)f, exec_k);
}

static int exec_k(lua_State *L, int status, lua_KContext ctx)
{
    struct feed *f = (struct feed *)ctx;
    (void)status;
    if (wait_end(task_wait(f->rt->sched)) == WAIT_CANCELLED) {
        f->changing = false;
        return task_raise_cancelled(L, f->rt->sched);
    }
    if (!f->waits_to_send || !f->conn || error_is_set(&f->lost))
        return executed(L, f);
    f->waits_to_send = false;
    return begin(f, lua_tostring(L, 2)) ? park_exec(L, f) : executed(L, f);
}

/* Until the statement in flight is over. */
static int finish_blocking(lua_State *L, struct feed *f, uint64_t deadline)
{
    while (f->executing) {
        enum io_status status = poll_once(f, deadline);
        if (status == IO_INTERRUPTED) {
            lose(f, "a statement on it was cut off");
            return interrupted(L, f);
        }
        if (status == IO_TIMEOUT)
            lose(f, "the server does not answer");
    }
    return 0;
}

/* exec(sql, seconds): raises the server's error; a connection that does not answer in time is lost. */
static int feed__exec(lua_State *L)
{
    struct feed *f = check(L);
    const char *sql = luaL_checkstring(L, 2);
    uint64_t deadline = deadline_in(luaL_checknumber(L, 3));
    if (f->changing)
        return bind_fail(L, f->rt, ERROR_USAGE, "another task changes the channels of this listener");
    if (f->io)
        task_check_park(L, f->rt->sched);
    if (!f->io) {
        finish_blocking(L, f, deadline);
        if (!error_is_set(&f->lost) && begin(f, sql))
            finish_blocking(L, f, deadline);
        return executed(L, f);
    }
    if (error_is_set(&f->lost))
        return raise_lost(L, f);
    f->waits_to_send = f->executing;
    if (!f->executing && !begin(f, sql))
        return raise_lost(L, f);
    f->changing = true;
    return park_exec(L, f);
}

/* ask(): sends an empty statement and does not wait for its answer */
static int feed__ask(lua_State *L)
{
    struct feed *f = check(L);
    if (!f->executing && !error_is_set(&f->lost))
        begin(f, "");
    return 0;
}

/* busy() -> is an answer of the server outstanding? */
static int feed__busy(lua_State *L)
{
    lua_pushboolean(L, check(L)->executing);
    return 1;
}

/* backend_pid() */
static int feed__backend_pid(lua_State *L)
{
    lua_pushinteger(L, PQbackendPID(check(L)->conn));
    return 1;
}

void pg_listen_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {{"next", feed__next},
                                       {"exec", feed__exec},
                                       {"ask", feed__ask},
                                       {"busy", feed__busy},
                                       {"backend_pid", feed__backend_pid},
                                       {"close", feed__close},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", feed__gc}, {"__close", feed__close}, {NULL, NULL}};
    bind_class(L, rt, FEED_CLASS, meta, methods);
    lua_pop(L, 1);
}
