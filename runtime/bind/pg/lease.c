/* The lease that engine:acquire() gives: one connection until it is released. */
#include "bind/pg/lease.h"
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/pg/notices.h"
#include "bind/pg/traced.h"
#include "pg/errors.h"

#include <string.h>

struct pg_lease *pg_lease_new(lua_State *L, bool waits)
{
    size_t size = sizeof(struct pg_lease) + (waits ? sizeof(struct pg_checkout) : 0);
    struct pg_lease *lease = lua_newuserdatauv(L, size, 0);
    *lease = (struct pg_lease){NULL, NULL, NULL};
    lua_rawgeti(L, LUA_REGISTRYINDEX, bind_runtime(L)->pg_leases);
    lua_setmetatable(L, -2);
    return lease;
}

void pg_lease_end_checkout(struct pg_lease *lease)
{
    struct pg_checkout *c = lease->checkout;
    struct pg_engine *e = lease->engine;
    lease->checkout = NULL;
    if (c->waiter.queued)
        pool_cancel(e->pool, &c->waiter, false, mono_now());
    else if (c->waiter.slot)
        pool_discard(e->pool, c->waiter.slot, mono_now());
    error_clear(&c->waiter.error);
    pg_engine_unref(e);
}

static int refuse_released(lua_State *L)
{
    return bind_refuse(L, bind_runtime(L), "this connection has been released",
                       "Use it inside of its block, or of the function of its transaction.");
}

struct pg_lease *pg_lease_check(lua_State *L)
{
    struct pg_lease *lease = bind_self(L, PG_LEASE_CLASS);
    if (!lease->link)
        refuse_released(L);
    return lease;
}

int pg_lease_lost(lua_State *L, struct runtime *rt)
{
    struct error e = {0};
    error_set(&e, ERROR_USAGE, "this connection was released while a statement still ran on it");
    e.outcome = OUTCOME_UNKNOWN;
    error_set_field(&e, ERROR_HINT, "Release a connection only when every task that uses it has ended.");
    return bind_error_raise(L, rt, &e);
}

/* Records the wait in the trace. */
static void tell_waited(struct pg_link *link, enum wait_status how)
{
    struct error e = {.kind = how == WAIT_TIMEOUT ? ERROR_TIMEOUT : ERROR_CANCELLED};
    pg_traced_goes_on(link);
    if (how != WAIT_DONE)
        pg_traced_work_over(link, &e);
}

void pg_lease_waited(lua_State *L, struct pg_link *link, int status, const char *what)
{
    struct pg_lease *lease = lua_touserdata(L, 1);
    struct runtime *rt = bind_runtime(L);
    enum wait_status how = status == LUA_YIELD ? wait_end(rt->sched) : WAIT_DONE;
    if (lease->link == link)
        link->answered = false;
    if (lease->link == link && link->traced)
        tell_waited(link, how);
    if (how == WAIT_CANCELLED) {
        bool rolled_back = lease->link == link && link->m.in_transaction;
        task_raise_cancelled_with(L, rt->sched, rolled_back ? OUTCOME_FAILED : OUTCOME_UNKNOWN);
    }
    if (lease->link != link)
        pg_lease_lost(L, rt);
    if (how == WAIT_TIMEOUT) {
        struct error e = {0};
        pg_error_late(&e, what, link->engine->command_timeout);
        e.outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
        bind_error_raise(L, rt, &e);
    }
    pg_notices_tell(L, link);
}

void pg_lease_check_free(lua_State *L, struct pg_lease *lease)
{
    struct pg_link *link = lease->link;
    if (!link)
        refuse_released(L);
    if (link->telling)
        bind_fail(L, bind_runtime(L), ERROR_USAGE,
                  "on_notice runs for this connection, and must not use the connection itself");
    if (pg_link_is_draining(link) ? link->waiter != NULL : link->user != NULL || link->answered)
        bind_fail(
            L, bind_runtime(L), ERROR_USAGE,
            "this connection is busy with another statement (of another task, or an iteration over rows "
            "that has not ended): a leased connection does one thing at a time");
    if (link->deadline != DEADLINE_NEVER && mono_now() >= link->deadline) {
        struct error e = {0};
        pg_error_late(&e, NULL, link->deadline_after);
        e.outcome = OUTCOME_NOT_SENT;
        bind_error_raise(L, bind_runtime(L), &e);
    }
}

struct pg_link *pg_lease_link(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    if (!lease->engine->sync)
        task_check_park(L, lease->engine->rt->sched);
    pg_lease_check_free(L, lease);
    return lease->link;
}
