#include "bind/pg/mux.h"

#include "base/deadline.h"
#include "bind/pg/link.h"
#include "bind/pg/pool_error.h"
#include "pg/errors.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_CONNECTIONS = 64, /* shared at the same time */
    BLOCK = 512,           /* bytes for an ordinary statement with its parameters */
    MOST_SPARE = 256       /* blocks kept for later statements */
};

/* A connection that was requested from the pool, or is shared. */
struct pg_mux_conn {
    struct pool_waiter waiter; /* first: waiter_settled casts it back */
    struct pg_mux *mux;
    struct pg_link *link;
    bool busy; /* the pool was asked, or the connection is shared */
};

struct pg_mux {
    struct pg_engine *engine;
    struct deferred flush;
    struct pg_shared *head;
    struct pg_shared *tail;
    int queued;
    int most;
    struct pg_shared *spare;
    int nspare;
    int asked; /* requests that the pool has not answered yet */
    int nconns;
    struct pg_mux_conn conns[MOST_CONNECTIONS];
};

/* ---- statements as bytes ---- */

static char *put(char **at, const void *bytes, size_t len)
{
    char *place = *at;
    memcpy(place, bytes, len);
    *at += len;
    return place;
}

/* The bytes to copy: a binary value has a length, a text ends in NUL. */
static size_t stored(const struct pg_params *p, int i)
{
    if (!p->values[i])
        return 0;
    return p->formats[i] ? (size_t)p->lengths[i] : strlen(p->values[i]) + 1;
}

/* True when all parameters are texts of unspecified type. PQsendQueryPrepared then needs only the list of the
 * values. */
static bool is_plain(const struct pg_params *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->types[i] || p->formats[i])
            return false;
    return true;
}

static struct pg_shared *take_block(struct pg_mux *mux, size_t size)
{
    struct pg_shared *s = mux->spare;
    if (size > BLOCK || !s)
        return malloc(size > BLOCK ? size : BLOCK);
    mux->spare = s->next;
    mux->nspare--;
    return s;
}

struct pg_shared *pg_shared_new(struct pg_mux *mux, const char *sql, size_t len, const struct pg_params *p)
{
    size_t n = (size_t)p->n;
    bool plain = is_plain(p);
    size_t size = sizeof(struct pg_shared) + n * sizeof(char *) + len + 1;
    if (!plain)
        size += n * (sizeof(Oid) + 2 * sizeof(int));
    for (int i = 0; i < p->n; i++)
        size += stored(p, i);
    struct pg_shared *s = take_block(mux, size);
    if (!s)
        return NULL;
    *s = (struct pg_shared){.len = len, .large = size > BLOCK};
    char *at = (char *)(s + 1);
    const char **values = (const char **)(void *)at;
    at += n * sizeof *values;
    s->params = (struct pg_params){.n = p->n, .values = values, .as_text = p->as_text};
    if (!plain) {
        s->params.types = (const Oid *)(void *)put(&at, p->types, n * sizeof(Oid));
        s->params.lengths = (const int *)(void *)put(&at, p->lengths, n * sizeof(int));
        s->params.formats = (const int *)(void *)put(&at, p->formats, n * sizeof(int));
    }
    for (int i = 0; i < p->n; i++)
        values[i] = p->values[i] ? put(&at, p->values[i], stored(p, i)) : NULL;
    s->sql = put(&at, sql, len + 1);
    return s;
}

void pg_shared_free(struct pg_mux *mux, struct pg_shared *s)
{
    PQclear(s->result);
    error_clear(&s->error);
    if (s->large || mux->nspare == MOST_SPARE) {
        free(s);
        return;
    }
    s->next = mux->spare;
    mux->spare = s;
    mux->nspare++;
}

/* ---- the queue ---- */

static struct pg_shared *pop(struct pg_mux *mux)
{
    struct pg_shared *s = mux->head;
    mux->head = s->next;
    if (!mux->head)
        mux->tail = NULL;
    mux->queued--;
    s->next = NULL;
    return s;
}

static void flush_later(struct pg_mux *mux)
{
    if (mux->head)
        sched_defer(mux->engine->rt->sched, &mux->flush);
}

