#include "pg/shape.h"

#include "base/buf.h"
#include "base/number.h"
#include "pg/timefmt.h"

#include <string.h>

enum { DEEPEST = 20, MOST_ROWS = 1000 };

struct text {
    const char *p;
    const char *end;
};

static bool fits(const struct pg_catalog *c, Oid type, const char *text, size_t len, int depth);

static bool has_fields(const struct pg_catalog *c, Oid type, int depth)
{
    const struct pg_type *t = pg_type_of(c, type);
    if (t->kind == PG_KIND_ARRAY && depth < DEEPEST)
        return has_fields(c, t->elem, depth + 1);
    return t->kind == PG_KIND_COMPOSITE;
}

/* ---- scalars whose text shows the type ---- */

static bool is_float(const char *text, size_t len)
{
    char *end;
    if (strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0)
        return true;
    if (len == 0 || strspn(text, "0123456789+-.eE") != len)
        return false;
    number_parse(text, &end);
    return *end == '\0';
}

static bool scalar_fits(const struct pg_type *t, const char *text, size_t len)
{
    int64_t n;
    switch (t->kind) {
    case PG_KIND_BOOL:
        return len == 1 && (text[0] == 't' || text[0] == 'f');
    case PG_KIND_INT2:
    case PG_KIND_INT4:
    case PG_KIND_INT8:
    case PG_KIND_OID:
        return number_parse_int(text, &n);
    case PG_KIND_FLOAT4:
    case PG_KIND_FLOAT8:
    case PG_KIND_NUMERIC:
        return is_float(text, len);
    case PG_KIND_DATE:
        return timefmt_is_date(text);
    case PG_KIND_TIMESTAMP:
    case PG_KIND_TIMESTAMPTZ:
        return timefmt_parse_timestamp(text, &n) && (len < 10 || memchr(text, ':', len));
    case PG_KIND_TIME:
        return len >= 8 && text[2] == ':' && text[5] == ':' && !strpbrk(text, "+-");
    default:
        return true;
    }
}

/* ---- arrays and composites ---- */

/* Copies the value between two delimiters into `out`, without its quotes. False when the value has no end. */
static bool take_value(struct text *x, const char *stops, struct buf *out, bool *quoted)
{
    bool inside = false;
    *quoted = false;
    out->len = 0;
    for (; x->p < x->end && (inside || !strchr(stops, *x->p)); x->p++) {
        if (*x->p == '"' && inside && x->p + 1 < x->end && x->p[1] == '"') {
            x->p++;
        } else if (*x->p == '"') {
            inside = !inside;
            *quoted = true;
            continue;
        } else if (*x->p == '\\' && x->p + 1 < x->end) {
            x->p++;
        }
        if (!buf_add(out, x->p, 1))
            return false;
    }
    return x->p < x->end && buf_add(out, "", 1);
}

static bool composite_fits(const struct pg_catalog *c, const struct pg_type *t, struct text x, int depth)
{
    struct buf value = {0};
    bool quoted;
    bool good = true;
    int n = 0;
    if (x.p == x.end || *x.p++ != '(')
        return false;
    if (t->nfields == 0 && x.p < x.end && *x.p == ')')
        return true;
    for (; good && n < t->nfields && take_value(&x, ",)", &value, &quoted); n++) {
        if (value.len > 1 || quoted)
            good = fits(c, t->fields[n].type, value.data, value.len - 1, depth + 1);
        if (*x.p++ == ')') {
            n++;
            break;
        }
    }
    buf_free(&value);
    return good && n == t->nfields && x.p == x.end;
}

static bool array_fits(const struct pg_catalog *c, const struct pg_type *t, struct text x, int depth)
{
    const char stops[] = {'{', '}', t->delim ? t->delim : ',', '\0'};
    struct buf value = {0};
    bool quoted;
    bool good = true;
    while (x.p < x.end && *x.p != '{') /* "[0:2]=" */
        x.p++;
    for (; good && x.p < x.end && take_value(&x, stops, &value, &quoted); x.p++)
        if (quoted || (value.len > 1 && !ascii_is_word(value.data, value.len - 1, "null")))
            good = fits(c, t->elem, value.data, value.len - 1, depth + 1);
    buf_free(&value);
    return good;
}

static bool fits(const struct pg_catalog *c, Oid type, const char *text, size_t len, int depth)
{
    const struct pg_type *t = pg_type_of(c, type);
    struct text x = {text, text + len};
    if (depth > DEEPEST)
        return true;
    if (t->kind == PG_KIND_COMPOSITE)
        return composite_fits(c, t, x, depth);
    if (t->kind == PG_KIND_ARRAY)
        return !has_fields(c, t->elem, depth) || array_fits(c, t, x, depth);
    return scalar_fits(t, text, len);
}

bool pg_shape_fits(const struct pg_catalog *c, Oid type, const char *text, size_t len)
{
    return !has_fields(c, type, 0) || fits(c, type, text, len, 0);
}

bool pg_shape_has_fields(const struct pg_catalog *c, const PGresult *r)
{
    for (int col = 0; col < PQnfields(r); col++)
        if (has_fields(c, PQftype(r, col), 0))
            return true;
    return false;
}

bool pg_shape_is_wrong(const struct pg_catalog *c, const PGresult *r)
{
    int rows = PQntuples(r) < MOST_ROWS ? PQntuples(r) : MOST_ROWS;
    for (int col = 0; col < PQnfields(r); col++) {
        if (PQfformat(r, col) != 0 || !has_fields(c, PQftype(r, col), 0))
            continue;
        for (int i = 0; i < rows; i++)
            if (!PQgetisnull(r, i, col) &&
                !pg_shape_fits(c, PQftype(r, col), PQgetvalue(r, i, col), (size_t)PQgetlength(r, i, col)))
                return true;
    }
    return false;
}
