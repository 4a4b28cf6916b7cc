#include "bind/pg/decode_scalar.h"

#include "base/number.h"
#include "base/text.h"
#include "bind/data/json.h"
#include "bind/data/json_numbers.h"
#include "bind/pg/decode_error.h"
#include "pg/interval.h"
#include "pg/timefmt.h"
#include "pg/wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one value, binary form (network byte order; src/backend/utils/adt/ *send functions) ---- */

static double get_float8(const char *p)
{
    int64_t bits = wire_get8(p);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static double get_float4(const char *p)
{
    int32_t bits = wire_get4(p);
    float v;
    memcpy(&v, &bits, 4);
    return (double)v;
}

/* The number of bytes of a kind with a fixed size; 0 = any size. */
static size_t size_of(enum pg_kind kind)
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

/* Pushes an instant, given in microseconds since 2000, as ISO 8601 text or (epoch) as seconds since 1970. */
static void push_instant(lua_State *L, const struct pg_reading *d, int64_t usec, bool utc)
{
    char text[TIMEFMT_MAX];
    if (!d->by->epoch)
        lua_pushlstring(L, text, timefmt_timestamp(text, usec, utc));
    else if (usec == INT64_MAX || usec == INT64_MIN)
        lua_pushnumber(L, usec < 0 ? -(lua_Number)HUGE_VAL : (lua_Number)HUGE_VAL);
    else
        lua_pushnumber(L, (lua_Number)usec / 1e6 + 946684800.0);
}

/* Parses the JSON text with numbers that do not fit a Lua integer as floats, or (exact) as strings. False:
 * there are none. */
static bool read_large(lua_State *L, const struct pg_reading *d, const char *p, size_t len, struct error *e,
                       bool *read)
{
    luaL_checkstack(L, 4, "out of stack for JSON");
    size_t n;
    char *text = lua_newuserdatauv(L, json_numbers_room(len), 0);
    bool changed = json_numbers_rewrite(p, len, d->by->exact_json, text, &n);
    if (changed) {
        error_clear(e);
        *read = bind_json_read(L, text, n, e);
    }
    lua_remove(L, changed && *read ? -2 : -1);
    return changed;
}

static void push_json(lua_State *L, const struct pg_reading *d, const char *p, size_t len)
{
    struct error e = {0};
    bool read = false;
    if (d->by->exact_json && read_large(L, d, p, len, &e, &read) && read)
        return;
    if (!error_is_set(&e) && bind_json_read(L, p, len, &e))
        return;
    if (!d->by->exact_json && read_large(L, d, p, len, &e, &read) && read)
        return;
    if (strstr(e.message, "overflow"))
        error_set_field(
            &e, ERROR_HINT,
            "Read the column as text (column::text), or open the engine with numbers = \"exact\".");
    if (!e.field[ERROR_HINT]) /* the text is invalid, and not only nested too deeply or with too large a
                                 number */
        e.kind = ERROR_PROTOCOL;
    pg_decode_raise(L, d, &e);
}

void pg_scalar_binary(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                      size_t len)
{
    char text[TIMEFMT_MAX];
    enum pg_kind kind = t->kind;
    size_t size = size_of(kind);
    if ((size && len != size) || (kind == PG_KIND_JSONB && (len < 1 || p[0] != 1)))
        pg_decode_fail(L, d, "the server sent a value of %d bytes for the type %s (binary form)", (int)len,
                       t->name);
    switch (kind) {
    case PG_KIND_BOOL:
        lua_pushboolean(L, p[0] != 0);
        return;
    case PG_KIND_INT2:
        lua_pushinteger(L, wire_get2(p));
        return;
    case PG_KIND_INT4:
        lua_pushinteger(L, wire_get4(p));
        return;
    case PG_KIND_INT8:
        lua_pushinteger(L, wire_get8(p));
        return;
    case PG_KIND_OID:
        lua_pushinteger(L, (uint32_t)wire_get4(p));
        return;
    case PG_KIND_FLOAT4:
        lua_pushnumber(L, get_float4(p));
        return;
    case PG_KIND_FLOAT8:
        lua_pushnumber(L, get_float8(p));
        return;
    case PG_KIND_DATE:
        lua_pushlstring(L, text, timefmt_date(text, wire_get4(p)));
        return;
    case PG_KIND_TIME:
        if (wire_get8(p) < 0 || wire_get8(p) > INT64_C(86400000000))
            pg_decode_fail(L, d, "the server sent a time of day outside of 00:00 to 24:00");
        lua_pushlstring(L, text, timefmt_time(text, wire_get8(p)));
        return;
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        push_instant(L, d, wire_get8(p), kind == PG_KIND_TIMESTAMPTZ);
        return;
    case PG_KIND_JSONB:
        push_json(L, d, p + 1, len - 1);
        return;
    case PG_KIND_JSON:
        push_json(L, d, p, len);
        return;
    default:
        if (!t->binary)
            pg_decode_fail(L, d, "the server sent a value in binary form, which was not asked for");
        lua_pushlstring(L, p, len);
        return;
    }
}

/* ---- one value, text form ---- */

static char hex_byte(lua_State *L, const struct pg_reading *d, const char *p)
{
    int high = hex_digit(p[0]);
    int low = hex_digit(p[1]);
    if (high < 0 || low < 0)
        pg_decode_fail(L, d, "the server sent a malformed bytea");
    return (char)(high << 4 | low);
}

/* The byte that the characters after a backslash give in the escape format; `used` = their number. */
static char escaped_byte(lua_State *L, const struct pg_reading *d, const char *p, size_t len, size_t *used)
{
    if (len >= 1 && p[0] == '\\') {
        *used = 1;
        return '\\';
    }
    if (len < 3 || p[0] < '0' || p[0] > '3' || p[1] < '0' || p[1] > '7' || p[2] < '0' || p[2] > '7')
        pg_decode_fail(L, d, "the server sent a malformed bytea");
    *used = 3;
    return (char)((p[0] - '0') << 6 | (p[1] - '0') << 3 | (p[2] - '0'));
}

/* bytea_output = hex ("\x0aff") or escape ("a\\b\001"): section 8.4 of the PostgreSQL manual. */
static void push_bytea(lua_State *L, const struct pg_reading *d, const char *p, size_t len)
{
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len);
    size_t n = 0;
    if (len >= 2 && p[0] == '\\' && p[1] == 'x') {
        if (len % 2 != 0)
            pg_decode_fail(L, d, "the server sent a malformed bytea");
        for (size_t i = 2; i < len; i += 2)
            out[n++] = hex_byte(L, d, p + i);
    } else {
        for (size_t i = 0; i < len; i++) {
            size_t used = 0;
            out[n++] = p[i] == '\\' ? escaped_byte(L, d, p + i + 1, len - i - 1, &used) : p[i];
            i += used;
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
        lua_pushnumber(L, number_parse(p, NULL));
}

/* A DateStyle other than ISO is reset after the statement that set it. Values sent before that cannot be
 * read: 01/02 is January or February. */
static void refuse_style(lua_State *L, const struct pg_reading *d, const char *type)
{
    pg_decode_fail(L, d,
                   "the server sent a %s in another DateStyle than ISO: the statement or a function in it "
                   "changed DateStyle; use to_char() for texts in another style",
                   type);
}

/* "2024-01-01 12:00:00.5+02" -> "2024-01-01T10:00:00.5+00:00": the same text as the binary form gives. */
static void push_timestamp(lua_State *L, const struct pg_reading *d, const char *p, size_t len, bool zone)
{
    int64_t usec;
    if (!timefmt_parse_timestamp(p, &usec) || strlen(p) != len)
        refuse_style(L, d, zone ? "timestamptz" : "timestamp");
    push_instant(L, d, usec, zone);
}

static void push_date(lua_State *L, const struct pg_reading *d, const char *p, size_t len)
{
    if (!timefmt_is_date(p) || strlen(p) != len)
        refuse_style(L, d, "date");
    lua_pushlstring(L, p, len);
}

static void push_interval(lua_State *L, const struct pg_reading *d, const char *p, size_t len)
{
    char text[INTERVAL_MAX];
    if (interval_is_postgres(p)) {
        lua_pushlstring(L, p, len);
        return;
    }
    size_t n = interval_to_postgres(p, text);
    if (n == 0)
        pg_decode_fail(L, d, "the server sent an interval in a style that is not known");
    lua_pushlstring(L, text, n);
}

static void push_integer(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                         size_t len)
{
    int64_t v = 0;
    if (len != strlen(p) || !number_parse_int(p, &v))
        pg_decode_fail(L, d, "the server sent a malformed %s", t->name);
    lua_pushinteger(L, v);
}

void pg_scalar_text(lua_State *L, const struct pg_reading *d, const struct pg_type *t, const char *p,
                    size_t len)
{
    switch (t->kind) {
    case PG_KIND_BOOL:
        if (len != 1 || (p[0] != 't' && p[0] != 'f'))
            pg_decode_fail(L, d, "the server sent a malformed %s", t->name);
        lua_pushboolean(L, p[0] == 't');
        return;
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
        push_integer(L, d, t, p, len);
        return;
    case PG_KIND_FLOAT4:
        /* Read as a double it would differ from the float4, because the text has only the digits that a
         * float4 needs. */
        if (p[0] == 'N' || strchr(p, 'I'))
            push_float(L, p);
        else
            lua_pushnumber(L, (lua_Number)number_parse_float(p, NULL));
        return;
    case PG_KIND_NUMERIC:
        if (!d->by->numeric_float)
            break;
        push_float(L, p);
        return;
    case PG_KIND_FLOAT8:
        push_float(L, p);
        return;
    case PG_KIND_BYTEA:
        push_bytea(L, d, p, len);
        return;
    case PG_KIND_DATE:
        push_date(L, d, p, len);
        return;
    case PG_KIND_INTERVAL:
        push_interval(L, d, p, len);
        return;
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        push_timestamp(L, d, p, len, t->kind == PG_KIND_TIMESTAMPTZ);
        return;
    case PG_KIND_JSON:
    case PG_KIND_JSONB:
        push_json(L, d, p, len);
        return;
    default:
        break;
    }
    lua_pushlstring(L, p, len);
}
