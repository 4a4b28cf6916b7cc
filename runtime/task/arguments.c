/* Checks of arguments from scripts, with the wording of lua/dbrun/args.lua. */
#include "task/impl.h"

#include <lauxlib.h>

/* The argument as an error names it. A string is named only by its type, because it may be a secret. */
static const char *got(lua_State *L, int arg)
{
    switch (lua_type(L, arg)) {
    case LUA_TNONE:
    case LUA_TNIL:
        return "nil";
    case LUA_TBOOLEAN:
        return lua_toboolean(L, arg) ? "true" : "false";
    case LUA_TNUMBER:
        lua_pushvalue(L, arg);
        return lua_tostring(L, -1);
    case LUA_TUSERDATA:
    case LUA_TLIGHTUSERDATA:
        return "an object";
    case LUA_TTHREAD:
        return "a coroutine";
    default:
        return lua_pushfstring(L, "a %s", luaL_typename(L, arg));
    }
}

void arg_function(lua_State *L, int arg, const char *fn)
{
    if (lua_type(L, arg) != LUA_TFUNCTION)
        sched_usage(L, sched_upvalue(L), "%s: the function to call must be a function, got %s", fn,
                    got(L, arg));
}

void arg_callable(lua_State *L, int arg, const char *fn)
{
    if (lua_type(L, arg) == LUA_TFUNCTION)
        return;
    if (!luaL_getmetafield(L, arg, "__call"))
        arg_function(L, arg, fn);
    lua_pop(L, 1);
}

lua_Number arg_seconds(lua_State *L, int arg, const char *fn)
{
    lua_Number seconds = lua_type(L, arg) == LUA_TNUMBER ? lua_tonumber(L, arg) : -1;
    if (!(seconds >= 0))
        sched_usage(L, sched_upvalue(L), "%s: seconds must be a number of seconds of at least 0, got %s", fn,
                    got(L, arg));
    return seconds;
}

void *arg_self(lua_State *L, const char *class, const char *method)
{
    void *self = luaL_testudata(L, 1, class);
    if (!self)
        sched_usage(L, sched_upvalue(L), "%s is called with ':' on its object, got %s", method, got(L, 1));
    return self;
}
