/* Opening connections for the pool: on a worker thread for both engines, which differ in who waits. */
#include "bind/pg/connect.h"
#include "base/deadline.h"
#include "bind/pg/link.h"
#include "connect/pg.h"
#include "io/worker_sync.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct pg_connecting {
    struct job job;
    struct pg_engine *engine; /* NULL: nobody wants it any more */
    struct pool_slot *slot;
    struct pg_connecting *next;
    struct pg_connecting *prev;
    struct pg_conninfo *info;
    uint64_t deadline;
    PGconn *conn;
    struct error error;
    struct sched_timer late; /* async: ends the wait for one that is stuck */
    bool unwanted;           /* set by the loop, read by the thread */
};

static void connecting_free(struct pg_connecting *c)
{
    if (c->conn)
        PQfinish(c->conn);
    error_clear(&c->error);
    pg_conninfo_unref(c->info);
    free(c);
}

static void connecting_unlink(struct pg_connecting *c)
{
    sched_timer_stop(c->engine->rt->sched, &c->late);
    if (c->prev)
        c->prev->next = c->next;
    else
        c->engine->connecting = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

static void try_once(struct pg_connecting *c)
{
    error_clear(&c->error);
    c->conn = connect_pg((const char *const *)c->info->keywords, (const char *const *)c->info->values,
                         c->info->target, c->deadline, NULL, &c->error);
}

/* A server that starts, stops or recovers says so (57P03): it is asked again until the time is up. */
static bool is_starting(const struct pg_connecting *c)
{
    const char *state = error_is_set(&c->error) ? c->error.field[ERROR_SQLSTATE] : NULL;
    return !c->conn && state && strcmp(state, "57P03") == 0;
}

static void work(struct pg_connecting *c)
{
    uint64_t pause = 20 * NS_PER_MS;
    try_once(c);
    while (is_starting(c) && mono_now() + pause < c->deadline &&
           !__atomic_load_n(&c->unwanted, __ATOMIC_RELAXED)) {
        struct timespec ts = {.tv_nsec = (long)pause};
        nanosleep(&ts, NULL);
        pause = pause < 200 * NS_PER_MS ? pause * 3 / 2 : pause;
        try_once(c);
    }
}

/* Hands the news to the pool; `c` is done with. */
static void deliver(struct pg_connecting *c)
{
    struct pg_engine *e = c->engine;
    struct pool_slot *slot = c->slot;
    PGconn *conn = c->conn;
    c->conn = NULL;
    struct pg_link *link = conn ? pg_link_new(e, slot, conn) : NULL;
    if (conn && !link)
        error_set(&c->error, ERROR_CONNECT, "not enough memory for a connection");
    if (link)
        pool_opened(slot, link, mono_now());
    else
        pool_open_failed(slot, &c->error, mono_now());
    connecting_free(c);
    pg_engine_unref(e);
}

static void job_work(struct job *j)
{
    work((struct pg_connecting *)j);
}

static void job_done(struct job *j)
{
    struct pg_connecting *c = (struct pg_connecting *)j;
    if (!c->engine) {
        connecting_free(c);
        return;
    }
    connecting_unlink(c);
    deliver(c);
}

static void job_drop(struct job *j)
{
    connecting_free((struct pg_connecting *)j);
}

static void sync_work(void *arg)
{
    work(arg);
}

static void sync_drop(void *arg)
{
    connecting_free(arg);
}

/* Nobody waits any more for the thread, whatever it does yet. */
static void give_up(struct pg_engine *e, struct pool_slot *slot, enum io_status status)
{
    struct error err = {0};
    if (status == IO_INTERRUPTED)
        error_set(&err, ERROR_CANCELLED, "interrupted while connecting to PostgreSQL at %s", e->info->target);
    else if (status == IO_TIMEOUT)
        error_set(&err, ERROR_TIMEOUT,
                  "cannot connect to PostgreSQL at %s in time: the name could not be resolved, or the "
                  "handshake did not end",
                  e->info->target);
    else
        error_set(&err, ERROR_IO, "cannot start a thread to connect with");
    err.outcome = OUTCOME_NOT_SENT;
    error_set_field(&err, ERROR_LAYER, "name");
    pool_open_failed(slot, &err, mono_now());
    error_clear(&err);
    pg_engine_unref(e);
}

static void on_late(struct sched_timer *t)
{
    struct pg_connecting *c = t->data;
    struct pg_engine *e = c->engine;
    connecting_unlink(c);
    c->engine = NULL;
    __atomic_store_n(&c->unwanted, true, __ATOMIC_RELAXED);
    give_up(e, c->slot, IO_TIMEOUT);
}

/* What connecting does beside waiting for the socket has its deadline too; this is for what has none: name
 * resolution, key derivation. */
static uint64_t late(const struct pg_connecting *c)
{
    return deadline_after(c->deadline, 200 * NS_PER_MS);
}

static void connect_sync(struct pg_connecting *c)
{
    struct pg_engine *e = c->engine;
    struct pool_slot *slot = c->slot;
    const struct io_interrupt *intr = e->rt->interrupt.fd >= 0 ? &e->rt->interrupt : NULL;
    enum io_status status = worker_call(sync_work, sync_drop, c, late(c), intr);
    if (status == IO_READY) {
        deliver(c);
        return;
    }
    if (status == IO_ERROR)
        connecting_free(c);
    give_up(e, slot, status);
}

static void open_failed_now(struct pool_slot *slot, const char *why)
{
    struct error err = {0};
    error_set(&err, ERROR_IO, "%s", why);
    err.outcome = OUTCOME_NOT_SENT;
    pool_open_failed(slot, &err, mono_now());
    error_clear(&err);
}

void pg_connect_slot(struct pool_slot *slot)
{
    struct pg_engine *e = pool_data(slot->pool);
    struct pg_connecting *c = calloc(1, sizeof *c);
    if (!c) {
        open_failed_now(slot, "not enough memory to connect");
        return;
    }
    c->job = (struct job){.work = job_work, .done = job_done, .drop = job_drop};
    c->engine = e;
    c->slot = slot;
    c->info = e->info;
    __atomic_add_fetch(&e->info->refs, 1, __ATOMIC_RELAXED);
    c->deadline = deadline_in(e->connect_timeout);
    pg_engine_ref(e);
    if (e->sync) {
        connect_sync(c);
        return;
    }
    c->next = e->connecting;
    if (c->next)
        c->next->prev = c;
    e->connecting = c;
    c->late = (struct sched_timer){.fn = on_late, .data = c};
    sched_timer_start(e->rt->sched, &c->late, late(c));
    if (workers_run(e->rt->workers, &c->job))
        return;
    connecting_unlink(c);
    connecting_free(c);
    open_failed_now(slot, "cannot start a thread to connect with (limit of threads or memory)");
    pg_engine_unref(e);
}

void pg_connects_forget(struct pg_engine *e)
{
    while (e->connecting) {
        struct pg_connecting *c = e->connecting;
        struct pool_slot *slot = c->slot;
        connecting_unlink(c);
        c->engine = NULL;
        __atomic_store_n(&c->unwanted, true, __ATOMIC_RELAXED);
        open_failed_now(slot, "the engine was closed");
        pg_engine_unref(e);
    }
}
