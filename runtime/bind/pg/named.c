/* `:name` parameters. The rewritten SQL and its names are cached, so that each text is parsed only once. */
#include "pg/named.h"
#include "bind/base/error.h"
#include "bind/data/rows.h"
#include "bind/pg/named.h"
#include "pg/placeholder.h"
#include "pg/scan.h"

#include <stdlib.h>

#define BOX_CLASS "dbrun.pg.namedbox"

enum { KEPT = 1000 };
static const char *const cache_key = "dbrun.pg.named"; /* SQL -> its plan */

struct named_box {
    struct buf sql;
    struct pg_names names;
};

static int box_gc(lua_State *L)
{
    struct named_box *b = luaL_checkudata(L, 1, BOX_CLASS);
    buf_free(&b->sql);
    free(b->names.list);
    b->names = (struct pg_names){0};
    return 0;
}

/* Pushes {sql, name, name, ...} for the SQL at 2. */
static void rewrite(lua_State *L)
{
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    struct named_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct named_box){0};
    if (luaL_newmetatable(L, BOX_CLASS)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (!pg_named_rewrite(sql, len, &b->sql, &b->names))
        luaL_error(L, "not enough memory");
    if (b->names.n > 0 && b->names.numbered) { /* a $1 would get the value of the first name */
        lua_pushlstring(L, sql + b->names.list[0].at, b->names.list[0].len);
        bind_fail(L, bind_find(L), ERROR_USAGE,
                  "the SQL has both $n and :%s: write all of its parameters in one of the two ways",
                  lua_tostring(L, -1));
    }
    lua_createtable(L, (int)b->names.n + 1, 0);
    lua_pushlstring(L, b->sql.data, b->sql.len);
    lua_rawseti(L, -2, 1);
    for (size_t i = 0; i < b->names.n; i++) {
        lua_pushlstring(L, sql + b->names.list[i].at, b->names.list[i].len);
        lua_rawseti(L, -2, (lua_Integer)i + 2);
    }
    lua_remove(L, -2);
}

/* Pushes the cache; replaces it by an empty one when it has grown too large. */
static void push_cache(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, cache_key) == LUA_TTABLE) {
        lua_rawgeti(L, -1, 1);
        lua_Integer n = lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (n < KEPT)
            return;
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, cache_key);
}

bool pg_named_push_name(lua_State *L, int plan, int number)
{
    if (!lua_istable(L, plan))
        return false;
    if (lua_rawgeti(L, plan, number + 1) == LUA_TSTRING)
        return true;
    lua_pop(L, 1);
    return false;
}

static void push_rewritten(lua_State *L)
{
    push_cache(L);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) == LUA_TTABLE) {
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    rewrite(L);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
    lua_rawgeti(L, -2, 1);
    lua_Integer n = lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_pushinteger(L, n + 1);
    lua_rawseti(L, -3, 1);
    lua_remove(L, -2);
}

int pg_named_plan(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_insert(L, 1); /* push_rewritten expects the SQL at 2 */
    push_rewritten(L);
    if (lua_rawlen(L, -1) == 1)
        return 0;
    return 1;
}

/* Uses the table itself as the value of $1. */
static int value_of_first(lua_State *L, struct runtime *rt)
{
    size_t len;
    const char *sql = lua_tolstring(L, 2, &len);
    struct sql_scan x = {.sql = sql, .len = len};
    for (enum sql_kind kind = sql_next(&x); kind != SQL_END; kind = sql_next(&x))
        if (kind == SQL_PARAMETER)
            return 1;
    struct error e = {0};
    char found[48];
    char hint[PG_PLACE_HINT];
    enum pg_placeholder foreign = pg_placeholder_find(sql, len, found, sizeof found);
    error_set(&e, ERROR_USAGE, "a table was given as parameter, but the SQL has no :name and no $1");
    if (foreign != PG_PLACE_NONE) {
        pg_placeholder_hint(foreign, found, hint, sizeof hint);
        error_set_field(&e, ERROR_HINT, hint);
    }
    return bind_error_raise(L, rt, &e);
}

/* The table of values is at 3. */
static void raise_no_value(lua_State *L, struct runtime *rt, const char *name)
{
    struct error e = {0};
    enum rows_kind kind = bind_rows_kind(L, 3);
    error_set(&e, ERROR_USAGE, "no value for the parameter :%s (pass SQL NULL as db.null)", name);
    if (kind == ROWS_RESULT)
        error_set_field(&e, ERROR_HINT,
                        "this is a whole result: give one of its rows, result[1], or run the "
                        "statement for all of them: execute_many(sql, result)");
    else if (kind == ROWS_ROW_BY_POSITION)
        error_set_field(&e, ERROR_HINT, "this row was read by position: read it without positional = true");
    else if (lua_rawlen(L, 3) > 0) /* a list: the values of $1, $2 ... */
        error_set_field(&e, ERROR_HINT, "values of :name are given by name, {name = value}, not as a list");
    bind_error_raise(L, rt, &e);
}

/* True when the name on top is a column of the row at 3, whose value is then NULL. Only for rows by column
 * name: results and rows by position have columns, too, but no values by name. */
static bool is_null_column(lua_State *L)
{
    int name = lua_gettop(L);
    if (bind_rows_kind(L, 3) != ROWS_ROW || !bind_rows_push_meta(L, 3))
        return false;
    bool found = false;
    bind_rows_names(L);
    for (lua_Integer i = 1; !found && lua_rawgeti(L, name + 1, i) != LUA_TNIL; i++) {
        found = lua_rawequal(L, -1, name);
        lua_pop(L, 1);
    }
    lua_settop(L, name);
    return found;
}

int pg_named_expand(lua_State *L, struct runtime *rt)
{
    push_rewritten(L);
    int plan = lua_gettop(L); /* 4 */
    int n = (int)lua_rawlen(L, plan) - 1;
    if (n == 0) {
        lua_pop(L, 1);
        return value_of_first(L, rt);
    }
    luaL_checkstack(L, n + 8, "too many parameters");
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, plan, i + 2);
        lua_pushvalue(L, -1);
        if (lua_gettable(L, 3) == LUA_TNIL) {
            lua_pop(L, 1);
            if (!is_null_column(L))
                raise_no_value(L, rt, lua_tostring(L, -1));
            lua_pushnil(L);
        }
        lua_remove(L, -2);
    }
    lua_rotate(L, plan, -1);
    lua_replace(L, 2);
    lua_remove(L, 3);
    return n;
}

void pg_named_settle(lua_State *L)
{
    if (!lua_istable(L, 2))
        return;
    lua_rawgeti(L, 2, 1);
    lua_replace(L, 2);
}
