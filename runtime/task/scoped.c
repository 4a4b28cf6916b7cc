/* Scopes around a function: task.timeout and task.shield; for C: the prompt's statement. */
#include "base/deadline.h"
#include "task/impl.h"

#include <lauxlib.h>
#include <string.h>

#define SCOPE_CLASS "dbrun.scope"

struct scope_box {
    struct scope scope;
    struct sched_timer timer;
    struct sched *sched;
};

static void scope_box_end(struct scope_box *b)
{
    scope_leave(&b->scope);
    if (b->sched)
        sched_timer_stop(b->sched, &b->timer);
}

static int scope_box_gc(lua_State *L)
{
    scope_box_end(luaL_checkudata(L, 1, SCOPE_CLASS));
    return 0;
}

static struct scope_box *scope_box_new(lua_State *L)
{
    struct scope_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, SCOPE_CLASS);
    return b;
}

static int scoped_k(lua_State *L, int status, lua_KContext ctx)
{
    scope_box_end((struct scope_box *)ctx);
    if (status != LUA_OK && status != LUA_YIELD)
        return lua_error(L);
    return lua_gettop(L) - 1; /* everything above the box */
}

/* Stack: box, function, arguments. */
static int run_scoped(lua_State *L, struct scope_box *b)
{
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, (lua_KContext)b, scoped_k);
    return scoped_k(L, status, (lua_KContext)b);
}

static void timeout_passed(struct sched_timer *t)
{
    struct scope_box *b = t->data;
    scope_fire(&b->scope, b->scope.reason);
}

static int run_timed(lua_State *L, const char *limit)
{
    struct sched *s = sched_upvalue(L);
    lua_Number seconds = arg_seconds(L, 1, "task.timeout");
    arg_callable(L, 2, "task.timeout");
    struct scope_box *b = scope_box_new(L);
    lua_replace(L, 1);
    scope_enter(s->current, L, &b->scope, SCOPE_TIMEOUT);
    b->scope.seconds = seconds;
    b->scope.reason = limit;
    b->sched = s;
    b->timer.fn = timeout_passed;
    b->timer.data = b;
    sched_timer_start(s, &b->timer, deadline_in(seconds));
    return run_scoped(L, b);
}

/* timeout(seconds, fn, ...) */
int scoped_timeout(lua_State *L)
{
    return run_timed(L, "task.timeout");
}

/* As timeout, for the option `timeout` of a transaction: the error names the transaction, because the script
 * has no task.timeout. */
int scoped_transaction(lua_State *L)
{
    return run_timed(L, "transaction");
}

/* shield(fn, ...): cancellations from outside wait until fn has returned. */
int scoped_shield(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    arg_callable(L, 1, "task.shield");
    struct scope_box *b = scope_box_new(L);
    lua_insert(L, 1);
    scope_enter(s->current, L, &b->scope, SCOPE_SHIELD);
    return run_scoped(L, b);
}

/* ---- for C ---- */

struct scope_box *stretch_enter(lua_State *L, struct sched *s)
{
    struct scope_box *b = scope_box_new(L);
    scope_enter(s->current, L, &b->scope, SCOPE_TASK);
    return b;
}

void stretch_leave(struct scope_box *b)
{
    scope_leave(&b->scope);
}

void stretch_cancel(struct scope_box *b)
{
    struct scope *sc = &b->scope;
    if (sc->delivered)
        sc->fired = sc->delivered = false;
    scope_fire(sc, "interrupted");
}

bool stretch_was_cancelled(const struct scope_box *b)
{
    return b->scope.delivered;
}

void scoped_class(lua_State *L)
{
    luaL_newmetatable(L, SCOPE_CLASS);
    lua_pushcfunction(L, scope_box_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
