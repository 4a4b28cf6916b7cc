/*
 * For libFuzzer (make fuzz): values of every type, in text and in binary, as Lua values in a real Lua state
 * with little memory. The first byte chooses the form and the engine's options for values, the second the
 * type. With bit 8 of the first the input also contains the catalog's rows about the types 100001 to 100008:
 * any kind, with any elements, fields and bases, in any order and number of columns.
 *
 * No value takes more memory than LUA_MEMORY, which is many times what the longest input needs: running out
 * of memory is a failure. Each other error is an error object.
 *
 * A text that COPY would send in binary must give the same value when it is read from the binary form.
 */
#include "bind/core.h"
#include "bind/pg/decode.h"
#include "pg/copyfmt.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LUA_MEMORY = 8 * 1024 * 1024, FULL = LUA_MEMORY / 4, FIRST_OWN = 100001, LIED = 8, MOST_ROWS = 64 };

struct input {
    struct pg_reading d;
    const struct pg_type *t;
    const char *p;
    size_t len;
    bool binary;
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* ---- user-defined types ---- */

/* As pg_catalog_sql gives them: oid, name, typtype, category, element, base, range, delimiter, field, its
 * type. */
static const char *const own[][10] = {
    {"100001", "pair", "c", "C", "0", "0", NULL, ",", "a", "23"},
    {"100001", "pair", "c", "C", "0", "0", NULL, ",", "b", "25"},
    {"100001", "pair", "c", "C", "0", "0", NULL, ",", "c", "1007"},
    {"100002", "positive", "d", "N", "0", "23", NULL, ",", NULL, NULL},
    {"100003", "_pair", "b", "A", "100001", "0", NULL, ",", NULL, NULL},
    {"100004", "floatrange", "r", "R", "0", "0", "701", ",", NULL, NULL},
    {"100005", "floatmultirange", "m", "R", "0", "0", "100004", ",", NULL, NULL},
    {"100006", "hstore", "H", "U", "0", "0", NULL, ",", NULL, NULL},
    {"100007", "vector", "V", "U", "0", "0", NULL, ",", NULL, NULL},
    {"100008", "colour", "e", "E", "0", "0", NULL, ",", NULL, NULL},
    {"100009", "tree", "c", "C", "0", "0", NULL, ",", "left", "100010"},
    {"100009", "tree", "c", "C", "0", "0", NULL, ",", "right", "100009"},
    {"100010", "_tree", "b", "A", "100009", "0", NULL, ",", NULL, NULL},
    {"100011", "nobody", "d", "N", "0", "100011", NULL, ",", NULL, NULL},
};

enum { OWN = sizeof own / sizeof *own, LAST_OWN = 100011 };

static struct pg_catalog *make_catalog(void)
{
    PGresAttDesc columns[10];
    struct error err = {0};
    must(libpq_open(&err));
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    memset(columns, 0, sizeof columns);
    for (int c = 0; c < 10; c++)
        columns[c].name = (char *)"column";
    must(PQsetResultAttrs(r, 10, columns));
    for (int row = 0; row < OWN; row++)
        for (int c = 0; c < 10; c++)
            must(PQsetvalue(r, row, c, (char *)own[row][c], own[row][c] ? (int)strlen(own[row][c]) : -1));
    struct pg_catalog *catalog = pg_catalog_new();
    must(catalog && pg_catalog_load(catalog, r));
    PQclear(r);
    return catalog;
}

/* ---- a state that runs out of memory ---- */

static size_t used;

static void *limited(void *ud, void *p, size_t before, size_t after)
{
    (void)ud;
    size_t old = p ? before : 0;
    if (after == 0) {
        used -= old;
        free(p);
        return NULL;
    }
    if (after > old && used + after - old > LUA_MEMORY)
        return NULL;
    void *moved = realloc(p, after);
    if (moved)
        used += after - old;
    return moved;
}

/* ---- reading ---- */

static int decode(lua_State *L)
{
    const struct input *in = lua_touserdata(L, 1);
    int top = lua_gettop(L);
    pg_decode(L, &in->d, in->t, in->p, in->len, in->binary);
    must(lua_gettop(L) == top + 1);
    return 1;
}

/* Pushes the value, or nothing when it was refused. */
static bool read_value(lua_State *L, const struct input *in)
{
    int top = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushlightuserdata(L, (void *)in);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK)
        return true;
    must(lua_gettop(L) == top + 1);
    must(lua_type(L, -1) == LUA_TTABLE); /* neither "not enough memory" nor another string */
    lua_getfield(L, -1, "kind");
    must(lua_type(L, -1) == LUA_TSTRING);
    lua_pop(L, 1);
    lua_pop(L, 1);
    return false;
}

