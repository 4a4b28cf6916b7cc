/*
 * Reads replies: hiredis' `redisReader`, with functions that append the values it finds to a tape
 * (redis/resp.h). A short reply that has arrived completely, the usual one in a pipeline, is put on the tape
 * directly from the receive buffer: hiredis would copy the bytes first and take five times as long. The
 * reader knows no socket: bytes are fed to it, and it says when a reply is complete.
 *
 * RESP3 replies are converted to RESP2: maps, sets and pushes become arrays, doubles and big numbers texts,
 * booleans 1 and 0; attributes are hidden.
 *
 * The parser of hiredis waits for as many bytes as a server announces. The reader refuses a reply that cannot
 * end within our limits as soon as this is known.
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
    REDIS_READ_PUSH,    /* RESP3: an unsolicited message, on the tape for pushes */
    REDIS_READ_REFUSED, /* redis_reader_refusal says why; nothing more can be read */
};

struct redis_reader {
    struct redisReader *parser;
    struct resp_reply *reply; /* the tape that values are appended to */
    struct resp_reply *push;  /* the tape for pushes */
    bool pushing;             /* a push is being read */
    const char *refused;      /* why a reply was refused; NULL: the parser's own reason */
    bool too_large;           /* it was refused because of its size */
};

/* True when the hiredis of this build reads RESP3 (1.0 and later). */
bool redis_reader_knows_resp3(void);
/* The reader must not move afterwards. `push`: the tape for pushes, which the caller empties. False when out
 * of memory. */
bool redis_reader_open(struct redis_reader *r, struct resp_reply *push);
void redis_reader_close(struct redis_reader *r);
/* False when out of memory. */
bool redis_reader_feed(struct redis_reader *r, const char *data, size_t len);
/* Appends the reply at the front of `data`, which was not fed, without hiredis; returns how many bytes it
 * took. 0: feed the data instead, because a reply is being read or this one is not short
 * (resp_take_short). */
size_t redis_reader_take(struct redis_reader *r, struct resp_reply *to, const char *data, size_t len);
/* Appends the next reply, or the part of it that has arrived, to the tape `to`. */
enum redis_read redis_reader_next(struct redis_reader *r, struct resp_reply *to);
const char *redis_reader_refusal(const struct redis_reader *r);
/* True when every byte that was fed is parsed. */
bool redis_reader_is_empty(const struct redis_reader *r);

#endif
