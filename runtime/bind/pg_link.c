/* One connection of the pool: who waits for it, and what it does between two users. */
#include "base/deadline.h"
#include "bind/pg_impl.h"
#include "drive/worker_sync.h"

#include <stdlib.h>
#include <string.h>

/* Seconds: how long a ping, a drain and a reset may take before the connection is given up. */
#define PING_LIMIT      5.0
#define SHORTEST_GRACE  0.05
#define INTERRUPT_GRACE 0.5
#define RESET_LIMIT     5.0
/* A connection that was in use this recently was looked at by that use. */
#define LOOK_AFTER_NS (1 * NS_PER_MS)

struct pg_cancel_job {
    struct job job;
    PGcancel *cancel;
    struct pg_link *link; /* NULL once the link is gone */
    char why[256];
    bool ok;
};

static void on_ready(void *data, unsigned events);
static void on_limit(struct sched_timer *t);
static void on_gone(struct sched_timer *t);
static void reset_begin(struct pg_link *link);
static void reset_next(struct pg_link *link);

/* ---- life ---- */

static void forget_columns(void *data, int ref)
{
    struct pg_link *link = data;
    luaL_unref(link->engine->rt->L, LUA_REGISTRYINDEX, ref);
}

static bool is_on(const PGconn *conn, const char *parameter)
{
    const char *value = PQparameterStatus(conn, parameter);
    return value && strcmp(value, "on") == 0;
}

static bool is_read_only(const PGconn *conn)
{
    return is_on(conn, "in_hot_standby") || is_on(conn, "default_transaction_read_only");
}

/* Does its address, environment or service file ask for a server that takes writes? */
static bool asks_for_writes(PGconn *conn)
{
    bool asks = false;
    PQconninfoOption *options = PQconninfo(conn);
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, "target_session_attrs") == 0 && o->val)
            asks = strcmp(o->val, "read-write") == 0 || strcmp(o->val, "primary") == 0;
    PQconninfoFree(options);
    return asks;
}

bool pg_link_is_demoted(const struct pg_link *link)
{
    return link->writer && is_read_only(link->m.conn);
}

struct pg_link *pg_link_new(struct pg_engine *e, struct pool_slot *slot, PGconn *conn)
{
    struct pg_link *link = calloc(1, sizeof *link);
    if (!link) {
        PQfinish(conn);
        return NULL;
    }
    link->engine = e;
    link->slot = slot;
    link->deadline = DEADLINE_NEVER;
    link->on_notice = LUA_NOREF;
    link->limit.fn = on_limit;
    link->limit.data = link;
    link->gone.fn = on_gone;
    link->gone.data = link;
    uint32_t limit = e->cache_off ? 0 : e->cache_limit;
    bool ok = pg_machine_init(&link->m, conn, limit, forget_columns, link);
    if (ok && !e->sync) {
        link->io = drive_uv_open(sched_loop(e->rt->sched), PQsocket(conn), on_ready, link);
        ok = link->io != NULL;
    }
    if (!ok) {
        pg_machine_close(&link->m);
        free(link);
        return NULL;
    }
    PQsetNoticeReceiver(conn, pg_notices_receive, link);
    link->fresh = e->on_connect != LUA_NOREF;
    link->m.catalog = e->catalog;
    link->m.text_only = e->decoder.codecs != LUA_NOREF;
    link->pid = PQbackendPID(conn);
    link->writer = asks_for_writes(conn) && !is_read_only(conn);
    pg_engine_ref(e);
    if (link->io)
        drive_uv_want(link->io, IO_READ);
    return link;
}

static void set_background(struct pg_link *link, bool on)
{
    if (link->in_background == on)
        return;
    link->in_background = on;
    sched_background(link->engine->rt->sched, on ? 1 : -1);
}

void pg_link_free(struct pg_link *link)
{
    struct pg_engine *e = link->engine;
    if (link->cancel)
        link->cancel->link = NULL;
    if (link->stream)
        pg_stream_detach(link->stream);
    pg_notices_forget(link);
    set_background(link, false);
    sched_timer_stop(e->rt->sched, &link->limit);
    sched_timer_stop(e->rt->sched, &link->gone);
    drive_uv_close(link->io);
    pg_machine_close(&link->m);
    free(link);
    pg_engine_unref(e);
}

/* ---- waiting for a statement ---- */

