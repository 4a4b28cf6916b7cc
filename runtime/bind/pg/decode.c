/*
 * Makes the Lua value of any type: a scalar (decode_scalar.c), a type with a codec, or a type that contains
 * values: array, composite, range, multirange, hstore, vector. Text forms: sections 8.15.6, 8.16.6 and 8.17.5
 * of the PostgreSQL manual; binary form of arrays: array_send in arrayfuncs.c.
 */
#include "bind/pg/decode.h"
#include "base/number.h"
#include "bind/pg/array_mark.h"
#include "bind/pg/decode_error.h"
#include "pg/wire.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 100 };

struct reader {
    lua_State *L;
    const struct pg_reading *d;
    const char *p;
    const char *end;
    int depth;
};

static void decode_text(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                        size_t len, int depth);

static int malformed(struct reader *r, const char *what)
{
    return pg_decode_fail(r->L, r->d, "the server sent a malformed %s", what);
}

static int peek(const struct reader *r)
{
    return r->p < r->end ? (unsigned char)*r->p : -1;
}

static bool take(struct reader *r, char c)
{
    if (peek(r) != (unsigned char)c)
        return false;
    r->p++;
    return true;
}

static void expect(struct reader *r, char c, const char *what)
{
    if (!take(r, c))
        malformed(r, what);
}

static void expect_end(struct reader *r, const char *what)
{
    if (r->p != r->end)
        malformed(r, what);
}

/* Pushes the text up to the closing quote, and moves past the quote. A quote inside is written as \" or
 * "". */
static void push_quoted(struct reader *r, const char *what)
{
    luaL_Buffer b;
    luaL_buffinit(r->L, &b);
    for (;;) {
        const char *from = r->p;
        while (r->p < r->end && *r->p != '"' && *r->p != '\\')
            r->p++;
        luaL_addlstring(&b, from, (size_t)(r->p - from));
        if (r->p >= r->end)
            malformed(r, what);
        char c = *r->p++;
        if (c == '"' && peek(r) != '"')
            break;
        if (r->p >= r->end)
            malformed(r, what);
        luaL_addchar(&b, *r->p++);
    }
    luaL_pushresult(&b);
}

/* Pushes the text up to (not including) one of `stops`. */
static void push_bare(struct reader *r, const char *stops)
{
    const char *from = r->p;
    while (r->p < r->end && !strchr(stops, *r->p))
        r->p++;
    lua_pushlstring(r->L, from, (size_t)(r->p - from));
}

/* Replaces the text on top by its value. */
static void decode_top(struct reader *r, const struct pg_type *t)
{
    size_t len;
    const char *s = lua_tolstring(r->L, -1, &len);
    decode_text(r->L, r->d, t, s, len, r->depth);
    lua_replace(r->L, -2);
}

static void enter(struct reader *r)
{
    luaL_checkstack(r->L, 12, "a value nested too deep");
    if (++r->depth > DEEPEST)
        malformed(r, "value (nested too deep)");
}

/* ---- arrays ---- */

static void push_array(struct reader *r, const struct pg_type *elem, char delim)
{
    const char stops[] = {delim, '}', '\0'};
    lua_Integer n = 0;
    enter(r);
    expect(r, '{', "array");
    lua_newtable(r->L);
    while (!take(r, '}')) {
        if (n > 0)
            expect(r, delim, "array");
        if (peek(r) == '{') {
            push_array(r, elem, delim);
        } else if (take(r, '"')) {
            push_quoted(r, "array");
            decode_top(r, elem);
        } else {
            push_bare(r, stops);
            if (r->p >= r->end)
                malformed(r, "array");
            if (ascii_is_word(lua_tostring(r->L, -1), lua_rawlen(r->L, -1), "null")) {
                lua_pop(r->L, 1);
                lua_pushlightuserdata(r->L, NULL);
            } else {
                decode_top(r, elem);
            }
        }
        pg_decode_fill(r->L, r->d);
        lua_rawseti(r->L, -2, ++n);
    }
    r->depth--;
}

/* Reads "[0:2][-1:1]=" in front of an array, if it is there, and counts the dimensions. Moves to the array.
 */
static struct pg_array_mark take_bounds(struct reader *r)
{
    struct pg_array_mark mark = {0};
    for (int i = 0; i < PG_MOST_DIMENSIONS; i++)
        mark.lower[i] = 1;
    for (int i = 0; take(r, '['); i++) {
        bool negative = take(r, '-');
        int64_t low = 0;
        while (r->p < r->end && ascii_is_digit(*r->p) && low < INT32_MAX)
            low = low * 10 + (*r->p++ - '0');
        if (i == PG_MOST_DIMENSIONS || low > (int64_t)INT32_MAX + negative)
            malformed(r, "array");
        mark.lower[i] = (int32_t)(negative ? -low : low);
        while (r->p < r->end && *r->p != ']')
            r->p++;
        expect(r, ']', "array");
        if (take(r, '='))
            break;
    }
    for (const char *p = r->p; p < r->end && *p == '{' && mark.dims < PG_MOST_DIMENSIONS; p++)
        mark.dims++;
    return mark;
}

