#include "bind/base/connector.h"

#include "base/deadline.h"
#include "io/worker_sync.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A connect watches its deadline itself. If it has not ended GRACE after the deadline, or after MOST_LATE
 * times its time, it is stuck in name resolution or key derivation, which have no time limit. */
#define GRACE     (200 * NS_PER_MS)
#define MOST_LATE 1.1

struct connecting {
    struct job job; /* first: job_done and the others cast it back */
    const struct connector_ops *ops;
    struct connector *connector; /* NULL: abandoned */
    struct pool_slot *slot;
    struct connecting *next;
    struct connecting **link; /* the pointer to this connect in the list */
    void *target;
    struct trace *trace; /* NULL: none */
    uint64_t began;      /* for the trace */
    uint64_t deadline;
    uint64_t given_up;       /* when the caller stops waiting: a little after the deadline */
    struct sched_timer late; /* on the loop */
    void *conn;
    struct error error;
    bool abandoned;
    bool unwanted; /* set by the loop, read by the thread */
};

bool connecting_is_wanted(const struct connecting *c)
{
    return !__atomic_load_n(&c->unwanted, __ATOMIC_RELAXED);
}

/* ---- life ---- */

static struct connecting *connecting_new(struct connector *cr, struct pool_slot *slot)
{
    struct connecting *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->ops = cr->ops;
    c->connector = cr;
    c->slot = slot;
    c->target = cr->target;
    c->ops->hold(c->target);
    c->trace = cr->rt->trace;
    c->began = c->trace ? mono_now() : 0;
    c->deadline = deadline_in(cr->connect_timeout);
    c->given_up =
        deadline_min(deadline_in(cr->connect_timeout * MOST_LATE), deadline_after(c->deadline, GRACE));
    return c;
}

static void connecting_free(struct connecting *c)
{
    if (c->conn)
        c->ops->close(c->conn);
    error_clear(&c->error);
    c->ops->let_go(c->target);
    free(c);
}

static void list(struct connecting *c)
{
    struct connector *cr = c->connector;
    c->next = cr->first;
    c->link = &cr->first;
    if (c->next)
        c->next->link = &c->next;
    cr->first = c;
}

/* Removes the connect from the list, and stops its timer. */
static void unlist(struct connecting *c)
{
    sched_timer_stop(c->connector->rt->sched, &c->late);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    c->connector = NULL;
}

/* ---- how it ends ---- */

/* Each of these functions calls the pool, which can free itself, and the connector with it. */

static void fail(struct pool_slot *slot, struct error *e)
{
    e->outcome = OUTCOME_NOT_SENT;
    pool_open_failed(slot, e, mono_now());
    error_clear(e);
}

static void fail_late(const struct connector *cr, struct pool_slot *slot)
{
    const struct connector_ops *ops = cr->ops;
    struct error e = {0};
    char hint[200];
    snprintf(hint, sizeof hint,
             "Check the host in %s, and the name servers of this machine; a numeric address needs none.",
             ops->variable);
    error_set(
        &e, ERROR_TIMEOUT,
        "cannot connect to %s at %s in time: the name of the host could not be resolved, or the login did "
        "not end",
        ops->server, ops->describe(cr->target));
    error_set_field(&e, ERROR_LAYER, "name");
    error_set_field(&e, ERROR_HINT, hint);
    e.retryable = true;
    fail(slot, &e);
}

static void fail_interrupted(const struct connector *cr, struct pool_slot *slot)
{
    struct error e = {0};
    error_set(&e, ERROR_CANCELLED, "interrupted while connecting to %s at %s", cr->ops->server,
              cr->ops->describe(cr->target));
    fail(slot, &e);
}

static void fail_to_start(const struct connector *cr, struct pool_slot *slot, int err)
{
    struct error e = {0};
    error_set(&e, ERROR_IO, "cannot connect to %s at %s: no thread could be started: %s", cr->ops->server,
              cr->ops->describe(cr->target), strerror(err));
    error_set_field(&e, ERROR_HINT, error_limit_hint(err));
    fail(slot, &e);
}

static void fail_closed(const struct connector *cr, struct pool_slot *slot)
{
    struct error e = {0};
    error_set(&e, ERROR_POOL, "the pool of connections to %s at %s was closed", cr->ops->server,
              cr->ops->describe(cr->target));
    fail(slot, &e);
}

