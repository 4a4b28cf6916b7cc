#include "bind/data/rows.h"

static const char *const SHOW = "dbrun.rows.show";

static int row_tostring(lua_State *L);

/* ---- the metatable ---- */

void bind_rows_meta(lua_State *L)
{
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "columns");
    lua_pushcfunction(L, row_tostring);
    lua_setfield(L, -2, "__tostring");
}

/* Pushes a field without metamethods. Returns its type. */
static int push_raw(lua_State *L, int t, const char *key)
{
    lua_pushstring(L, key);
    return lua_rawget(L, t);
}

bool bind_rows_push_meta(lua_State *L, int at)
{
    if (!lua_istable(L, at) || !lua_getmetatable(L, at))
        return false;
    push_raw(L, lua_gettop(L), "__tostring");
    bool ours = lua_tocfunction(L, -1) == row_tostring;
    lua_pop(L, ours ? 1 : 2);
    return ours;
}

bool bind_rows_is(lua_State *L, int at)
{
    if (!bind_rows_push_meta(L, at))
        return false;
    lua_pop(L, 1);
    return true;
}

/* Pushes the name of column `i` (from 1) of the list at `columns`, or nil when the script has changed it. */
static bool push_name(lua_State *L, int columns, lua_Integer i)
{
    if (lua_rawgeti(L, columns, i) == LUA_TTABLE) {
        push_raw(L, lua_gettop(L), "name");
        lua_remove(L, -2);
    }
    if (lua_type(L, -1) == LUA_TSTRING)
        return true;
    lua_pop(L, 1);
    lua_pushnil(L);
    return false;
}

void bind_rows_names(lua_State *L)
{
    int meta = lua_gettop(L);
    lua_newtable(L); /* the names seen so far */
    lua_newtable(L);
    lua_Integer found = 0;
    bool any = push_raw(L, meta, "columns") == LUA_TTABLE;
    lua_Integer n = any ? (lua_Integer)lua_rawlen(L, meta + 3) : 0;
    for (lua_Integer i = 1; i <= n; i++) {
        if (push_name(L, meta + 3, i)) {
            lua_pushvalue(L, -1);
            if (lua_rawget(L, meta + 1) == LUA_TNIL) {
                lua_pushvalue(L, -2);
                lua_pushboolean(L, 1);
                lua_rawset(L, meta + 1);
                lua_pushvalue(L, -2);
                lua_rawseti(L, meta + 2, ++found);
            }
        }
        lua_settop(L, meta + 3);
    }
    lua_settop(L, meta + 2);
    lua_replace(L, meta);
    lua_settop(L, meta);
}

/* ---- the kind of a table ---- */

/* True when the list of columns has one with this name. */
static bool has_column(lua_State *L, int columns, const char *name)
{
    if (!lua_istable(L, columns))
        return false;
    lua_pushstring(L, name);
    int key = lua_gettop(L);
    bool has = false;
    lua_Integer n = (lua_Integer)lua_rawlen(L, columns);
    for (lua_Integer i = 1; i <= n && !has; i++) {
        has = push_name(L, columns, i) && lua_rawequal(L, -1, key);
        lua_settop(L, key);
    }
    lua_settop(L, key - 1);
    return has;
}

/* True for a result. A result has the list of its columns; a copied result, or one whose list was removed, is
 * recognised by its other fields, unless these are columns; a result without any, by its rows. */
static bool is_result(lua_State *L, int t, int meta)
{
    int columns = meta + 1;
    push_raw(L, meta, "columns");
    push_raw(L, t, "columns");
    if (lua_istable(L, -1) && lua_rawequal(L, -1, columns))
        return true;
    push_raw(L, t, "command");
    push_raw(L, t, "affected");
    if (lua_type(L, -2) == LUA_TSTRING && lua_isinteger(L, -1) && !has_column(L, columns, "command"))
        return true;
    return lua_rawgeti(L, t, 1) == LUA_TTABLE && lua_getmetatable(L, -1) && lua_rawequal(L, -1, meta);
}

