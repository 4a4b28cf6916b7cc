/* How a statement gets its connection: from the pool for itself, or shared with others (pipeline=). */
#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/pg/mux.h"
#include "bind/pg/on_connect.h"
#include "bind/pg/op.h"
#include "bind/pg/pool_error.h"

/* ---- checkout ---- */

static void waiter_settled(struct pool_waiter *w)
{
    struct pg_op *op = (struct pg_op *)((char *)w - offsetof(struct pg_op, waiter));
    wait_wake(op->wait);
    op->wait = NULL;
}

static void abandon_checkout(struct wait *w)
{
    struct pg_op *op = w->data;
    op->wait = NULL;
    pool_cancel(op->engine->pool, &op->waiter, mono_now() >= w->timer.deadline, mono_now());
}

int pg_op_checkout_failed(lua_State *L, struct pg_op *op, enum pool_settle result)
{
    op->stage = STAGE_REPLY; /* nothing is queued any more */
    if (result == POOL_FAILED)
        error_move(&op->error, &op->waiter.error);
    else
        pg_engine_pool_error(op->engine, result, &op->error);
    return pg_op_raise(L, op);
}

int pg_op_checkout(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    op->waiter =
        (struct pool_waiter){.owner = task_owner(e->rt->sched), .nowait = e->sync, .settled = waiter_settled};
    op->stage = STAGE_ACQUIRED;
    enum pool_settle result = pool_acquire(e->pool, &op->waiter, mono_now());
    if (result == POOL_WAITING) {
        op->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_checkout, op);
        return wait_park(L, op->wait, (lua_KContext)op, op->k);
    }
    return pg_op_checked_out(L, op, false);
}

/* The pool has answered: at once, or while the task was parked. */
int pg_op_checked_out(lua_State *L, struct pg_op *op, bool parked)
{
    if (parked) {
        switch (wait_end(task_wait(op->engine->rt->sched))) {
        case WAIT_CANCELLED:
            return pg_op_raise_cancelled(L, op);
        case WAIT_TIMEOUT:
            return pg_op_checkout_failed(L, op, POOL_WAITING);
        default:
            break;
        }
    }
    if (op->waiter.result != POOL_GRANTED)
        return pg_op_checkout_failed(L, op, op->waiter.result);
    op->link = op->waiter.slot->conn;
    op->waiter.slot = NULL; /* the op holds it by its link now */
    return pg_op_leased(L, op);
}

int pg_op_leased(lua_State *L, struct pg_op *op)
{
    if (op->link->needs_on_connect) {
        op->top = lua_gettop(L);
        op->stage = STAGE_CONNECTED;
        op->connect_lease = pg_connect_event(L, &op->link);
        return op->k(L, lua_pcallk(L, 1, 0, 0, (lua_KContext)op, op->k), (lua_KContext)op);
    }
    if (op->acquire_only) {
        struct pg_lease *lease = lua_touserdata(L, 2);
        lease->link = op->link;
        pg_link_note_place(L, lease->link);
        op->link = NULL;
        pg_op_clean(op);
        lua_settop(L, 2);
        return 1;
    }
    op->link->task = task_current(op->engine->rt->sched);
    op->stage = STAGE_SEND;
    return pg_op_next(L, op);
}

/* on_connect has returned, or raised. */
int pg_op_connected(lua_State *L, struct pg_op *op, int status)
{
    struct runtime *rt = op->engine->rt;
    op->link = pg_connected(L, op->connect_lease, status);
    op->connect_lease = NULL;
    if (op->link) {
        lua_settop(L, op->top);
        return pg_op_leased(L, op);
    }
    pg_op_clean(op);
    if (lua_type(L, -1) != LUA_TSTRING)
        return lua_error(L);
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "%s", lua_tostring(L, -1));
    e.outcome = OUTCOME_NOT_SENT;
    return bind_error_raise(L, rt, &e);
}
