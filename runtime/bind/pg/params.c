/* Makes statement parameters from Lua values. All are sent as text, whose type the server infers, except
 * bytea, which is sent in binary. */
#include "bind/pg/params.h"
#include "base/number.h"
#include "base/text.h"
#include "bind/base/error.h"
#include "bind/pg/named.h"
#include "pg/timefmt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- checking, before a connection is taken ---- */

/* `plan`: the index of the plan of :name parameters, if it is one. */
static int refuse(lua_State *L, struct runtime *rt, int plan, int number, const char *what, const char *hint)
{
    struct error e = {0};
    if (pg_named_push_name(L, plan, number))
        error_set(&e, ERROR_USAGE, "parameter :%s ($%d) %s", lua_tostring(L, -1), number, what);
    else
        error_set(&e, ERROR_USAGE, "parameter $%d %s", number, what);
    e.outcome = OUTCOME_NOT_SENT;
    error_set_field(&e, ERROR_HINT, hint);
    return bind_error_raise(L, rt, &e);
}

#define VALUE_LIMIT (1u << 30)
#define LARGE_HINT  "Split the data over several statements or COPY rows, or use a large object."

static void check_text(lua_State *L, struct runtime *rt, int at, int plan, int number)
{
    size_t len;
    const char *s = lua_tolstring(L, at, &len);
    if (memchr(s, 0, len))
        refuse(L, rt, plan, number, "contains a NUL byte, which PostgreSQL text cannot hold",
               "Pass raw bytes as db.bytea(s).");
    if (!utf8_is_valid(s, len))
        refuse(L, rt, plan, number, "is not valid UTF-8", "Pass raw bytes as db.bytea(s).");
    if (len >= VALUE_LIMIT)
        refuse(L, rt, plan, number, "is 1 GiB or more, which PostgreSQL does not accept", LARGE_HINT);
}

/* True for a parameter that db.bytea, db.json, ... made: {text, oid, binary}. The text is `false` when the
 * value can be encoded only once its type is known. */