static void abandon_statement(struct wait *w)
{
    struct pg_link *link = w->data;
    link->waiter = NULL;
    pg_link_abandon(link, 0);
}

static const struct drive_interrupt *interrupt_of(const struct pg_link *link)
{
    const struct drive_interrupt *intr = &link->engine->rt->interrupt;
    return intr->fd >= 0 ? intr : NULL;
}

enum drive_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline)
{
    *step = pg_machine_step(&link->m, 0);
    while (*step != PG_DONE && *step != PG_ROW) {
        unsigned ready = 0;
        enum drive_status status =
            drive_poll(pg_machine_fd(&link->m), *step, deadline, interrupt_of(link), &ready);
        if (status != DRIVE_READY)
            return status;
        *step = pg_machine_step(&link->m, ready);
    }
    return DRIVE_READY;
}

static enum drive_status run_blocking(struct pg_link *link, uint64_t deadline)
{
    unsigned step;
    return pg_link_step_blocking(link, &step, deadline);
}

static void cancel_call(void *arg)
{
    char why[256];
    PQcancel(arg, why, sizeof why);
}

static void cancel_drop(void *arg)
{
    PQfreeCancel(arg);
}

void pg_link_cancel_blocking(struct pg_link *link, double grace)
{
    uint64_t deadline = deadline_in(grace);
    PGcancel *cancel = PQgetCancel(link->m.conn);
    pg_machine_discard(&link->m);
    enum drive_status sent = DRIVE_ERROR;
    if (cancel)
        sent = worker_call(cancel_call, cancel_drop, cancel, deadline, NULL);
    if (sent != DRIVE_TIMEOUT)
        PQfreeCancel(cancel);
    if (sent != DRIVE_READY) {
        link->m.state = PG_BROKEN;
        return;
    }
    unsigned want = pg_machine_step(&link->m, 0);
    while (want != PG_DONE) {
        unsigned ready = 0;
        if (drive_poll(pg_machine_fd(&link->m), want, deadline, NULL, &ready) != DRIVE_READY) {
            link->m.state = PG_BROKEN;
            return;
        }
        want = pg_machine_step(&link->m, ready);
    }
}

/* A deadline may be overrun by a tenth, or by a moment. */
static double grace_after(double limit)
{
    double grace = limit / 10;
    if (grace < SHORTEST_GRACE)
        return SHORTEST_GRACE;
    return grace < PG_DRAIN_LIMIT ? grace : PG_DRAIN_LIMIT;
}

/* The blocking engine gives a statement up. `timeout` 0 = it was the transaction's time that ran out. */
static void cut_short(struct pg_link *link, enum drive_status status, double timeout)
{
    struct error *e = &link->m.error;
    double limit = timeout > 0 ? timeout : link->deadline_after;
    pg_link_cancel_blocking(link, status == DRIVE_INTERRUPTED ? INTERRUPT_GRACE : grace_after(limit));
    if (status == DRIVE_INTERRUPTED)
        error_set(e, ERROR_CANCELLED, "interrupted");
    else if (timeout > 0)
        error_set(e, ERROR_TIMEOUT, "the statement did not end within %g s (command_timeout)", timeout);
    else
        error_set(e, ERROR_TIMEOUT, "the time limit of %g s has passed (transaction)", link->deadline_after);
    e->outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
}

int pg_link_wait(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k)
{
    struct sched *s = link->engine->rt->sched;
    uint64_t deadline = timeout > 0 ? deadline_in(timeout) : DEADLINE_NEVER;
    if (link->engine->sync) {
        enum drive_status status = run_blocking(link, deadline_min(deadline, link->deadline));
        if (status != DRIVE_READY)
            cut_short(link, status, deadline <= link->deadline ? timeout : 0);
        return k(L, LUA_OK, ctx);
    }
    link->use = LINK_STATEMENT;
    link->waiter = wait_begin(s, deadline, abandon_statement, link);
    pg_link_watch(link);
    return wait_park(L, link->waiter, ctx, k);
}

/* Also a statement that ended by itself while somebody asked to cancel it leaves the link to nobody,
 * until that request is over. */
bool pg_link_is_draining(struct pg_link *link)
{
    if (link->use == LINK_FREE && link->cancel && link->m.state != PG_BROKEN) {
        link->use = LINK_DRAINING;
        set_background(link, true);
        sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PG_DRAIN_LIMIT));
    }
    return link->use == LINK_DRAINING;
}

