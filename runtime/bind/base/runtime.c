#include "bind/base/runtime.h"

#include <string.h>

static char registry_key; /* only its address is used, as the key */

struct runtime *bind_find(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    struct runtime *rt = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return rt;
}

void bind_keep(lua_State *L)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
}

void bind_lib(lua_State *L, struct runtime *rt, const luaL_Reg *fns)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, rt);
    luaL_setfuncs(L, fns, 1);
}

lua_CFunction bind_replace(lua_State *L, struct runtime *rt, const char *name, lua_CFunction by)
{
    lua_getfield(L, -1, name);
    lua_CFunction before = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, by, 1);
    lua_setfield(L, -2, name);
    return before;
}

/* Sets the functions in the table on top of the stack; the metatable is at `metatable`. */
static void set_methods(lua_State *L, struct runtime *rt, const luaL_Reg *fns, int metatable)
{
    lua_pushlightuserdata(L, rt);
    lua_pushvalue(L, metatable);
    luaL_setfuncs(L, fns, 2);
}

void bind_class(lua_State *L, struct runtime *rt, const char *tname, const luaL_Reg *meta,
                const luaL_Reg *methods)
{
    luaL_newmetatable(L, tname);
    int metatable = lua_gettop(L);
    if (meta)
        set_methods(L, rt, meta, metatable);
    if (methods) {
        lua_newtable(L);
        set_methods(L, rt, methods, metatable);
        lua_setfield(L, metatable, "__index");
    }
}

bool bind_is_collected(lua_State *L)
{
    lua_Debug ar;
    return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name && strcmp(ar.name, "__gc") == 0 &&
           strcmp(ar.namewhat, "metamethod") == 0;
}
