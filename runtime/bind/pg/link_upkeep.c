/* What a connection does between two users: looked at, pinged, judged, reset. */
#include "base/deadline.h"
#include "bind/pg/link.h"

#include <string.h>

/* Seconds: how long a ping and a reset may take before the connection is given up. */
#define PING_LIMIT  5.0
#define RESET_LIMIT 5.0
/* A connection that was in use this recently was looked at by that use. */
#define LOOK_AFTER_NS (1 * NS_PER_MS)

/* ---- looking ---- */

/* A script that ran LISTEN on a pooled connection: libpq would keep what nobody reads. */
void pg_link_drop_notifications(struct pg_link *link)
{
    PGnotify *n;
    while ((n = PQnotifies(link->m.conn)))
        PQfreemem(n);
}

static bool is_dead(struct pg_link *link)
{
    /* A server that stops says FATAL first and closes then: each needs a look of its own. */
    for (int i = 0; i < 4 && drive_poll_readable(pg_machine_fd(&link->m)); i++) {
        if (!PQconsumeInput(link->m.conn))
            return true;
        pg_link_drop_notifications(link);
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

/* ---- pinging ---- */

void pg_link_finish_ping(struct pg_link *link, bool alive)
{
    sched_timer_stop(link->engine->rt->sched, &link->limit);
    link->use = LINK_FREE;
    pool_pinged(link->slot, alive, mono_now());
}

void pg_link_ping(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    link->use = LINK_PINGING;
    if (!pg_machine_simple(&link->m, "")) {
        pg_link_finish_ping(link, false);
        return;
    }
    if (link->engine->sync) {
        bool alive =
            pg_link_run_blocking(link, deadline_in(PING_LIMIT)) == DRIVE_READY && link->m.state == PG_IDLE;
        pg_link_finish_ping(link, alive);
        return;
    }
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(PING_LIMIT));
    pg_link_watch(link);
}

/* ---- on return ---- */

void pg_link_finish_reset(struct pg_link *link, bool ok)
{
    sched_timer_stop(link->engine->rt->sched, &link->limit);
    pg_link_set_background(link, false);
    link->use = LINK_FREE;
    pool_reset_done(link->slot, ok, mono_now());
}

enum pool_verdict pg_link_judge(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    link->where[0] = '\0';
    link->answered = false;
    pg_notices_forget(link);
    link->task = NULL;
    link->deadline = DEADLINE_NEVER;
    pg_link_drop_notifications(link);
    if (link->stream)
        pg_stream_detach(link->stream);
    if (pg_link_is_draining(link))
        return POOL_RESET;
    if (link->m.state != PG_IDLE || link->use == LINK_STREAM || pg_link_is_demoted(link))
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
void pg_link_reset_next(struct pg_link *link)
{
    for (;;) {
        const char *sql = reset_statement(link);
        if (link->m.state != PG_IDLE || error_is_set(&link->m.error) || !sql) {
            pg_link_finish_reset(link, link->m.state == PG_IDLE && !error_is_set(&link->m.error));
            return;
        }
        link->use = LINK_RESETTING;
        if (strcmp(sql, "DISCARD ALL") == 0)
            pg_cache_clear(link->m.cache);
        strcpy(link->statement, sql);
        if (!pg_machine_simple(&link->m, sql)) {
            pg_link_finish_reset(link, false);
            return;
        }
        if (!link->engine->sync) {
            pg_link_watch(link);
            return;
        }
        if (pg_link_run_blocking(link, deadline_in(RESET_LIMIT)) != DRIVE_READY)
            pg_machine_break(&link->m);
    }
}

void pg_link_reset_begin(struct pg_link *link)
{
    pg_link_set_background(link, true);
    error_clear(&link->m.error); /* of the statement before: it has been told */
    link->statement[0] = '\0';
    sched_timer_start(link->engine->rt->sched, &link->limit, deadline_in(RESET_LIMIT));
    pg_link_reset_next(link);
}

void pg_link_reset(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    if (link->use != LINK_DRAINING) {
        pg_link_reset_begin(link);
        return;
    }
    link->reset_after_drain = true;
    if (link->patient) { /* its transaction is going: nothing is lost by a cancel */
        link->patient = false;
        pg_link_request_cancel(link);
    }
}
