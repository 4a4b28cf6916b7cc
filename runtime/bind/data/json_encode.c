/*
 * Lua values to JSON text. A value without a JSON form raises an error that names its place
 * (`$.rows[3].name`).
 */
#include "bind/data/json.h"
#include "bind/data/json_scalar.h"
#include "bind/data/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

static void add_value(struct json_encoder *e, const struct json_place *at);

/* True when the table at `t` has the metatable at stack index `class`. */
static bool has_class(lua_State *L, int t, int class)
{
    if (!lua_getmetatable(L, t))
        return false;
    bool has = lua_rawequal(L, -1, class);
    lua_pop(L, 1);
    return has;
}

/* The number of keys of the table on top of the stack. */
static lua_Integer count_keys(lua_State *L)
{
    lua_Integer n = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        n++;
        lua_pop(L, 1);
    }
    return n;
}

/* The number of its integer keys: a result has other fields beside its rows. */
static lua_Integer count_rows(lua_State *L)
{
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        n += lua_isinteger(L, -2);
    return n;
}

static void add_array(struct json_encoder *e, const struct json_place *at, lua_Integer n)
{
    lua_State *L = e->L;
    struct json_place inside = {.up = at};
    json_add(e, "[", 1);
    e->depth++;
    for (inside.index = 1; inside.index <= n; inside.index++) {
        if (inside.index > 1)
            json_add(e, ",", 1);
        json_newline(e);
        if (lua_rawgeti(L, -1, inside.index) == LUA_TNIL) {
            e->depth--;
            json_refuse(
                e, at, "the table is not a sequence from 1 to n, and not all its keys are strings",
                "db.null keeps the place of a missing element; json.object(t) makes an object of any table");
        }
        add_value(e, &inside);
        lua_pop(L, 1);
    }
    e->depth--;
    if (n > 0)
        json_newline(e);
    json_add(e, "]", 1);
}

/* Writes the member whose value is on top of the stack. */
static void add_member(struct json_encoder *e, const struct json_place *at, bool first, const char *key,
                       size_t len)
{
    struct json_place inside = {.up = at, .key = key, .len = len};
    if (memchr(key, '\0', len))
        json_refuse(e, &inside, "a name that contains a NUL byte",
                    "JSON readers written in C do not accept it");
    if (!first)
        json_add(e, ",", 1);
    json_newline(e);
    json_add_string(e, &inside, key, len);
    json_add(e, ": ", e->indent > 0 ? 2 : 1);
    add_value(e, &inside);
}

/* A member's name from the key at `idx` of the table at `t`. A table marked as an object can have integer
 * keys; their text goes to `digits`. */
static const char *member_name(struct json_encoder *e, const struct json_place *at, int t, int idx,
                               char digits[32], size_t *len)
{
    lua_State *L = e->L;
    if (lua_type(L, idx) == LUA_TSTRING)
        return lua_tolstring(L, idx, len);
    if (!lua_isinteger(L, idx) || !has_class(L, t, e->object_class)) {
        char what[96];
        snprintf(what, sizeof what, "a key of type %s in a table that is not a sequence from 1 to n",
                 luaL_typename(L, idx));
        json_refuse(e, at, what, "json.object(t) writes integer keys as strings");
    }
    *len = (size_t)snprintf(digits, 32, LUA_INTEGER_FMT, (LUAI_UACINT)lua_tointeger(L, idx));
    lua_pushlstring(L, digits, *len);
    if (lua_rawget(L, t) != LUA_TNIL)
        json_refuse(e, at, "an integer key and a string key have the same text", NULL);
    lua_pop(L, 1);
    return digits;
}

static bool add_members(struct json_encoder *e, const struct json_place *at)
{
    lua_State *L = e->L;
    int t = lua_gettop(L);
    bool first = true;
    lua_pushnil(L);
    while (lua_next(L, t)) {
        char digits[32];
        size_t len;
        const char *name = member_name(e, at, t, t + 1, digits, &len);
        add_member(e, at, first, name, len);
        lua_pop(L, 1);
        first = false;
    }
    return !first;
}

