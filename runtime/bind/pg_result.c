/* Results as Lua values. Runs only inside the resumed task, where an error reaches its pcall. */
#include "bind/json.h"
#include "bind/pg_impl.h"
#include "pg/timefmt.h"
#include "pg/types.h"

#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one value, binary form (network byte order; src/backend/utils/adt/ *send functions) ---- */

static int64_t get_int8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return (int64_t)be64toh(v);
}

static int32_t get_int4(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return (int32_t)be32toh(v);
}

static int16_t get_int2(const char *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return (int16_t)be16toh(v);
}

static double get_float8(const char *p)
{
    int64_t bits = get_int8(p);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static double get_float4(const char *p)
{
    int32_t bits = get_int4(p);
    float v;
    memcpy(&v, &bits, 4);
    return (double)v;
}

/* The number of bytes each fixed-size kind has; 0 = any. */
static int size_of(enum pg_kind kind)
{
    switch (kind) {
    case PG_KIND_BOOL:
        return 1;
    case PG_KIND_INT2:
        return 2;
    case PG_KIND_INT4:
    case PG_KIND_OID:
    case PG_KIND_FLOAT4:
    case PG_KIND_DATE:
        return 4;
    case PG_KIND_INT8:
    case PG_KIND_FLOAT8:
    case PG_KIND_TIME:
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        return 8;
    default:
        return 0;
    }
}

static void push_binary(lua_State *L, enum pg_kind kind, const char *p, int len)
{
    char text[TIMEFMT_MAX];
    int size = size_of(kind);
    if ((size && len != size) || (kind == PG_KIND_JSONB && (len < 1 || p[0] != 1)))
        luaL_error(L, "the server sent a value of %d bytes for a type of %d (binary form)", len, size);
    switch (kind) {
    case PG_KIND_BOOL:
        lua_pushboolean(L, p[0] != 0);
        return;
    case PG_KIND_INT2:
        lua_pushinteger(L, get_int2(p));
        return;
    case PG_KIND_INT4:
        lua_pushinteger(L, get_int4(p));
        return;
    case PG_KIND_INT8:
        lua_pushinteger(L, get_int8(p));
        return;
    case PG_KIND_OID:
        lua_pushinteger(L, (uint32_t)get_int4(p));
        return;
    case PG_KIND_FLOAT4:
        lua_pushnumber(L, get_float4(p));
        return;
    case PG_KIND_FLOAT8:
        lua_pushnumber(L, get_float8(p));
        return;
    case PG_KIND_DATE:
        lua_pushlstring(L, text, timefmt_date(text, get_int4(p)));
        return;
    case PG_KIND_TIME:
        lua_pushlstring(L, text, timefmt_time(text, get_int8(p)));
        return;
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        lua_pushlstring(L, text, timefmt_timestamp(text, get_int8(p), kind == PG_KIND_TIMESTAMPTZ));
        return;
    case PG_KIND_JSONB:
        bind_json_push(L, p + 1, (size_t)len - 1);
        return;
    case PG_KIND_JSON:
        bind_json_push(L, p, (size_t)len);
        return;
    case PG_KIND_BYTEA:
    case PG_KIND_TEXT:
        lua_pushlstring(L, p, (size_t)len);
        return;
    }
}

/* ---- one value, text form ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* bytea_output = hex ("\x0aff") or escape ("a\\b\001"): section 8.4 of the PostgreSQL manual. */
static void push_bytea(lua_State *L, const char *p, int len)
{
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, (size_t)len);
    size_t n = 0;
    if (len >= 2 && p[0] == '\\' && p[1] == 'x') {
        for (int i = 2; i + 1 < len; i += 2)
            out[n++] = (char)(hex_digit(p[i]) << 4 | hex_digit(p[i + 1]));
    } else {
        for (int i = 0; i < len; i++) {
            if (p[i] == '\\' && i + 3 < len && p[i + 1] != '\\') {
                out[n++] = (char)((p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3 | (p[i + 3] - '0'));
                i += 3;
            } else {
                if (p[i] == '\\')
                    i++;
                out[n++] = p[i];
            }
        }
    }
    luaL_pushresultsize(&b, n);
}

static void push_float(lua_State *L, const char *p)
{
    if (strcmp(p, "NaN") == 0)
        lua_pushnumber(L, (lua_Number)NAN);
    else if (strcmp(p, "Infinity") == 0)
        lua_pushnumber(L, (lua_Number)HUGE_VAL);
    else if (strcmp(p, "-Infinity") == 0)
        lua_pushnumber(L, -(lua_Number)HUGE_VAL);
    else
        lua_pushnumber(L, strtod(p, NULL));
}

/* "2024-01-01 12:00:00.5+02" -> "2024-01-01T10:00:00.5+00:00": the same text as from the binary form. */
static void push_timestamp(lua_State *L, const char *p, int len, bool zone)
{
    char text[TIMEFMT_MAX];
    int64_t usec;
    if (timefmt_parse_timestamp(p, &usec))
        lua_pushlstring(L, text, timefmt_timestamp(text, usec, zone));
    else
        lua_pushlstring(L, p, (size_t)len);
}

static void push_text(lua_State *L, enum pg_kind kind, const char *p, int len)
{
    switch (kind) {
    case PG_KIND_BOOL:
        lua_pushboolean(L, p[0] == 't');
        return;
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
        lua_pushinteger(L, strtoll(p, NULL, 10));
        return;
    case PG_KIND_FLOAT4:
        /* The shortest text of a float4 reads as another double than the float4 itself. */
        if (p[0] == 'N' || strchr(p, 'I'))
            push_float(L, p);
        else
            lua_pushnumber(L, (lua_Number)strtof(p, NULL));
        return;
    case PG_KIND_FLOAT8:
        push_float(L, p);
        return;
    case PG_KIND_BYTEA:
        push_bytea(L, p, len);
        return;
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        push_timestamp(L, p, len, kind == PG_KIND_TIMESTAMPTZ);
        return;
    case PG_KIND_JSON:
    case PG_KIND_JSONB:
        bind_json_push(L, p, (size_t)len);
        return;
    case PG_KIND_DATE:
    case PG_KIND_TIME:
    case PG_KIND_TEXT:
        lua_pushlstring(L, p, (size_t)len);
        return;
    }
}

static void push_value(lua_State *L, const PGresult *r, int row, int column, enum pg_kind kind, bool binary)
{
    const char *p = PQgetvalue(r, row, column);
    int len = PQgetlength(r, row, column);
    if (binary)
        push_binary(L, kind, p, len);
    else
        push_text(L, kind, p, len);
}

/* ---- rows ---- */

enum { KINDS_INLINE = 64 };

/* What is the same for every row. Column names stand on the stack from `keys` on, so that each is
 * interned once. */
struct row_plan {
    const PGresult *r;
    int ncols;
    int keys;
    bool binary;
    uint8_t *kinds;
    uint8_t inline_kinds[KINDS_INLINE];
};

static void plan_rows(lua_State *L, struct row_plan *plan, const PGresult *r)
{
    plan->r = r;
    plan->ncols = PQnfields(r);
    plan->binary = plan->ncols > 0 && PQfformat(r, 0) == 1;
    plan->kinds = plan->inline_kinds;
    luaL_checkstack(L, plan->ncols + 12, "a result with too many columns");
    if (plan->ncols > KINDS_INLINE)
        plan->kinds = lua_newuserdatauv(L, (size_t)plan->ncols, 0);
    plan->keys = lua_gettop(L) + 1;
    for (int c = 0; c < plan->ncols; c++) {
        plan->kinds[c] = (uint8_t)pg_type_of(PQftype(r, c))->kind;
        lua_pushstring(L, PQfname(r, c));
    }
}

static void push_row(lua_State *L, const struct row_plan *plan, int row)
{
    lua_createtable(L, 0, plan->ncols);
    for (int c = 0; c < plan->ncols; c++) {
        if (PQgetisnull(plan->r, row, c))
            continue;
        lua_pushvalue(L, plan->keys + c);
        enum pg_kind kind =
            plan->kinds ? (enum pg_kind)plan->kinds[c] : pg_type_of(PQftype(plan->r, c))->kind;
        push_value(L, plan->r, row, c, kind, plan->binary);
        lua_rawset(L, -3);
    }
}

/* {name=, type=, oid=} for each column. */
static void push_columns(lua_State *L, const PGresult *r)
{
    int n = PQnfields(r);
    lua_createtable(L, n, 0);
    for (int c = 0; c < n; c++) {
        const struct pg_type *t = pg_type_of(PQftype(r, c));
        lua_createtable(L, 0, 3);
        lua_pushstring(L, PQfname(r, c));
        lua_setfield(L, -2, "name");
        if (t->name[0]) {
            lua_pushstring(L, t->name);
            lua_setfield(L, -2, "type");
        }
        lua_pushinteger(L, PQftype(r, c));
        lua_setfield(L, -2, "oid");
        lua_rawseti(L, -2, c + 1);
    }
}

void pg_result_columns(lua_State *L, const PGresult *r, struct pg_cached *entry)
{
    if (!entry || !entry->prepared) {
        push_columns(L, r);
        return;
    }
    if (entry->ref) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, entry->ref);
        return;
    }
    push_columns(L, r);
    lua_pushvalue(L, -1);
    entry->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* "INSERT 0 5" -> "INSERT", "CREATE TABLE" -> "CREATE TABLE". */
