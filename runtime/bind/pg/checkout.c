/* How a statement gets its connection: from the pool for itself, or shared with others (pipeline=). */
#include "base/deadline.h"
#include "bind/pg/mux.h"
#include "bind/pg/op.h"

static int leased(lua_State *L, struct pg_op *op);

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

static int checkout_failed(lua_State *L, struct pg_op *op, enum pool_settle result)
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
        return wait_park(L, op->wait, (lua_KContext)op, pg_op_k);
    }
    if (result != POOL_GRANTED)
        return checkout_failed(L, op, result);
    return pg_op_k(L, LUA_OK, (lua_KContext)op);
}

/* Who holds the connection, for the error that others get when they wait too long. */
void pg_op_note_place(lua_State *L, struct pg_link *link)
{
    script_where(L, 1, link->where, sizeof link->where);
}

/* The pool has answered: at once, or while the task was parked. */
int pg_op_checked_out(lua_State *L, struct pg_op *op, bool parked)
{
    if (parked) {
        switch (wait_end(task_wait(op->engine->rt->sched))) {
        case WAIT_CANCELLED:
            return pg_op_raise_cancelled(L, op);
        case WAIT_TIMEOUT:
            return checkout_failed(L, op, POOL_WAITING);
        default:
            break;
        }
    }
    if (op->waiter.result != POOL_GRANTED)
        return checkout_failed(L, op, op->waiter.result);
    op->link = op->waiter.slot->conn;
    op->waiter.slot = NULL; /* the op holds it by its link now */
    return leased(L, op);
}

/* The op has its connection. */
static int leased(lua_State *L, struct pg_op *op)
{
    if (op->link->fresh) {
        op->top = lua_gettop(L);
        op->stage = STAGE_CONNECTED;
        op->newcomer = pg_connect_event(L, &op->link);
        return pg_op_k(L, lua_pcallk(L, 1, 0, 0, (lua_KContext)op, pg_op_k), (lua_KContext)op);
    }
    if (op->acquire_only) {
        struct pg_lease *lease = lua_touserdata(L, 2);
        lease->link = op->link;
        pg_op_note_place(L, lease->link);
        op->link = NULL;
        pg_op_clean(op);
        lua_settop(L, 2);
        return 1;
    }
    op->link->task = task_current(op->engine->rt->sched);
    op->stage = STAGE_SEND;
    return pg_op_k(L, LUA_OK, (lua_KContext)op);
}

/* on_connect has returned, or raised. */
int pg_op_connected(lua_State *L, struct pg_op *op, int status)
{
    struct runtime *rt = op->engine->rt;
    op->link = pg_connected(L, op->newcomer, status);
    op->newcomer = NULL;
    if (op->link) {
        lua_settop(L, op->top);
        return leased(L, op);
    }
    pg_op_clean(op);
    if (lua_type(L, -1) != LUA_TSTRING)
        return lua_error(L);
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "%s", lua_tostring(L, -1));
    e.outcome = OUTCOME_NOT_SENT;
    return bind_error_raise(L, rt, &e);
}

/* ---- shared connections (pipeline=) ---- */

static void abandon_shared(struct wait *w)
{
    struct pg_op *op = w->data;
    pg_mux_remove(op->engine->mux, op->shared);
}

/* The statement as bytes; NULL when memory is out. */
static struct pg_shared *as_bytes(lua_State *L, const struct pg_op *op)
{
    struct pg_encoded enc;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    if (!pg_params_encode(L, 3, op->nparams, &enc))
        return NULL;
    struct pg_shared *s = pg_shared_new(sql, len, &enc.p);
    pg_params_free(&enc);
    return s;
}

static int share(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    op->stage = STAGE_SHARED;
    op->shared->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_shared, op);
    pg_mux_add(e->mux, op->shared);
    return wait_park(L, op->shared->wait, (lua_KContext)op, pg_op_k);
}

/* In the queue the pool's time limit counts; the statement's begins when it is sent (mux.c). */
int pg_op_share(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (pool_would_deadlock(e->pool, task_owner(e->rt->sched)))
        return checkout_failed(L, op, POOL_DEADLOCK);
    op->shared = as_bytes(L, op);
    if (op->shared)
        return share(L, op);
    error_set(&op->error, ERROR_QUERY, "not enough memory for the parameters");
    op->error.outcome = OUTCOME_NOT_SENT;
    return pg_op_raise(L, op);
}

/* Once more, on a connection for itself, where the statement cache is mended. */
static int share_again(lua_State *L, struct pg_op *op)
{
    error_clear(&op->shared->error);
    op->shared->alone = true;
    op->shared->sent = false;
    return share(L, op);
}

static int shared_failed(lua_State *L, struct pg_op *op)
{
    if (!op->shared->alone && pg_op_is_of_cache(&op->shared->error))
        return share_again(L, op);
    error_move(&op->error, &op->shared->error);
    error_set_field(&op->error, ERROR_STATEMENT, lua_tostring(L, 2));
    return pg_op_raise(L, op);
}

/* The statement has ended, or has a connection for itself, or its wait was cut short. */
int pg_op_shared(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    struct pg_shared *s = op->shared;
    switch (wait_end(task_wait(e->rt->sched))) {
    case WAIT_CANCELLED:
        return pg_op_raise_cancelled(L, op);
    case WAIT_TIMEOUT:
        if (!s->sent)
            return checkout_failed(L, op, POOL_WAITING);
        error_set(&op->error, ERROR_TIMEOUT, "the statement did not end within %g s (command_timeout)",
                  e->command_timeout);
        op->error.outcome = OUTCOME_UNKNOWN;
        error_set_field(&op->error, ERROR_STATEMENT, lua_tostring(L, 2));
        return pg_op_raise(L, op);
    default:
        break;
    }
    if (s->link) {
        op->link = s->link;
        op->shared = NULL;
        pg_shared_free(s);
        return leased(L, op);
    }
    pg_notices_tell_shared(L, e);
    if (error_is_set(&s->error))
        return shared_failed(L, op);
    op->result = s->result;
    s->result = NULL;
    if (op->shape == SHAPE_RESULT)
        pg_result_columns(L, &e->decoder, op->result, NULL);
    int n = pg_result_push(L, e->rt, &e->decoder, op->result, op->shape);
    pg_op_clean(op);
    return n;
}
