/*
 * Makes rows for COPY FROM STDIN: the encoder collects them in a buffer, in the text, CSV or binary format.
 * It knows the types of the columns, so it accepts values as query returns them: bytea as raw bytes, JSON and
 * arrays also as tables. lua/dbrun/db/copy.lua adds the rows, and decides when a block is sent.
 */
#include "bind/base/error.h"
#include "bind/data/rows.h"
#include "bind/pg/copy.h"
#include "pg/copyfmt.h"
#include "pg/wire.h"

#include <stdio.h>
#include <string.h>

#define ENCODER_CLASS "dbrun.pg.copy"

/* BLOCK: `add` reports a full block from this many bytes on. */
enum { BLOCK = 128 * 1024, WIDEST_NUMBER = 12 };

static const struct pg_type untyped = {0, PG_KIND_TEXT, true, "text", 0, 0, NULL, 0};

/* An array whose elements have a type that is not built in. */
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

/* Pushes a text for messages: the value at `at`, or only its type. */
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

/* Raises the error for the value at `at`, of column `c` (from 0), which cannot be copied. */
static int refuse(lua_State *L, struct copy_encoder *x, int at, int c, const struct pg_type *t,
                  enum copyfmt_result why)
{
    struct runtime *rt = bind_runtime(L);
    struct error e = {0};
    char column[80];
    if (why == COPYFMT_OOM)
        return luaL_error(L, "not enough memory");
    at = lua_absindex(L, at);
    lua_getiuservalue(L, lua_upvalueindex(2), COPY_NAMES);
    if (lua_rawgeti(L, -1, c + 1) == LUA_TSTRING)
        snprintf(column, sizeof column, "\"%.60s\"", lua_tostring(L, -1));
    else
        snprintf(column, sizeof column, "%d", c + 1);
    push_shown(L, at);
    const char *shown = lua_tostring(L, -1);
    if (why == COPYFMT_UNKNOWN)
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: values of %s cannot be written in binary",
                  (long long)x->rows + 1, column, name_of(t));
    else if (why == COPYFMT_RANGE)
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: %s is out of range for %s",
                  (long long)x->rows + 1, column, shown, name_of(t));
    else
        error_set(&e, ERROR_USAGE, "copy_in: row %lld, column %s: %s is not a valid value for %s",
                  (long long)x->rows + 1, column, shown, name_of(t));
    if (why != COPYFMT_UNKNOWN) /* the codes that the server uses for the same errors */
        error_set_field(&e, ERROR_SQLSTATE, why == COPYFMT_RANGE ? "22003" : "22P02");
    else
        error_set_field(&e, ERROR_HINT,
                        "Leave out the format: then text is used where binary is not possible.");
    if (why == COPYFMT_INVALID && (t->kind == PG_KIND_DATE || t->kind == PG_KIND_TIME ||
                                   t->kind == PG_KIND_TIMESTAMP || t->kind == PG_KIND_TIMESTAMPTZ))
        error_set_field(
            &e, ERROR_HINT,
            "In binary it must be written as the server prints it (2024-02-29 12:34:56.789+00). Without "
            "the format the server reads it.");
    e.outcome = OUTCOME_FAILED;
    return bind_error_raise(L, rt, &e);
}

/* ---- rows ---- */

/* The fast path for the most common values; COPYFMT_UNKNOWN = use the general path. The value is at the top
 * of the stack and has the Lua type `type`; the buffer has room for a number. */
static inline enum copyfmt_result common_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t,
                                               int type, size_t more)
{
    struct buf *b = &x->out;
    size_t len;
    int exact;
    if (type == LUA_TNUMBER && t->kind == PG_KIND_INT8) {
        lua_Integer n = lua_tointegerx(L, -1, &exact);
        wire_put4(b, 8);
        wire_put8(b, (uint64_t)n);
        return exact ? COPYFMT_OK : COPYFMT_INVALID;
    }
    if (type == LUA_TNUMBER && t->kind == PG_KIND_FLOAT8) {
        lua_Number v = lua_tonumberx(L, -1, NULL);
        uint64_t bits;
        memcpy(&bits, &v, 8);
        wire_put4(b, 8);
        wire_put8(b, bits);
        return COPYFMT_OK;
    }
    if (type == LUA_TSTRING && t->kind == PG_KIND_TEXT && t->binary) {
        const char *s = lua_tolstring(L, -1, &len);
        if (len > INT32_MAX)
            return COPYFMT_RANGE;
        if (!buf_reserve(b, len + more))
            return COPYFMT_OOM;
        wire_put4(b, (uint32_t)len);
        memcpy(b->data + b->len, s, len);
        b->len += len;
        return COPYFMT_OK;
    }
    if (type == LUA_TBOOLEAN && t->kind == PG_KIND_BOOL) {
        wire_put4(b, 1);
        b->data[b->len++] = (char)lua_toboolean(L, -1);
        return COPYFMT_OK;
    }
    return COPYFMT_UNKNOWN;
}

