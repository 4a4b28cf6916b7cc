/*
 * Reads replies: hiredis' `redisReader`, with functions that append the values it finds to a tape
 * (redis/resp.h). What a pipeline mostly gets, one short value that is all there, is put on the tape from
 * where it was received: hiredis would copy the bytes first, and take five times as long. It knows no socket:
 * bytes are fed to it, and it says when a reply is complete.
 *
 * Replies of RESP3 are made those of RESP2: maps, sets and pushes are arrays, doubles and big numbers are
 * texts, booleans are 1 and 0, and attributes are not seen.
 *
 * The parser of hiredis waits for as many bytes as a server announces. This refuses what cannot end within
 * our limits, as soon as that can be seen.
 *
 * Who owns what: the reader owns the parser and the bytes that are not parsed yet. Tapes belong to the
 * caller.
 */
#ifndef DBRUN_REDIS_READER_H
#define DBRUN_REDIS_READER_H

#include "redis/resp.h"

#include <stdbool.h>
#include <stddef.h>

/* The longest reply that is accepted, as a tape. */
#define REDIS_READER_MAX_REPLY (UINT64_C(1) << 30)

enum redis_read {
    REDIS_READ_MORE, /* the bytes end before the reply does */
    REDIS_READ_REPLY,
    REDIS_READ_PUSH,    /* RESP3: what the server says unasked, on the tape for pushes */
    REDIS_READ_REFUSED, /* redis_reader_refusal says why; nothing can be read any more */
};

struct redis_reader {
    struct redisReader *parser;
    struct resp_reply *reply; /* the tape that values are appended to */
    struct resp_reply *push;  /* the tape for pushes */
    bool pushing;             /* a push is being read */
    const char *refused;      /* why a reply was refused; NULL: what the parser says */
    bool too_large;           /* it was refused because of its size */
};

/* Can the hiredis that this is built with read RESP3? From 1.0 on. */
bool redis_reader_knows_resp3(void);
/* Must not move afterwards. `push`: the tape for pushes, which the caller empties. False when memory is out.
 */
bool redis_reader_open(struct redis_reader *r, struct resp_reply *push);
void redis_reader_close(struct redis_reader *r);
/* False when memory is out. */
bool redis_reader_feed(struct redis_reader *r, const char *data, size_t len);
/* Appends the reply at the front of `data`, which was not fed, without hiredis: how many bytes that was. 0:
 * the rest has to be fed, because a reply is being read, or this one is not a short one (resp_take_short). */
size_t redis_reader_take(struct redis_reader *r, struct resp_reply *to, const char *data, size_t len);
/* Appends the next reply, or the part of it that has arrived, to the tape `to`. */
enum redis_read redis_reader_next(struct redis_reader *r, struct resp_reply *to);
const char *redis_reader_refusal(const struct redis_reader *r);
/* Is every byte that was fed parsed? */
bool redis_reader_is_empty(const struct redis_reader *r);

#endif