static bool is_nested(const struct pg_type *t)
{
    return t->kind == PG_KIND_ARRAY || t->kind == PG_KIND_COMPOSITE || t->kind == PG_KIND_RANGE ||
           t->kind == PG_KIND_MULTIRANGE || t->kind == PG_KIND_HSTORE || t->kind == PG_KIND_VECTOR;
}

/* True when values of the type can become tables. */
static bool becomes_table(const struct pg_reading *d, const struct pg_type *t)
{
    return d->by->codecs != LUA_NOREF || is_nested(t) || t->kind == PG_KIND_JSON || t->kind == PG_KIND_JSONB;
}

/* ---- composites ---- */

/* Fails when the field is missing: another program may have altered the type since it was looked up. */
static void expect_field(struct reader *r, char c, const struct pg_type *t)
{
    if (!take(r, c))
        pg_decode_fail(r->L, r->d,
                       "the server sent a malformed composite: a value of %s does not have its %d fields",
                       t->name, t->nfields);
}

static void push_composite(struct reader *r, const struct pg_type *t)
{
    enter(r);
    expect_field(r, '(', t);
    if (t->nfields - 1 > r->end - r->p) /* each comma takes a byte */
        malformed(r, "composite");
    lua_createtable(r->L, 0, t->nfields);
    for (int i = 0; i < t->nfields; i++) {
        const struct pg_type *field = pg_type_of(r->d->by->catalog, t->fields[i].type);
        if (i > 0)
            expect_field(r, ',', t);
        if (peek(r) == ',' || peek(r) == ')')
            continue; /* NULL */
        if (take(r, '"'))
            push_quoted(r, "composite");
        else
            push_bare(r, ",)");
        decode_top(r, field);
        lua_setfield(r->L, -2, t->fields[i].name);
    }
    expect_field(r, ')', t);
    r->depth--;
}

/* ---- ranges ---- */

static void set_flag(struct reader *r, const char *key, bool v)
{
    lua_pushboolean(r->L, v);
    lua_setfield(r->L, -2, key);
}

/* A missing bound is infinite; the table has no field for it. */
static void set_bound(struct reader *r, const struct pg_type *elem, const char *key)
{
    int c = peek(r);
    if (c == ',' || c == ')' || c == ']')
        return;
    if (take(r, '"'))
        push_quoted(r, "range");
    else
        push_bare(r, ",)]");
    decode_top(r, elem);
    lua_setfield(r->L, -2, key);
}

/* {lower=, upper=, lower_inc=, upper_inc=} or {empty=true} */
static void push_range(struct reader *r, const struct pg_type *elem)
{
    enter(r);
    lua_createtable(r->L, 0, 4);
    if (r->end - r->p >= 5 && strncmp(r->p, "empty", 5) == 0) {
        r->p += 5;
        set_flag(r, "empty", true);
    } else {
        bool closed = take(r, '[');
        if (!closed)
            expect(r, '(', "range");
        set_flag(r, "lower_inc", closed);
        set_bound(r, elem, "lower");
        expect(r, ',', "range");
        set_bound(r, elem, "upper");
        closed = take(r, ']');
        if (!closed)
            expect(r, ')', "range");
        set_flag(r, "upper_inc", closed);
    }
    r->depth--;
}

static void push_multirange(struct reader *r, const struct pg_type *range)
{
    const struct pg_type *elem = pg_type_of(r->d->by->catalog, range->elem);
    lua_Integer n = 0;
    expect(r, '{', "multirange");
    lua_newtable(r->L);
    while (!take(r, '}')) {
        if (n > 0)
            expect(r, ',', "multirange");
        push_range(r, elem);
        lua_rawseti(r->L, -2, ++n);
    }
}

/* ---- types of extensions ---- */

/* "a"=>"1", "b"=>NULL */
static void push_hstore(struct reader *r)
{
    lua_newtable(r->L);
    while (r->p < r->end) {
        expect(r, '"', "hstore");
        push_quoted(r, "hstore");
        expect(r, '=', "hstore");
        expect(r, '>', "hstore");
        if (take(r, '"')) {
            push_quoted(r, "hstore");
        } else {
            push_bare(r, ",");
            lua_pop(r->L, 1);
            lua_pushlightuserdata(r->L, NULL);
        }
        lua_rawset(r->L, -3);
        if (take(r, ','))
            take(r, ' ');
    }
}

/* [1,2.5,3] */
static void push_vector(struct reader *r)
{
    lua_Integer n = 0;
    expect(r, '[', "vector");
    lua_newtable(r->L);
    while (!take(r, ']')) {
        if (n > 0)
            expect(r, ',', "vector");
        push_bare(r, ",]");
        if (r->p >= r->end)
            malformed(r, "vector");
        lua_pushnumber(r->L, number_parse(lua_tostring(r->L, -1), NULL));
        lua_rawseti(r->L, -3, ++n);
        lua_pop(r->L, 1);
    }
}

