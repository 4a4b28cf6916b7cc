/*
 * Lua's coroutine library, made transparent for tasks: when a task parks inside a coroutine of the
 * script's own (a generator that queries), the yield passes through resume and wrap up to the
 * scheduler, and the wake passes down the same way. The script sees plain Lua coroutines. And as in a
 * stock lua, the script itself is "the main thread": it cannot yield, and coroutine.running says so.
 */
#include "task/impl.h"

#include <lauxlib.h>

static lua_State *check_thread(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

/* Resumes `co` with `narg` values from L's top; parks L when the task inside parked. Leaves the values
 * that came back on L. >= 0: their number; -1: an error, its value is on top; -2: parked. */
static int resume_inner(lua_State *L, struct sched *s, lua_State *co, int narg)
{
    int nres;
    lua_State *running = s->running;
    if (!lua_checkstack(co, narg)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, narg);
    s->running = co;
    int status = lua_resume(co, L, narg, &nres);
    s->running = running;
    if (status == LUA_YIELD && s->parking)
        return -2;
    if (status == LUA_OK || status == LUA_YIELD) {
        if (!lua_checkstack(L, nres + 1)) {
            lua_pop(co, nres);
            lua_pushliteral(L, "too many results to resume");
            return -1;
        }
        lua_xmove(co, L, nres);
        return nres;
    }
    lua_xmove(co, L, 1);
    return -1;
}

static int resume_finish(lua_State *L, int n)
{
    lua_pushboolean(L, n >= 0);
    int count = n >= 0 ? n : 1;
    lua_insert(L, -(count + 1));
    return count + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct sched *s = sched_upvalue(L);
    int n = resume_inner(L, s, (lua_State *)ctx, 0);
    return n == -2 ? lua_yieldk(L, 0, ctx, resume_k) : resume_finish(L, n);
}

static int co_resume(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_State *co = check_thread(L);
    int n = resume_inner(L, s, co, lua_gettop(L) - 1);
    return n == -2 ? lua_yieldk(L, 0, (lua_KContext)co, resume_k) : resume_finish(L, n);
}

/* As lua's auxwrap: the error of a coroutine that died gets the position of the caller in front. */
static int wrap_finish(lua_State *L, lua_State *co, int n)
{
    if (n >= 0)
        return n;
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) { /* an error inside: close its variables */
        status = lua_resetthread(co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lua_State *co = (lua_State *)ctx;
    int n = resume_inner(L, sched_upvalue(L), co, 0);
    return n == -2 ? lua_yieldk(L, 0, ctx, wrap_k) : wrap_finish(L, co, n);
}

static int wrap_call(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(2));
    int n = resume_inner(L, sched_upvalue(L), co, lua_gettop(L));
    return n == -2 ? lua_yieldk(L, 0, (lua_KContext)co, wrap_k) : wrap_finish(L, co, n);
}

static int co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushlightuserdata(L, sched_upvalue(L));
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrap_call, 2);
    return 1;
}

static bool is_task_level(lua_State *L, struct sched *s)
{
    return s->current != &s->main_task && s->current->co == L;
}

static int co_yield (lua_State *L)
{
    if (is_task_level(L, sched_upvalue(L))) {
        lua_pushliteral(L, "attempt to yield from outside a coroutine"); /* as lua: without a position */
        return lua_error(L);
    }
    return lua_yield(L, lua_gettop(L));
}

static int co_isyieldable(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_State *co = lua_isnone(L, 1) ? L : check_thread(L);
    lua_pushboolean(L, lua_isyieldable(co) && !is_task_level(co, s));
    return 1;
}

static int co_running(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    int is_main = lua_pushthread(L);
    lua_pushboolean(L, is_main || (is_task_level(L, s) && s->current == s->root_task));
    return 2;
}

void coroutine_patch(lua_State *L, struct sched *s)
{
    static const luaL_Reg functions[] = {{"resume", co_resume},   {"wrap", co_wrap},
                                         {"yield", co_yield },    {"isyieldable", co_isyieldable},
                                         {"running", co_running}, {NULL, NULL}};
    lua_getglobal(L, "coroutine");
    if (lua_istable(L, -1)) {
        lua_pushlightuserdata(L, s);
        luaL_setfuncs(L, functions, 1);
    }
    lua_pop(L, 1);
}
