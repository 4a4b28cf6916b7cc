#include "host/children.h"

#include <lauxlib.h>
#include <lualib.h>

static struct {
    lua_CFunction execute, popen;
} stock;

static const char execute_key, popen_key;

/* Calls the replacement of the stock function. */
static int call(lua_State *L, const char *key, lua_CFunction stock_function)
{
    luaL_checkstack(L, 1, NULL);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        return stock_function(L);
    }
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int os_execute(lua_State *L)
{
    return call(L, &execute_key, stock.execute);
}

static int io_popen(lua_State *L)
{
    return call(L, &popen_key, stock.popen);
}

/* core.children(execute, popen) -> os.execute, io.popen: replaces os.execute and io.popen by these functions,
 * and returns the stock ones. */
static int core_children(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &popen_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &execute_key);
    lua_pushcfunction(L, stock.execute);
    lua_pushcfunction(L, stock.popen);
    return 2;
}

void children_install(lua_State *L, struct runtime *rt)
{
    lua_pushcfunction(L, core_children);
    lua_setfield(L, -2, "children");
    lua_getglobal(L, LUA_OSLIBNAME);
    stock.execute = bind_replace(L, rt, "execute", os_execute);
    lua_getglobal(L, LUA_IOLIBNAME);
    stock.popen = bind_replace(L, rt, "popen", io_popen);
    lua_pop(L, 2);
}