struct member {
    const char *name;
    size_t len;
    lua_Integer number;
};

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a;
    const struct member *y = b;
    int order = memcmp(x->name, y->name, x->len < y->len ? x->len : y->len);
    if (order != 0)
        return order;
    return x->len < y->len ? -1 : x->len > y->len;
}

/* Writes the members sorted by name. A table holds names and keys (at 2i-1 and 2i), so that they are not
 * collected. */
static bool add_sorted_members(struct json_encoder *e, const struct json_place *at, bool first)
{
    lua_State *L = e->L;
    int t = lua_gettop(L);
    lua_Integer n = count_keys(L);
    struct member *members = lua_newuserdatauv(L, (size_t)n * sizeof *members, 0);
    lua_newtable(L);
    int held = t + 2;
    lua_pushnil(L);
    for (lua_Integer i = 0; lua_next(L, t); i++) {
        char digits[32];
        struct member *m = &members[i];
        const char *name = member_name(e, at, t, held + 1, digits, &m->len);
        m->name = lua_pushlstring(L, name, m->len);
        m->number = i;
        lua_rawseti(L, held, 2 * i + 1);
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, held, 2 * i + 2);
    }
    qsort(members, (size_t)n, sizeof *members, compare_members);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, held, 2 * members[i].number + 2);
        lua_rawget(L, t);
        add_member(e, at, first && i == 0, members[i].name, members[i].len);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return !first || n > 0;
}

/* ---- rows of a statement ---- */

/* Pushes the column names of the row at `t`. Keeps the names of the last row, because mostly the next row has
 * the same. */
static void push_names(struct json_encoder *e, int t)
{
    lua_State *L = e->L;
    lua_getmetatable(L, t);
    if (!lua_rawequal(L, -1, e->row_meta)) {
        lua_pushvalue(L, -1);
        bind_rows_names(L);
        lua_replace(L, e->row_names);
        lua_pushvalue(L, -1);
        lua_replace(L, e->row_meta);
    }
    lua_pop(L, 1);
    lua_pushvalue(L, e->row_names);
}

/* Pushes a plain copy of the row at `t`: all its fields, or only those that are not columns (column names at
 * `names`). */
static void push_copy(struct json_encoder *e, int t, int names, bool with_columns)
{
    lua_State *L = e->L;
    lua_newtable(L);
    int copy = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, t);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, copy);
    }
    for (lua_Integer i = 1; lua_rawgeti(L, names, i) != LUA_TNIL; i++) {
        if (!with_columns) {
            lua_pushnil(L);
            lua_rawset(L, copy);
            continue;
        }
        lua_pushvalue(L, -1);
        if (lua_rawget(L, copy) == LUA_TNIL && e->nulls) {
            lua_pushvalue(L, -2);
            lua_pushlightuserdata(L, NULL);
            lua_rawset(L, copy);
        }
        lua_pop(L, 2);
    }
    lua_settop(L, copy);
}

/* Writes the columns that the row at `t` has; with `nulls`, the missing ones as null. Returns how many it
 * has; *first stays true while nothing was written. */