void pg_mux_add(struct pg_mux *mux, struct pg_shared *s)
{
    s->next = NULL;
    if (mux->tail)
        mux->tail->next = s;
    else
        mux->head = s;
    mux->tail = s;
    mux->queued++;
    flush_later(mux);
}

/* Wakes the task of a statement that has ended, or has got a connection alone. */
static void wake(struct pg_shared *s)
{
    struct wait *w = s->wait;
    s->wait = NULL;
    s->flight = NULL;
    wait_wake(w);
}

/* ---- in flight ---- */

static const struct pg_link_user shared_user;

/* For pg_machine.settled. */
static void settled(void *data, void *owner, PGresult *r, struct error *e)
{
    struct pg_shared *s = owner;
    (void)data;
    s->result = r;
    if (e) {
        /* At once, because the task's next write may be sent on another connection while this one is still
         * busy. */
        pg_link_note_read_only(s->flight, e);
        error_move(&s->error, e);
    }
    wake(s);
}

/* Returns the connection to the pool: all statements in flight have ended, or nothing was sent. */
static void flight_over(struct pg_mux_conn *c)
{
    struct pg_mux *mux = c->mux;
    struct pg_link *link = c->link;
    c->busy = false;
    c->link = NULL;
    if (link->user == &shared_user) {
        link->mux_conn = NULL;
        pg_link_shared_over(link);
        pg_link_rest(link);
    }
    /* A statement has found that the server no longer takes writes: no other statement may lose its write on
     * another connection to this server. */
    if (pg_link_is_demoted(link))
        pool_invalidate(mux->engine->pool, mono_now());
    pg_link_release(link);
    flush_later(mux);
}

/* Cancels only when no task waits for a statement in flight, because a late request would cancel the next
 * statement. */
static void cancel_unawaited(struct pg_link *link)
{
    if (!link->cancel && pg_machine_may_cancel(&link->m))
        pg_link_cancel_shared(link);
}

static void end_flight(struct pg_link *link)
{
    flight_over(link->mux_conn);
}

static void stepped(struct pg_link *link, unsigned step)
{
    (void)step;
    end_flight(link);
}

/* The pool closes the link. */
static void detach(struct pg_link *link)
{
    struct pg_mux_conn *c = link->mux_conn;
    pg_machine_break(&link->m);
    link->mux_conn = NULL;
    c->link = NULL;
    c->busy = false;
}

static const struct pg_link_user shared_user = {
    .name = "shared",
    .stepped = stepped,
    .going_on = cancel_unawaited,
    .given_up = end_flight,
    .cancel_answered = cancel_unawaited,
    .detach = detach,
    .shared = true,
};

void pg_mux_remove(struct pg_mux *mux, struct pg_shared *s)
{
    struct pg_link *link = s->flight;
    s->wait = NULL;
    if (link) {
        s->flight = NULL;
        pg_machine_abandon(&link->m, s);
        cancel_unawaited(link);
        return;
    }
    struct pg_shared *before = NULL;
    struct pg_shared *at = mux->head;
    while (at && at != s) {
        before = at;
        at = at->next;
    }
    if (!at)
        return;
    if (before)
        before->next = s->next;
    else
        mux->head = s->next;
    if (mux->tail == s)
        mux->tail = before;
    mux->queued--;
}

/* ---- sending ---- */

/* Gives the connection to one statement alone; its task sends the statement as without pipeline=. */
static void hand_over(struct pg_mux_conn *c, struct pg_shared *s)
{
    c->busy = false;
    s->link = c->link;
    c->link = NULL;
    wake(s);
    flush_later(c->mux); /* the statements that are still queued need another connection */
}

/* The connection broke before the statement was sent: tries another connection once, then fails. */
static void not_sent(struct pg_mux *mux, struct pg_shared *s)
{
    if (!s->tried) {
        s->tried = true;
        return;
    }
    pg_error_not_sent(&s->error, false, NULL);
    s->error.retryable = true;
    wake(pop(mux));
}

/* Sends the first statement of the queue; false when it cannot share this connection, or was not sent. `now`
 * is for the trace; 0: no trace. */
