#include "pg/copyfmt.h"

#include "base/number.h"
#include "base/text.h"
#include "pg/timefmt.h"
#include "pg/wire.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define USEC_PER_DAY INT64_C(86400000000)

enum { UUID_OID = 2950 };

/* ---- text and CSV ---- */

bool copyfmt_text(struct buf *b, const char *s, size_t len)
{
    if (!buf_reserve(b, len * 2))
        return false;
    char *out = b->data + b->len;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        char escape = c == '\t' ? 't' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\\' ? '\\' : 0;
        if (escape)
            *out++ = '\\';
        *out++ = escape ? escape : c;
    }
    b->len = (size_t)(out - b->data);
    return true;
}

bool copyfmt_csv(struct buf *b, const char *s, size_t len)
{
    if (!buf_reserve(b, len * 2 + 2))
        return false;
    char *out = b->data + b->len;
    *out++ = '"';
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"')
            *out++ = '"';
        *out++ = s[i];
    }
    *out++ = '"';
    b->len = (size_t)(out - b->data);
    return true;
}

bool copyfmt_bytea(struct buf *b, const char *s, size_t len, bool text_format)
{
    if (!buf_reserve(b, len * 2 + 3))
        return false;
    char *out = b->data + b->len;
    *out++ = '\\';
    if (text_format)
        *out++ = '\\';
    *out++ = 'x';
    hex_write(out, s, len);
    b->len = (size_t)(out + len * 2 - b->data);
    return true;
}

/* ---- binary: numbers ---- */

static enum copyfmt_result put_int8(struct buf *b, int64_t v)
{
    if (!buf_reserve(b, 12))
        return COPYFMT_OOM;
    wire_put4(b, 8);
    wire_put8(b, (uint64_t)v);
    return COPYFMT_OK;
}

static enum copyfmt_result put_int4(struct buf *b, uint32_t v)
{
    if (!buf_reserve(b, 8))
        return COPYFMT_OOM;
    wire_put4(b, 4);
    wire_put4(b, v);
    return COPYFMT_OK;
}

enum copyfmt_result copyfmt_integer(struct buf *b, enum pg_kind kind, int64_t v)
{
    switch (kind) {
    case PG_KIND_INT8:
        return put_int8(b, v);
    case PG_KIND_INT4:
        return v < INT32_MIN || v > INT32_MAX ? COPYFMT_RANGE : put_int4(b, (uint32_t)v);
    case PG_KIND_OID:
        return v < INT32_MIN || v > UINT32_MAX ? COPYFMT_RANGE : put_int4(b, (uint32_t)v);
    case PG_KIND_INT2:
        if (v < INT16_MIN || v > INT16_MAX)
            return COPYFMT_RANGE;
        if (!buf_reserve(b, 6))
            return COPYFMT_OOM;
        wire_put4(b, 2);
        wire_put2(b, (uint16_t)v);
        return COPYFMT_OK;
    default:
        return COPYFMT_UNKNOWN;
    }
}

enum copyfmt_result copyfmt_float(struct buf *b, enum pg_kind kind, double v)
{
    if (kind == PG_KIND_FLOAT4) {
        float f = (float)v;
        uint32_t bits;
        if ((isinf(f) && !isinf(v)) || (f == 0.0f && v != 0.0))
            return COPYFMT_RANGE;
        memcpy(&bits, &f, 4);
        return put_int4(b, bits);
    }
    int64_t bits;
    memcpy(&bits, &v, 8);
    return put_int8(b, bits);
}

enum copyfmt_result copyfmt_bool(struct buf *b, bool v)
{
    if (!buf_reserve(b, 5))
        return COPYFMT_OOM;
    wire_put4(b, 1);
    b->data[b->len++] = v ? 1 : 0;
    return COPYFMT_OK;
}

/* ---- binary: from text ---- */

static enum copyfmt_result integer_from(struct buf *b, enum pg_kind kind, const char *s, size_t len)
{
    wire_trim(&s, &len);
    bool negative = len > 0 && s[0] == '-';
    size_t i = len > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    int64_t v = 0; /* kept negative, because INT64_MIN has no positive counterpart */
    bool beyond = false;
    if (i == len)
        return COPYFMT_INVALID;
    for (; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return COPYFMT_INVALID;
        beyond = beyond || __builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, s[i] - '0', &v);
    }
    if (beyond || (!negative && v == INT64_MIN))
        return COPYFMT_RANGE;
    return copyfmt_integer(b, kind, negative ? v : -v);
}

