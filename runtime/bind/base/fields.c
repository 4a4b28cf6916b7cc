#include "bind/base/fields.h"

#include "base/deadline.h"
#include "bind/base/error.h"

#include <string.h>

/* ---- reading ---- */

static void wrong(lua_State *L, const char *key, const char *expected)
{
    bind_fail(L, bind_runtime(L), ERROR_USAGE, "%s must be %s, not %s", key, expected, luaL_typename(L, -1));
}

double field_number(lua_State *L, int at, const char *key, double otherwise)
{
    double v = otherwise;
    if (lua_getfield(L, at, key) != LUA_TNIL) {
        if (!lua_isnumber(L, -1))
            wrong(L, key, "a number");
        v = lua_tonumber(L, -1);
    }
    lua_pop(L, 1);
    return v;
}

double field_seconds(lua_State *L, int at, const char *key, double otherwise)
{
    double v = field_number(L, at, key, otherwise);
    if (!(v >= 0))
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "%s must be a number of seconds of at least 0", key);
    return v;
}

lua_Integer field_integer(lua_State *L, int at, const char *key, lua_Integer otherwise)
{
    lua_Integer v = otherwise;
    int is_integer;
    if (lua_getfield(L, at, key) != LUA_TNIL) {
        v = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer)
            wrong(L, key, "an integer");
    }
    lua_pop(L, 1);
    return v;
}

const char *field_text(lua_State *L, int at, const char *key)
{
    const char *text = NULL;
    size_t len;
    int type = lua_getfield(L, at, key);
    if (type != LUA_TNIL) {
        text = type == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (!text || strlen(text) != len)
            wrong(L, key, "a string without NUL bytes");
    }
    lua_pop(L, 1);
    return text;
}

bool field_boolean(lua_State *L, int at, const char *key, bool otherwise)
{
    bool v = otherwise;
    if (lua_getfield(L, at, key) != LUA_TNIL)
        v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

int field_function(lua_State *L, int at, const char *key)
{
    if (lua_getfield(L, at, key) == LUA_TFUNCTION)
        return luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    return LUA_NOREF;
}

/* ---- writing ---- */

void field_set_count(lua_State *L, const char *key, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, key);
}

void field_set_seconds(lua_State *L, const char *key, uint64_t ns)
{
    lua_pushnumber(L, (lua_Number)ns / (lua_Number)NS_PER_S);
    lua_setfield(L, -2, key);
}
