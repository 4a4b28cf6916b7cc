/* Writes one value of a row for COPY FROM STDIN, in the text, CSV or binary format. */
#include "bind/pg/array_mark.h"
#include "bind/pg/copy.h"
#include "bind/pg/params.h"
#include "pg/wire.h"

#include <string.h>

enum { MOST_DIMENSIONS = 6 };

/* ---- tables ---- */

bool pg_copy_is_json(const struct pg_type *t)
{
    return t->kind == PG_KIND_JSON || t->kind == PG_KIND_JSONB;
}

static bool is_null(lua_State *L, int at)
{
    return lua_isnil(L, at) || (lua_islightuserdata(L, at) && lua_touserdata(L, at) == NULL);
}

static bool is_plain_table(lua_State *L, int at)
{
    return lua_istable(L, at) && !pg_param_is_allowed(L, at);
}

static bool is_to_be_written(lua_State *L, const struct copy_encoder *x, int c)
{
    const struct pg_type *t = x->types[c];
    if (x->special[c])
        return !is_null(L, -1);
    if (!lua_istable(L, -1))
        return false;
    bool binary_array = x->format == COPY_BINARY && t->kind == PG_KIND_ARRAY;
    if (pg_param_is_allowed(L, -1)) /* db.array has a text, but the binary form is made from a list */
        return binary_array;
    return !binary_array || pg_param_is_wrapped(L, lua_gettop(L));
}

void pg_copy_prepare(lua_State *L, struct copy_encoder *x, int c)
{
    if (c >= x->ncols || !is_to_be_written(L, x, c))
        return;
    lua_getiuservalue(L, lua_upvalueindex(2), COPY_WRITE);
    lua_insert(L, -2);
    lua_pushinteger(L, c + 1);
    lua_pushinteger(L, x->rows + 1);
    lua_call(L, 3, 1);
}

/* ---- text and CSV ---- */

static bool put_quoted(struct copy_encoder *x, const char *s, size_t len)
{
    return x->format == COPY_CSV ? copyfmt_csv(&x->out, s, len) : copyfmt_text(&x->out, s, len);
}

/* Writes a value made by db.bytea, db.json, db.typed or db.array: {text, oid, true when the text is raw
 * bytes}. */
static bool put_wrapped(lua_State *L, struct copy_encoder *x, int at)
{
    size_t len;
    lua_rawgeti(L, at, 1);
    lua_rawgeti(L, at, 3);
    const char *s = lua_tolstring(L, -2, &len);
    bool ok;
    if (!s)
        ok = x->format == COPY_CSV || buf_add(&x->out, "\\N", 2);
    else if (lua_toboolean(L, -1))
        ok = copyfmt_bytea(&x->out, s, len, x->format == COPY_TEXT);
    else
        ok = put_quoted(x, s, len);
    lua_pop(L, 2);
    return ok;
}

/* Writes the value at the top of the stack. */
static bool put_text(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    char number[32];
    size_t len;
    const char *s;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        s = lua_toboolean(L, -1) ? "true" : "false";
        return buf_add(&x->out, s, pg_copy_is_json(t) ? strlen(s) : 1);
    case LUA_TNUMBER:
        pg_param_number(L, -1, number);
        return buf_adds(&x->out, number);
    case LUA_TSTRING:
        s = lua_tolstring(L, -1, &len);
        if (t->kind == PG_KIND_BYTEA)
            return copyfmt_bytea(&x->out, s, len, x->format == COPY_TEXT);
        return put_quoted(x, s, len);
    case LUA_TTABLE:
        return put_wrapped(L, x, lua_gettop(L));
    default:
        return x->format == COPY_CSV || buf_add(&x->out, "\\N", 2);
    }
}

enum copyfmt_result pg_copy_text_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    if (!pg_param_is_allowed(L, -1))
        return COPYFMT_INVALID;
    return put_text(L, x, t) ? COPYFMT_OK : COPYFMT_OOM;
}

/* ---- binary ---- */

static enum copyfmt_result binary_null(struct copy_encoder *x)
{
    if (!buf_reserve(&x->out, 4))
        return COPYFMT_OOM;
    wire_put4(&x->out, UINT32_MAX);
    return COPYFMT_OK;
}

static enum copyfmt_result binary_boolean(struct copy_encoder *x, const struct pg_type *t, bool v)
{
    const char *word = v ? "true" : "false";
    if (t->kind == PG_KIND_BOOL)
        return copyfmt_bool(&x->out, v);
    if (pg_copy_is_json(t))
        return copyfmt_value(&x->out, t, word, strlen(word));
    if (t->kind == PG_KIND_TEXT)
        return copyfmt_value(&x->out, t, v ? "t" : "f", 1);
    return COPYFMT_INVALID;
}

static enum copyfmt_result binary_number(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    char text[32];
    lua_Integer n;
    switch (t->kind) {
    case PG_KIND_FLOAT8:
    case PG_KIND_FLOAT4:
        return copyfmt_float(&x->out, t->kind, lua_tonumber(L, -1));
    case PG_KIND_INT8:
    case PG_KIND_INT4:
    case PG_KIND_INT2:
    case PG_KIND_OID:
        if (lua_isinteger(L, -1))
            return copyfmt_integer(&x->out, t->kind, lua_tointeger(L, -1));
        if (!lua_numbertointeger(lua_tonumber(L, -1), &n) || (lua_Number)n != lua_tonumber(L, -1))
            return COPYFMT_INVALID;
        return copyfmt_integer(&x->out, t->kind, n);
    case PG_KIND_BYTEA:
        return COPYFMT_INVALID;
    default:
        pg_param_number(L, -1, text);
        return copyfmt_value(&x->out, t, text, strlen(text));
    }
}

