/*
 * Lua's coroutine library, transparent for tasks: when a task parks inside a coroutine that the script
 * made (a generator that queries), the yield passes up through resume and wrap to the scheduler, and the
 * wake passes down the same way. The script sees ordinary Lua coroutines. As in a stock lua, the script
 * itself is "the main thread": it cannot yield, and coroutine.running returns true for it.
 *
 * Only the scheduler may resume what it parked. A task's own coroutine, and each coroutine that a task is
 * parked in, has a mark in its extra space; scripts can neither resume nor close such a coroutine. A
 * coroutine is never reused for another task, because scripts identify coroutines by address and a hook stays
 * with its coroutine. When the task has ended, another mark says that its coroutine is dead.
 */
#include "task/impl.h"

#include <lauxlib.h>

/* The mark is the scheduler's address, or for a dead coroutine the address of a field of it. (Coroutines
 * older than the scheduler have undefined content there, but never these addresses.) */
static void **mark_of(lua_State *co)
{
    return lua_getextraspace(co);
}

static bool is_marked(lua_State *co, const struct sched *s)
{
    return *mark_of(co) == s;
}

void coroutine_mark(lua_State *co, struct sched *s)
{
    *mark_of(co) = s;
}

void coroutine_mark_dead(lua_State *co, struct sched *s)
{
    *mark_of(co) = &s->dead;
}

static bool is_marked_dead(lua_State *co, const struct sched *s)
{
    return *mark_of(co) == &s->dead;
}

static lua_State *check_thread(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

/* Moves the results of `co` to L and returns their number, or -1 for an error. */
static int take_results(lua_State *L, lua_State *co, int status, int nres)
{
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, nres + 1)) {
        lua_pop(co, nres);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, nres);
    return nres;
}

/* Resumes `co` with `narg` values from L's top; parks L when the task inside parked. Leaves the values
 * that came back on L. >= 0: their number; -1: an error, its value is on top; -2: parked. */
static int resume_inner(lua_State *L, struct sched *s, lua_State *co, int narg)
{
    int nres;
    lua_State *running = s->running;
    /* Where L cannot yield, `co` cannot park, because the yield would pass through L. (The main thread of
     * a stock lua5.4 never yields; its waits run the loop.) */
    uint32_t blocked = s->current != &s->main_task && !lua_isyieldable(L);
    if (!lua_checkstack(co, narg)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, narg);
    if (lua_status(co) == LUA_YIELD)
        scopes_bring_back(s, co);
    else
        scopes_disown(s, co); /* older scopes with its address: of a collected coroutine */
    s->running = co;
    if (s->on_resume) {
        s->on_resume(L);
        s->on_resume(co);
    }
    s->blocked += blocked;
    int status = lua_resume(co, L, narg, &nres);
    s->blocked -= blocked;
    s->running = running;
    if (status == LUA_YIELD && s->parking) {
        coroutine_mark(co, s);
        return -2;
    }
    if (status == LUA_YIELD)
        scopes_put_aside(s, co);
    else
        scopes_disown(s, co);
    return take_results(L, co, status, nres);
}

/* The first resume, by the script. */
static int resume_first(lua_State *L, struct sched *s, lua_State *co, int narg)
{
    lua_Debug ar;
    if (is_marked_dead(co, s)) {
        lua_pushliteral(L, "cannot resume dead coroutine");
        return -1;
    }
    if (is_marked(co, s) || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar))) {
        lua_pushliteral(L, "cannot resume non-suspended coroutine");
        return -1;
    }
    return resume_inner(L, s, co, narg);
}

/* A resume by the scheduler after a park. */
static int resume_again(lua_State *L, struct sched *s, lua_State *co)
{
    *mark_of(co) = NULL;
    return resume_inner(L, s, co, 0);
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
    int n = resume_again(L, s, (lua_State *)ctx);
    return n == -2 ? lua_yieldk(L, 0, ctx, resume_k) : resume_finish(L, n);
}

static int co_resume(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_State *co = check_thread(L);
    int n = resume_first(L, s, co, lua_gettop(L) - 1);
    return n == -2 ? lua_yieldk(L, 0, (lua_KContext)co, resume_k) : resume_finish(L, n);
}

/* Closes the variables of a coroutine from outside, so their __close cannot wait. */
static int reset(struct sched *s, lua_State *co)
{
    uint32_t blocked = s->current != &s->main_task;
    s->blocked += blocked;
    int status = lua_resetthread(co);
    s->blocked -= blocked;
    return status;
}

/* As lua's auxwrap: puts the position of the caller in front of the error of a coroutine that died. */
static int wrap_finish(lua_State *L, struct sched *s, lua_State *co, int n)
{
    if (n >= 0)
        return n;
    int status = is_marked(co, s) ? LUA_OK : lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) { /* an error inside: close its variables */
        status = reset(s, co);
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
    struct sched *s = sched_upvalue(L);
    lua_State *co = (lua_State *)ctx;
    int n = resume_again(L, s, co);
    return n == -2 ? lua_yieldk(L, 0, ctx, wrap_k) : wrap_finish(L, s, co, n);
}

static int wrap_call(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_State *co = lua_tothread(L, lua_upvalueindex(2));
    int n = resume_first(L, s, co, lua_gettop(L));
    return n == -2 ? lua_yieldk(L, 0, (lua_KContext)co, wrap_k) : wrap_finish(L, s, co, n);
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

/* As lua's auxstatus, except that a coroutine which a task is parked in is "normal". */
static const char *status_of(lua_State *L, const struct sched *s, lua_State *co)
{
    lua_Debug ar;
    if (L == co)
        return "running";
    if (is_marked(co, s))
        return "normal";
    if (is_marked_dead(co, s))
        return "dead";
    if (lua_status(co) == LUA_YIELD)
        return "suspended";
    if (lua_status(co) != LUA_OK)
        return "dead";
    if (lua_getstack(co, 0, &ar))
        return "normal";
    return lua_gettop(co) == 0 ? "dead" : "suspended";
}

static int co_status(lua_State *L)
{
    lua_State *co = check_thread(L);
    lua_pushstring(L, status_of(L, sched_upvalue(L), co));
    return 1;
}

static int co_close(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_State *co = check_thread(L);
    const char *status = status_of(L, s, co);
    if (*status != 's' && *status != 'd')
        return luaL_error(L, "cannot close a %s coroutine", status);
    /* A dead task has already closed its variables, and t:join() takes the results from its coroutine. */
    if (is_marked_dead(co, s) || reset(s, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
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
    static const luaL_Reg functions[] = {
        {"resume", co_resume},   {"wrap", co_wrap},     {"yield", co_yield }, {"isyieldable", co_isyieldable},
        {"running", co_running}, {"status", co_status}, {"close", co_close},  {NULL, NULL}};
    *mark_of(s->L) = NULL; /* new coroutines copy it */
    lua_getglobal(L, "coroutine");
    if (lua_istable(L, -1)) {
        lua_pushlightuserdata(L, s);
        luaL_setfuncs(L, functions, 1);
    }
    lua_pop(L, 1);
}
