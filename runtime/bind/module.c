/* `require "dbrun.core"` in a stock lua5.4. In dbrun itself the host opens bind_core. */
#include "bind/core.h"
#include "task/where.h"

#include <lualib.h>
#include <string.h>

__attribute__((visibility("default"))) int luaopen_dbrun_core(lua_State *L);

/* Registers the folder of dbrun's own modules: where package.path finds dbrun.db. */
static void note_own_folder(lua_State *L)
{
    static const char file[] = "db.lua";
    int top = lua_gettop(L);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, LUA_LOADLIBNAME) == LUA_TTABLE && lua_getfield(L, -1, "path") == LUA_TSTRING &&
        lua_getfield(L, -2, "searchpath") == LUA_TFUNCTION) {
        lua_pushliteral(L, "dbrun.db");
        lua_pushvalue(L, -3);
        lua_call(L, 2, 1);
        size_t len;
        const char *path = lua_tolstring(L, -1, &len);
        if (path && len >= sizeof file - 1 && strcmp(path + len - (sizeof file - 1), file) == 0) {
            lua_pushlstring(L, path, len - (sizeof file - 1));
            script_own_folder(L, lua_tostring(L, -1));
        }
    }
    lua_settop(L, top);
}

int luaopen_dbrun_core(lua_State *L)
{
    note_own_folder(L);
    return bind_core(L);
}
