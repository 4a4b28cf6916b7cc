/* How a statement gets its own connection from the pool. */
#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/pg/mux.h"
#include "bind/pg/on_connect.h"
#include "bind/pg/pool_error.h"
#include "bind/pg/statement_log.h"

/* ---- checkout ---- */

static void waiter_settled(struct pool_waiter *w)
{
    struct pg_statement *st = (struct pg_statement *)((char *)w - offsetof(struct pg_statement, waiter));
    wait_wake(st->wait);
    st->wait = NULL;
}

static void abandon_checkout(struct wait *w)
{
    struct pg_statement *st = w->data;
    st->wait = NULL;
    pool_cancel(st->engine->pool, &st->waiter, mono_now() >= w->timer.deadline, mono_now());
}

int pg_statement_checkout_failed(lua_State *L, struct pg_statement *st, enum pool_settle result)
{
    st->stage = STAGE_REPLY; /* the waiter has left the queue: pg_statement_clean must not cancel it */
    if (result == POOL_FAILED)
        error_move(&st->error, &st->waiter.error);
    else
        pg_engine_pool_error(st->engine, result, &st->error);
    return pg_statement_raise(L, st);
}

static bool needs_statement(const struct pg_engine *e)
{
    return e->on_connect != LUA_NOREF || pg_statement_is_told(e->rt);
}

bool pg_lease_take(lua_State *L, struct pg_lease *lease, struct pg_engine *e)
{
    if (needs_statement(e))
        return false;
    struct pool_slot *slot = pool_take(e->pool, task_owner(e->rt->sched), pg_engine_now(e));
    if (!slot)
        return false;
    lease->engine = e;
    lease->link = slot->conn;
    pg_link_note_place(L, lease->link);
    return true;
}

bool pg_lease_may_wait(const struct pg_engine *e)
{
    return !e->sync && !needs_statement(e);
}

static void lease_settled(struct pool_waiter *w)
{
    struct pg_checkout *c = (struct pg_checkout *)((char *)w - offsetof(struct pg_checkout, waiter));
    wait_wake(c->wait);
    c->wait = NULL;
}

static void abandon_lease(struct wait *w)
{
    struct pg_lease *lease = w->data;
    struct pg_checkout *c = lease->checkout;
    c->wait = NULL;
    pool_cancel(lease->engine->pool, &c->waiter, mono_now() >= w->timer.deadline, mono_now());
}

/* The pool has refused, or its time limit has passed: raises. */
static int lease_failed(lua_State *L, struct pg_lease *lease, enum pool_settle result)
{
    struct runtime *rt = lease->engine->rt;
    struct error e = {0};
    if (result == POOL_FAILED)
        error_move(&e, &lease->checkout->waiter.error);
    else
        pg_engine_pool_error(lease->engine, result, &e);
    pg_lease_end_checkout(lease);
    return bind_error_raise(L, rt, &e);
}

static int lease_granted(lua_State *L, struct pg_lease *lease)
{
    struct pool_waiter *w = &lease->checkout->waiter;
    lease->link = w->slot->conn;
    w->slot = NULL; /* lease->link holds the slot from now on */
    pg_lease_end_checkout(lease);
    pg_link_note_place(L, lease->link);
    lua_settop(L, 2);
    return 1;
}

static int lease_waited(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_lease *lease = (struct pg_lease *)ctx;
    struct sched *sched = lease->engine->rt->sched;
    (void)status;
    switch (wait_end(sched)) {
    case WAIT_CANCELLED:
        pg_lease_end_checkout(lease);
        return task_raise_cancelled_with(L, sched, OUTCOME_NOT_SENT);
    case WAIT_TIMEOUT:
        return lease_failed(L, lease, POOL_WAITING);
    default:
        break;
    }
    enum pool_settle result = lease->checkout->waiter.result;
    return result == POOL_GRANTED ? lease_granted(L, lease) : lease_failed(L, lease, result);
}

/* Forgotten leases and row iterators keep their connections until they are collected. So a refusal of the
 * pool counts only after a garbage collection: when no other code runs, nothing else would trigger one. */