static void push_command(lua_State *L, const PGresult *r)
{
    const char *status = PQcmdStatus((PGresult *)r);
    size_t len = strlen(status);
    while (len > 0 && ((status[len - 1] >= '0' && status[len - 1] <= '9') || status[len - 1] == ' '))
        len--;
    lua_pushlstring(L, status, len);
}

static lua_Integer affected(const PGresult *r)
{
    const char *n = PQcmdTuples((PGresult *)r);
    return n[0] ? strtoll(n, NULL, 10) : 0;
}

/* Takes the columns from the top of the stack. */
static int push_result(lua_State *L, const PGresult *r)
{
    struct row_plan plan;
    int rows = PQntuples(r);
    lua_createtable(L, rows, 3);
    lua_insert(L, -2);
    int result = lua_gettop(L) - 1;
    lua_setfield(L, result, "columns");
    push_command(L, r);
    lua_setfield(L, result, "command");
    lua_pushinteger(L, affected(r));
    lua_setfield(L, result, "affected");
    if (rows > 0) {
        plan_rows(L, &plan, r);
        for (int i = 0; i < rows; i++) {
            push_row(L, &plan, i);
            lua_rawseti(L, result, i + 1);
        }
    }
    lua_settop(L, result);
    return 1;
}

void pg_result_push_row(lua_State *L, const PGresult *r, int keys)
{
    struct row_plan plan = {.r = r, .ncols = PQnfields(r), .keys = keys, .kinds = NULL};
    plan.binary = plan.ncols > 0 && PQfformat(r, 0) == 1;
    push_row(L, &plan, 0);
}

