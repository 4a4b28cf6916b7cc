/* Takes dedicated connections, and makes handles with one deadline for all steps of a call. */
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/redis/command_trace.h"
#include "bind/redis/handle.h"

#include "base/deadline.h"

#include <math.h>

/* ---- taking a dedicated connection ---- */

static int raise_no_connection(lua_State *L, struct redis_session *s, enum pool_settle why, double waited)
{
    struct error e = {0};
    if (why == POOL_FAILED)
        error_move(&e, &s->waiter.error);
    else
        redis_pool_explain(s->pool, why, waited, &e);
    s->closed = true;
    redis_session_judge(s);
    return bind_error_raise(L, s->rt, &e);
}

/* Raises: no connection came within the time limit of the command that waited for it. */
static int raise_late(lua_State *L, const struct redis_handle *h, double waited, const char *what)
{
    struct redis_session *s = h->session;
    struct pool_stats stats;
    pool_stats(s->pool->pool, &stats);
    if (stats.opening == 0) /* all are in use: the error names the holders */
        return raise_no_connection(L, s, POOL_WAITING, waited);
    s->closed = true;
    redis_session_judge(s);
    return redis_raise_timeout(L, s, OUTCOME_NOT_SENT, what);
}

static void acquire_abandoned(struct wait *w)
{
    struct redis_session *s = w->data;
    redis_session_give_up(s, true);
}

static void log_waited(lua_State *L, const struct redis_session *s)
{
    char where[SCRIPT_WHERE] = "?";
    script_where(L, 1, where, sizeof where);
    log_write(s->rt->log, LOG_LEVEL_DEBUG, "redis: waited for a connection at %s", where);
}

/* The kind of the failure, for the trace; NULL: there is a connection. */
static const char *kind_of(const struct redis_session *s, enum wait_status how)
{
    if (how != WAIT_DONE)
        return error_kind_name(how == WAIT_TIMEOUT ? ERROR_TIMEOUT : ERROR_CANCELLED);
    if (s->waiter.result == POOL_FAILED)
        return error_kind_name(s->waiter.error.kind);
    return s->waiter.result == POOL_GRANTED ? NULL : error_kind_name(ERROR_POOL);
}

static int acquired(lua_State *L, int status, lua_KContext ctx)
{
    struct redis_handle *h = lua_touserdata(L, 2);
    (void)status;
    double waited = lua_tonumber(L, 4);
    enum wait_status how = wait_end(h->session->rt->sched);
    if (h->session->rt->trace)
        redis_trace_waited(L, h->session->rt, (struct wait *)ctx, kind_of(h->session, how));
    switch (how) {
    case WAIT_CANCELLED:
        return task_raise_cancelled(L, h->session->rt->sched);
    case WAIT_TIMEOUT:
        if (!lua_isnil(L, 3))
            return raise_late(L, h, waited, lua_tostring(L, 3));
        return raise_no_connection(L, h->session, POOL_WAITING, waited);
    default:
        if (log_wants(h->session->rt->log, LOG_LEVEL_DEBUG))
            log_waited(L, h->session);
        if (h->session->waiter.result != POOL_GRANTED)
            return raise_no_connection(L, h->session, h->session->waiter.result, waited);
        redis_session_attach(h->session);
        lua_settop(L, 2);
        return 1;
    }
}

/* For messages: rounded to milliseconds. */
static lua_Number seconds_until(uint64_t stop)
{
    uint64_t now = mono_now();
    if (stop == DEADLINE_NEVER)
        return HUGE_VAL;
    return stop > now ? round((lua_Number)(stop - now) / (lua_Number)NS_PER_MS) / 1000 : 0;
}

/* Stack: 1 = the client; 2 = what needs the connection, within the client's time limit for commands, or nil
 * for the script itself, within the pool's time limit. */
static int acquire(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    lua_settop(L, 2);
    struct redis_handle *h = redis_push_handle(L, REDIS_CONN_CLASS);
    lua_insert(L, 2);
    const struct redis_handle *from = redis_check_handle(L, 1);
    struct redis_session *shared = from->session;
    task_check_park(L, rt->sched);
    bool own = lua_isnil(L, 3);
    if (redis_is_over(from))
        return redis_raise_over(L, shared, own ? "the request for a connection" : lua_tostring(L, 3));
    h->timeout = from->timeout;
    h->typed = from->typed;
    if (!own)
        h->until = from->until;
    h->session = redis_session_new(rt, shared->pool, false);
    if (!h->session)
        return luaL_error(L, "not enough memory");
    script_place(L, 1, &h->session->place);
    uint64_t limit = deadline_in(shared->pool->timeout);
    uint64_t stop = own ? from->until : redis_handle_deadline(from, -1);
    if (own || stop >= limit) {
        lua_pushnil(L);
        lua_replace(L, 3);
    }
    stop = deadline_min(stop, limit);
    lua_pushnumber(L, seconds_until(stop));
    struct wait *w = wait_begin(rt->sched, stop, acquire_abandoned, h->session);
    if (rt->trace)
        w->span = task_span(rt->sched, mono_now());
    enum pool_settle result = redis_session_acquire(h->session, w, task_owner(rt->sched));
    if (result != POOL_WAITING)
        wait_wake(w);
    else
        redis_session_make_way(shared->pool);
    return wait_park(L, w, (lua_KContext)w, acquired);
}

int redis_acquire__own(lua_State *L)
{
    bind_self(L, REDIS_CLIENT_CLASS);
    bind_check_none(L, REDIS_CLIENT_CLASS);
    return acquire(L);
}

int redis_acquire__within(lua_State *L)
{
    bind_self(L, REDIS_CLIENT_CLASS);
    luaL_checkstring(L, 2);
    return acquire(L);
}

/* ---- one deadline for several commands ---- */

static lua_Number seconds_of(uint64_t deadline)
{
    return deadline == DEADLINE_NEVER ? HUGE_VAL : (lua_Number)deadline / (lua_Number)NS_PER_S;
}

int redis_acquire__until(lua_State *L)
{
    bool dedicated = luaL_testudata(L, 1, REDIS_CONN_CLASS);
    /* A lost connection is no error here: the command that follows reports it. */
    struct redis_handle *from = dedicated ? lua_touserdata(L, 1) : redis_check_handle(L, 1);
    uint64_t stop =
        lua_isnoneornil(L, 2) ? redis_handle_deadline(from, -1) : duration_ns(luaL_checknumber(L, 2));
    if (dedicated) {
        from->until = stop;
        lua_pushvalue(L, 1);
    } else {
        redis_push_until(L, from, stop);
    }
    lua_pushnumber(L, seconds_of(stop));
    return 2;
}