static bool send_first(struct pg_mux_conn *c, uint64_t now)
{
    struct pg_mux *mux = c->mux;
    struct pg_shared *s = mux->head;
    struct pg_machine *m = &c->link->m;
    struct pg_cached *entry = s->alone ? NULL : pg_machine_shareable(m, s->sql, s->len, &s->params);
    if (!entry)
        return false;
    m->settled = settled;
    if (!pg_machine_share(m, entry, &s->params, s)) {
        not_sent(mux, s);
        return false;
    }
    pop(mux);
    s->flight = c->link;
    if (now) {
        s->pid = c->link->pid;
        s->sent_at = now;
    }
    s->sent = true;
    double limit = mux->engine->command_timeout;
    wait_set_deadline(s->wait, limit > 0 ? deadline_in(limit) : DEADLINE_NEVER);
    return true;
}

/* Sends as many statements of the queue as this connection may take. */
static void send_all(struct pg_mux_conn *c)
{
    struct pg_mux *mux = c->mux;
    struct pg_link *link = c->link;
    uint64_t now = mux->engine->rt->trace ? mono_now() : 0;
    int n = 0;
    while (mux->head && n < mux->most && send_first(c, now))
        n++;
    if (n == 0) {
        if (mux->head && link->m.state == PG_IDLE) {
            hand_over(c, pop(mux));
            return;
        }
        if (link->m.state != PG_IDLE)
            pg_machine_break(&link->m);
        flight_over(c);
        return;
    }
    link->mux_conn = c;
    pg_link_set_user(link, &shared_user);
    strcpy(link->statement, "(several statements in flight)");
    unsigned want = pg_machine_step(&link->m, 0);
    if (want == PG_DONE)
        flight_over(c);
    else
        io_watch_want(link->io, want);
}

/* When the pool refuses a connection, all queued statements fail, because each would only wait for the same
 * failure. */
static void fail_queue(struct pg_mux_conn *c)
{
    struct pg_mux *mux = c->mux;
    struct error e = {0};
    if (c->waiter.result == POOL_FAILED)
        error_move(&e, &c->waiter.error);
    else
        pg_engine_pool_error(mux->engine, c->waiter.result, &e);
    while (mux->head) {
        struct pg_shared *s = pop(mux);
        error_copy(&s->error, &e);
        wake(s);
    }
    error_clear(&e);
}

static void answered(struct pg_mux_conn *c)
{
    if (c->waiter.result == POOL_GRANTED) {
        c->link = c->waiter.slot->conn;
        send_all(c);
        return;
    }
    c->busy = false;
    fail_queue(c);
}

static void waiter_settled(struct pool_waiter *w)
{
    struct pg_mux_conn *c = (struct pg_mux_conn *)w;
    c->mux->asked--;
    answered(c);
}

static struct pg_mux_conn *free_conn(struct pg_mux *mux)
{
    for (int i = 0; i < mux->nconns; i++)
        if (!mux->conns[i].busy)
            return &mux->conns[i];
    return NULL;
}

/* At the end of a turn: asks the pool for as many connections as the queue can fill. */
static void flush(void *data)
{
    struct pg_mux *mux = data;
    struct pg_engine *e = mux->engine;
    while (mux->queued > mux->asked * mux->most) {
        struct pg_mux_conn *c = free_conn(mux);
        if (!c)
            return;
        c->busy = true;
        c->waiter = (struct pool_waiter){.settled = waiter_settled};
        if (pool_acquire(e->pool, &c->waiter, mono_now()) == POOL_WAITING)
            mux->asked++;
        else
            answered(c);
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
    mux->most = most < PG_MOST_GROUPS ? most : PG_MOST_GROUPS;
    struct pool_stats st;
    pool_stats(e->pool, &st);
    uint32_t limit = st.size ? st.size + st.overflow : MOST_CONNECTIONS;
    mux->nconns = limit < MOST_CONNECTIONS ? (int)limit : MOST_CONNECTIONS;
    for (int i = 0; i < mux->nconns; i++)
        mux->conns[i].mux = mux;
    return mux;
}

void pg_mux_free(struct pg_mux *mux)
{
    if (!mux)
        return;
    sched_undefer(mux->engine->rt->sched, &mux->flush);
    while (mux->spare) {
        struct pg_shared *s = mux->spare;
        mux->spare = s->next;
        free(s);
    }
    free(mux);
}
