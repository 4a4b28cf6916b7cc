/* The pool's operations on idle and returned links: check, pre-ping, judge, reset. */
#include "base/deadline.h"
#include "bind/pg/link.h"
#include "bind/pg/notices.h"
#include "bind/pg/traced.h"

#include <string.h>

/* Seconds that a pre-ping or a reset may take before the connection is closed. */
#define PING_LIMIT  5.0
#define RESET_LIMIT 5.0
/* A connection that was idle for less time is not checked. */
#define LOOK_AFTER_NS (1 * NS_PER_MS)

/* On the sync engine the caller waits for both, but no longer than for a statement. */
static uint64_t blocking_limit(const struct pg_link *link, double seconds)
{
    double timeout = link->engine->command_timeout;
    return deadline_in(timeout > 0 && timeout < seconds ? timeout : seconds);
}

/* ---- checking ---- */

static bool is_dead(struct pg_link *link)
{
    /* A server that stops sends FATAL and then closes: libpq needs one read for each. */
    for (int i = 0; i < 4 && io_poll_readable(pg_machine_fd(&link->m)); i++) {
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

/* ---- the pre-ping ---- */

static void finish_ping(struct pg_link *link)
{
    pg_link_end(link);
    pool_pinged(link->slot, link->m.state == PG_IDLE, mono_now());
}

static void ping_stepped(struct pg_link *link, unsigned step)
{
    (void)step;
    finish_ping(link);
}

static const struct pg_link_user ping_user = {
    .name = "ping", .stepped = ping_stepped, .given_up = finish_ping, .upkeep = true};

void pg_link_ping(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    pg_link_begin(link, &ping_user, PING_LIMIT, false);
    if (!pg_machine_ping(&link->m)) {
        pg_link_give_up(link);
        return;
    }
    if (link->engine->sync) {
        if (pg_link_run_blocking(link, blocking_limit(link, PING_LIMIT)) == IO_READY)
            finish_ping(link);
        else
            pg_link_give_up(link);
        return;
    }
    pg_link_watch(link);
}

/* ---- on return ---- */

/* DISCARD ALL has undone on_connect: it runs again, in the task that gets the connection next. */
static void renew_session(struct pg_link *link)
{
    if (link->m.discarded)
        link->needs_on_connect = link->engine->on_connect != LUA_NOREF;
    link->m.discarded = false;
}

enum pool_verdict pg_link_judge(struct pool_slot *slot)
{
    struct pg_link *link = slot->conn;
    link->place.line = 0;
    link->answered = false;
    if (link->on_notice != LUA_NOREF || link->notices.first)
        pg_notices_forget(link);
    link->task = NULL;
    link->deadline = DEADLINE_NEVER;
    pg_machine_given_back(&link->m);
    renew_session(link);
    pg_link_drop_notifications(link);
    if (link->user && link->user->detach)
        link->user->detach(link);
    if (link->traced)
        pg_traced_over(link);
    if ((link->user || link->cancel) && pg_link_is_draining(link))
        return POOL_RESET;
    if (link->m.state != PG_IDLE || link->user || (link->writer && pg_link_is_demoted(link)))
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

static void finish_reset(struct pg_link *link)
{
    renew_session(link);
    bool ok = link->m.state == PG_IDLE && !error_is_set(&link->m.error);
    pg_link_end(link);
    pool_reset_done(link->slot, ok, mono_now());
}

static void reset_next(struct pg_link *link);

static void reset_stepped(struct pg_link *link, unsigned step)
{
    (void)step;
    reset_next(link);
}

static const struct pg_link_user reset_user = {
    .name = "reset", .stepped = reset_stepped, .given_up = finish_reset, .upkeep = true};

/* Sends one statement. True on the sync engine, where it has ended; false on the async engine, where
 * reset_stepped continues, and when it could not be sent. */
static bool run_reset(struct pg_link *link, const char *sql)
{
    if (strcmp(sql, "DISCARD ALL") == 0)
        pg_cache_clear(link->m.cache);
    strcpy(link->statement, sql);
    if (!pg_machine_simple(&link->m, sql)) {
        pg_link_give_up(link);
        return false;
    }
    if (!link->engine->sync) {
        pg_link_watch(link);
        return false;
    }
    if (pg_link_run_blocking(link, blocking_limit(link, RESET_LIMIT)) != IO_READY)
        pg_machine_break(&link->m);
    return true;
}

/* Runs the statements of the reset one after the other. */
static void reset_next(struct pg_link *link)
{
    const char *sql;
    do {
        sql = reset_statement(link);
        if (link->m.state != PG_IDLE || error_is_set(&link->m.error) || !sql) {
            finish_reset(link);
            return;
        }
    } while (run_reset(link, sql));
}

static void reset_begin(struct pg_link *link)
{
    pg_link_begin(link, &reset_user, RESET_LIMIT, true);
    error_clear(&link->m.error); /* the error of the last statement, which its task already has */
    link->statement[0] = '\0';
    reset_next(link);
}

void pg_link_reset(struct pool_slot *slot)
{
    pg_link_drain_then(slot->conn, reset_begin);
}
