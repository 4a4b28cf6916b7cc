/* The traceback of the last error that a task raised, and the report of a task that failed. */
#include "task/impl.h"

#include <lauxlib.h>
#include <string.h>

bool traceback_is_cancelled(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_pushliteral(L, "kind");
    lua_rawget(L, -2);
    const char *kind = lua_tostring(L, -1);
    bool is = kind && strcmp(kind, "cancelled") == 0;
    lua_pop(L, 1);
    return is;
}

/* Ignores cancellations, because most of them follow from the error whose traceback is wanted. */
int sched_note_error(lua_State *L, struct sched *s)
{
    if (traceback_is_cancelled(L))
        return 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_error);
    bool again = lua_rawequal(L, -1, 1); /* the same error raised again: keep the first traceback */
    lua_pop(L, 1);
    if (again)
        return 1;
    luaL_traceback(L, L, NULL, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->last_traceback);
    lua_pushvalue(L, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->last_error);
    return 1;
}

bool sched_push_traceback(lua_State *L, struct sched *s, int index)
{
    index = lua_absindex(L, index);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_error);
    bool known = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (known)
        lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_traceback);
    return known;
}

static int note(lua_State *L)
{
    return sched_note_error(L, sched_upvalue(L));
}

void sched_push_handler(lua_State *L, struct sched *s)
{
    lua_pushlightuserdata(L, s);
    lua_pushcclosure(L, note, 1);
}

void traceback_attach(lua_State *L, struct sched *s)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_error);
    bool known = lua_rawequal(L, -1, -2);
    lua_pop(L, 1);
    if (!known)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_traceback);
    if (lua_type(L, -2) == LUA_TSTRING || lua_type(L, -2) == LUA_TNUMBER) {
        lua_pushfstring(L, "%s\n%s", lua_tostring(L, -2), lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
        return;
    }
    if (lua_istable(L, -2)) {
        lua_pushliteral(L, "traceback");
        lua_insert(L, -2);
        lua_rawset(L, -3);
        return;
    }
    lua_pop(L, 1);
}

void sched_on_failure(struct sched *s, void (*fn)(lua_State *L, void *data), void *data)
{
    s->on_failure = fn;
    s->on_failure_data = data;
}

bool sched_report_failure(lua_State *L, struct sched *s)
{
    if (!s->on_failure || s->interrupt_reason)
        return false;
    luaL_checkstack(L, 16, NULL);
    traceback_attach(L, s);
    s->on_failure(L, s->on_failure_data);
    return true;
}
