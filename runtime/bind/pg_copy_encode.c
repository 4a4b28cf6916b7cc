/*
 * Rows as what COPY FROM STDIN reads: the encoder collects them in a buffer, in the text, CSV or binary
 * format. It knows the columns' types, so that a value goes in as query gives it: bytea as raw bytes, JSON
 * and arrays also as tables. Who feeds it and when a block is sent is lua/dbrun/db/copy.lua's business.
 */
#include "bind/json.h"
#include "bind/pg_copy.h"
#include "bind/pg_impl.h"
#include "pg/copyfmt.h"

#include <stdio.h>
#include <string.h>

#define ENCODER_CLASS "dbrun.pg.copy"

/* Bytes after which `add` says that a block is full. */
enum { BLOCK = 128 * 1024, MOST_DIMENSIONS = 6, NAMES = 1, ARRAY_TEXT = 2 };

enum copy_format { COPY_TEXT, COPY_CSV, COPY_BINARY };

struct encoder {
    struct buf out;
    enum copy_format format;
    bool by_name; /* rows by column name instead of by position */
    lua_Integer rows;
    int ncols; /* 0 = not known: as many as the row has */
    const struct pg_type *types[];
};

static const struct pg_type untyped = {0, PG_KIND_TEXT, true, "text", 0, 0, NULL, 0};

/* An array whose elements are of a type of the database's own. */
static const struct pg_type some_array = {UINT32_MAX, PG_KIND_ARRAY, false, "an array", 0, 0, NULL, 0};

static const struct pg_type *type_of(Oid oid)
{
    return oid == some_array.oid ? &some_array : pg_type_of(NULL, oid);
}

static const char *name_of(const struct pg_type *t)
{
    return t->name[0] ? t->name : "its column";
}

/* ---- refusing ---- */

/* The value at `at`, as far as it can be shown. */
static void push_shown(lua_State *L, int at)
{
    size_t len;
    if (lua_type(L, at) == LUA_TSTRING) {
        const char *s = lua_tolstring(L, at, &len);
        if (len > 60)
            lua_pushfstring(L, "\"%s...\"", lua_pushlstring(L, s, 60));
        else
            lua_pushfstring(L, "\"%s\"", s);
    } else if (lua_type(L, at) == LUA_TNUMBER || lua_type(L, at) == LUA_TBOOLEAN) {
        luaL_tolstring(L, at, NULL);
    } else {
        lua_pushfstring(L, "a %s", luaL_typename(L, at));
    }
}

/* The value at `at`, of column `c` (from 0), cannot be copied. The row is taken back. */
static int refuse(lua_State *L, struct encoder *x, int at, int c, const struct pg_type *t,
                  enum copyfmt_result why)
{
    struct runtime *rt = bind_runtime(L);
    struct error e = {0};
    char column[80];
    if (why == COPYFMT_OOM)
        return luaL_error(L, "not enough memory");
    at = lua_absindex(L, at);
    lua_getiuservalue(L, lua_upvalueindex(2), NAMES);
    lua_rawgeti(L, -1, c + 1);
    snprintf(column, sizeof column, lua_isstring(L, -1) ? "\"%.60s\"" : "%.0s%d", luaL_tolstring(L, -1, NULL),
             c + 1);
    push_shown(L, at);
    const char *shown = lua_tostring(L, -1);
    if (why == COPYFMT_UNKNOWN)
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: the binary form of %s is not known here",
                  (long long)x->rows + 1, column, name_of(t));
    else if (why == COPYFMT_RANGE)
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: %s is out of range for %s",
                  (long long)x->rows + 1, column, shown, name_of(t));
    else
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: %s is no value for %s",
                  (long long)x->rows + 1, column, shown, name_of(t));
    if (why != COPYFMT_UNKNOWN) /* the server's own codes for the same */
        error_set_field(&e, ERROR_SQLSTATE, why == COPYFMT_RANGE ? "22003" : "22P02");
    else
        error_set_field(&e, ERROR_HINT, "Leave the format out: then text is taken where binary cannot be.");
    e.outcome = OUTCOME_FAILED;
    return bind_error_raise(L, rt, &e);
}

