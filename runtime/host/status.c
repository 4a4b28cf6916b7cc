/* What a script returns, made the program's exit status. */
#include "host/host.h"

/* core.status(n): the exit status that counts when the script returns none. cli.run knows one, and a script
 * may forget to return it. */
int status_set(lua_State *L)
{
    struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    lua_Integer status = luaL_checkinteger(L, 1);
    luaL_argcheck(L, status >= 0 && status <= 255, 1, "an exit status is 0 to 255");
    h->script_status = (int)status;
    return 0;
}

/* Strings, functions and the like mean something that no program does with them. A module that is run as a
 * script returns a table, and a script that computes may return a float: both have worked. false is a
 * failure, as it is for os.exit. */
void status_take(lua_State *L, struct host *h)
{
    bool named = h->options.script < h->argc && !h->options.is_stdin;
    const char *name = named ? h->script : "stdin";
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
    case LUA_TTABLE:
        break;
    case LUA_TBOOLEAN:
        if (!lua_toboolean(L, -1))
            luaL_error(L, "%s returned false", name);
        break;
    case LUA_TNUMBER:
        if (!lua_isinteger(L, -1))
            break;
        if (lua_tointeger(L, -1) < 0 || lua_tointeger(L, -1) > 255)
            luaL_error(L, "%s returned %I, but an exit status is an integer from 0 to 255", name,
                       (LUAI_UACINT)lua_tointeger(L, -1));
        h->script_status = (int)lua_tointeger(L, -1);
        break;
    default:
        luaL_error(
            L, "%s returned a %s, but a script returns nothing, or its exit status: an integer from 0 to 255",
            name, luaL_typename(L, -1));
    }
}