void pg_link_take_away(struct pg_link *link)
{
    struct wait *waiter = link->waiter;
    link->waiter = NULL;
    if (link->stream)
        pg_stream_lose(link->stream);
    else if (link->use == LINK_STATEMENT)
        pg_link_abandon(link, 0);
    wait_wake(waiter);
}

static void abandon_drained(struct wait *w)
{
    struct pg_link *link = w->data;
    link->waiter = NULL;
}

int pg_link_wait_drained(lua_State *L, struct pg_link *link, lua_KContext ctx, lua_KFunction k)
{
    struct sched *s = link->engine->rt->sched;
    link->waiter = wait_begin(s, DEADLINE_NEVER, abandon_drained, link);
    return wait_park(L, link->waiter, ctx, k);
}

/* ---- cancelling: the request on a worker, the drain on the loop ---- */

static void cancel_work(struct job *j)
{
    struct pg_cancel_job *c = (struct pg_cancel_job *)j;
    c->ok = PQcancel(c->cancel, c->why, sizeof c->why) == 1;
}

static void cancel_free(struct job *j)
{
    struct pg_cancel_job *c = (struct pg_cancel_job *)j;
    PQfreeCancel(c->cancel);
    free(c);
}

static bool is_busy(const struct pg_link *link)
{
    return link->m.state == PG_BUSY || link->m.state == PG_COPY_IN || link->m.state == PG_COPY_OUT;
}

/* The statement has ended. As long as a cancel request is under way it could still hit the next one, so
 * the link is nobody's until both are over. */
static void settle(struct pg_link *link)
{
    if (link->cancel && link->m.state != PG_BROKEN)
        return;
    if (link->use == LINK_DRAINING) {
        if (is_busy(link))
            return;
        sched_timer_stop(link->engine->rt->sched, &link->limit);
        set_background(link, false);
        link->use = LINK_FREE;
        link->patient = false;
        if (link->reset_after_drain) {
            link->reset_after_drain = false;
            reset_begin(link);
            return;
        }
    }
    link->use = LINK_FREE;
    wait_wake(link->waiter);
    link->waiter = NULL;
}

static void cancel_done(struct job *j)
{
    struct pg_cancel_job *c = (struct pg_cancel_job *)j;
    struct pg_link *link = c->link;
    if (link) {
        if (!c->ok && link->m.state != PG_BROKEN)
            log_write(link->engine->rt->log, LOG_LEVEL_DEBUG, "postgres: the cancel request failed: %s",
                      c->why);
        link->cancel = NULL;
        if (link->use == LINK_DRAINING || (link->use == LINK_STATEMENT && link->m.state != PG_BUSY))
            settle(link);
    }
    cancel_free(j);
}

void pg_link_request_cancel(struct pg_link *link)
{
    if (link->cancel || link->m.state == PG_IDLE || link->m.state == PG_BROKEN || link->engine->sync)
        return;
    struct pg_cancel_job *c = calloc(1, sizeof *c);
    if (!c)
        return; /* whoever waits for the end has a limit */
    c->job = (struct job){.work = cancel_work, .done = cancel_done, .drop = cancel_free};
    c->link = link;
    c->cancel = PQgetCancel(link->m.conn);
    if (!c->cancel || !workers_run(link->engine->rt->workers, &c->job)) {
        cancel_free(&c->job);
        return;
    }
    link->cancel = c;
}

void pg_link_warn_cancelled(const struct pg_link *link)
{
    log_write(link->engine->rt->log, LOG_LEVEL_WARN,
              "postgres: rows that a loop in a transaction had left did not end in time: the statement was "
              "cancelled, and the transaction with it (a cursor can be left at any time): %s",
              link->statement);
}

void pg_link_abandon(struct pg_link *link, double grace)
{
    if (link->m.state == PG_BROKEN)
        return;
    link->use = LINK_DRAINING;
    link->patient = grace > 0;
    set_background(link, true);
    sched_timer_start(link->engine->rt->sched, &link->limit,
                      deadline_in(link->patient ? grace : PG_DRAIN_LIMIT));
    if (!link->patient)
        pg_link_request_cancel(link);
    pg_machine_discard(&link->m);
    pg_link_watch(link);
}