/* ---- what tables stand for ---- */

static bool is_json(const struct pg_type *t)
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

/* Replaces the table at the top by its text: JSON, or an array literal. False when it can have none. */
static bool table_to_text(lua_State *L, const struct pg_type *t)
{
    if (is_json(t)) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushcclosure(L, bind_json_encode, 1);
    } else if (t->kind == PG_KIND_ARRAY) {
        lua_getiuservalue(L, lua_upvalueindex(2), ARRAY_TEXT);
    } else {
        return false;
    }
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return true;
}

/* ---- text and CSV ---- */

static bool put_quoted(struct encoder *x, const char *s, size_t len)
{
    return x->format == COPY_CSV ? copyfmt_csv(&x->out, s, len) : copyfmt_text(&x->out, s, len);
}

/* A value made by db.bytea, db.json, db.typed or db.array: {text, oid, is it raw bytes?}. */
static bool put_wrapped(lua_State *L, struct encoder *x, int at)
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

/* The value at the top. */
static bool put_text(lua_State *L, struct encoder *x, const struct pg_type *t)
{
    char number[32];
    size_t len;
    const char *s;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        s = lua_toboolean(L, -1) ? "true" : "false";
        return buf_add(&x->out, s, is_json(t) ? strlen(s) : 1);
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

static enum copyfmt_result text_value(lua_State *L, struct encoder *x, const struct pg_type *t)
{
    if (is_plain_table(L, -1) && !table_to_text(L, t))
        return COPYFMT_INVALID;
    if (!pg_param_is_allowed(L, -1))
        return COPYFMT_INVALID;
    return put_text(L, x, t) ? COPYFMT_OK : COPYFMT_OOM;
}

/* ---- binary ---- */

static enum copyfmt_result binary_value(lua_State *L, struct encoder *x, const struct pg_type *t);

static enum copyfmt_result binary_null(struct encoder *x)
{
    if (!buf_reserve(&x->out, 4))
        return COPYFMT_OOM;
    copyfmt_put4(&x->out, UINT32_MAX);
    return COPYFMT_OK;
}

static enum copyfmt_result binary_boolean(struct encoder *x, const struct pg_type *t, bool v)
{
    const char *word = v ? "true" : "false";
    if (t->kind == PG_KIND_BOOL)
        return copyfmt_bool(&x->out, v);
    if (is_json(t))
        return copyfmt_value(&x->out, t, word, strlen(word));
    if (t->kind == PG_KIND_TEXT)
        return copyfmt_value(&x->out, t, v ? "t" : "f", 1);
    return COPYFMT_INVALID;
}

static enum copyfmt_result binary_number(lua_State *L, struct encoder *x, const struct pg_type *t)
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

static enum copyfmt_result binary_wrapped(lua_State *L, struct encoder *x, const struct pg_type *t)
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

/* The elements of one dimension of the array at the top; every list must be as long as its siblings. */
static enum copyfmt_result put_elements(lua_State *L, struct encoder *x, const struct pg_type *elem,
                                        const int *sizes, int ndim)
{
    enum copyfmt_result result = COPYFMT_OK;
    if (!lua_istable(L, -1) || lua_rawlen(L, -1) != (size_t)sizes[0])
        return COPYFMT_INVALID;
    for (int i = 1; i <= sizes[0] && result == COPYFMT_OK; i++) {
        lua_rawgeti(L, -1, i);
        result = ndim > 1 ? put_elements(L, x, elem, sizes + 1, ndim - 1) : binary_value(L, x, elem);
        lua_pop(L, 1);
    }
    return result;
}

/* How deep and how long: seen from the first elements. */
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

/* array_recv in arrayfuncs.c. */
static enum copyfmt_result binary_array(lua_State *L, struct encoder *x, const struct pg_type *t)
{
    const struct pg_type *elem = pg_type_of(NULL, t->elem);
    int sizes[MOST_DIMENSIONS];
    size_t start = x->out.len;
    if (is_json(elem))
        return COPYFMT_UNKNOWN;
    luaL_checkstack(L, MOST_DIMENSIONS + 8, "an array");
    int ndim = dimensions(L, sizes);
    if (!buf_reserve(&x->out, 16 + 8 * MOST_DIMENSIONS))
        return COPYFMT_OOM;
    copyfmt_put4(&x->out, 0); /* the length, once it is known */
    copyfmt_put4(&x->out, (uint32_t)ndim);
    copyfmt_put4(&x->out, 1); /* there may be NULLs */
    copyfmt_put4(&x->out, t->elem);
    for (int i = 0; i < ndim; i++) {
        copyfmt_put4(&x->out, (uint32_t)sizes[i]);
        copyfmt_put4(&x->out, 1);
    }
    enum copyfmt_result result = ndim > 0 ? put_elements(L, x, elem, sizes, ndim) : COPYFMT_OK;
    size_t end = x->out.len;
    x->out.len = start;
    copyfmt_put4(&x->out, (uint32_t)(end - start - 4));
    x->out.len = end;
    return result;
}

/* The value at the top. */
static enum copyfmt_result binary_value(lua_State *L, struct encoder *x, const struct pg_type *t)
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
        if (!table_to_text(L, t))
            return COPYFMT_INVALID;
        s = lua_tolstring(L, -1, &len);
        return copyfmt_value(&x->out, t, s, len);
    default:
        return is_null(L, -1) ? binary_null(x) : COPYFMT_INVALID;
    }
}

