/*
 * Lua values to JSON text. A value without a JSON form raises an error that names its place
 * (`$.rows[3].name`).
 */
#include "base/buf.h"
#include "base/number.h"
#include "base/text.h"
#include "bind/base/error.h"
#include "bind/data/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_CLASS "dbrun.jsonbuf"

/* The place of a value: a list on the C stack, innermost first. */
struct place {
    const struct place *up;
    const char *key; /* NULL: an element of an array */
    size_t len;
    lua_Integer index;
};

struct encoder {
    lua_State *L;
    struct runtime *rt;
    struct buf *out;
    int array_class; /* stack places of the two metatables */
    int object_class;
    int indent; /* 0 = on one line */
    bool sort_keys;
    int depth;
};

static int buf_gc(lua_State *L)
{
    buf_free(luaL_checkudata(L, 1, BUF_CLASS));
    return 0;
}

static struct buf *push_buf(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct buf){0};
    if (luaL_newmetatable(L, BUF_CLASS)) {
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__close");
    }
    lua_setmetatable(L, -2);
    return b;
}

/* ---- refusing ---- */

static void add_place(struct buf *b, const struct place *at)
{
    if (!at)
        return;
    add_place(b, at->up);
    if (!at->key)
        buf_addf(b, "[%lld]", (long long)at->index);
    else if (at->len <= 40 &&
             strspn(at->key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == at->len)
        buf_addf(b, ".%s", at->key);
    else
        buf_adds(b, "[a key]"); /* too long or not printable */
}

/* Shows only the outermost steps of a long path. */
static const struct place *outermost(const struct place *at, int depth)
{
    for (; depth > 12 && at; depth--)
        at = at->up;
    return at;
}

static int refuse(struct encoder *e, const struct place *at, const char *what, const char *hint)
{
    lua_State *L = e->L;
    luaL_checkstack(L, 6, "out of stack for an error");
    struct buf *path = push_buf(L);
    const struct place *shown = outermost(at, e->depth);
    add_place(path, shown);
    struct error err = {0};
    error_set(&err, ERROR_USAGE, "json.encode: at $%s%s: %s", path->data ? path->data : "",
              shown == at ? "" : "...", what);
    error_set_field(&err, ERROR_HINT, hint);
    return bind_error_raise(L, e->rt, &err);
}

static void add(struct encoder *e, const char *text, size_t len)
{
    if (!buf_add(e->out, text, len))
        luaL_error(e->L, "not enough memory");
}

static void newline(struct encoder *e)
{
    if (e->indent == 0)
        return;
    size_t spaces = (size_t)e->indent * (size_t)e->depth;
    if (!buf_reserve(e->out, spaces + 1))
        luaL_error(e->L, "not enough memory");
    add(e, "\n", 1);
    memset(e->out->data + e->out->len, ' ', spaces);
    e->out->len += spaces;
    e->out->data[e->out->len] = '\0';
}

/* ---- scalars ---- */

static void add_escape(struct encoder *e, unsigned char c)
{
    static const char names[] = "\b\t\n\f\r\"\\";
    static const char letters[] = "btnfr\"\\";
    char text[8];
    const char *found = c ? strchr(names, c) : NULL;
    int len = found ? snprintf(text, sizeof text, "\\%c", letters[found - names])
                    : snprintf(text, sizeof text, "\\u%04x", c);
    add(e, text, (size_t)len);
}

static void add_string(struct encoder *e, const struct place *at, const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t from = 0;
    add(e, "\"", 1);
    for (size_t i = 0; i < len;) {
        if (s[i] >= 0x20 && s[i] < 0x80 && s[i] != '"' && s[i] != '\\') {
            i++;
        } else if (s[i] >= 0x80) {
            size_t n = utf8_len(text + i, len - i);
            if (n == 0) {
                char what[64];
                snprintf(what, sizeof what, "byte %zu of the string is not valid UTF-8", i + 1);
                refuse(e, at, what, "JSON strings are UTF-8: write bytes as hexadecimal or base64");
            }
            i += n;
        } else {
            add(e, text + from, i - from);
            add_escape(e, s[i]);
            from = ++i;
        }
    }
    add(e, text + from, len - from);
    add(e, "\"", 1);
}

/* The shortest digits that read back as the same float, always with a point or an exponent, so that a
 * float stays a float. */
static void add_float(struct encoder *e, const struct place *at, double x)
{
    char text[NUMBER_MAX + 2];
    if (!isfinite(x)) {
        refuse(e, at, isnan(x) ? "NaN has no JSON form" : "an infinite number has no JSON form",
               "use db.null, or a string");
    }
    number_format(text, x);
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    add(e, text, strlen(text));
}

static void add_integer(struct encoder *e, lua_Integer n)
{
    char text[32];
    int len = snprintf(text, sizeof text, LUA_INTEGER_FMT, (LUAI_UACINT)n);
    add(e, text, (size_t)len);
}

/* ---- tables ---- */

static void add_value(struct encoder *e, const struct place *at);

/* Is the metatable of the table at `t` the one at stack place `class`? */
static bool has_class(lua_State *L, int t, int class)
{
    if (!lua_getmetatable(L, t))
        return false;
    bool has = lua_rawequal(L, -1, class);
    lua_pop(L, 1);
    return has;
}

/* Keys of the table at the top of the stack. */
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

static void add_array(struct encoder *e, const struct place *at)
{
    lua_State *L = e->L;
    lua_Integer n = count_keys(L);
    struct place inside = {.up = at};
    add(e, "[", 1);
    e->depth++;
    for (inside.index = 1; inside.index <= n; inside.index++) {
        if (inside.index > 1)
            add(e, ",", 1);
        newline(e);
        if (lua_rawgeti(L, -1, inside.index) == LUA_TNIL) {
            e->depth--;
            refuse(
                e, at, "the table is not a sequence from 1 to n, and not all its keys are strings",
                "db.null keeps the place of a missing element; json.object(t) makes an object of any table");
        }
        add_value(e, &inside);
        lua_pop(L, 1);
    }
    e->depth--;
    if (n > 0)
        newline(e);
    add(e, "]", 1);
}

/* The member whose value is at the top of the stack. */
static void add_member(struct encoder *e, const struct place *at, bool first, const char *key, size_t len)
{
    struct place inside = {.up = at, .key = key, .len = len};
    if (memchr(key, '\0', len))
        refuse(e, &inside, "a name that contains a NUL byte", "JSON readers written in C do not accept it");
    if (!first)
        add(e, ",", 1);
    newline(e);
    add_string(e, &inside, key, len);
    add(e, ": ", e->indent > 0 ? 2 : 1);
    add_value(e, &inside);
}

/* A member's name from the key at `idx` of the table at `t`. A table that was marked as an object may
 * have integer keys; their text goes to `digits`. */
static const char *member_name(struct encoder *e, const struct place *at, int t, int idx, char digits[32],
                               size_t *len)
{
    lua_State *L = e->L;
    if (lua_type(L, idx) == LUA_TSTRING)
        return lua_tolstring(L, idx, len);
    if (!lua_isinteger(L, idx) || !has_class(L, t, e->object_class)) {
        char what[96];
        snprintf(what, sizeof what, "a key of type %s in a table that is not a sequence from 1 to n",
                 luaL_typename(L, idx));
        refuse(e, at, what, "json.object(t) writes integer keys as strings");
    }
    *len = (size_t)snprintf(digits, 32, LUA_INTEGER_FMT, (LUAI_UACINT)lua_tointeger(L, idx));
    lua_pushlstring(L, digits, *len);
    if (lua_rawget(L, t) != LUA_TNIL)
        refuse(e, at, "an integer key and a string key have the same text", NULL);
    lua_pop(L, 1);
    return digits;
}

static bool add_members(struct encoder *e, const struct place *at)
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

/* The same, sorted by name. A table keeps names and keys (at 2i-1 and 2i) from being collected. */
static bool add_sorted_members(struct encoder *e, const struct place *at)
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
        add_member(e, at, i == 0, members[i].name, members[i].len);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
    return n > 0;
}