/* ---- what the socket says ---- */

/* A script that ran LISTEN on a pooled connection: libpq would keep what nobody reads. */
static void drop_notifications(struct pg_link *link)
{
    PGnotify *n;
    while ((n = PQnotifies(link->m.conn)))
        PQfreemem(n);
}

/* Readable while nobody uses it: a notice, a changed parameter, or the end. */
static void idle_ready(struct pg_link *link)
{
    bool alive = PQconsumeInput(link->m.conn) != 0;
    if (alive) {
        drop_notifications(link); /* lets libpq parse what came, too */
        alive = PQstatus(link->m.conn) == CONNECTION_OK;
    }
    if (alive)
        return;
    link->m.state = PG_BROKEN;
    drive_uv_want(link->io, 0);
    pool_died(link->slot, mono_now());
}

static void finish_ping(struct pg_link *link, bool alive)
{
    sched_timer_stop(link->engine->rt->sched, &link->limit);
    link->use = LINK_FREE;
    pool_pinged(link->slot, alive, mono_now());
}

static void finish_reset(struct pg_link *link, bool ok)
{
    sched_timer_stop(link->engine->rt->sched, &link->limit);
    set_background(link, false);
    link->use = LINK_FREE;
    pool_reset_done(link->slot, ok, mono_now());
}

/* Nothing more is read until the consumer asks: the server then feels that it is slow. */
static void wake_stream(struct pg_link *link, unsigned step)
{
    link->stream_step = step;
    drive_uv_want(link->io, 0);
    wait_wake(link->waiter);
    link->waiter = NULL;
}

static void on_ready(void *data, unsigned events)
{
    struct pg_link *link = data;
    if (link->use == LINK_CONVOY) {
        pg_mux_ready(link, events);
        return;
    }
    if (link->use == LINK_FREE && link->m.state == PG_IDLE) {
        idle_ready(link);
        return;
    }
    unsigned want = pg_machine_step(&link->m, events);
    if (want == PG_ROW) {
        if (link->use == LINK_STATEMENT) /* the first: the statement has not failed */
            link->use = LINK_STREAM;
        wake_stream(link, want);
        return;
    }
    if (want != PG_DONE) {
        drive_uv_want(link->io, want);
        return;
    }
    drive_uv_want(link->io, link->m.state == PG_BROKEN ? 0 : IO_READ);
    switch (link->use) {
    case LINK_STATEMENT:
    case LINK_DRAINING:
        settle(link);
        break;
    case LINK_STREAM:
        wake_stream(link, want);
        break;
    case LINK_PINGING:
        finish_ping(link, link->m.state == PG_IDLE);
        break;
    case LINK_RESETTING:
        reset_next(link);
        break;
    case LINK_CONVOY:
    case LINK_FREE:
        break;
    }
}

/* Its rows do not end by themselves. */
static void lose_patience(struct pg_link *link)
{
    link->patient = false;
    pg_link_warn_cancelled(link);
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PG_DRAIN_LIMIT));
    pg_link_request_cancel(link);
}

static void on_gone(struct sched_timer *t)
{
    on_ready(t->data, IO_READ | IO_WRITE);
}

void pg_link_watch(struct pg_link *link)
{
    if (PQsocket(link->m.conn) >= 0) {
        if (link->m.flushing)
            drive_uv_want(link->io, IO_READ | IO_WRITE);
        return;
    }
    drive_uv_want(link->io, 0);
    sched_timer_start(link->engine->rt->sched, &link->gone, mono_now());
}

/* A ping, drain or reset took too long. */
static void on_limit(struct sched_timer *t)
{
    struct pg_link *link = t->data;
    if (link->patient && link->use == LINK_DRAINING)
        lose_patience(link);
    else
        pg_link_give_up(link);
}

void pg_link_give_up(struct pg_link *link)
{
    link->m.state = PG_BROKEN;
    if (link->io)
        drive_uv_want(link->io, 0);
    if (link->use == LINK_PINGING)
        finish_ping(link, false);
    else if (link->use == LINK_RESETTING)
        finish_reset(link, false);
    else if (link->use == LINK_DRAINING)
        settle(link);
}

/* ---- what the pool asks for ---- */