static enum copyfmt_result float_from(struct buf *b, enum pg_kind kind, const char *s, size_t len)
{
    char *end;
    wire_trim(&s, &len);
    if (len == 0)
        return COPYFMT_INVALID;
    errno = 0;
    double v = kind == PG_KIND_FLOAT4 ? (double)number_parse_float(s, &end) : number_parse(s, &end);
    if (end != s + len)
        return COPYFMT_INVALID;
    bool says_infinite = memchr(s, 'n', len) || memchr(s, 'N', len);
    if ((isinf(v) && !says_infinite) || (v == 0 && errno == ERANGE))
        return COPYFMT_RANGE;
    return copyfmt_float(b, kind, v);
}

/* "t", "tru", "YES", "on", "0" ...: the rules of parse_bool_with_len in bool.c. */
static enum copyfmt_result bool_from(struct buf *b, const char *s, size_t len)
{
    static const struct {
        const char *word;
        size_t least;
        bool value;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
                 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
    wire_trim(&s, &len);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (len >= words[i].least && len <= strlen(words[i].word) && ascii_begins(s, words[i].word, len))
            return copyfmt_bool(b, words[i].value);
    return COPYFMT_INVALID;
}

static enum copyfmt_result put_bytes(struct buf *b, const char *s, size_t len)
{
    if (len > INT32_MAX)
        return COPYFMT_RANGE;
    if (!buf_reserve(b, len + 4))
        return COPYFMT_OOM;
    wire_put4(b, (uint32_t)len);
    if (len)
        memcpy(b->data + b->len, s, len);
    b->len += len;
    return COPYFMT_OK;
}

static enum copyfmt_result jsonb_from(struct buf *b, const char *s, size_t len)
{
    if (len >= INT32_MAX)
        return COPYFMT_RANGE;
    if (!buf_reserve(b, len + 5))
        return COPYFMT_OOM;
    wire_put4(b, (uint32_t)len + 1);
    b->data[b->len++] = 1; /* the version of jsonb's binary form */
    memcpy(b->data + b->len, s, len);
    b->len += len;
    return COPYFMT_OK;
}

/* 32 hex digits, optionally with a hyphen after each group of four and in braces: the rules of string_to_uuid
 * in uuid.c. */
static enum copyfmt_result uuid_from(struct buf *b, const char *s, size_t len)
{
    char bytes[16];
    size_t i = 0;
    if (len >= 2 && s[0] == '{' && s[len - 1] == '}') {
        s++;
        len -= 2;
    }
    for (size_t n = 0; n < 16; n++) {
        int high = i < len ? hex_digit(s[i]) : -1;
        int low = i + 1 < len ? hex_digit(s[i + 1]) : -1;
        if (high < 0 || low < 0)
            return COPYFMT_INVALID;
        bytes[n] = (char)(high << 4 | low);
        i += 2;
        if (n % 2 == 1 && n < 15 && i < len && s[i] == '-')
            i++;
    }
    return i == len ? put_bytes(b, bytes, 16) : COPYFMT_INVALID;
}

/* ---- dates and times ---- */

static bool has_zone(const char *s, size_t len)
{
    const char *clock = memchr(s, ':', len);
    size_t rest = clock ? (size_t)(s + len - clock) : 0;
    return clock && (memchr(clock, 'Z', rest) || memchr(clock, '+', rest) || memchr(clock, '-', rest));
}

/* timefmt reads 2024-02-31 as March 2nd: a date is real only when it prints as the text that was read. */
static bool date_is_real(const char *s, int64_t days)
{
    char text[TIMEFMT_MAX];
    size_t n = timefmt_date(text, (int32_t)days);
    size_t digits = strcspn(text, " ");
    return digits <= n && strncmp(s, text, digits) == 0;
}

static int two_digits(const char *s)
{
    return (s[0] - '0') * 10 + (s[1] - '0');
}

/* "12:34", "12:34:56", ...: checks the ranges of hours, minutes and seconds, which timefmt does not check. */
static bool clock_is_real(const char *s)
{
    if (strspn(s, "0123456789") != 2 || s[2] != ':' || strspn(s + 3, "0123456789") != 2)
        return false;
    int h = two_digits(s);
    int m = two_digits(s + 3);
    int sec = s[5] == ':' && ascii_is_digit(s[6]) && ascii_is_digit(s[7]) ? two_digits(s + 6) : 0;
    return (h < 24 && m < 60 && sec < 60) || (h == 24 && m == 0 && sec == 0);
}

static enum copyfmt_result date_from(struct buf *b, const char *s, size_t len)
{
    int64_t usec;
    if (memchr(s, ':', len) || !timefmt_parse_timestamp(s, &usec))
        return COPYFMT_INVALID;
    if (usec == INT64_MAX || usec == INT64_MIN)
        return put_int4(b, usec > 0 ? INT32_MAX : (uint32_t)INT32_MIN);
    int64_t days = usec / USEC_PER_DAY; /* exact, because the text has no time of day */
    return date_is_real(s, days) ? put_int4(b, (uint32_t)(int32_t)days) : COPYFMT_INVALID;
}

static enum copyfmt_result time_from(struct buf *b, const char *s, size_t len)
{
    char text[TIMEFMT_MAX] = "2000-01-01T";
    int64_t usec;
    if (len > TIMEFMT_MAX - 12 || !clock_is_real(s) || has_zone(s, len))
        return COPYFMT_INVALID;
    memcpy(text + 11, s, len + 1);
    return timefmt_parse_timestamp(text, &usec) && usec >= 0 && usec <= USEC_PER_DAY ? put_int8(b, usec)
                                                                                     : COPYFMT_INVALID;
}

static enum copyfmt_result timestamp_from(struct buf *b, const char *s, size_t len, bool zoned)
{
    int64_t usec;
    if (!timefmt_parse_timestamp(s, &usec))
        return COPYFMT_INVALID;
    if (usec == INT64_MAX || usec == INT64_MIN)
        return put_int8(b, usec);
    size_t date = strcspn(s, " T");
    int64_t day;
    char text[TIMEFMT_MAX];
    bool bc = len > 3 && strcmp(s + len - 3, " BC") == 0;
    if (date + 4 > sizeof text || has_zone(s, len) != zoned)
        return COPYFMT_INVALID;
    memcpy(text, s, date);
    strcpy(text + date, bc ? " BC" : "");
    if (!timefmt_parse_timestamp(text, &day) || !date_is_real(text, day / USEC_PER_DAY))
        return COPYFMT_INVALID;
    if (memchr(s, ':', len) && !clock_is_real(s + date + 1))
        return COPYFMT_INVALID;
    return put_int8(b, usec);
}

/* ---- all types ---- */

/* True when the binary form of this type is the text itself. */
static bool is_plain_text(const struct pg_type *t)
{
    return t->kind == PG_KIND_TEXT && t->binary;
}

enum copyfmt_result copyfmt_value(struct buf *b, const struct pg_type *t, const char *s, size_t len)
{
    switch (t->kind) {
    case PG_KIND_BOOL:
        return bool_from(b, s, len);
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
        return integer_from(b, t->kind, s, len);
    case PG_KIND_FLOAT4:
    case PG_KIND_FLOAT8:
        return float_from(b, t->kind, s, len);
    case PG_KIND_NUMERIC:
        return copyfmt_numeric(b, s, len);
    case PG_KIND_BYTEA:
    case PG_KIND_JSON:
        return put_bytes(b, s, len);
    case PG_KIND_JSONB:
        return jsonb_from(b, s, len);
    case PG_KIND_DATE:
        return date_from(b, s, len);
    case PG_KIND_TIME:
        return time_from(b, s, len);
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        return timestamp_from(b, s, len, t->kind == PG_KIND_TIMESTAMPTZ);
    default:
        if (is_plain_text(t))
            return put_bytes(b, s, len);
        return t->oid == UUID_OID ? uuid_from(b, s, len) : COPYFMT_UNKNOWN;
    }
}

bool copyfmt_is_total(const struct pg_type *t)
{
    switch (t->kind) {
    case PG_KIND_BOOL:
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
    case PG_KIND_FLOAT4:
    case PG_KIND_FLOAT8:
    case PG_KIND_NUMERIC:
    case PG_KIND_BYTEA:
    case PG_KIND_JSON:
    case PG_KIND_JSONB:
        return true;
    default:
        return is_plain_text(t) || t->oid == UUID_OID;
    }
}