static lua_Integer add_columns(struct json_encoder *e, const struct json_place *at, int t, bool *first)
{
    lua_State *L = e->L;
    int names = lua_gettop(L);
    lua_Integer found = 0;
    for (lua_Integer i = 1; lua_rawgeti(L, names, i) != LUA_TNIL; i++) {
        size_t len;
        const char *name = lua_tolstring(L, -1, &len);
        lua_pushvalue(L, -1);
        bool has = lua_rawget(L, t) != LUA_TNIL;
        found += has;
        if (!has && e->nulls) {
            lua_pop(L, 1);
            lua_pushlightuserdata(L, NULL);
        }
        if (has || e->nulls) {
            add_member(e, at, *first, name, len);
            *first = false;
        }
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return found;
}

/* Writes the columns in their order, then, sorted, the keys that the script has added. */
static bool add_row_members(struct json_encoder *e, const struct json_place *at)
{
    lua_State *L = e->L;
    int t = lua_gettop(L);
    bool first = true;
    push_names(e, t);
    if (e->sort_keys) {
        push_copy(e, t, t + 1, true);
        first = !add_sorted_members(e, at, true);
    } else {
        lua_Integer found = add_columns(e, at, t, &first);
        lua_pushvalue(L, t);
        if (count_keys(L) > found) {
            push_copy(e, t, t + 1, false);
            first = !add_sorted_members(e, at, first);
        }
    }
    lua_settop(L, t);
    return !first;
}

static void add_object(struct json_encoder *e, const struct json_place *at, bool is_row)
{
    bool any;
    json_add(e, "{", 1);
    e->depth++;
    if (is_row)
        any = add_row_members(e, at);
    else
        any = e->sort_keys ? add_sorted_members(e, at, true) : add_members(e, at);
    e->depth--;
    if (any)
        json_newline(e);
    json_add(e, "}", 1);
}

static void add_table(struct json_encoder *e, const struct json_place *at)
{
    lua_State *L = e->L;
    int t = lua_gettop(L);
    if (e->depth >= JSON_MAX_DEPTH)
        json_refuse(e, at, "nested deeper than 2048 levels", "does a table contain itself?");
    luaL_checkstack(L, 16, "JSON is nested too deeply");
    enum rows_kind kind = bind_rows_kind(L, t);
    if (kind == ROWS_RESULT)
        add_array(e, at, count_rows(L));
    else if (kind == ROWS_ROW)
        add_object(e, at, true);
    else if (bind_rows_is_proxy(L, t))
        json_refuse(e, at, ROWS_PROXY, ROWS_PROXY_HINT);
    else if (has_class(L, t, e->array_class) || (lua_rawlen(L, t) > 0 && !has_class(L, t, e->object_class)))
        add_array(e, at, count_keys(L));
    else
        add_object(e, at, false);
}

/* Writes the value on top of the stack. */
static void add_value(struct json_encoder *e, const struct json_place *at)
{
    lua_State *L = e->L;
    size_t len;
    char what[64];
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, -1))
            json_add(e, "true", 4);
        else
            json_add(e, "false", 5);
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1))
            json_add_integer(e, lua_tointeger(L, -1));
        else
            json_add_float(e, at, lua_tonumber(L, -1));
        return;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &len);
        json_add_string(e, at, text, len);
        return;
    }
    case LUA_TTABLE:
        add_table(e, at);
        return;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, -1)) {
            json_add(e, "null", 4);
            return;
        }
        break;
    case LUA_TNIL:
        json_refuse(e, at, "nil has no JSON form", "db.null stands for null");
        return;
    default:
        break;
    }
    snprintf(what, sizeof what, "a %s has no JSON form", luaL_typename(L, -1));
    json_refuse(e, at, what, NULL);
}

/* ---- the call ---- */

/* Reads the table of options at 2, which lua/dbrun/json.lua has checked. */
static void read_options(lua_State *L, struct json_encoder *e)
{
    if (!lua_istable(L, 2))
        return;
    lua_getfield(L, 2, "indent");
    lua_getfield(L, 2, "sort_keys");
    e->indent = (int)lua_tointeger(L, -2);
    e->sort_keys = lua_toboolean(L, -1);
    lua_getfield(L, 2, "nulls");
    e->nulls = lua_toboolean(L, -1);
    lua_pop(L, 3);
}

int bind_json_encode(lua_State *L)
{
    struct json_encoder e = {.L = L, .rt = bind_runtime(L)};
    lua_settop(L, 2);
    read_options(L, &e);
    luaL_getmetatable(L, JSON_ARRAY_CLASS);
    luaL_getmetatable(L, JSON_OBJECT_CLASS);
    e.array_class = 3;
    e.object_class = 4;
    e.row_meta = 5;
    e.row_names = 6;
    lua_pushnil(L);
    lua_pushnil(L);
    e.out = json_push_buf(L);
    lua_pushvalue(L, 1);
    add_value(&e, NULL);
    lua_pushlstring(L, e.out->data, e.out->len);
    buf_free(e.out);
    return 1;
}