static bool is_dead(struct pg_link *link)
{
    /* A server that stops says FATAL first and closes then: each needs a look of its own. */
    for (int i = 0; i < 4 && drive_poll_readable(pg_machine_fd(&link->m)); i++) {
        if (!PQconsumeInput(link->m.conn))
            return true;
        drop_notifications(link);
        if (PQstatus(link->m.conn) != CONNECTION_OK)
            return true;
    }
    return false;
}

enum pool_check pg_link_check(struct pool_slot *slot, uint64_t idle_ns)
{
    struct pg_link *link = slot->conn;
    struct pg_engine *e = link->engine;
    if (link->m.state != PG_IDLE)
        return POOL_CHECK_DEAD;
    if (idle_ns < LOOK_AFTER_NS)
        return POOL_CHECK_OK;
    if (is_dead(link))
        return POOL_CHECK_DEAD;
    if (e->pre_ping && (double)idle_ns / (double)NS_PER_S >= e->pre_ping_idle)
        return POOL_CHECK_PING;
    return POOL_CHECK_OK;
}

void pg_link_ping(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    link->use = LINK_PINGING;
    if (!pg_machine_simple(&link->m, "")) {
        finish_ping(link, false);
        return;
    }
    if (link->engine->sync) {
        bool alive = run_blocking(link, deadline_in(PING_LIMIT)) == DRIVE_READY && link->m.state == PG_IDLE;
        finish_ping(link, alive);
        return;
    }
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PING_LIMIT));
    pg_link_watch(link);
}

enum pool_verdict pg_link_judge(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    link->line = 0;
    pg_notices_forget(link);
    link->task = NULL;
    link->deadline = DEADLINE_NEVER;
    drop_notifications(link);
    if (link->stream)
        pg_stream_detach(link->stream);
    if (pg_link_is_draining(link))
        return POOL_RESET;
    if (link->m.state == PG_BROKEN || link->m.state == PG_COPY_IN || link->m.state == PG_COPY_OUT)
        return POOL_BROKEN;
    if (link->m.state == PG_BUSY || link->use == LINK_STREAM || pg_link_is_demoted(link))
        return POOL_BROKEN;
    switch (link->engine->reset) {
    case PG_RESET_FULL:
        return POOL_RESET;
    case PG_RESET_NONE:
        return POOL_REUSE;
    case PG_RESET_ROLLBACK:
        break;
    }
    return pg_machine_is_clean(&link->m) ? POOL_REUSE : POOL_RESET;
}

static const char *reset_statement(struct pg_link *link)
{
    if (pg_machine_in_transaction(&link->m))
        return "ROLLBACK";
    if (link->engine->reset == PG_RESET_FULL && strcmp(link->statement, "DISCARD ALL") != 0)
        return "DISCARD ALL";
    return NULL;
}

/* One statement after the other until the connection is as new. */
static void reset_next(struct pg_link *link)
{
    for (;;) {
        const char *sql = reset_statement(link);
        if (link->m.state != PG_IDLE || error_is_set(&link->m.error) || !sql) {
            finish_reset(link, link->m.state == PG_IDLE && !error_is_set(&link->m.error));
            return;
        }
        link->use = LINK_RESETTING;
        if (strcmp(sql, "DISCARD ALL") == 0)
            pg_cache_clear(link->m.cache);
        strcpy(link->statement, sql);
        if (!pg_machine_simple(&link->m, sql)) {
            finish_reset(link, false);
            return;
        }
        if (!link->engine->sync) {
            pg_link_watch(link);
            return;
        }
        if (run_blocking(link, deadline_in(RESET_LIMIT)) != DRIVE_READY)
            link->m.state = PG_BROKEN;
    }
}

static void reset_begin(struct pg_link *link)
{
    set_background(link, true);
    error_clear(&link->m.error); /* of the statement before: it has been told */
    link->statement[0] = '\0';
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(RESET_LIMIT));
    reset_next(link);
}

void pg_link_reset(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    if (link->use != LINK_DRAINING) {
        reset_begin(link);
        return;
    }
    link->reset_after_drain = true;
    if (link->patient) { /* its transaction is going: nothing is lost by a cancel */
        link->patient = false;
        pg_link_request_cancel(link);
    }
}

void pg_link_close(struct pool_slot *slot)
{
    pg_link_free(slot->conn);
    slot->conn = NULL;
    pool_closed(slot, mono_now());
}