static enum pool_settle acquire(lua_State *L, struct pg_engine *e, struct pool_waiter *w)
{
    enum pool_settle result = pool_acquire(e->pool, w, mono_now());
    if (result != POOL_DEADLOCK && result != POOL_FULL)
        return result;
    lua_gc(L, LUA_GCCOLLECT);
    return pool_acquire(e->pool, w, mono_now());
}

int pg_lease_checkout(lua_State *L, struct pg_lease *lease, struct pg_engine *e)
{
    struct sched *sched = e->rt->sched;
    struct pg_checkout *c = (struct pg_checkout *)(lease + 1);
    *c = (struct pg_checkout){.waiter = {.owner = task_owner(sched), .settled = lease_settled}};
    pg_engine_ref(e); /* the engine may be closed while the task waits */
    lease->engine = e;
    lease->checkout = c;
    enum pool_settle result = acquire(L, e, &c->waiter);
    if (result == POOL_WAITING) {
        c->wait = wait_begin(sched, deadline_in(e->timeout), abandon_lease, lease);
        return wait_park(L, c->wait, (lua_KContext)lease, lease_waited);
    }
    return result == POOL_GRANTED ? lease_granted(L, lease) : lease_failed(L, lease, result);
}

int pg_statement_checkout(lua_State *L, struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    const void *owner = task_owner(e->rt->sched);
    st->stage = STAGE_ACQUIRED;
    struct pool_slot *slot = pool_take(e->pool, owner, pg_engine_now(e));
    if (slot) {
        st->link = slot->conn;
        if (st->began)
            pg_log_waited(L, st, false);
        return pg_statement_leased(L, st);
    }
    st->waiter = (struct pool_waiter){.owner = owner, .nowait = e->sync, .settled = waiter_settled};
    enum pool_settle result = acquire(L, e, &st->waiter);
    if (result == POOL_WAITING) {
        st->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_checkout, st);
        return wait_park(L, st->wait, (lua_KContext)st, st->k);
    }
    return pg_statement_checked_out(L, st, false);
}

/* The pool has answered: at once, or while the task was parked. */
int pg_statement_checked_out(lua_State *L, struct pg_statement *st, bool parked)
{
    if (parked) {
        switch (wait_end(st->engine->rt->sched)) {
        case WAIT_CANCELLED:
            return pg_statement_raise_cancelled(L, st, OUTCOME_NOT_SENT);
        case WAIT_TIMEOUT:
            return pg_statement_checkout_failed(L, st, POOL_WAITING);
        default:
            break;
        }
    }
    if (st->waiter.result != POOL_GRANTED)
        return pg_statement_checkout_failed(L, st, st->waiter.result);
    st->link = st->waiter.slot->conn;
    st->waiter.slot = NULL; /* st->link holds the slot from now on */
    if (st->began)
        pg_log_waited(L, st, parked);
    return pg_statement_leased(L, st);
}

int pg_statement_leased(lua_State *L, struct pg_statement *st)
{
    if (st->link->needs_on_connect) {
        st->top = lua_gettop(L);
        st->stage = STAGE_CONNECTED;
        st->connect_lease = pg_connect_event(L, &st->link);
        return st->k(L, lua_pcallk(L, 1, 0, 0, (lua_KContext)st, st->k), (lua_KContext)st);
    }
    if (st->acquire_only) {
        struct pg_lease *lease = lua_touserdata(L, 2);
        lease->link = st->link;
        pg_link_note_place(L, lease->link);
        st->link = NULL;
        pg_statement_clean(st);
        lua_settop(L, 2);
        return 1;
    }
    /* Can be another task than the one that began the checkout: the script may have yielded in on_connect, in
     * a coroutine that another task then resumed. */
    st->link->task = task_current(st->engine->rt->sched);
    return pg_statement_send(L, st);
}

/* on_connect has returned, or raised. */
int pg_statement_connected(lua_State *L, struct pg_statement *st, int status)
{
    struct runtime *rt = st->engine->rt;
    st->link = pg_connected(L, st->connect_lease, status);
    st->connect_lease = NULL;
    if (st->link) {
        lua_settop(L, st->top);
        return pg_statement_leased(L, st);
    }
    pg_statement_clean(st);
    if (lua_type(L, -1) != LUA_TSTRING)
        return lua_error(L);
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "%s", lua_tostring(L, -1));
    e.outcome = OUTCOME_NOT_SENT;
    return bind_error_raise(L, rt, &e);
}
