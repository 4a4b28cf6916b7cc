/* pipeline=: a statement that shares a connection with others. */
#include "base/deadline.h"
#include "bind/pg/mux.h"
#include "bind/pg/notices.h"
#include "bind/pg/op.h"
#include "bind/pg/params.h"
#include "bind/pg/recovery.h"

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
    struct pg_shared *s = pg_shared_new(op->engine->mux, sql, len, &enc.p);
    pg_params_free(&enc);
    return s;
}

static int share(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    op->stage = STAGE_SHARED;
    op->shared->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_shared, op);
    pg_mux_add(e->mux, op->shared);
    return wait_park(L, op->shared->wait, (lua_KContext)op, op->k);
}

/* In the queue the pool's time limit counts; the statement's begins when it is sent (mux.c). */
int pg_op_share(lua_State *L, struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (pool_would_deadlock(e->pool, task_owner(e->rt->sched)))
        return pg_op_checkout_failed(L, op, POOL_DEADLOCK);
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
            return pg_op_checkout_failed(L, op, POOL_WAITING);
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
        pg_shared_free(e->mux, s);
        return pg_op_leased(L, op);
    }
    pg_notices_tell_shared(L, e);
    if (error_is_set(&s->error))
        return shared_failed(L, op);
    op->result = s->result;
    s->result = NULL;
    if (op->shape == SHAPE_RESULT)
        pg_result_columns(L, &e->decoder, op->result);
    int n = pg_result_push(L, e->rt, &e->decoder, op->result, op->shape);
    pg_op_clean(op);
    return n;
}
