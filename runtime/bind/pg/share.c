/* pipeline=: a statement that shares its connection with others. */
#include "base/deadline.h"
#include "bind/pg/mux.h"
#include "bind/pg/notices.h"
#include "bind/pg/params.h"
#include "bind/pg/recovery.h"
#include "bind/pg/stale.h"
#include "bind/pg/statement_log.h"
#include "pg/errors.h"
#include "pg/placeholder.h"

static void abandon_shared(struct wait *w)
{
    struct pg_statement *st = w->data;
    pg_mux_remove(st->engine->mux, st->shared);
}

/* Copies SQL and parameters; NULL when out of memory. */
static struct pg_shared *as_bytes(lua_State *L, const struct pg_statement *st)
{
    struct pg_encoded enc;
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    if (!pg_params_encode(L, 3, st->nparams, &enc))
        return NULL;
    struct pg_shared *s = pg_shared_new(st->engine->mux, sql, len, &enc.p);
    pg_params_free(&enc);
    return s;
}

static int share(lua_State *L, struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    st->shared->wait = wait_begin(e->rt->sched, deadline_in(e->timeout), abandon_shared, st);
    pg_mux_add(e->mux, st->shared);
    return wait_park(L, st->shared->wait, (lua_KContext)st, st->k);
}

/* Collects forgotten leases and row iterators before it answers true (checkout.c). */
static bool would_deadlock(lua_State *L, const struct pg_engine *e)
{
    const void *owner = task_owner(e->rt->sched);
    if (!pool_would_deadlock(e->pool, owner))
        return false;
    lua_gc(L, LUA_GCCOLLECT);
    return pool_would_deadlock(e->pool, owner);
}

/* In the queue the pool's time limit applies; the statement's time limit begins when it is sent (mux.c). */
int pg_statement_share(lua_State *L, struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    st->stage = STAGE_SHARED; /* first: a finaliser that runs a statement must not get this block */
    if (would_deadlock(L, e))
        return pg_statement_checkout_failed(L, st, POOL_DEADLOCK);
    st->shared = as_bytes(L, st);
    if (st->shared)
        return share(L, st);
    error_set(&st->error, ERROR_QUERY, "not enough memory for the parameters");
    st->error.outcome = OUTCOME_NOT_SENT;
    return pg_statement_raise(L, st);
}

/* Runs the statement again, alone on a connection, where reply.c finds out whether the statement cache was
 * the cause. The server has undone what the statement did. */
static int share_again(lua_State *L, struct pg_statement *st)
{
    error_clear(&st->shared->error);
    st->shared->alone = true;
    st->shared->sent = false;
    return share(L, st);
}

/* True when the cache may have caused the error: statements share a connection only when they are prepared
 * there. Not with an unknown outcome: the server broke down after the statement, and may have committed
 * it. */
static bool may_be_stale(const struct error *e)
{
    if (e->outcome != OUTCOME_FAILED)
        return false;
    return pg_statement_is_of_cache(e) ||
           pg_stale_is_suspect(e->field[ERROR_SQLSTATE], e->field[ERROR_DATATYPE] != NULL);
}

static int shared_failed(lua_State *L, struct pg_statement *st)
{
    if (!st->shared->alone && may_be_stale(&st->shared->error))
        return share_again(L, st);
    error_move(&st->error, &st->shared->error);
    pg_error_of_statement(&st->error, lua_tostring(L, 2));
    return pg_statement_raise(L, st);
}

/* Called when the statement has ended or has got a connection alone, or when its wait timed out or was
 * cancelled. */
int pg_statement_shared(lua_State *L, struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    struct pg_shared *s = st->shared;
    switch (wait_end(e->rt->sched)) {
    case WAIT_CANCELLED:
        return pg_statement_raise_cancelled(L, st, s->sent ? OUTCOME_UNKNOWN : OUTCOME_NOT_SENT);
    case WAIT_TIMEOUT:
        if (!s->sent)
            return pg_statement_checkout_failed(L, st, POOL_WAITING);
        pg_error_late(&st->error, "the statement did not end", e->command_timeout);
        st->error.outcome = OUTCOME_UNKNOWN;
        error_set_field(&st->error, ERROR_STATEMENT, lua_tostring(L, 2));
        return pg_statement_raise(L, st);
    default:
        break;
    }
    if (s->link) {
        st->link = s->link;
        st->shared = NULL;
        pg_shared_free(e->mux, s);
        if (st->began)
            pg_log_waited(L, st, false);
        return pg_statement_leased(L, st);
    }
    pg_notices_tell_shared(L, e);
    if (error_is_set(&s->error))
        return shared_failed(L, st);
    st->result = s->result;
    s->result = NULL;
    if (st->began)
        pg_log_statement(L, st);
    if (pg_result_has_meta(st->shape))
        pg_result_meta(L, &e->decoder, st->result);
    if (st->shape == RESULT_ONE)
        pg_result_check_one(L, e->rt, st->result, false);
    int n = pg_result_push(L, &e->decoder, st->result, st->shape, st->form);
    pg_statement_clean(st);
    return n;
}