bool pg_param_is_wrapped(lua_State *L, int at)
{
    if (!lua_getmetatable(L, at))
        return false;
    luaL_getmetatable(L, PG_PARAM_CLASS);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* True for a table that lua/dbrun/db/values.lua must first encode by the type that the server expects. */
static bool is_unwritten(lua_State *L, int at)
{
    at = lua_absindex(L, at);
    if (!pg_param_is_wrapped(L, at))
        return true;
    bool unwritten = lua_rawgeti(L, at, 1) == LUA_TBOOLEAN;
    lua_pop(L, 1);
    return unwritten;
}

bool pg_param_is_allowed(lua_State *L, int at)
{
    switch (lua_type(L, at)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TSTRING:
        return true;
    case LUA_TLIGHTUSERDATA:
        return lua_touserdata(L, at) == NULL;
    case LUA_TTABLE:
        return !is_unwritten(L, at);
    default:
        return false;
    }
}

/* The bytes that a parameter takes in the message; 0 for parameters that take only a few. */
static size_t value_size(lua_State *L, int at)
{
    if (lua_type(L, at) != LUA_TTABLE)
        return lua_type(L, at) == LUA_TSTRING ? lua_rawlen(L, at) : 0;
    size_t len = lua_rawgeti(L, at, 1) == LUA_TSTRING ? lua_rawlen(L, -1) : 0;
    lua_pop(L, 1);
    return len;
}

bool pg_params_check(lua_State *L, struct runtime *rt, int first, int n, int plan)
{
    bool unwritten = false;
    /* All parameters are sent in one message; the server closes the connection when that is too long. */
    size_t total = 4096 + 6 * (size_t)n;
    for (int i = 0; i < n; i++) {
        int at = first + i;
        if (lua_type(L, at) == LUA_TSTRING)
            check_text(L, rt, at, plan, i + 1);
        if (pg_param_is_allowed(L, at)) {
            total += value_size(L, at);
            if (total >= VALUE_LIMIT)
                refuse(L, rt, plan, i + 1,
                       "and those before it are 1 GiB together, or more, which PostgreSQL does not accept",
                       LARGE_HINT);
            continue;
        }
        if (lua_type(L, at) == LUA_TTABLE) {
            unwritten = true;
            continue;
        }
        lua_pushfstring(L, "is a %s, which cannot be a parameter", luaL_typename(L, at));
        refuse(L, rt, plan, i + 1, lua_tostring(L, -1),
               "Pass a list as db.array(t), JSON as db.json(v), SQL NULL as nil or db.null.");
    }
    return unwritten;
}

/* ---- encoding, once a connection is taken ---- */

static void encode_integer(char out[32], lua_Integer v)
{
    char digits[24];
    int n = 0;
    char *p = out;
    /* Works on the negative number, because INT64_MIN has no positive counterpart. */
    lua_Integer rest = v < 0 ? v : -v;
    do {
        digits[n++] = (char)('0' - rest % 10);
        rest /= 10;
    } while (rest);
    if (v < 0)
        *p++ = '-';
    while (n)
        *p++ = digits[--n];
    *p = '\0';
}

static void format_float(char out[32], double v)
{
    if (isnan(v)) {
        strcpy(out, "NaN");
        return;
    }
    if (isinf(v)) {
        strcpy(out, v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    /* Integer types accept no exponent. */
    if (v > -0x1p63 && v < 0x1p63 && (double)(int64_t)v == v && (v != 0 || !signbit(v)))
        encode_integer(out, (lua_Integer)v);
    else
        number_format(out, v);
}

void pg_param_number(lua_State *L, int at, char out[32])
{
    if (lua_isinteger(L, at))
        encode_integer(out, lua_tointeger(L, at));
    else
        format_float(out, lua_tonumber(L, at));
}

struct param_arrays {
    Oid *types;
    const char **values;
    int *lengths;
    int *formats;
    char (*numbers)[32];
};

static void encode_wrapped(lua_State *L, int at, int i, const struct param_arrays *s)
{
    /* Cannot raise: these are raw gets of integer keys in a table that db.* made. */
    size_t len = 0;
    lua_rawgeti(L, at, 1);
    s->values[i] = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    lua_rawgeti(L, at, 2);
    s->types[i] = (Oid)lua_tointeger(L, -1);
    lua_rawgeti(L, at, 3);
    s->formats[i] = lua_toboolean(L, -1);
    s->lengths[i] = (int)len;
    lua_pop(L, 3); /* the table keeps the text alive */
}

static void encode_one(lua_State *L, int at, int i, const struct param_arrays *s)
{
    s->types[i] = 0;
    s->formats[i] = 0;
    s->lengths[i] = 0;
    s->values[i] = NULL;
    switch (lua_type(L, at)) {
    case LUA_TBOOLEAN:
        s->values[i] = lua_toboolean(L, at) ? "true" : "false"; /* json reads these, too */
        break;
    case LUA_TNUMBER:
        pg_param_number(L, at, s->numbers[i]);
        s->values[i] = s->numbers[i];
        break;
    case LUA_TSTRING:
        s->values[i] = lua_tostring(L, at);
        break;
    case LUA_TTABLE:
        encode_wrapped(L, at, i, s);
        break;
    default: /* nil, db.null */
        break;
    }
}

bool pg_params_encode(lua_State *L, int first, int n, struct pg_encoded *out)
{
    struct param_arrays s = {out->types, out->values, out->lengths, out->formats, out->numbers};
    out->block = NULL;
    if (n > PG_PARAMS_INLINE) {
        size_t each =
            sizeof *s.types + sizeof *s.values + sizeof *s.lengths + sizeof *s.formats + sizeof *s.numbers;
        char *block = malloc(each * (size_t)n);
        if (!block)
            return false;
        out->block = block;
        s.values = (void *)block;
        block += sizeof *s.values * (size_t)n;
        s.types = (void *)block;
        block += sizeof *s.types * (size_t)n;
        s.lengths = (void *)block;
        block += sizeof *s.lengths * (size_t)n;
        s.formats = (void *)block;
        block += sizeof *s.formats * (size_t)n;
        s.numbers = (void *)block;
    }
    for (int i = 0; i < n; i++)
        encode_one(L, first + i, i, &s);
    out->p = (struct pg_params){
        .n = n, .types = s.types, .values = s.values, .lengths = s.lengths, .formats = s.formats};
    return true;
}

void pg_params_free(struct pg_encoded *enc)
{
    free(enc->block);
    enc->block = NULL;
}

/* ---- wrapping ---- */

/* param(text|nil|false, oid, binary) -> wrapped parameter; false = encode it by its type later. The public
 * functions db.bytea, db.json, ... call this. */
static int param_new(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    bool unwritten = lua_isboolean(L, 1);
    if (!lua_isnoneornil(L, 1) && !unwritten)
        luaL_checkstring(L, 1);
    lua_Integer oid = luaL_optinteger(L, 2, 0);
    bool binary = lua_toboolean(L, 3);
    size_t len = 0;
    const char *s = lua_tolstring(L, 1, &len);
    if (s && len >= (1u << 30))
        return bind_fail(L, rt, ERROR_USAGE, "a value of 1 GiB or more cannot be a parameter");
    if (s && !binary && (memchr(s, 0, len) || !utf8_is_valid(s, len)))
        return bind_fail(
            L, rt, ERROR_USAGE,
            "a text parameter must be valid UTF-8 without NUL bytes: pass raw bytes as db.bytea(s)");
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, oid);
    lua_rawseti(L, -2, 2);
    lua_pushboolean(L, binary);
    lua_rawseti(L, -2, 3);
    luaL_setmetatable(L, PG_PARAM_CLASS);
    return 1;
}

/* timestamp_text(seconds since 1970, zone) -> ISO 8601 */
static int timestamp_text(lua_State *L)
{
    char text[TIMEFMT_MAX];
    lua_Number v = luaL_checknumber(L, 1);
    int64_t usec;
    if (isinf(v))
        usec = v < 0 ? INT64_MIN : INT64_MAX;
    else if (!(v > -9e12 && v < 9.3e12))
        return bind_fail(L, bind_runtime(L), ERROR_USAGE, "%f is no timestamp (seconds since 1970)", v);
    else
        usec = (int64_t)floor((v - 946684800.0) * 1e6 + 0.5);
    lua_pushlstring(L, text, timefmt_timestamp(text, usec, lua_toboolean(L, 2)));
    return 1;
}

/* number_text(number) -> the text that PostgreSQL reads back as the same number */
static int number_text(lua_State *L)
{
    char text[NUMBER_MAX];
    luaL_checktype(L, 1, LUA_TNUMBER);
    pg_param_number(L, 1, text);
    lua_pushstring(L, text);
    return 1;
}

const luaL_Reg pg_param_functions[] = {
    {"param", param_new}, {"number_text", number_text}, {"timestamp_text", timestamp_text}, {NULL, NULL}};
