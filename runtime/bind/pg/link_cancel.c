/* Cancelling what a connection does: the request on a worker, the drain on the loop; who waits for that. */
#include "base/deadline.h"
#include "bind/pg/link.h"
#include "bind/pg/mux.h"
#include "drive/worker_sync.h"

#include <stdlib.h>

struct pg_cancel_job {
    struct job job;
    PGcancel *cancel;
    struct pg_link *link; /* NULL once the link is gone */
    char why[256];
    bool ok;
};

/* ---- the blocking engine ---- */

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
        pg_machine_break(&link->m);
        return;
    }
    unsigned want = pg_machine_step(&link->m, 0);
    while (want != PG_DONE) {
        unsigned ready = 0;
        if (mono_now() >= deadline ||
            drive_poll(pg_machine_fd(&link->m), want, deadline, NULL, &ready) != DRIVE_READY) {
            pg_machine_break(&link->m);
            return;
        }
        want = pg_machine_step(&link->m, ready);
    }
}

/* ---- the request, and the drain ---- */

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

/* The statement has ended. As long as a cancel request is under way it could still hit the next one, so
 * the link is nobody's until both are over. */
void pg_link_settle(struct pg_link *link)
{
    if (link->cancel && link->m.state != PG_BROKEN)
        return;
    if (link->use == LINK_DRAINING) {
        if (pg_machine_is_busy(&link->m) && link->m.state != PG_BROKEN)
            return;
        sched_timer_stop(link->engine->rt->sched, &link->limit);
        pg_link_set_background(link, false);
        link->use = LINK_FREE;
        link->patient = false;
        if (link->reset_after_drain) {
            link->reset_after_drain = false;
            pg_link_reset_begin(link);
            return;
        }
    }
    link->use = LINK_FREE;
    link->answered = link->waiter != NULL;
    wait_wake(link->waiter);
    link->waiter = NULL;
}

/* Does the machine still wait for the statement's answer? (A COPY between two of its blocks does not.) */
static bool is_running(const struct pg_link *link)
{
    return link->m.state == PG_PLAIN || link->m.state == PG_PIPE;
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
        if (link->use == LINK_SHARED)
            pg_mux_cancel(link);
        if (link->use == LINK_DRAINING || (link->use == LINK_STATEMENT && !is_running(link)))
            pg_link_settle(link);
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
    pg_machine_cancel_sent(&link->m);
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
    pg_link_set_background(link, true);
    sched_timer_start(link->engine->rt->sched, &link->limit,
                      deadline_in(link->patient ? grace : PG_DRAIN_LIMIT));
    if (!link->patient)
        pg_link_request_cancel(link);
    pg_machine_discard(&link->m);
    pg_link_watch(link);
}

/* Its rows do not end by themselves. */
void pg_link_lose_patience(struct pg_link *link)
{
    link->patient = false;
    pg_link_warn_cancelled(link);
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PG_DRAIN_LIMIT));
    pg_link_request_cancel(link);
}

void pg_link_cancel_shared(struct pg_link *link)
{
    if (!link->in_background) {
        pg_link_set_background(link, true);
        sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PG_DRAIN_LIMIT));
    }
    pg_link_request_cancel(link);
}

void pg_link_shared_over(struct pg_link *link)
{
    link->use = LINK_FREE;
    sched_timer_stop(link->engine->rt->sched, &link->limit);
    pg_link_set_background(link, false);
    pg_link_is_draining(link);
}

void pg_link_forget_cancel(struct pg_link *link)
{
    if (link->cancel)
        link->cancel->link = NULL;
    link->cancel = NULL;
}

/* ---- waiting for the end of it ---- */

/* Also a statement that ended by itself while somebody asked to cancel it leaves the link to nobody,
 * until that request is over. (A COPY between two of its blocks has not ended.) */
bool pg_link_is_draining(struct pg_link *link)
{
    if (link->use == LINK_FREE && link->cancel && link->m.state == PG_IDLE) {
        link->use = LINK_DRAINING;
        pg_link_set_background(link, true);
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