/* ---- rows ---- */

/* Pushes the value of column `c` (from 0) of the row at 1. */
static void push_value(lua_State *L, const struct encoder *x, int c)
{
    if (!x->by_name) {
        lua_rawgeti(L, 1, c + 1);
        return;
    }
    lua_rawgeti(L, 2, c + 1);
    lua_rawget(L, 1);
}

static bool begin_row(struct encoder *x, int n)
{
    if (x->format != COPY_BINARY)
        return true;
    if (!buf_reserve(&x->out, 2))
        return false;
    copyfmt_put2(&x->out, (uint16_t)n);
    return true;
}

static bool end_value(struct encoder *x, bool last)
{
    static const char between[] = {'\t', ','};
    return x->format == COPY_BINARY || buf_add(&x->out, last ? "\n" : &between[x->format], 1);
}

static int row_is_odd(lua_State *L, struct encoder *x)
{
    struct runtime *rt = bind_runtime(L);
    if (!lua_istable(L, 1))
        return bind_fail(L, rt, ERROR_USAGE, "copy_in: row %I is a %s, not a table", x->rows + 1,
                         luaL_typename(L, 1));
    return bind_fail(L, rt, ERROR_USAGE, "copy_in: row %I has %d values for %d columns", x->rows + 1,
                     (int)lua_rawlen(L, 1), x->ncols);
}

/* add(row) -> is a block full? Upvalues: runtime, encoder. */
static int add_row(lua_State *L)
{
    struct encoder *x = lua_touserdata(L, lua_upvalueindex(2));
    size_t before = x->out.len;
    lua_settop(L, 1);
    if (!lua_istable(L, 1) || (!x->by_name && x->ncols && lua_rawlen(L, 1) > (size_t)x->ncols))
        return row_is_odd(L, x);
    int n = x->ncols ? x->ncols : (int)lua_rawlen(L, 1);
    if (x->by_name)
        lua_getiuservalue(L, lua_upvalueindex(2), NAMES);
    int top = lua_gettop(L);
    bool ok = begin_row(x, n);
    for (int c = 0; c < n && ok; c++) {
        const struct pg_type *t = x->ncols ? x->types[c] : &untyped;
        push_value(L, x, c);
        enum copyfmt_result r = x->format == COPY_BINARY ? binary_value(L, x, t) : text_value(L, x, t);
        if (r != COPYFMT_OK) {
            x->out.len = before;
            return refuse(L, x, -1, c, t, r);
        }
        ok = end_value(x, c == n - 1);
        lua_settop(L, top);
    }
    if (!ok || (n == 0 && !end_value(x, true)))
        return luaL_error(L, "not enough memory");
    x->rows++;
    lua_pushboolean(L, x->out.len >= BLOCK);
    return 1;
}

