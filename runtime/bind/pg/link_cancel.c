/* Abandoning a statement on the async engine: the cancel request on a worker, the drain, and the wait for the
 * drain's end. */
#include "base/deadline.h"
#include "bind/pg/link.h"

#include <stdlib.h>

struct cancel_job {
    struct job job;
    struct pg_cancelling cancelling;
    PGcancel *cancel;
    char why[256];
    bool ok;
};

/* ---- the request ---- */

static void cancel_work(struct job *j)
{
    struct cancel_job *c = (struct cancel_job *)j;
    c->ok = PQcancel(c->cancel, c->why, sizeof c->why) == 1;
}

static void cancel_free(struct job *j)
{
    struct cancel_job *c = (struct cancel_job *)j;
    PQfreeCancel(c->cancel);
    free(c);
}

/* The request was answered, but a statement still runs: the server had not begun it yet, or has begun another
 * one since. No task waits for anything on the connection, so another request is safe. */
static void ask_again(struct sched_timer *t)
{
    struct pg_link *link = t->data;
    if (link->in_background && pg_machine_is_busy(&link->m))
        pg_link_request_cancel(link);
}

static void plan_again(struct pg_link *link)
{
    if (!link->in_background || !pg_machine_is_busy(&link->m))
        return;
    link->again.fn = ask_again;
    link->again.data = link;
    sched_timer_start(link->engine->rt->sched, &link->again, deadline_in(PG_CANCEL_AGAIN));
}

static void cancel_done(struct job *j)
{
    struct cancel_job *c = (struct cancel_job *)j;
    struct pg_link *link = c->cancelling.link;
    if (link) {
        plan_again(link);
        if (!c->ok && link->m.state != PG_BROKEN)
            log_write(link->engine->rt->log, LOG_LEVEL_DEBUG, "postgres: the cancel request failed: %s",
                      c->why);
        link->cancel = NULL;
        if (link->user && link->user->cancel_answered)
            link->user->cancel_answered(link);
    }
    cancel_free(j);
}

void pg_link_request_cancel(struct pg_link *link)
{
    if (link->cancel || link->m.state == PG_IDLE || link->m.state == PG_BROKEN || link->engine->sync)
        return;
    struct cancel_job *c = calloc(1, sizeof *c);
    if (!c)
        return; /* the drain has a time limit, after which the connection is closed */
    c->job = (struct job){.work = cancel_work, .done = cancel_done, .drop = cancel_free};
    c->cancelling.link = link;
    c->cancel = PQgetCancel(link->m.conn);
    if (!c->cancel || !workers_run(link->engine->rt->workers, &c->job)) {
        cancel_free(&c->job);
        return;
    }
    link->cancel = &c->cancelling;
    pg_machine_cancel_sent(&link->m);
}

/* ---- the drain ---- */

static void drain_settle(struct pg_link *link);
static void drain_at_once(struct pg_link *link);

static void drain_stepped(struct pg_link *link, unsigned step)
{
    (void)step;
    drain_settle(link);
}

/* The time limit of a drain: after a grace, cancels the statement; else closes the connection. */
static void drain_late(struct pg_link *link)
{
    if (!link->patient) {
        pg_link_give_up(link);
        return;
    }
    pg_link_warn_cancelled(link);
    drain_at_once(link);
}

static const struct pg_link_user drain_user = {
    .name = "drain",
    .stepped = drain_stepped,
    .late = drain_late,
    .given_up = drain_settle,
    .cancel_answered = drain_settle,
};

/* The drain ends when both the statement and the cancel request have ended: a request that is still under way
 * could cancel the next statement. */
static void drain_settle(struct pg_link *link)
{
    if (link->m.state != PG_BROKEN && (link->cancel || pg_machine_is_busy(&link->m)))
        return;
    void (*next)(struct pg_link *) = link->drained;
    link->patient = false;
    link->drained = NULL;
    if (next) {
        next(link);
        return;
    }
    pg_link_end(link);
    pg_link_wake(link);
}

static void drain_at_once(struct pg_link *link)
{
    link->patient = false;
    pg_link_begin(link, &drain_user, PG_DRAIN_LIMIT, true);
    pg_link_request_cancel(link);
}

void pg_link_warn_cancelled(const struct pg_link *link)
{
    log_write(
        link->engine->rt->log, LOG_LEVEL_WARN,
        "postgres: a loop over rows was left early in a transaction, and its remaining rows did not end in "
        "time: the statement was cancelled, which failed the transaction (a loop over a cursor can be left "
        "at any time): %s",
        link->statement);
}

void pg_link_abandon(struct pg_link *link, double grace)
{
    if (link->m.state == PG_BROKEN) {
        pg_link_set_user(link, NULL);
        return;
    }
    if (grace > 0) {
        link->patient = true;
        pg_link_begin(link, &drain_user, grace, true);
    } else {
        drain_at_once(link);
    }
    pg_machine_discard(&link->m);
    pg_link_watch(link);
}

void pg_link_drain_then(struct pg_link *link, void (*next)(struct pg_link *link))
{
    if (link->user != &drain_user) {
        next(link);
        return;
    }
    link->drained = next;
    if (link->patient)
        drain_at_once(link);
}

/* Also begins a drain when the statement has ended and its cancel request is still under way. (Between two
 * blocks of a COPY the link has no user, but the COPY has not ended.) */
bool pg_link_is_draining(struct pg_link *link)
{
    if (!link->user && link->cancel && link->m.state == PG_IDLE)
        pg_link_begin(link, &drain_user, PG_DRAIN_LIMIT, true);
    return link->user == &drain_user;
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

/* ---- shared connections ---- */

void pg_link_cancel_shared(struct pg_link *link)
{
    if (!link->in_background)
        pg_link_begin(link, link->user, PG_DRAIN_LIMIT, true); /* the user stays, now with a time limit */
    pg_link_request_cancel(link);
}

void pg_link_shared_over(struct pg_link *link)
{
    pg_link_end(link);
    pg_link_is_draining(link);
}

/* ---- releasing a lease ---- */

void pg_link_take_away(struct pg_link *link)
{
    struct wait *waiter = link->waiter;
    link->waiter = NULL;
    if (link->user && link->user->taken_away)
        link->user->taken_away(link);
    wait_wake(waiter);
}