/* {column = {values}, ...}, number of rows: NULL is db.null, so that every list is as long as that. */
static int push_by_column(lua_State *L, const PGresult *r)
{
    int rows = PQntuples(r);
    int ncols = PQnfields(r);
    bool binary = ncols > 0 && PQfformat(r, 0) == 1;
    lua_createtable(L, 0, ncols);
    for (int c = 0; c < ncols; c++) {
        enum pg_kind kind = pg_type_of(PQftype(r, c))->kind;
        lua_createtable(L, rows, 0);
        for (int i = 0; i < rows; i++) {
            if (PQgetisnull(r, i, c))
                lua_pushlightuserdata(L, NULL);
            else
                push_value(L, r, i, c, kind, binary);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, PQfname(r, c));
    }
    lua_pushinteger(L, rows);
    return 2;
}

int pg_result_push(lua_State *L, struct runtime *rt, const PGresult *r, enum pg_shape shape)
{
    struct row_plan plan;
    int rows = PQntuples(r);
    switch (shape) {
    case SHAPE_RESULT:
        return push_result(L, r);
    case SHAPE_COLUMNS:
        return push_by_column(L, r);
    case SHAPE_AFFECTED:
        lua_pushinteger(L, affected(r));
        return 1;
    case SHAPE_ONE:
        if (rows > 1)
            return bind_fail(L, rt, ERROR_USAGE, "one: the statement gave %d rows", rows);
        if (rows == 0)
            break;
        plan_rows(L, &plan, r);
        push_row(L, &plan, 0);
        return 1;
    case SHAPE_VALUE:
        if (rows == 0 || PQnfields(r) == 0 || PQgetisnull(r, 0, 0))
            break;
        push_value(L, r, 0, 0, pg_type_of(PQftype(r, 0))->kind, PQfformat(r, 0) == 1);
        return 1;
    }
    lua_pushnil(L);
    return 1;
}
