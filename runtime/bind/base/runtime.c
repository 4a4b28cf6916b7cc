#include "bind/base/runtime.h"

#include <string.h>

static char registry_key; /* its address is the key; it holds nothing */

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

void bind_class(lua_State *L, struct runtime *rt, const char *tname, const luaL_Reg *meta,
                const luaL_Reg *methods)
{
    luaL_newmetatable(L, tname);
    if (meta) {
        lua_pushlightuserdata(L, rt);
        luaL_setfuncs(L, meta, 1);
    }
    if (methods) {
        bind_lib(L, rt, methods);
        lua_setfield(L, -2, "__index");
    }
}

bool bind_is_collected(lua_State *L)
{
    lua_Debug ar;
    return lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) && ar.name && strcmp(ar.name, "__gc") == 0 &&
           strcmp(ar.namewhat, "metamethod") == 0;
}
