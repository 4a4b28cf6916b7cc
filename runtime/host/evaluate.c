#include "host/evaluate.h"

#include "host/signals.h"

#include <string.h>

/* The stack level of the method's frame; -1: none. */
static int level_of(lua_State *L, lua_CFunction method)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "f", &ar);
        bool found = lua_tocfunction(L, -1) == method;
        lua_pop(L, 1);
        if (found)
            return level;
    }
    return -1;
}

/* Pushes the text with a traceback, as in lua: without the frames of the prompt at its end. */
static void push_traceback(lua_State *L, const char *text, lua_CFunction method)
{
    static const char title[] = "stack traceback:";
    int level = level_of(L, method);
    size_t len, own;
    luaL_traceback(L, L, text, 1);
    if (level < 0)
        return;
    luaL_traceback(L, L, NULL, level);
    const char *all = lua_tolstring(L, -2, &len);
    const char *below = lua_tolstring(L, -1, &own) + sizeof title - 1;
    own -= sizeof title - 1;
    if (len < own || memcmp(all + len - own, below, own) != 0) {
        lua_pop(L, 1);
        return;
    }
    lua_pushlstring(L, all, len - own);
    lua_pushliteral(L, "\n\t[C]: in ?");
    lua_concat(L, 2);
}

/* As in lua: a string gets the traceback, an object with __tostring stays unchanged. */
static int handle_message(lua_State *L)
{
    const char *text = lua_tostring(L, 1);
    if (text == NULL) {
        if (report_is_kind(L, 1, NULL))
            return 1;
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
            return 1;
        text = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    }
    const struct evaluation *e = lua_touserdata(L, lua_upvalueindex(1));
    push_traceback(L, text, e->method);
    return 1;
}

/* Stack: the object, the handler, the stretch, then the results or the error. */
enum { AT_HANDLER = 2, AT_STRETCH };

static int take_results(lua_State *L, struct evaluation *e, int status)
{
    struct sched *s = e->host->rt->sched;
    bool cancelled = stretch_was_cancelled(e->stretch);
    stretch_leave(e->stretch);
    e->stretch = NULL;
    signals_typed(false);
    if (sched_interrupted(s))
        return sched_raise_interrupted(L, s);
    bool ok = status == LUA_OK || status == LUA_YIELD;
    lua_pushboolean(L, ok);
    lua_replace(L, AT_STRETCH);
    if (!ok)
        lua_pushboolean(L, cancelled && report_is_kind(L, -1, "cancelled"));
    return lua_gettop(L) - AT_HANDLER;
}

static int evaluate_k(lua_State *L, int status, lua_KContext ctx)
{
    return take_results(L, (struct evaluation *)ctx, status);
}

/* True for code that was typed, false for the prompt's own functions, which must be able to clean up. */
static bool was_typed(lua_State *L, int index)
{
    lua_Debug ar;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">S", &ar);
    return strcmp(ar.source, "=stdin") == 0;
}

int evaluate(lua_State *L, struct evaluation *e)
{
    if (evaluate_is_running(e))
        return luaL_error(L, "the terminal evaluates already");
    bool is_typed = lua_isfunction(L, AT_HANDLER) && was_typed(L, AT_HANDLER);
    lua_pushlightuserdata(L, e);
    lua_pushcclosure(L, handle_message, 1);
    lua_insert(L, AT_HANDLER);
    e->stretch = stretch_enter(L, e->host->rt->sched);
    e->L = L;
    signals_typed(is_typed);
    lua_insert(L, AT_STRETCH);
    int nargs = lua_gettop(L) - AT_STRETCH - 1;
    return take_results(L, e, lua_pcallk(L, nargs, LUA_MULTRET, AT_HANDLER, (lua_KContext)e, evaluate_k));
}

bool evaluate_is_running(const struct evaluation *e)
{
    return e->stretch != NULL;
}

void evaluate_cancel(struct evaluation *e)
{
    signals_insist(e->L);
    stretch_cancel(e->stretch);
}
