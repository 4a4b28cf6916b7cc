/*
 * One statement of one task, from checkout to result. It is one C function with one yield: the stages below
 * are the points where it can be resumed. Stack: 1 = engine or lease, 2 = SQL, 3.. = parameters, then the
 * statement.
 *
 *   ACQUIRED  the pool has answered                     -> it is sent, or raises
 *   CONNECTED on_connect has run on the new connection  -> it is sent, or raises
 *   DRAINED   the lease's cancelled statement ended     -> it is sent
 *   SHARED    it has run on a shared connection, or has one for itself and is sent
 *   REPLY     sent: the connection goes back, the result becomes Lua values (or the error is raised)
 */
#include "bind/pg/query.h"
#include "bind/base/args.h"
#include "bind/base/error.h"

#include "base/deadline.h"
#include "bind/pg/named.h"
#include "bind/pg/params.h"
#include "bind/pg/stale.h"
#include "bind/pg/statement_log.h"
#include "bind/pg/stream.h"

#include <string.h>

/* ---- the stages ---- */

static int next_stage(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_statement *st = (struct pg_statement *)ctx;
    bool parked = status == LUA_YIELD;
    switch (st->stage) {
    case STAGE_SHARED:
        return pg_statement_shared(L, st);
    case STAGE_ACQUIRED:
        return pg_statement_checked_out(L, st, parked);
    case STAGE_CONNECTED:
        return pg_statement_connected(L, st, status);
    case STAGE_DRAINED:
        return pg_statement_drained(L, st);
    case STAGE_REPLY:
        return pg_statement_replied(L, st, parked);
    case STAGE_IDLE:
        break;
    }
    return luaL_error(L, "dbrun: a statement was resumed that is not running");
}

/* ---- entering ---- */

/* The first stage of a statement. */
static int enter(lua_State *L, struct pg_statement *st)
{
    if (!st->lease) {
        if (st->engine->mux && !st->stream && !st->acquire_only && !st->simple)
            return pg_statement_share(L, st);
        return pg_statement_checkout(L, st);
    }
    st->link = st->lease->link;
    if (pg_link_is_draining(st->link)) {
        st->stage = STAGE_DRAINED;
        return pg_link_wait_drained(L, st->link, (lua_KContext)st, st->k);
    }
    return pg_statement_send(L, st);
}

static const char *class_of(const struct pg_lease *lease)
{
    return lease ? PG_LEASE_CLASS : PG_ENGINE_CLASS;
}

static void check_sql(lua_State *L, struct runtime *rt, const struct pg_lease *lease)
{
    size_t len;
    if (lua_type(L, 2) != LUA_TSTRING)
        bind_check_type(L, class_of(lease), 2, "the SQL", LUA_TSTRING);
    const char *sql = lua_tolstring(L, 2, &len);
    if (memchr(sql, 0, len))
        bind_fail(L, rt, ERROR_USAGE, "the SQL contains a NUL byte");
    if (len > PG_SQL_MAX)
        bind_fail(L, rt, ERROR_USAGE, "the SQL is 1 GiB long, which PostgreSQL does not take");
}

/* Raises for a closed engine or a released lease. Their types were checked on entry. */
static struct pg_engine *engine_now(lua_State *L, struct pg_lease *lease)
{
    if (lease)
        return lease->link ? lease->engine : pg_lease_check(L)->engine;
    const struct pg_engine_box *box = lua_touserdata(L, 1);
    return box->e ? box->e : pg_engine_check(L);
}

/* Raises unless the caller can wait and the leased connection is free. The last check, after all allocation:
 * code of the script that ran until then (a finaliser, or a parameter's metamethod) may have done anything,
 * even closed the engine. */
static struct pg_engine *check_turn(lua_State *L, struct pg_lease *lease)
{
    struct pg_engine *e = engine_now(L, lease);
    if (!e->sync)
        task_check_park(L, e->rt->sched);
    if (!lease)
        return e;
    pg_lease_check_free(L, lease);
    if (lease->link->m.state == PG_COPY_IN)
        bind_fail(L, e->rt, ERROR_USAGE, "this connection is in the middle of a COPY");
    return e;
}

/* The task's statement on this engine or lease, pushed. Nothing may allocate from here to `enter`. */
static struct pg_statement *begin(lua_State *L, struct runtime *rt, struct pg_lease *lease)
{
    struct pg_statement *st = pg_statement_take(L, rt);
    st->engine = check_turn(L, lease);
    st->lease = lease;
    st->k = next_stage;
    st->began = pg_statement_is_told(rt) ? mono_now() : 0;
    if (st->began)
        pg_log_begun(st);
    pg_engine_ref(st->engine); /* the engine may be closed while the statement waits */
    return st;
}

/* ---- parameters that are encoded by their types ---- */

/* What to run once the parameters are encoded. */
enum { GOAL_LEASE = 16, GOAL_ROWS = 32, GOAL_FORM = 64 };

static int run(lua_State *L, struct runtime *rt, struct pg_lease *lease, int nparams, int goal)
{
    struct pg_stream *stream = goal & GOAL_ROWS ? pg_stream_new(L) : NULL;
    struct pg_statement *st = begin(L, rt, lease);
    st->nparams = nparams;
    st->stream = stream;
    st->form = (unsigned)goal / GOAL_FORM;
    if (!stream)
        st->shape = (enum pg_result_shape)(goal & (GOAL_LEASE - 1));
    return enter(L, st);
}