static enum copyfmt_result binary_wrapped(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    size_t len;
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 3);
    const char *s = lua_tolstring(L, -2, &len);
    bool raw = lua_toboolean(L, -1);
    enum copyfmt_result result;
    if (!s)
        result = binary_null(x);
    else if (raw != (t->kind == PG_KIND_BYTEA))
        result = COPYFMT_INVALID;
    else
        result = copyfmt_value(&x->out, t, s, len);
    lua_pop(L, 2);
    return result;
}

/* True when the table on top is a list of n values, without holes and other keys. */
static bool is_list_of(lua_State *L, int n)
{
    int keys = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (key < 1 || key > n) {
            lua_pop(L, 2);
            return false;
        }
        keys++;
    }
    return keys == n;
}

/* Writes the elements of the array at the top, dimension by dimension; all lists of a dimension must have the
 * same length. */
static enum copyfmt_result put_elements(lua_State *L, struct copy_encoder *x, const struct pg_type *elem,
                                        const int *sizes, int ndim)
{
    enum copyfmt_result result = COPYFMT_OK;
    if (!is_plain_table(L, -1) || !is_list_of(L, sizes[0]))
        return COPYFMT_INVALID;
    for (int i = 1; i <= sizes[0] && result == COPYFMT_OK; i++) {
        lua_rawgeti(L, -1, i);
        result = ndim > 1 ? put_elements(L, x, elem, sizes + 1, ndim - 1) : pg_copy_binary_value(L, x, elem);
        lua_pop(L, 1);
    }
    return result;
}

/* The number and the sizes of the dimensions, taken from the first elements. */
static int dimensions(lua_State *L, int sizes[MOST_DIMENSIONS])
{
    int top = lua_gettop(L);
    int n = 0;
    while (n < MOST_DIMENSIONS && is_plain_table(L, -1) && lua_rawlen(L, -1) <= INT32_MAX) {
        sizes[n++] = (int)lua_rawlen(L, -1);
        lua_rawgeti(L, -1, 1);
    }
    lua_settop(L, top);
    return sizes[0] == 0 ? 0 : n;
}

/* True when the list on top has no elements, or only empty lists. */
static bool is_empty(lua_State *L, int depth)
{
    bool empty = is_list_of(L, (int)lua_rawlen(L, -1));
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        empty = empty && depth > 1 && is_plain_table(L, -1) && is_empty(L, depth - 1);
    return empty;
}

/* The form that array_recv in arrayfuncs.c reads. */
static enum copyfmt_result binary_array(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    const struct pg_type *elem = pg_type_of(NULL, t->elem);
    int sizes[MOST_DIMENSIONS];
    size_t start = x->out.len;
    if (pg_copy_is_json(elem))
        return COPYFMT_UNKNOWN;
    luaL_checkstack(L, MOST_DIMENSIONS + 8, "an array");
    struct pg_array_mark mark;
    pg_array_mark_get(L, -1, &mark);
    int ndim = dimensions(L, sizes);
    if (ndim == 0 && !is_empty(L, MOST_DIMENSIONS))
        return COPYFMT_INVALID;
    if (!buf_reserve(&x->out, 16 + 8 * MOST_DIMENSIONS))
        return COPYFMT_OOM;
    wire_put4(&x->out, 0); /* the length, set below */
    wire_put4(&x->out, (uint32_t)ndim);
    wire_put4(&x->out, 1); /* flag: the array may have NULLs */
    wire_put4(&x->out, t->elem);
    for (int i = 0; i < ndim; i++) {
        wire_put4(&x->out, (uint32_t)sizes[i]);
        wire_put4(&x->out, mark.has_lower ? (uint32_t)mark.lower[i] : 1);
    }
    enum copyfmt_result result = ndim > 0 ? put_elements(L, x, elem, sizes, ndim) : COPYFMT_OK;
    size_t end = x->out.len;
    x->out.len = start;
    wire_put4(&x->out, (uint32_t)(end - start - 4));
    x->out.len = end;
    return result;
}

enum copyfmt_result pg_copy_binary_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t)
{
    size_t len;
    const char *s;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        return binary_null(x);
    case LUA_TNUMBER:
        return binary_number(L, x, t);
    case LUA_TSTRING:
        s = lua_tolstring(L, -1, &len);
        return copyfmt_value(&x->out, t, s, len);
    case LUA_TBOOLEAN:
        return binary_boolean(x, t, lua_toboolean(L, -1));
    case LUA_TTABLE:
        if (pg_param_is_allowed(L, -1))
            return binary_wrapped(L, x, t);
        if (t->kind == PG_KIND_ARRAY)
            return binary_array(L, x, t);
        return COPYFMT_INVALID;
    default:
        return is_null(L, -1) ? binary_null(x) : COPYFMT_INVALID;
    }
}
