#include "bind/pg/array_mark.h"

#include <lauxlib.h>
#include <string.h>

#define MARK_NAME "dbrun.pg.array"

static bool has_lower(const struct pg_array_mark *mark)
{
    for (int i = 0; i < mark->dims; i++)
        if (mark->lower[i] != 1)
            return true;
    return false;
}

void pg_array_mark_set(lua_State *L, const struct pg_array_mark *mark, bool tables)
{
    bool lower = has_lower(mark);
    if (!lower && (mark->dims < 2 || !tables))
        return;
    luaL_checkstack(L, 4, "an array");
    lua_createtable(L, 0, 3);
    lua_pushliteral(L, MARK_NAME);
    lua_setfield(L, -2, "__name");
    lua_pushinteger(L, mark->dims);
    lua_setfield(L, -2, "dims");
    if (lower) {
        lua_createtable(L, mark->dims, 0);
        for (int i = 0; i < mark->dims; i++) {
            lua_pushinteger(L, mark->lower[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "lower");
    }
    lua_setmetatable(L, -2);
}

/* The metatable is on top of the stack. */
static void read_mark(lua_State *L, struct pg_array_mark *mark)
{
    lua_getfield(L, -1, "dims");
    lua_Integer dims = lua_tointeger(L, -1);
    mark->dims = dims >= 1 && dims <= PG_MOST_DIMENSIONS ? (int)dims : 0;
    lua_pop(L, 1);
    mark->has_lower = lua_getfield(L, -1, "lower") == LUA_TTABLE;
    for (int i = 0; i < PG_MOST_DIMENSIONS; i++) {
        mark->lower[i] = 1;
        if (!mark->has_lower)
            continue;
        if (lua_rawgeti(L, -1, i + 1) == LUA_TNUMBER)
            mark->lower[i] = (int32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

bool pg_array_mark_get(lua_State *L, int at, struct pg_array_mark *mark)
{
    *mark = (struct pg_array_mark){0};
    at = lua_absindex(L, at);
    if (!lua_getmetatable(L, at))
        return false;
    lua_pushliteral(L, "__name");
    bool is_mark = lua_rawget(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -1), MARK_NAME) == 0;
    lua_pop(L, 1);
    if (is_mark)
        read_mark(L, mark);
    lua_pop(L, 1);
    return is_mark;
}