/* True when a column name is a key of the row. */
static bool has_named(lua_State *L, int t, int meta)
{
    int columns = meta + 1;
    lua_Integer n = push_raw(L, meta, "columns") == LUA_TTABLE ? (lua_Integer)lua_rawlen(L, columns) : 0;
    for (lua_Integer i = 1; i <= n; i++) {
        if (push_name(L, columns, i) && lua_rawget(L, t) != LUA_TNIL)
            return true;
        lua_settop(L, columns);
    }
    return false;
}

enum rows_kind bind_rows_kind(lua_State *L, int at)
{
    int top = lua_gettop(L);
    at = lua_absindex(L, at);
    luaL_checkstack(L, 12, "out of stack for a row");
    if (!bind_rows_push_meta(L, at))
        return ROWS_NONE;
    enum rows_kind kind = ROWS_ROW;
    if (is_result(L, at, top + 1)) {
        kind = ROWS_RESULT;
    } else {
        lua_settop(L, top + 1);
        if (lua_rawlen(L, at) > 0 && !has_named(L, at, top + 1))
            kind = ROWS_ROW_BY_POSITION;
    }
    lua_settop(L, top);
    return kind;
}

bool bind_rows_is_proxy(lua_State *L, int at)
{
    static const char *const fields[] = {"__index", "__pairs", "__len"};
    int top = lua_gettop(L);
    bool is = false;
    luaL_checkstack(L, 4, "out of stack for a table");
    at = lua_absindex(L, at);
    if (!lua_istable(L, at) || !lua_getmetatable(L, at))
        return false;
    lua_pushnil(L);
    if (!lua_next(L, at))
        for (size_t i = 0; i < sizeof fields / sizeof *fields && !is; i++)
            is = push_raw(L, top + 1, fields[i]) != LUA_TNIL;
    lua_settop(L, top);
    return is;
}

/* ---- as text ---- */

/* The text as Lua would write it: for a table to which a script gave this function, or a program without
 * dbrun.db. */
static int plain_text(lua_State *L)
{
    lua_pushfstring(L, "%s: %p", luaL_typename(L, 1), lua_topointer(L, 1));
    return 1;
}

static int row_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (!bind_rows_is(L, 1) || lua_getfield(L, LUA_REGISTRYINDEX, SHOW) != LUA_TFUNCTION)
        return plain_text(L);
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* ---- core.rows ---- */

/* columns(v) -> the list of columns, when v is a row or result of a statement */
static int rows_columns(lua_State *L)
{
    if (!bind_rows_push_meta(L, 1))
        return 0;
    push_raw(L, lua_gettop(L), "columns");
    return 1;
}

/* kind(v) -> "result", "row", "list" (a row by position), or nil */
static int rows_kind_of(lua_State *L)
{
    static const char *const names[] = {NULL, "result", "row", "list"};
    lua_pushstring(L, names[bind_rows_kind(L, 1)]);
    return 1;
}

/* proxy(v) -> the words and the hint of an error, when v is such a table */
static int rows_proxy(lua_State *L)
{
    if (!bind_rows_is_proxy(L, 1))
        return 0;
    lua_pushliteral(L, ROWS_PROXY);
    lua_pushliteral(L, ROWS_PROXY_HINT);
    return 2;
}

/* names(v) -> the names of the columns of a row or result, each once */
static int rows_names(lua_State *L)
{
    if (!bind_rows_push_meta(L, 1))
        return 0;
    bind_rows_names(L);
    return 1;
}

/* on_show(fn): fn(v) -> the text of a row or result */
static int rows_on_show(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, SHOW);
    return 0;
}

int bind_rows_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"columns", rows_columns}, {"kind", rows_kind_of},
                                         {"proxy", rows_proxy},     {"names", rows_names},
                                         {"on_show", rows_on_show}, {NULL, NULL}};
    bind_lib(L, rt, functions);
    return 1;
}