/* Kinds whose every text, as COPY takes it, is also read from text by pg_decode. */
static bool is_comparable(enum pg_kind kind)
{
    switch (kind) {
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
    case PG_KIND_FLOAT4:
    case PG_KIND_FLOAT8:
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        return true;
    default:
        return false;
    }
}

/* The value read from text is at the top. */
static void compare_with_binary(lua_State *L, struct input in)
{
    struct buf b = {0};
    enum copyfmt_result r = copyfmt_value(&b, in.t, in.p, in.len);
    must(r == COPYFMT_OK || b.len == 0);
    if (r == COPYFMT_OK && is_comparable(in.t->kind) && in.t->oid != 26) {
        in.p = b.data + 4;
        in.len = b.len - 4;
        in.binary = true;
        must(read_value(L, &in));
        bool nan = lua_type(L, -1) == LUA_TNUMBER && lua_tonumber(L, -1) != lua_tonumber(L, -1) &&
                   lua_tonumber(L, -2) != lua_tonumber(L, -2);
        must(nan || lua_rawequal(L, -1, -2));
        lua_pop(L, 1);
    }
    buf_free(&b);
}

/* one(input): upvalue 1 = decode with the runtime */
static int one(lua_State *L)
{
    struct input *in = lua_touserdata(L, 1);
    if (read_value(L, in) && !in->binary)
        compare_with_binary(L, *in);
    return 0;
}

static const struct pg_type *type_number(const struct pg_catalog *catalog, unsigned n)
{
    static const Oid oids[] = {16,   17,   20,   21,   23,   25,   26,   114,  700,  701,  1000, 1001,
                               1003, 1005, 1007, 1009, 1015, 1016, 1017, 1020, 1021, 1022, 1028, 1043,
                               1082, 1083, 1114, 1115, 1182, 1183, 1184, 1185, 1231, 1700, 199,  2249,
                               2287, 2950, 3802, 3807, 3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532,
                               4533, 4534, 4535, 4536, 6150, 3905, 1186, 600,  869,  9};
    unsigned builtin = sizeof oids / sizeof *oids;
    n %= builtin + LAST_OWN - FIRST_OWN + 1;
    return pg_type_of(catalog, n < builtin ? oids[n] : FIRST_OWN + n - builtin);
}

/* ---- a catalog with wrong rows ---- */

struct bytes {
    const uint8_t *data;
    size_t size;
};

static unsigned next(struct bytes *b)
{
    if (b->size == 0)
        return 0;
    b->size--;
    return *b->data++;
}

/* An OID of an invented type, of a built-in one, or nonsense. */
static void put_oid(char text[16], unsigned byte)
{
    static const char *const others[] = {"0",  "23", "25",          "1007", "3904", "701",
                                         "17", "-1", "99999999999", "x",    ""};
    if (byte < 128)
        snprintf(text, 16, "%u", FIRST_OWN + byte % LIED);
    else
        snprintf(text, 16, "%s", others[byte % (sizeof others / sizeof *others)]);
}