/* ---- the object ---- */

static struct encoder *check_encoder(lua_State *L)
{
    return luaL_checkudata(L, 1, ENCODER_CLASS);
}

struct buf *pg_copy_buffer(lua_State *L, int arg)
{
    struct encoder *x = luaL_checkudata(L, arg, ENCODER_CLASS);
    return &x->out;
}

/* raw(text) -> is a block full? Data in the COPY's own format. */
static int encoder_raw(lua_State *L)
{
    size_t len;
    struct encoder *x = check_encoder(L);
    const char *s = luaL_checklstring(L, 2, &len);
    if (!buf_add(&x->out, s, len))
        return luaL_error(L, "not enough memory");
    lua_pushboolean(L, x->out.len >= BLOCK);
    return 1;
}

/* rows(by_name) -> add: from now on rows come, by position or by column name */
static int encoder_rows(lua_State *L)
{
    struct encoder *x = check_encoder(L);
    x->by_name = lua_toboolean(L, 2);
    if (x->format == COPY_BINARY && !buf_add(&x->out, COPYFMT_HEADER, COPYFMT_HEADER_LEN))
        return luaL_error(L, "not enough memory");
    lua_pushlightuserdata(L, bind_runtime(L));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, add_row, 2);
    return 1;
}

/* finish(): what stands behind the last row */
static int encoder_finish(lua_State *L)
{
    struct encoder *x = check_encoder(L);
    if (x->format == COPY_BINARY && !buf_add(&x->out, COPYFMT_TRAILER, 2))
        return luaL_error(L, "not enough memory");
    return 0;
}

static int encoder_gc(lua_State *L)
{
    struct encoder *x = lua_touserdata(L, 1);
    buf_free(&x->out);
    return 0;
}

/* encoder(format, oids, names, array_text): oids and names of the columns may be empty; array_text makes an
 * array literal of a list. */
static int encoder_new(lua_State *L)
{
    static const char *const formats[] = {"text", "csv", "binary", NULL};
    enum copy_format format = (enum copy_format)luaL_checkoption(L, 1, NULL, formats);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    size_t n = lua_rawlen(L, 2);
    struct encoder *x = lua_newuserdatauv(L, sizeof *x + n * sizeof x->types[0], 2);
    *x = (struct encoder){.format = format};
    luaL_setmetatable(L, ENCODER_CLASS);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, NAMES);
    lua_pushvalue(L, 4);
    lua_setiuservalue(L, -2, ARRAY_TEXT);
    x->ncols = (int)n;
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        x->types[i] = type_of((Oid)lua_tointeger(L, -1));
        lua_pop(L, 1);
    }
    return 1;
}

/* Can values of this type be written in binary at all? */
static bool has_binary(const struct pg_type *t)
{
    if (t->kind == PG_KIND_ARRAY)
        return has_binary(pg_type_of(NULL, t->elem)) && !is_json(pg_type_of(NULL, t->elem));
    return copyfmt_is_total(t) || t->kind == PG_KIND_DATE || t->kind == PG_KIND_TIME ||
           t->kind == PG_KIND_TIMESTAMP || t->kind == PG_KIND_TIMESTAMPTZ;
}

/* binary(oid) -> "always", "often" (not every text that the server takes is known here), or nil */
static int type_binary(lua_State *L)
{
    const struct pg_type *t = type_of((Oid)luaL_checkinteger(L, 1));
    if (copyfmt_is_total(t))
        lua_pushliteral(L, "always");
    else if (has_binary(t))
        lua_pushliteral(L, "often");
    else
        lua_pushnil(L);
    return 1;
}

void pg_copy_encoder_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {
        {"raw", encoder_raw}, {"rows", encoder_rows}, {"finish", encoder_finish}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", encoder_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"encoder", encoder_new}, {"binary", type_binary}, {NULL, NULL}};
    bind_class(L, rt, ENCODER_CLASS, meta, methods);
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
}
