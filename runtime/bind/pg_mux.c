/*
 * pipeline=: tasks share connections. What tasks issue queues here; at the end of the loop's turn each free
 * connection takes up to `most` of them at once (pg/convoy.h), each its own transaction. A statement that is
 * not prepared on that connection yet gets the connection for itself and goes the ordinary way, which
 * prepares it; so does one that a convoy could not carry.
 */
#include "base/deadline.h"
#include "bind/pg_impl.h"
#include "pg/convoy.h"

#include <stdlib.h>
#include <string.h>

enum { CARRIERS = 64 }; /* connections at most that carry at the same time */

/* A connection that was asked for, or carries. */
struct pg_ride {
    struct pool_waiter waiter; /* first: the pool hands it back */
    struct pg_mux *mux;
    struct pg_link *link;
    struct pg_convoy convoy;
    struct pg_op *ops[PG_CONVOY_MOST]; /* NULL: its task does not wait any more */
    bool busy;                         /* asked for or carrying */
    int cancelled;                     /* statements up to here; -1 = none */
};

struct pg_mux {
    struct pg_engine *engine;
    struct deferred flush;
    struct pg_op *head;
    struct pg_op *tail;
    int queued;
    int most;
    int asked; /* rides that wait for a connection */
    int nrides;
    struct pg_ride rides[CARRIERS];
};

static void flush(void *data);

/* ---- the queue ---- */

static struct pg_op *pop(struct pg_mux *mux)
{
    struct pg_op *op = mux->head;
    mux->head = op->mux_next;
    if (!mux->head)
        mux->tail = NULL;
    mux->queued--;
    op->mux_next = NULL;
    return op;
}

void pg_mux_add(struct pg_mux *mux, struct pg_op *op)
{
    op->mux_next = NULL;
    op->mux_place = NULL;
    if (mux->tail)
        mux->tail->mux_next = op;
    else
        mux->head = op;
    mux->tail = op;
    mux->queued++;
    sched_defer(mux->engine->rt->sched, &mux->flush);
}

static struct pg_ride *ride_of(struct pg_mux *mux, struct pg_op **place)
{
    struct pg_ride *ride = mux->rides;
    while (place < ride->ops || place >= ride->ops + PG_CONVOY_MOST)
        ride++;
    return ride;
}

/* Does anybody wait for what has not been answered? */
static bool is_awaited(const struct pg_ride *ride)
{
    for (int i = ride->convoy.at; i < ride->convoy.n; i++)
        if (ride->ops[i])
            return true;
    return false;
}

/* While somebody waits nothing is cancelled: a request that comes late would hit the statement behind the one
 * it was meant for. */
void pg_mux_cancel(struct pg_link *link)
{
    struct pg_ride *ride = link->ride;
    if (link->cancel || ride->cancelled >= ride->convoy.at || is_awaited(ride))
        return;
    ride->cancelled = ride->convoy.at;
    pg_link_cancel_convoy(link);
}

void pg_mux_remove(struct pg_mux *mux, struct pg_op *op)
{
    if (op->mux_place) { /* sent: the reply finds nobody */
        struct pg_ride *ride = ride_of(mux, op->mux_place);
        *op->mux_place = NULL;
        op->mux_place = NULL;
        pg_mux_cancel(ride->link);
        return;
    }
    struct pg_op *before = NULL;
    struct pg_op *at = mux->head;
    while (at && at != op) {
        before = at;
        at = at->mux_next;
    }
    if (!at)
        return;
    if (before)
        before->mux_next = op->mux_next;
    else
        mux->head = op->mux_next;
    if (mux->tail == op)
        mux->tail = before;
    mux->queued--;
}

static void wake(struct pg_op *op)
{
    op->mux_place = NULL;
    wait_wake(op->wait);
    op->wait = NULL;
}

/* ---- replies ---- */

static void done(void *data, void *tag, PGresult *r, struct error *e)
{
    struct pg_op **place = tag;
    struct pg_op *op = *place;
    (void)data;
    if (!op) {
        PQclear(r);
        return;
    }
    op->result = r;
    if (e)
        error_move(&op->error, e);
    wake(op);
}

static void ride_over(struct pg_ride *ride)
{
    struct pg_mux *mux = ride->mux;
    struct pg_link *link = ride->link;
    ride->busy = false;
    ride->link = NULL;
    link->ride = NULL;
    pg_link_convoy_over(link);
    drive_uv_want(link->io, link->m.state == PG_BROKEN ? 0 : IO_READ);
    pool_release(mux->engine->pool, link->slot, mono_now());
    if (mux->head)
        sched_defer(mux->engine->rt->sched, &mux->flush);
}

void pg_mux_ready(struct pg_link *link, unsigned events)
{
    struct pg_ride *ride = link->ride;
    unsigned want = pg_convoy_step(&ride->convoy, events);
    if (want == PG_DONE) {
        ride_over(ride);
        return;
    }
    drive_uv_want(link->io, want);
    pg_mux_cancel(link);
}

void pg_mux_give_up(struct pg_link *link)
{
    pg_convoy_give_up(&link->ride->convoy);
    ride_over(link->ride);
}

/* ---- sending ---- */

/* The parameters stand on the stack of the op's coroutine, which is parked in its C function. */
static bool encode(struct pg_op *op, struct pg_encoded *enc)
{
    return pg_params_encode(op->L, 3, op->nparams, enc);
}

