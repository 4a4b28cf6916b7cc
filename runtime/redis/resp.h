/*
 * RESP, the protocol of Redis: writing commands into a buffer, and holding replies.
 *
 * A reply is a tape: its values one after the other in the order in which they arrived, in one block of
 * memory. An array is its header followed by its elements. So a reply of any depth is freed with one call and
 * without recursion, and a short one needs no allocation (`small`).
 *
 * Who owns what: a resp_reply belongs to the struct that contains it and must not move while it is in use. A
 * resp_item points into its reply.
 */
#ifndef DBRUN_REDIS_RESP_H
#define DBRUN_REDIS_RESP_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The longest argument and the longest string in a reply: Redis' own limit. */
#define RESP_MAX_STRING (UINT64_C(512) << 20)

/* ---- commands ---- */

/* The longest decimal form of an int64, sign included. */
enum { RESP_INT_DIGITS = 20 };

/* Writes `v` in decimal at `out` (RESP_INT_DIGITS bytes of room, no NUL); returns the length. */
size_t resp_format_int(int64_t v, char *out);
/* How many digits `v` has. */
size_t resp_digits(uint64_t v);
/* Appends the header of a command of `n` arguments, the name included. */
bool resp_add_header(struct buf *b, uint64_t n);
/* Appends one argument. False when out of memory; the buffer's `oom` is then set. */
bool resp_add_arg(struct buf *b, const void *data, size_t len);
bool resp_add_int(struct buf *b, int64_t v);

struct resp_text {
    const char *data;
    size_t len;
};
/* Appends a whole command at once: its name in wire format, and `n` arguments. */
bool resp_add_command(struct buf *b, const char *wire, size_t wire_len, const struct resp_text *args,
                      size_t n);
/* Appends the shortest decimal form that reads back as the same number; "inf", "-inf", "nan". */
bool resp_add_double(struct buf *b, double v);

/* ---- replies ---- */

enum resp_type { RESP_NIL, RESP_INTEGER, RESP_STATUS, RESP_STRING, RESP_ERROR, RESP_ARRAY };

struct resp_item {
    enum resp_type type;
    int64_t integer;
    uint64_t size;    /* bytes of a text, elements of an array */
    const char *text; /* not NUL-terminated */
};

/* The bytes that each value takes on the tape; a text takes its own bytes in addition. */
#define RESP_VALUE_SIZE 16u

enum { RESP_SMALL = 112 };

struct resp_reply {
    char *data; /* NULL: the tape is in `small` */
    size_t len;
    size_t cap;
    _Alignas(8) char small[RESP_SMALL];
};

static inline void resp_reply_init(struct resp_reply *r)
{
    r->data = NULL;
    r->len = 0;
    r->cap = RESP_SMALL;
}

/* Empties the reply and frees its memory. */
void resp_reply_clear(struct resp_reply *r);
/* Makes room for a tape of `size` bytes, so that it need not grow in steps. Lack of memory is ignored
 * here. */
void resp_reply_expect(struct resp_reply *r, size_t size);
/* Moves the tape of `from` into `to` (whatever `to` held is freed). */
void resp_reply_move(struct resp_reply *to, struct resp_reply *from);

bool resp_put_nil(struct resp_reply *r);
bool resp_put_integer(struct resp_reply *r, int64_t v);
bool resp_put_text(struct resp_reply *r, enum resp_type type, const char *text, size_t len);
bool resp_put_array(struct resp_reply *r, uint64_t elements);
/* Appends a RESP3 attribute of the value that follows: `values` values, which reading the tape skips. */
bool resp_put_attribute(struct resp_reply *r, uint64_t values);

/* Appends the reply at the front of `data`, where a reply must begin; returns how many bytes it took. 0: it
 * is not a status, an integer, a string or a nil in its usual form, or it is incomplete, or out of memory;
 * the tape is then unchanged, and the reader must parse the data. */
size_t resp_take_short(struct resp_reply *r, const char *data, size_t len);

/* Reads a tape from the front. */
struct resp_cursor {
    const char *at;
    const char *end;
};

static inline struct resp_cursor resp_cursor(const struct resp_reply *r)
{
    const char *p = r->data ? r->data : r->small;
    return (struct resp_cursor){p, p + r->len};
}

/* A value on the tape: a header, and for texts the bytes, padded so that headers stay aligned. */
struct resp_node {
    uint64_t type;
    uint64_t value;
};
_Static_assert(sizeof(struct resp_node) == RESP_VALUE_SIZE, "the size that limits are counted with");

static inline size_t resp_padded(size_t len)
{
    return (len + 7) & ~(size_t)7;
}

/* The next value; for an array only its header, which the elements follow. False at the end. */
bool resp_next(struct resp_cursor *c, struct resp_item *out);
/* True, and the cursor moves, when the next value is a status or a string. */
static inline bool resp_next_text(struct resp_cursor *c, struct resp_text *out)
{
    struct resp_node n;
    if ((size_t)(c->end - c->at) < sizeof n)
        return false;
    memcpy(&n, c->at, sizeof n);
    if (n.type != RESP_STATUS && n.type != RESP_STRING)
        return false;
    out->data = c->at + sizeof n;
    out->len = n.value;
    c->at = out->data + resp_padded(n.value);
    return true;
}
/* Skips one whole value, elements included. False at the end. */
bool resp_skip(struct resp_cursor *c);

#endif