static void nested_text(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                        size_t len, int depth)
{
    struct reader r = {L, d, p, p + len, depth};
    const struct pg_type *elem = pg_type_of(d->by->catalog, t->elem);
    struct pg_array_mark mark;
    luaL_checkstack(L, 12, "a nested value");
    switch (t->kind) {
    case PG_KIND_ARRAY:
        mark = take_bounds(&r);
        push_array(&r, elem, t->delim ? t->delim : ',');
        pg_array_mark_set(L, &mark, becomes_table(d, elem));
        break;
    case PG_KIND_COMPOSITE:
        push_composite(&r, t);
        break;
    case PG_KIND_RANGE:
        push_range(&r, elem);
        break;
    case PG_KIND_MULTIRANGE:
        push_multirange(&r, elem);
        break;
    case PG_KIND_HSTORE:
        push_hstore(&r);
        break;
    default:
        push_vector(&r);
        break;
    }
    expect_end(&r, t->name);
}

/* ---- arrays, binary ---- */

static int32_t take_int4(struct reader *r)
{
    if (r->end - r->p < 4)
        malformed(r, "array (binary form)");
    int32_t v = wire_get4(r->p);
    r->p += 4;
    return v;
}

/* Checks before any table is made that the value is long enough for its elements, each of which takes at
 * least four bytes. The server sends an empty array without dimensions, so no size is zero. */
static void check_sizes(struct reader *r, const int32_t *sizes, int ndim)
{
    ptrdiff_t room = (r->end - r->p) / 4;
    ptrdiff_t n = 1;
    for (int i = 0; i < ndim; i++) {
        if (sizes[i] < 1 || sizes[i] > room / n)
            malformed(r, "array (binary form)");
        n *= sizes[i];
    }
}

static void push_dimension(struct reader *r, const struct pg_type *elem, const int32_t *sizes, int ndim)
{
    int32_t n = sizes[0];
    luaL_checkstack(r->L, 12, "a nested value");
    lua_createtable(r->L, n, 0);
    for (int32_t i = 1; i <= n; i++) {
        if (ndim > 1) {
            push_dimension(r, elem, sizes + 1, ndim - 1);
        } else {
            int32_t len = take_int4(r);
            if (len < -1 || (len > 0 && len > r->end - r->p))
                malformed(r, "array (binary form)");
            if (len < 0) {
                lua_pushlightuserdata(r->L, NULL);
            } else {
                pg_decode(r->L, r->d, elem, r->p, (size_t)len, true);
                r->p += len;
            }
        }
        lua_rawseti(r->L, -2, i);
    }
}

static void array_binary(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                         size_t len)
{
    struct reader r = {L, d, p, p + len, 0};
    int32_t sizes[PG_MOST_DIMENSIONS];
    struct pg_array_mark mark = {0};
    int32_t ndim = take_int4(&r);
    take_int4(&r); /* the flag whether the array has NULLs */
    Oid type = (Oid)take_int4(&r);
    if (ndim < 0 || ndim > PG_MOST_DIMENSIONS || type != t->elem)
        malformed(&r, "array (binary form)");
    if (ndim == 0) {
        lua_newtable(L);
        return;
    }
    for (int i = 0; i < ndim; i++) {
        sizes[i] = take_int4(&r);
        mark.lower[i] = take_int4(&r);
    }
    check_sizes(&r, sizes, ndim);
    const struct pg_type *elem = pg_type_of(d->by->catalog, t->elem);
    push_dimension(&r, elem, sizes, ndim);
    mark.dims = ndim;
    pg_array_mark_set(L, &mark, becomes_table(d, elem));
    expect_end(&r, "array (binary form)");
}

/* ---- any value ---- */

/* Pushes the value from the script's codec for this type; false when there is no codec. */
static bool push_by_codec(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                          size_t len)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, 6, "no room to call a codec");
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->by->codecs);
    if (lua_getfield(L, -1, t->name) != LUA_TTABLE || lua_getfield(L, -1, "decode") != LUA_TFUNCTION) {
        lua_settop(L, top);
        return false;
    }
    lua_pushlstring(L, p, len);
    struct pg_decoder *own = (struct pg_decoder *)d->by; /* the engine's decoder itself is not const */
    bool before = own->in_codec;
    own->in_codec = true;
    int status = lua_pcall(L, 1, 1, 0);
    own->in_codec = before;
    if (status != LUA_OK)
        lua_error(L);
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
    return true;
}

static void decode_text(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                        size_t len, int depth)
{
    if (d->by->codecs != LUA_NOREF && push_by_codec(L, d, t, p, len))
        return;
    if (is_nested(t))
        nested_text(L, d, t, p, len, depth);
    else
        pg_scalar_text(L, d, t, p, len);
}

void pg_decode(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p, size_t len,
               bool binary)
{
    if (!binary)
        decode_text(L, d, t, p, len, 0);
    else if (t->kind == PG_KIND_ARRAY)
        array_binary(L, d, t, p, len);
    else
        pg_scalar_binary(L, d, t, p, len);
}