/* What was found in a row: the number of values that are not nil, and the position of the last one (from
 * 1). */
struct found {
    int n;
    int last;
};

static inline void note_found(struct found *f, int type, int c)
{
    if (type != LUA_TNIL) {
        f->n++;
        f->last = c + 1;
    }
}

/* The values of a row by position, in binary; on failure the refused value is at the top of the stack. */
static enum copyfmt_result binary_row(lua_State *L, struct copy_encoder *x, int *c, struct found *f)
{
    enum copyfmt_result r = COPYFMT_OK;
    if (!buf_reserve(&x->out, 2))
        return COPYFMT_OOM;
    wire_put2(&x->out, (uint16_t)x->ncols);
    for (*c = 0; *c < x->ncols; ++*c) {
        int type = lua_rawgeti(L, 1, *c + 1);
        note_found(f, type, *c);
        if (!buf_reserve(&x->out, WIDEST_NUMBER))
            return COPYFMT_OOM;
        r = x->special[*c] ? COPYFMT_UNKNOWN : common_value(L, x, x->types[*c], type, WIDEST_NUMBER);
        if (r == COPYFMT_UNKNOWN) {
            pg_copy_prepare(L, x, *c);
            r = pg_copy_binary_value(L, x, x->types[*c]);
        }
        if (r != COPYFMT_OK)
            return r;
        lua_settop(L, 1);
    }
    return COPYFMT_OK;
}

/* Pushes the value of column `c` (from 0) of the row at 1; returns its type. */
static int push_value(lua_State *L, const struct copy_encoder *x, int c)
{
    if (!x->by_name)
        return lua_rawgeti(L, 1, c + 1);
    lua_rawgeti(L, 2, c + 1);
    return lua_gettable(L, 1);
}

static bool begin_row(struct copy_encoder *x, int n)
{
    if (x->format != COPY_BINARY)
        return true;
    if (!buf_reserve(&x->out, 2))
        return false;
    wire_put2(&x->out, (uint16_t)n);
    return true;
}

static bool end_value(struct copy_encoder *x, bool last)
{
    static const char between[] = {'\t', ','};
    return x->format == COPY_BINARY || buf_add(&x->out, last ? "\n" : &between[x->format], 1);
}

static int row_is_odd(lua_State *L, struct copy_encoder *x)
{
    struct runtime *rt = bind_runtime(L);
    if (bind_rows_is_proxy(L, 1))
        return bind_fail(L, rt, ERROR_USAGE, "copy_in: row %I is " ROWS_PROXY ". " ROWS_PROXY_HINT,
                         x->rows + 1);
    if (!lua_istable(L, 1))
        return bind_fail(L, rt, ERROR_USAGE, "copy_in: row %I is a %s, not a table", x->rows + 1,
                         luaL_typename(L, 1));
    return bind_fail(L, rt, ERROR_USAGE, "copy_in: row %I has %d values for %d columns", x->rows + 1,
                     (int)lua_rawlen(L, 1), x->ncols);
}

/* ---- keys that are no columns ---- */

/* True when the key on top is a column name. `names` is the index of their list. */
static bool is_name(lua_State *L, int names)
{
    bool found = false;
    for (lua_Integer i = 1; !found && lua_rawgeti(L, names, i) != LUA_TNIL; i++) {
        found = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
    }
    if (!found)
        lua_pop(L, 1);
    return found;
}

/* True when the key below the value on top is a valid key of a row: a column, or the `n` of table.pack. */
static bool is_place(lua_State *L, const struct copy_encoder *x, int names)
{
    if (x->by_name) {
        lua_pushvalue(L, -2);
        bool known = is_name(L, names);
        lua_pop(L, 1);
        return known;
    }
    if (lua_isinteger(L, -2))
        return lua_tointeger(L, -2) >= 1 && (!x->ncols || lua_tointeger(L, -2) <= x->ncols);
    return lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "n") == 0 && lua_isinteger(L, -1);
}