/* Gives the connection to one op for itself; its task goes on the ordinary way. */
static void hand_over(struct pg_ride *ride, struct pg_op *op)
{
    struct pg_mux *mux = ride->mux;
    ride->busy = false;
    op->link = ride->link;
    ride->link = NULL;
    wake(op);
    if (mux->head) /* those behind it need another one */
        sched_defer(mux->engine->rt->sched, &mux->flush);
}

/* Puts the first of the queue into the convoy; false when it cannot travel so. */
static bool board(struct pg_ride *ride, bool *broken)
{
    struct pg_mux *mux = ride->mux;
    struct pg_op *op = mux->head;
    struct pg_encoded enc;
    size_t len;
    const char *sql = lua_tolstring(op->L, 2, &len);
    if (op->alone || !encode(op, &enc))
        return false;
    struct pg_cached *entry = pg_convoy_accepts(&ride->link->m, sql, len, &enc.p);
    bool ok = entry != NULL;
    if (ok && ride->convoy.n == 0)
        ok = pg_convoy_begin(&ride->convoy, &ride->link->m);
    if (ok) {
        struct pg_op **place = &ride->ops[ride->convoy.n];
        *broken = !pg_convoy_add(&ride->convoy, entry, &enc.p, place);
        ok = !*broken;
        if (*broken) /* the op stays in the queue, for another connection */
            ride->link->m.state = PG_BROKEN;
        if (ok) {
            *place = pop(mux);
            op->mux_place = place;
            op->sent = true;
            double limit = mux->engine->command_timeout;
            wait_set_deadline(op->wait, limit > 0 ? deadline_in(limit) : DEADLINE_NEVER);
        }
    }
    pg_params_free(&enc);
    return ok;
}

static void depart(struct pg_ride *ride)
{
    struct pg_mux *mux = ride->mux;
    struct pg_link *link = ride->link;
    bool broken = false;
    ride->convoy.n = 0;
    ride->cancelled = -1;
    while (mux->head && ride->convoy.n < mux->most && !broken)
        if (!board(ride, &broken))
            break;
    if (ride->convoy.n == 0) {
        struct pg_op *op = mux->head && !broken ? pop(mux) : NULL;
        if (op) {
            hand_over(ride, op);
            return;
        }
        ride->busy = false;
        ride->link = NULL;
        pool_release(mux->engine->pool, link->slot, mono_now());
        if (mux->head)
            sched_defer(mux->engine->rt->sched, &mux->flush);
        return;
    }
    link->ride = ride;
    link->use = LINK_CONVOY;
    strcpy(link->statement, "(several statements in flight)");
    unsigned want = pg_convoy_step(&ride->convoy, 0);
    if (want == PG_DONE)
        ride_over(ride);
    else
        drive_uv_want(link->io, want);
}

/* The pool has answered a ride that waited. A failed connect is told to everybody in the queue: each
 * would only wait for the same failure. */
static void answered(struct pg_ride *ride)
{
    struct pg_mux *mux = ride->mux;
    if (ride->waiter.result == POOL_GRANTED) {
        ride->link = ride->waiter.slot->conn;
        depart(ride);
        return;
    }
    ride->busy = false;
    struct error e = {0};
    if (ride->waiter.result == POOL_FAILED)
        error_move(&e, &ride->waiter.error);
    else
        pg_engine_pool_error(mux->engine, ride->waiter.result, &e);
    while (mux->head) {
        struct pg_op *op = pop(mux);
        error_copy(&op->error, &e);
        wake(op);
    }
    error_clear(&e);
}

static void settled(struct pool_waiter *w)
{
    struct pg_ride *ride = (struct pg_ride *)w;
    ride->mux->asked--;
    answered(ride);
}

static struct pg_ride *free_ride(struct pg_mux *mux)
{
    for (int i = 0; i < mux->nrides; i++)
        if (!mux->rides[i].busy)
            return &mux->rides[i];
    return NULL;
}

/* At the end of a turn: asks for as many connections as the queue fills. */
static void flush(void *data)
{
    struct pg_mux *mux = data;
    struct pg_engine *e = mux->engine;
    while (mux->queued > mux->asked * mux->most) {
        struct pg_ride *ride = free_ride(mux);
        if (!ride)
            return;
        ride->busy = true;
        ride->waiter = (struct pool_waiter){.settled = settled};
        if (pool_acquire(e->pool, &ride->waiter, mono_now()) == POOL_WAITING)
            mux->asked++;
        else
            answered(ride);
    }
}

/* ---- life ---- */

struct pg_mux *pg_mux_new(struct pg_engine *e, int most)
{
    struct pg_mux *mux = calloc(1, sizeof *mux);
    if (!mux)
        return NULL;
    mux->engine = e;
    mux->flush.fn = flush;
    mux->flush.data = mux;
    mux->most = most < PG_CONVOY_MOST ? most : PG_CONVOY_MOST;
    struct pool_stats st;
    pool_stats(e->pool, &st);
    uint32_t limit = st.size ? st.size + st.overflow : CARRIERS;
    mux->nrides = limit < CARRIERS ? (int)limit : CARRIERS;
    for (int i = 0; i < mux->nrides; i++) {
        mux->rides[i].mux = mux;
        mux->rides[i].convoy.done = done;
    }
    return mux;
}

void pg_mux_free(struct pg_mux *mux)
{
    if (!mux)
        return;
    sched_undefer(mux->engine->rt->sched, &mux->flush);
    free(mux);
}