/* Hands the result of the connect to the pool, and frees the connect. */
static void deliver(struct connecting *c)
{
    struct pool_slot *slot = c->slot;
    struct error e = {0};
    void *conn = c->conn;
    c->conn = NULL;
    error_move(&e, &c->error);
    void *made = conn ? c->ops->wrap(slot, conn) : NULL;
    if (conn && !made)
        error_set(&e, ERROR_CONNECT, "not enough memory or file descriptors for a connection to %s",
                  c->ops->server);
    if (conn && !made)
        error_set_field(&e, ERROR_HINT, error_limit_hint(EMFILE));
    if (c->trace)
        trace_connected(c->trace, c->ops->trace_pid, c->began, made ? NULL : error_kind_name(e.kind));
    connecting_free(c);
    if (made)
        pool_opened(slot, made, mono_now());
    else
        fail(slot, &e);
}

/* ---- on the thread ---- */

static void work(struct connecting *c)
{
    c->conn = c->ops->connect(c->target, c->deadline, c, &c->error);
}

static void job_work(struct job *j)
{
    work((struct connecting *)j);
}

static void job_drop(struct job *j)
{
    connecting_free((struct connecting *)j);
}

static void call_work(void *arg)
{
    work(arg);
}

static void call_drop(void *arg)
{
    connecting_free(arg);
}

/* ---- on the loop ---- */

static void job_done(struct job *j)
{
    struct connecting *c = (struct connecting *)j;
    if (!c->connector) {
        connecting_free(c);
        return;
    }
    unlist(c);
    deliver(c);
}

/* Called when the pool no longer waits for the connect; the thread finishes it and discards the result. */
static void abandon(struct connecting *c)
{
    unlist(c);
    __atomic_store_n(&c->unwanted, true, __ATOMIC_RELAXED);
}

static void on_late(struct sched_timer *t)
{
    struct connecting *c = t->data;
    struct connector *cr = c->connector;
    struct pool_slot *slot = c->slot;
    abandon(c);
    fail_late(cr, slot);
}

void connector_forget(struct connector *cr)
{
    while (cr->first) {
        struct connecting *c = cr->first;
        struct pool_slot *slot = c->slot;
        abandon(c);
        fail_closed(cr, slot);
    }
}

static struct connecting *find_abandoned(const struct connector *cr)
{
    struct connecting *c = cr->first;
    while (c && !c->abandoned)
        c = c->next;
    return c;
}

void connector_abandon(struct connector *cr, const struct error *why)
{
    struct connecting *c;
    for (c = cr->first; c; c = c->next)
        c->abandoned = true;
    while ((c = find_abandoned(cr))) { /* each time anew: the pool may have begun others */
        struct pool_slot *slot = c->slot;
        struct error e = {0};
        abandon(c);
        error_copy(&e, why);
        fail(slot, &e);
    }
}

/* ---- starting ---- */

static void open_on_loop(struct connecting *c)
{
    struct connector *cr = c->connector;
    struct pool_slot *slot = c->slot;
    list(c);
    c->late = (struct sched_timer){.fn = on_late, .data = c};
    sched_timer_start(cr->rt->sched, &c->late, c->given_up);
    if (workers_run(cr->rt->workers, &c->job))
        return;
    int err = errno;
    unlist(c);
    connecting_free(c);
    fail_to_start(cr, slot, err);
}

static void open_blocking(struct connecting *c)
{
    struct connector *cr = c->connector;
    struct pool_slot *slot = c->slot;
    const struct io_interrupt *intr = cr->rt->interrupt.fd >= 0 ? &cr->rt->interrupt : NULL;
    int err;
    switch (worker_call(call_work, call_drop, c, c->given_up, intr)) {
    case IO_READY:
        deliver(c);
        return;
    case IO_TIMEOUT:
        fail_late(cr, slot);
        return;
    case IO_INTERRUPTED:
        fail_interrupted(cr, slot);
        return;
    case IO_ERROR:
        err = errno;
        connecting_free(c);
        fail_to_start(cr, slot, err);
    }
}

void connector_open(struct connector *cr, struct pool_slot *slot)
{
    struct connecting *c = connecting_new(cr, slot);
    if (!c) {
        fail_to_start(cr, slot, ENOMEM);
        return;
    }
    c->job = (struct job){.work = job_work, .done = job_done, .drop = job_drop};
    if (cr->blocking)
        open_blocking(c);
    else
        open_on_loop(c);
}