static void set_row(PGresult *r, int row, int columns, struct bytes *b)
{
    static const char types[] = "bcdermp";
    static const char categories[] = "ACNRUE";
    char oid[16], elem[16], base[16], range[16], field[16];
    char type[2] = {types[next(b) % (sizeof types - 1)]};
    char category[2] = {categories[next(b) % (sizeof categories - 1)]};
    char delim[2] = {(char)next(b)};
    unsigned how = next(b);
    static const char *const names[] = {"t", "hstore", "vector", ""};
    put_oid(oid, next(b));
    put_oid(elem, next(b));
    put_oid(base, next(b));
    put_oid(range, next(b));
    put_oid(field, next(b));
    char *values[10] = {oid,  (char *)names[how % 4], type, category, elem, base, range, delim, (char *)"f",
                        field};
    for (int c = 0; c < columns; c++) {
        const char *v = how & 64 && c == (int)(how >> 2 & 15) ? NULL : values[c % 10];
        must(PQsetvalue(r, row, c, (char *)v, v ? (int)strlen(v) : -1));
    }
}

/* NULL when the result is not valid. */
static struct pg_catalog *lying_catalog(struct bytes *b)
{
    PGresAttDesc attributes[12];
    unsigned how = next(b);
    int columns = how & 128 ? (int)(how % 12) : 10;
    int rows = (int)(next(b) % MOST_ROWS);
    PGresult *r = PQmakeEmptyPGresult(NULL, how & 64 ? PGRES_COMMAND_OK : PGRES_TUPLES_OK);
    memset(attributes, 0, sizeof attributes);
    for (int c = 0; c < columns; c++)
        attributes[c].name = (char *)"column";
    must(PQsetResultAttrs(r, columns, attributes));
    for (int row = 0; row < rows && columns > 0 && b->size > 0; row++)
        set_row(r, row, columns, b);
    struct pg_catalog *catalog = pg_catalog_new();
    must(catalog != NULL);
    bool is_answer = pg_catalog_is_answer(r);
    must(is_answer == (columns == 10 && !(how & 64)));
    if (is_answer) {
        must(pg_catalog_load(catalog, r));
        if (how & 32)
            must(pg_catalog_load(catalog, r));
        for (Oid oid = FIRST_OWN; oid < FIRST_OWN + LIED; oid++)
            pg_type_is_known(catalog, oid);
    }
    PQclear(r);
    return catalog;
}

/* ---- one input ---- */

static lua_State *new_state(void)
{
    lua_State *L = lua_newstate(limited, NULL);
    must(L != NULL);
    luaL_openlibs(L);
    struct runtime *rt = bind_open(L);
    lua_settop(L, 0);
    lua_pushlightuserdata(L, rt);
    lua_pushcclosure(L, decode, 1);
    lua_pushcclosure(L, one, 1);
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    static struct pg_catalog *catalog;
    if (size < 2)
        return 0;
    if (!L) {
        L = new_state();
        catalog = make_catalog();
    }
    struct bytes rest = {.data = data + 2, .size = size - 2};
    struct pg_catalog *lied = data[0] & 8 ? lying_catalog(&rest) : NULL;
    struct pg_decoder d = {.catalog = lied ? lied : catalog,
                           .codecs = LUA_NOREF,
                           .numeric_float = (data[0] & 2) != 0,
                           .epoch = (data[0] & 4) != 0};
    char *copy = malloc(rest.size + 1);
    must(copy != NULL);
    memcpy(copy, rest.data, rest.size);
    copy[rest.size] = '\0';
    struct input in = {.d = {.by = &d},
                       .t = lied ? pg_type_of(lied, FIRST_OWN + data[1] % LIED)
                                 : type_number(catalog, data[1]),
                       .p = copy,
                       .len = rest.size,
                       .binary = (data[0] & 1) != 0};
    lua_pushvalue(L, 1);
    lua_pushlightuserdata(L, &in);
    must(lua_pcall(L, 1, 0, 0) == LUA_OK);
    lua_settop(L, 1);
    if (used > FULL)
        lua_gc(L, LUA_GCCOLLECT, 0);
    free(copy);
    pg_catalog_free(lied);
    return 0;
}
