/* Turns what a script returns into the exit status. */
#include "host/host.h"

/* core.status(n): sets the exit status to use when the script returns none. cli.run sets it, because a script
 * may forget to return the status. */
int status_set(lua_State *L)
{
    struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    lua_Integer status = luaL_checkinteger(L, 1);
    luaL_argcheck(L, status >= 0 && status <= 255, 1, "an exit status is 0 to 255");
    h->script_status = (int)status;
    return 0;
}

static void raise_object(lua_State *L, int index)
{
    if (report_is_kind(L, index, NULL)) {
        lua_pushvalue(L, index);
        lua_error(L);
    }
}

/* Raises the reason of a failure that the script returned as Lua functions do (io.open): nil or false, and a
 * message or an error. Does nothing without such a second value. */
static void raise_reason(lua_State *L, const char *name, int index)
{
    raise_object(L, index + 1);
    if (lua_type(L, index + 1) == LUA_TSTRING)
        luaL_error(L, "%s returned %s: %s", name, lua_isnil(L, index) ? "nil" : "false",
                   lua_tostring(L, index + 1));
}

/* Strings, functions and the like cannot be a status, so they are errors. A module that is run as a script
 * returns a table, and a script that computes may return a float: both count as success. false is a failure,
 * as for os.exit. */
void status_take(lua_State *L, struct host *h, int index)
{
    bool named = h->options.script < h->argc && !h->options.is_stdin;
    const char *name = named ? h->script : "stdin";
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        raise_reason(L, name, index);
        break;
    case LUA_TTABLE:
        raise_object(L, index);
        break;
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, index))
            break;
        raise_reason(L, name, index);
        luaL_error(L, "%s returned false", name);
        break;
    case LUA_TNUMBER:
        if (!lua_isinteger(L, index))
            break;
        if (lua_tointeger(L, index) < 0 || lua_tointeger(L, index) > 255)
            luaL_error(L, "%s returned %I, but an exit status is an integer from 0 to 255", name,
                       (LUAI_UACINT)lua_tointeger(L, index));
        h->script_status = (int)lua_tointeger(L, index);
        break;
    default:
        luaL_error(
            L, "%s returned a %s, but a script returns nothing, or its exit status: an integer from 0 to 255",
            name, luaL_typename(L, index));
    }
}
