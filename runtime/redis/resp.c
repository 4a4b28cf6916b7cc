#include "redis/resp.h"
#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- commands ---- */

size_t resp_digits(uint64_t v)
{
    size_t n = 1;
    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

static size_t format_uint(uint64_t v, char *out)
{
    size_t n = resp_digits(v);
    for (size_t i = n; i-- > 0; v /= 10)
        out[i] = (char)('0' + v % 10);
    return n;
}

size_t resp_format_int(int64_t v, char *out)
{
    if (v >= 0)
        return format_uint((uint64_t)v, out);
    out[0] = '-';
    /* -v would overflow for INT64_MIN. */
    return 1 + format_uint(-(uint64_t)v, out + 1);
}

/* "<sigil><number>\r\n" and `extra` bytes more; returns where these go, or NULL when out of memory. */
static char *add_prefix(struct buf *b, char sigil, uint64_t number, size_t extra)
{
    if (!buf_reserve(b, 1 + RESP_INT_DIGITS + 2 + extra))
        return NULL;
    char *p = b->data + b->len;
    *p++ = sigil;
    p += format_uint(number, p);
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

static void set_end(struct buf *b, char *end)
{
    *end = '\0';
    b->len = (size_t)(end - b->data);
}

bool resp_add_header(struct buf *b, uint64_t n)
{
    char *p = add_prefix(b, '*', n, 0);
    if (!p)
        return false;
    set_end(b, p);
    return true;
}

bool resp_add_arg(struct buf *b, const void *data, size_t len)
{
    char *p = add_prefix(b, '$', len, len + 2);
    if (!p)
        return false;
    if (len)
        memcpy(p, data, len);
    p += len;
    *p++ = '\r';
    *p++ = '\n';
    set_end(b, p);
    return true;
}

/* Most texts are short, and a call of memcpy takes longer than two overlapping copies of fixed size. */
static inline char *put_bytes(char *p, const char *from, size_t len)
{
    enum { HALF = 8 };
    if (len >= HALF && len <= 2 * HALF) {
        char *last = p + len - HALF;
        memcpy(p, from, HALF);
        memcpy(last, from + len - HALF, HALF);
    } else if (len < HALF && len >= HALF / 2) {
        char *last = p + len - HALF / 2;
        memcpy(p, from, HALF / 2);
        memcpy(last, from + len - HALF / 2, HALF / 2);
    } else if (len < HALF / 2) {
        for (size_t i = 0; i < len; i++)
            p[i] = from[i];
    } else {
        memcpy(p, from, len);
    }
    return p + len;
}

static char *put_prefix(char *p, char sigil, uint64_t number)
{
    *p++ = sigil;
    if (number < 10)
        *p++ = (char)('0' + number);
    else
        p += format_uint(number, p);
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

bool resp_add_command(struct buf *b, const char *wire, size_t wire_len, const struct resp_text *args,
                      size_t n)
{
    const size_t around = 1 + RESP_INT_DIGITS + 2;
    size_t size = around + wire_len;
    for (size_t i = 0; i < n; i++)
        size += around + args[i].len + 2;
    if (!buf_reserve(b, size))
        return false;
    char *p = put_prefix(b->data + b->len, '*', n + 1);
    p = put_bytes(p, wire, wire_len);
    for (size_t i = 0; i < n; i++) {
        p = put_prefix(p, '$', args[i].len);
        p = put_bytes(p, args[i].data, args[i].len);
        *p++ = '\r';
        *p++ = '\n';
    }
    set_end(b, p);
    return true;
}

bool resp_add_int(struct buf *b, int64_t v)
{
    char text[RESP_INT_DIGITS];
    size_t n = resp_format_int(v, text);
    return resp_add_arg(b, text, n);
}

bool resp_add_double(struct buf *b, double v)
{
    char text[NUMBER_MAX];
    if (isnan(v))
        return resp_add_arg(b, "nan", 3);
    if (isinf(v))
        return v > 0 ? resp_add_arg(b, "inf", 3) : resp_add_arg(b, "-inf", 4);
    return resp_add_arg(b, text, number_format(text, v));
}

/* ---- replies ---- */

/* The type of a RESP3 attribute, which readers of the tape never see. */
enum { ATTRIBUTE = RESP_ARRAY + 1 };

void resp_reply_clear(struct resp_reply *r)
{
    free(r->data);
    resp_reply_init(r);
}

void resp_reply_move(struct resp_reply *to, struct resp_reply *from)
{
    free(to->data);
    to->data = from->data;
    to->len = from->len;
    to->cap = from->cap;
    if (!from->data)
        memcpy(to->small, from->small, from->len);
    resp_reply_init(from);
}

static bool grow(struct resp_reply *r, size_t need)
{
    size_t cap = r->cap;
    while (cap < need)
        cap *= 2;
    char *data = realloc(r->data, cap);
    if (!data)
        return false;
    if (!r->data)
        memcpy(data, r->small, r->len);
    r->data = data;
    r->cap = cap;
    return true;
}

void resp_reply_expect(struct resp_reply *r, size_t size)
{
    if (size > r->cap)
        (void)grow(r, size);
}

/* Makes room for a header and `extra` bytes after it; NULL when out of memory. */
static inline char *append(struct resp_reply *r, enum resp_type type, uint64_t value, size_t extra)
{
    if (extra > SIZE_MAX / 4 - r->len)
        return NULL;
    size_t need = r->len + sizeof(struct resp_node) + resp_padded(extra);
    if (need > r->cap && !grow(r, need))
        return NULL;
    char *p = (r->data ? r->data : r->small) + r->len;
    struct resp_node n = {(uint64_t)type, value};
    memcpy(p, &n, sizeof n);
    r->len = need;
    return p + sizeof n;
}

bool resp_put_nil(struct resp_reply *r)
{
    return append(r, RESP_NIL, 0, 0) != NULL;
}

bool resp_put_integer(struct resp_reply *r, int64_t v)
{
    return append(r, RESP_INTEGER, (uint64_t)v, 0) != NULL;
}

bool resp_put_text(struct resp_reply *r, enum resp_type type, const char *text, size_t len)
{
    char *p = append(r, type, len, len);
    if (!p)
        return false;
    if (len)
        memcpy(p, text, len);
    return true;
}

bool resp_put_array(struct resp_reply *r, uint64_t elements)
{
    return append(r, RESP_ARRAY, elements, 0) != NULL;
}

bool resp_put_attribute(struct resp_reply *r, uint64_t values)
{
    return append(r, (enum resp_type)ATTRIBUTE, values, 0) != NULL;
}

/* ---- short replies ---- */

/* The longest number that is parsed here, so that it cannot overflow. */
enum { SHORT_DIGITS = 18 };

/* Returns the position after "<digits>\r\n", or NULL when there is none. As in hiredis, a number has no
 * leading zeros. */
static inline const char *take_number(const char *p, const char *end, uint64_t *n)
{
    const char *first = p;
    uint64_t v = 0;
    for (; p < end && ascii_is_digit(*p); p++)
        v = v * 10 + (uint64_t)(*p - '0'); /* too many digits wrap around, and are refused below */
    if (p == first || p - first > SHORT_DIGITS || (*first == '0' && p - first > 1))
        return NULL;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return NULL;
    *n = v;
    return p + 2;
}

/* Most texts are short: a copy of fixed size takes one step. The surplus bytes are still inside `from`, and
 * unused on the tape. */
static inline bool put_short(struct resp_reply *r, enum resp_type type, const char *from, size_t len,
                             const char *end)
{
    enum { SHORT = 16 };
    if (len > SHORT || end - from < SHORT || r->cap - r->len < sizeof(struct resp_node) + SHORT)
        return resp_put_text(r, type, from, len);
    struct resp_node n = {(uint64_t)type, len};
    char *p = (r->data ? r->data : r->small) + r->len;
    memcpy(p, &n, sizeof n);
    memcpy(p + sizeof n, from, SHORT);
    r->len += sizeof n + resp_padded(len);
    return true;
}

static const char *take_string(struct resp_reply *r, const char *p, const char *end)
{
    uint64_t size;
    if (end - p >= 4 && memcmp(p, "-1\r\n", 4) == 0)
        return resp_put_nil(r) ? p + 4 : NULL;
    p = take_number(p, end, &size);
    if (!p || (uint64_t)(end - p) < size + 2 || p[size] != '\r' || p[size + 1] != '\n')
        return NULL;
    return put_short(r, RESP_STRING, p, size, end) ? p + size + 2 : NULL;
}

static const char *take_status(struct resp_reply *r, const char *p, const char *end)
{
    const char *text = p;
    while (p < end && (unsigned char)*p >= ' ')
        p++;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return NULL;
    return put_short(r, RESP_STATUS, text, (size_t)(p - text), end) ? p + 2 : NULL;
}

static const char *take_integer(struct resp_reply *r, const char *p, const char *end)
{
    uint64_t n;
    bool minus = p < end && *p == '-';
    p = take_number(p + minus, end, &n);
    if (!p || (minus && n == 0))
        return NULL;
    return resp_put_integer(r, minus ? -(int64_t)n : (int64_t)n) ? p : NULL;
}

size_t resp_take_short(struct resp_reply *r, const char *data, size_t len)
{
    const char *end = data + len;
    const char *p = NULL;
    if (len == 0)
        return 0;
    if (*data == '$')
        p = take_string(r, data + 1, end);
    else if (*data == '+')
        p = take_status(r, data + 1, end);
    else if (*data == ':')
        p = take_integer(r, data + 1, end);
    return p ? (size_t)(p - data) : 0;
}

/* ---- reading a tape ---- */

/* The value at the cursor, or the header of an attribute. */
static inline bool next_node(struct resp_cursor *c, struct resp_item *out)
{
    struct resp_node n;
    if ((size_t)(c->end - c->at) < sizeof n)
        return false;
    memcpy(&n, c->at, sizeof n);
    c->at += sizeof n;
    out->type = (enum resp_type)n.type;
    out->integer = 0;
    out->size = 0;
    out->text = NULL;
    switch (out->type) {
    case RESP_NIL:
        break;
    case RESP_INTEGER:
        out->integer = (int64_t)n.value;
        break;
    case RESP_STATUS:
    case RESP_STRING:
    case RESP_ERROR:
        out->size = n.value;
        out->text = c->at;
        c->at += resp_padded(n.value);
        break;
    case RESP_ARRAY:
    default:
        out->size = n.value;
        break;
    }
    return true;
}

/* The value to which an attribute belongs. Without recursion, because attributes can be nested. */
static bool after_attribute(struct resp_cursor *c, struct resp_item *out)
{
    for (uint64_t left = out->size + 1; left > 0;) {
        if (!next_node(c, out))
            return false;
        bool attribute = out->type == (enum resp_type)ATTRIBUTE;
        left -= !attribute;
        if (attribute || (left > 0 && out->type == RESP_ARRAY))
            left += out->size;
    }
    return true;
}

bool resp_next(struct resp_cursor *c, struct resp_item *out)
{
    return next_node(c, out) && (out->type != (enum resp_type)ATTRIBUTE || after_attribute(c, out));
}

bool resp_skip(struct resp_cursor *c)
{
    /* Without recursion: each array adds its elements to the number of values left to skip. */
    struct resp_item item;
    for (uint64_t left = 1; left > 0; left--) {
        if (!resp_next(c, &item))
            return false;
        if (item.type == RESP_ARRAY)
            left += item.size;
    }
    return true;
}
