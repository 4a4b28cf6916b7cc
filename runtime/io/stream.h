/*
 * Reads lines, numerals and blocks from a FILE, as Lua's io library does, without waiting: when the FILE has
 * no bytes and its descriptor is not readable, the caller is told to wait and to call again. No Lua.
 *
 * What a read has taken out of the FILE so far stands in `taken` until the read is settled, so a read that is
 * given up puts it all back. The FILE stays what everybody reads from: between two reads `taken` is empty.
 */
#ifndef DBRUN_IO_STREAM_H
#define DBRUN_IO_STREAM_H

#include "base/buf.h"

#include <stdio.h>

/* L_MAXLENNUM of Lua: a numeral that is longer is none. */
enum { STREAM_NUMERAL = 200 };

struct stream {
    FILE *file;
    struct buf taken;
    size_t start; /* in `taken`: where the value that is read now begins */
    size_t seen;  /* ... as far as it was looked at */
    int error;    /* errno of a read that failed */
    unsigned
        reads;  /* of the descriptor, until the caller shall wait although there are bytes; it sets this */
    bool ended; /* the input ended, or a read failed */
};

enum stream_status {
    STREAM_DONE, /* the value is there */
    STREAM_NONE, /* there is none: the input has ended, or is no numeral */
    STREAM_WAIT, /* call again when the descriptor is readable */
    STREAM_OOM,
};

/* Would a read of this FILE ever wait for something that the loop can watch: a pipe, a socket, a terminal? */
bool stream_may_wait(FILE *file);

/* From now on reads take no more from the descriptor than what they need. False: the FILE holds bytes
 * already. */
bool stream_read_exactly(FILE *file);

/* Between two reads: takes a line with its end, when it fits and stands whole in the FILE's buffer. Returns
 * its length, 0 when there is none. */
size_t stream_short_line(struct stream *s, char *out, size_t size);

/* Begins a read: of one value or of several. */
void stream_begin(struct stream *s);
/* The line, with its end. NONE: no byte is left. */
enum stream_status stream_line(struct stream *s);
/* `max` bytes, or fewer when the input ends before. NONE: it has ended already. `max` 0 asks just that. */
enum stream_status stream_block(struct stream *s, size_t max);
/* Everything until the end. */
enum stream_status stream_all(struct stream *s);
/* The longest text that can begin a numeral of Lua, behind blanks, NUL-terminated. The caller converts it. */
enum stream_status stream_numeral(struct stream *s, char text[STREAM_NUMERAL + 1]);
/* The value: `len` bytes from `start`. */
static inline const char *stream_value(const struct stream *s, size_t *len)
{
    *len = s->seen - s->start;
    return *len > 0 ? s->taken.data + s->start : "";
}
/* Goes on behind the value. */
void stream_next(struct stream *s);

/* The read is over: what it looked at and did not use goes back into the FILE. */
void stream_settle(struct stream *s);
/* The read is given up: everything that it took goes back. */
void stream_give_up(struct stream *s);
/* For another read that cannot wait: gives back what the value under way has taken. The read goes on later
 * with what comes then. False: memory is out. */
bool stream_lend(struct stream *s);

#endif