static int refuse_key(lua_State *L, struct copy_encoder *x, int key, int names)
{
    struct runtime *rt = bind_runtime(L);
    struct error e = {0};
    push_shown(L, key);
    error_set(&e, ERROR_USAGE,
              x->by_name ? "copy_in: row %lld has a value for %s, which is not one of its columns"
                         : "copy_in: row %lld is a list, but also has a value for %s",
              (long long)x->rows + 1, lua_tostring(L, -1));
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(
        &b, "Pass all rows as lists, or all as tables by column name, like the first row. The columns: ");
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, names); i++) {
        luaL_addstring(&b, i > 1 ? ", " : "");
        lua_rawgeti(L, names, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    error_set_field(&e, ERROR_HINT, lua_tostring(L, -1));
    e.outcome = OUTCOME_FAILED;
    return bind_error_raise(L, rt, &e);
}

/* Raises when the row has a value under any other key, because the value would be lost. */
static void check_keys(lua_State *L, struct copy_encoder *x, const struct found *f)
{
    int n = 0;
    lua_settop(L, 1);
    if (!x->by_name) { /* most rows have nothing after the last value */
        if (f->last)
            lua_pushinteger(L, f->last);
        else
            lua_pushnil(L);
        if (!lua_next(L, 1))
            return;
        lua_settop(L, 1);
    } else {
        for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
            n++;
        if (n == f->n)
            return;
    }
    lua_getiuservalue(L, lua_upvalueindex(2), COPY_NAMES);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        if (!is_place(L, x, 2))
            refuse_key(L, x, -2, 2);
}

static enum copyfmt_result any_row(lua_State *L, struct copy_encoder *x, int *c, struct found *f)
{
    int n = x->ncols ? x->ncols : (int)lua_rawlen(L, 1);
    if (x->by_name)
        lua_getiuservalue(L, lua_upvalueindex(2), COPY_NAMES);
    int top = lua_gettop(L);
    if (!begin_row(x, n))
        return COPYFMT_OOM;
    for (*c = 0; *c < n; ++*c) {
        const struct pg_type *t = x->ncols ? x->types[*c] : &untyped;
        note_found(f, push_value(L, x, *c), *c);
        pg_copy_prepare(L, x, *c);
        enum copyfmt_result r =
            x->format == COPY_BINARY ? pg_copy_binary_value(L, x, t) : pg_copy_text_value(L, x, t);
        if (r != COPYFMT_OK)
            return r;
        if (!end_value(x, *c == n - 1))
            return COPYFMT_OOM;
        lua_settop(L, top);
    }
    return n > 0 || end_value(x, true) ? COPYFMT_OK : COPYFMT_OOM;
}

/* add(row) -> true when a block is full. Upvalues: runtime, encoder. */
static int add_row(lua_State *L)
{
    struct copy_encoder *x = lua_touserdata(L, lua_upvalueindex(2));
    size_t before = x->out.len;
    int c = 0;
    struct found found = {0};
    lua_settop(L, 1);
    if (!lua_istable(L, 1) || (!x->by_name && x->ncols && lua_rawlen(L, 1) > (size_t)x->ncols))
        return row_is_odd(L, x);
    bool fast = x->format == COPY_BINARY && x->ncols && !x->by_name;
    enum copyfmt_result r = fast ? binary_row(L, x, &c, &found) : any_row(L, x, &c, &found);
    if (r != COPYFMT_OK) {
        x->out.len = before;
        return refuse(L, x, -1, c, x->ncols ? x->types[c] : &untyped, r);
    }
    if (found.n == 0 && bind_rows_is_proxy(L, 1))
        return row_is_odd(L, x);
    check_keys(L, x, &found);
    x->rows++;
    lua_pushboolean(L, x->out.len >= BLOCK);
    return 1;
}

/* ---- the object ---- */

static struct copy_encoder *check_encoder(lua_State *L)
{
    return luaL_checkudata(L, 1, ENCODER_CLASS);
}

struct buf *pg_copy_buffer(lua_State *L, int arg)
{
    struct copy_encoder *x = luaL_checkudata(L, arg, ENCODER_CLASS);
    return &x->out;
}

/* watch(csv, quote, escape): from now on, data after the end marker, which the server would ignore, is an
 * error. */
static int encoder_watch(lua_State *L)
{
    struct copy_encoder *x = check_encoder(L);
    x->watched = true;
    copy_end_begin(&x->end, lua_toboolean(L, 2), luaL_optstring(L, 3, "\"")[0],
                   luaL_optstring(L, 4, "\"")[0]);
    return 0;
}

static int raise_unread(lua_State *L, const struct copy_encoder *x)
{
    struct error e = {0};
    char context[40];
    error_set(&e, ERROR_USAGE,
              "line %zu of the data of COPY ends with \\., where the server stops reading: the data after it "
              "would be lost",
              x->end.line);
    error_set_field(
        &e, ERROR_HINT,
        x->end.csv
            ? "If it is a value, write it in quotes: \"\\.\". If it marks the end, send nothing after it."
            : "If it is a value, write it as \\\\. in this format. If it marks the end, send nothing after "
              "it.");
    snprintf(context, sizeof context, "COPY, line %zu", x->end.line);
    error_set_field(&e, ERROR_CONTEXT, context);
    e.outcome = OUTCOME_FAILED;
    return bind_error_raise(L, bind_runtime(L), &e);
}

/* look(text): scans text that is sent without the encoder */
static int encoder_look(lua_State *L)
{
    size_t len;
    struct copy_encoder *x = check_encoder(L);
    const char *s = luaL_checklstring(L, 2, &len);
    return !x->watched || copy_end_feed(&x->end, s, len) ? 0 : raise_unread(L, x);
}

/* raw(text) -> true when a block is full. Adds data that is already in the COPY's format. */
static int encoder_raw(lua_State *L)
{
    size_t len;
    struct copy_encoder *x = check_encoder(L);
    const char *s = luaL_checklstring(L, 2, &len);
    if (x->watched && !copy_end_feed(&x->end, s, len))
        return raise_unread(L, x);
    if (!buf_add(&x->out, s, len))
        return luaL_error(L, "not enough memory");
    lua_pushboolean(L, x->out.len >= BLOCK);
    return 1;
}

/* rows(by_name) -> add: begins the rows, whose values are found by position or by column name */
static int encoder_rows(lua_State *L)
{
    struct copy_encoder *x = check_encoder(L);
    x->by_name = lua_toboolean(L, 2);
    if (x->format == COPY_BINARY && !buf_add(&x->out, COPYFMT_HEADER, COPYFMT_HEADER_LEN))
        return luaL_error(L, "not enough memory");
    lua_pushlightuserdata(L, bind_runtime(L));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, add_row, 2);
    return 1;
}