static int written_k(lua_State *L, int status, lua_KContext ctx)
{
    struct runtime *rt = bind_runtime(L);
    int nparams = lua_gettop(L) - 2;
    (void)status;
    if (pg_params_check(L, rt, 3, nparams, 2))
        return bind_fail(L, rt, ERROR_USAGE, "a table was left among the parameters");
    pg_named_settle(L);
    return run(L, rt, ctx & GOAL_LEASE ? lua_touserdata(L, 1) : NULL, nparams, (int)ctx);
}

/* Stack: 1 = engine or lease, 2 = SQL or its plan, then the parameters, which the results of the function
 * replace. */
static int write_values(lua_State *L, int nparams, int goal)
{
    luaL_checkstack(L, nparams + 8, "too many parameters");
    lua_getfield(L, LUA_REGISTRYINDEX, PG_WRITE_VALUES);
    lua_insert(L, 3);
    lua_pushvalue(L, 1);
    lua_insert(L, 4);
    lua_pushvalue(L, 2);
    lua_insert(L, 5);
    lua_callk(L, nparams + 2, LUA_MULTRET, goal, written_k);
    return written_k(L, LUA_OK, goal);
}

/* Removes the options that may precede the SQL, at 2, from the stack. */
static int take_form(lua_State *L, const struct pg_lease *lease)
{
    luaL_checkstack(L, 4, "too many parameters");
    lua_getfield(L, LUA_REGISTRYINDEX, PG_CHECK_OPTIONS);
    bind_push_name(L, class_of(lease));
    lua_pushvalue(L, 2);
    lua_call(L, 2, 2);
    int form = (lua_toboolean(L, -2) ? FORM_POSITIONAL : 0) | (lua_toboolean(L, -1) ? FORM_TEXT : 0);
    lua_pop(L, 2);
    lua_remove(L, 2);
    return form * GOAL_FORM;
}

/* Checks the SQL and the parameters from 3 on, and runs the statement. */
static int check_and_run(lua_State *L, struct pg_lease *lease, int goal)
{
    struct runtime *rt = bind_runtime(L);
    if (lua_istable(L, 2))
        goal |= take_form(L, lease);
    check_sql(L, rt, lease);
    int nparams = lua_gettop(L) - 2;
    if (nparams == 1 && lua_istable(L, 3) && !pg_param_is_wrapped(L, 3))
        nparams = pg_named_expand(L, rt);
    bool unwritten = pg_params_check(L, rt, 3, nparams, 2);
    if (nparams > 0 && (unwritten || engine_now(L, lease)->typed_values))
        return write_values(L, nparams, goal | (lease ? GOAL_LEASE : 0));
    pg_named_settle(L);
    return run(L, rt, lease, nparams, goal);
}

int pg_query(lua_State *L, struct pg_lease *lease, enum pg_result_shape shape)
{
    return check_and_run(L, lease, (int)shape);
}

int pg_describe(lua_State *L, struct pg_lease *lease)
{
    struct runtime *rt = bind_runtime(L);
    check_sql(L, rt, lease);
    lua_settop(L, 2);
    struct pg_statement *st = begin(L, rt, lease);
    st->describe_only = true;
    st->shape = RESULT_WHOLE;
    return enter(L, st);
}

int pg_is_stale(lua_State *L, struct pg_lease *lease)
{
    struct runtime *rt = bind_runtime(L);
    check_sql(L, rt, lease);
    if (!lua_isnoneornil(L, 3))
        bind_check_type(L, PG_LEASE_CLASS, 3, "the SQLSTATE", LUA_TSTRING);
    if (!pg_stale_is_suspect(lua_tostring(L, 3), !lua_isnoneornil(L, 4)))
        return 0;
    lua_settop(L, 2);
    struct pg_statement *st = begin(L, rt, lease);
    st->stale_only = true;
    return enter(L, st);
}

int pg_rows(lua_State *L, struct pg_lease *lease)
{
    return check_and_run(L, lease, GOAL_ROWS);
}

int pg_script(lua_State *L, struct pg_lease *lease)
{
    struct runtime *rt = bind_runtime(L);
    check_sql(L, rt, lease);
    if (lua_gettop(L) > 2)
        return bind_fail(L, rt, ERROR_USAGE, "exec takes no parameters: use query");
    struct pg_statement *st = begin(L, rt, lease);
    st->simple = true;
    st->shape = RESULT_AFFECTED;
    return enter(L, st);
}

int pg_acquire(lua_State *L)
{
    lua_settop(L, 1);
    struct pg_engine *e = engine_now(L, NULL);
    bool waits = !pool_has_idle(e->pool);
    struct pg_lease *lease = pg_lease_new(L, waits);
    e = check_turn(L, NULL);
    if (pg_lease_take(L, lease, e))
        return 1;
    if (waits && pg_lease_may_wait(e))
        return pg_lease_checkout(L, lease, e);
    struct pg_statement *st = begin(L, bind_runtime(L), NULL);
    lease->engine = st->engine;
    st->acquire_only = true;
    return enter(L, st);
}
