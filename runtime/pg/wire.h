/*
 * Numbers as PostgreSQL sends them, big-endian (pq_sendint and pq_getmsgint of the server), and trimming of
 * white space around texts.
 */
#ifndef DBRUN_PG_WIRE_H
#define DBRUN_PG_WIRE_H

#include "base/buf.h"
#include "base/number.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* ---- appending numbers; the buffer must have room ---- */

static inline void wire_put2(struct buf *b, uint16_t v)
{
    v = htobe16(v);
    memcpy(b->data + b->len, &v, 2);
    b->len += 2;
}

static inline void wire_put4(struct buf *b, uint32_t v)
{
    v = htobe32(v);
    memcpy(b->data + b->len, &v, 4);
    b->len += 4;
}

static inline void wire_put8(struct buf *b, uint64_t v)
{
    v = htobe64(v);
    memcpy(b->data + b->len, &v, 8);
    b->len += 8;
}

/* ---- reading numbers at `p` ---- */

static inline int16_t wire_get2(const char *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return (int16_t)be16toh(v);
}

static inline int32_t wire_get4(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return (int32_t)be32toh(v);
}

static inline int64_t wire_get8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return (int64_t)be64toh(v);
}

/* ---- text ---- */

/* Drops white space at both ends. */
static inline void wire_trim(const char **s, size_t *len)
{
    while (*len > 0 && ascii_is_space(**s)) {
        (*s)++;
        (*len)--;
    }
    while (*len > 0 && ascii_is_space((*s)[*len - 1]))
        (*len)--;
}

#endif