/* finish(): adds what the format has after the last row */
static int encoder_finish(lua_State *L)
{
    struct copy_encoder *x = check_encoder(L);
    if (x->format == COPY_BINARY && !buf_add(&x->out, COPYFMT_TRAILER, 2))
        return luaL_error(L, "not enough memory");
    return 0;
}

static int encoder_gc(lua_State *L)
{
    struct copy_encoder *x = check_encoder(L);
    buf_free(&x->out);
    return 0;
}

/* encoder(format, oids, names, write, special) -> encoder. The lists of the columns may be empty; `write`:
 * COPY_WRITE; `special`: {column = true}. */
static int encoder_new(lua_State *L)
{
    static const char *const formats[] = {"text", "csv", "binary", NULL};
    enum copy_format format = (enum copy_format)luaL_checkoption(L, 1, NULL, formats);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    size_t n = lua_rawlen(L, 2);
    struct copy_encoder *x =
        lua_newuserdatauv(L, sizeof *x + n * (sizeof x->types[0] + sizeof *x->special), 2);
    *x = (struct copy_encoder){.format = format};
    x->special = (bool *)&x->types[n];
    luaL_setmetatable(L, ENCODER_CLASS);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, COPY_NAMES);
    lua_pushvalue(L, 4);
    lua_setiuservalue(L, -2, COPY_WRITE);
    x->ncols = (int)n;
    int top = lua_gettop(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        x->types[i] = type_of((Oid)lua_tointeger(L, -1));
        lua_pop(L, 1);
        x->special[i] = lua_istable(L, 5) && lua_rawgeti(L, 5, (lua_Integer)i + 1) != LUA_TNIL;
        lua_settop(L, top);
    }
    return 1;
}

/* True when at least some values of this type can be written in binary. */
static bool has_binary(const struct pg_type *t)
{
    if (t->kind == PG_KIND_ARRAY)
        return has_binary(pg_type_of(NULL, t->elem)) && !pg_copy_is_json(pg_type_of(NULL, t->elem));
    return copyfmt_is_total(t) || t->kind == PG_KIND_DATE || t->kind == PG_KIND_TIME ||
           t->kind == PG_KIND_TIMESTAMP || t->kind == PG_KIND_TIMESTAMPTZ;
}

/* binary(oid) -> "always", "often" (not for every text that the server accepts), or nil */
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
    static const luaL_Reg methods[] = {{"raw", encoder_raw},       {"look", encoder_look},
                                       {"watch", encoder_watch},   {"rows", encoder_rows},
                                       {"finish", encoder_finish}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", encoder_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"encoder", encoder_new}, {"binary", type_binary}, {NULL, NULL}};
    bind_class(L, rt, ENCODER_CLASS, meta, methods);
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
}