static void add_object(struct encoder *e, const struct place *at)
{
    add(e, "{", 1);
    e->depth++;
    bool any = e->sort_keys ? add_sorted_members(e, at) : add_members(e, at);
    e->depth--;
    if (any)
        newline(e);
    add(e, "}", 1);
}

static void add_table(struct encoder *e, const struct place *at)
{
    lua_State *L = e->L;
    int t = lua_gettop(L);
    if (e->depth >= JSON_MAX_DEPTH)
        refuse(e, at, "nested deeper than 2048 levels", "does a table contain itself?");
    luaL_checkstack(L, 8, "JSON is nested too deeply");
    if (has_class(L, t, e->array_class) || (lua_rawlen(L, t) > 0 && !has_class(L, t, e->object_class)))
        add_array(e, at);
    else
        add_object(e, at);
}

/* The value at the top of the stack. */
static void add_value(struct encoder *e, const struct place *at)
{
    lua_State *L = e->L;
    size_t len;
    char what[64];
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        if (lua_toboolean(L, -1))
            add(e, "true", 4);
        else
            add(e, "false", 5);
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1))
            add_integer(e, lua_tointeger(L, -1));
        else
            add_float(e, at, lua_tonumber(L, -1));
        return;
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &len);
        add_string(e, at, text, len);
        return;
    }
    case LUA_TTABLE:
        add_table(e, at);
        return;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, -1)) {
            add(e, "null", 4);
            return;
        }
        break;
    case LUA_TNIL:
        refuse(e, at, "nil has no JSON form", "db.null stands for null");
        return;
    default:
        break;
    }
    snprintf(what, sizeof what, "a %s has no JSON form", luaL_typename(L, -1));
    refuse(e, at, what, NULL);
}

/* ---- the call ---- */

/* Reads the table of options at 2, which lua/dbrun/json.lua has checked. */
static void read_options(lua_State *L, struct encoder *e)
{
    if (!lua_istable(L, 2))
        return;
    lua_getfield(L, 2, "indent");
    lua_getfield(L, 2, "sort_keys");
    e->indent = (int)lua_tointeger(L, -2);
    e->sort_keys = lua_toboolean(L, -1);
    lua_pop(L, 2);
}

int bind_json_encode(lua_State *L)
{
    struct encoder e = {.L = L, .rt = bind_runtime(L)};
    lua_settop(L, 2);
    read_options(L, &e);
    luaL_getmetatable(L, JSON_ARRAY_CLASS);
    luaL_getmetatable(L, JSON_OBJECT_CLASS);
    e.array_class = 3;
    e.object_class = 4;
    e.out = push_buf(L);
    lua_pushvalue(L, 1);
    add_value(&e, NULL);
    lua_pushlstring(L, e.out->data, e.out->len);
    buf_free(e.out);
    return 1;
}
