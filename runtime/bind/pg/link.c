/* One connection of the pool: its life, who waits for it, what its socket says. */
#include "bind/pg/link.h"
#include "base/deadline.h"
#include "bind/pg/mux.h"

#include <stdlib.h>
#include <string.h>

/* Seconds that the blocking engine gives a cancelled statement. */
#define SHORTEST_GRACE  0.05
#define INTERRUPT_GRACE 0.5

static void on_ready(void *data, unsigned events);
static void on_limit(struct sched_timer *t);
static void on_gone(struct sched_timer *t);

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

void pg_link_set_background(struct pg_link *link, bool on)
{
    if (link->in_background == on)
        return;
    link->in_background = on;
    sched_background(link->engine->rt->sched, on ? 1 : -1);
}

void pg_link_free(struct pg_link *link)
{
    struct pg_engine *e = link->engine;
    pg_link_forget_cancel(link);
    pg_mux_detach(link);
    if (link->stream)
        pg_stream_detach(link->stream);
    pg_notices_forget(link);
    pg_link_set_background(link, false);
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

/* A COPY TO STDOUT that nobody asked for ends soon only when it is cancelled. */
static bool has_unwanted_copy(const struct pg_link *link)
{
    return link->m.unwanted && link->m.state == PG_COPY_OUT && pg_machine_may_cancel(&link->m);
}

enum drive_status pg_link_step_blocking(struct pg_link *link, unsigned *step, uint64_t deadline)
{
    *step = pg_machine_step(&link->m, 0);
    while (*step != PG_DONE && *step != PG_ROW) {
        if (has_unwanted_copy(link)) {
            pg_link_cancel_blocking(link, PG_DRAIN_LIMIT);
            *step = PG_DONE;
            return DRIVE_READY;
        }
        if (deadline != DEADLINE_NEVER &&
            mono_now() >= deadline) /* data may keep coming, and the socket be ready, for ever */
            return DRIVE_TIMEOUT;
        unsigned ready = 0;
        enum drive_status status =
            drive_poll(pg_machine_fd(&link->m), *step, deadline, interrupt_of(link), &ready);
        if (status != DRIVE_READY)
            return status;
        *step = pg_machine_step(&link->m, ready);
    }
    return DRIVE_READY;
}

enum drive_status pg_link_run_blocking(struct pg_link *link, uint64_t deadline)
{
    unsigned step;
    return pg_link_step_blocking(link, &step, deadline);
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
        enum drive_status status = pg_link_run_blocking(link, deadline_min(deadline, link->deadline));
        if (status != DRIVE_READY)
            cut_short(link, status, deadline <= link->deadline ? timeout : 0);
        return k(L, LUA_OK, ctx);
    }
    link->use = LINK_STATEMENT;
    link->waiter = wait_begin(s, deadline, abandon_statement, link);
    pg_link_watch(link);
    return wait_park(L, link->waiter, ctx, k);
}

/* ---- what the socket says ---- */

/* Readable while nobody uses it: a notice, a changed parameter, or the end. */
static void idle_ready(struct pg_link *link)
{
    bool alive = PQconsumeInput(link->m.conn) != 0;
    if (alive) {
        pg_link_drop_notifications(link); /* lets libpq parse what came, too */
        alive = PQstatus(link->m.conn) == CONNECTION_OK;
    }
    if (alive)
        return;
    pg_machine_break(&link->m);
    drive_uv_want(link->io, 0);
    pool_died(link->slot, mono_now());
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
    if (link->use == LINK_SHARED) {
        pg_mux_ready(link, events);
        return;
    }
    if (link->use == LINK_FREE && link->m.state == PG_IDLE) {
        idle_ready(link);
        return;
    }
    unsigned want = pg_machine_step(&link->m, events);
    if (has_unwanted_copy(link))
        pg_link_request_cancel(link);
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
        pg_link_settle(link);
        break;
    case LINK_STREAM:
        wake_stream(link, want);
        break;
    case LINK_PINGING:
        pg_link_finish_ping(link, link->m.state == PG_IDLE);
        break;
    case LINK_RESETTING:
        pg_link_reset_next(link);
        break;
    case LINK_SHARED:
    case LINK_FREE:
        break;
    }
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
        pg_link_lose_patience(link);
    else
        pg_link_give_up(link);
}

void pg_link_give_up(struct pg_link *link)
{
    pg_machine_break(&link->m);
    if (link->io)
        drive_uv_want(link->io, 0);
    if (link->use == LINK_SHARED)
        pg_mux_give_up(link);
    else if (link->use == LINK_PINGING)
        pg_link_finish_ping(link, false);
    else if (link->use == LINK_RESETTING)
        pg_link_finish_reset(link, false);
    else if (link->use == LINK_DRAINING)
        pg_link_settle(link);
}

void pg_link_close(struct pool_slot *slot)
{
    pg_link_free(slot->conn);
    slot->conn = NULL;
    pool_closed(slot, mono_now());
}
