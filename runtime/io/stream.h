/*
 * Reads lines, numerals and blocks from a FILE, as Lua's io library does, without waiting: when the FILE has
 * no bytes and its descriptor is not readable, the caller must wait and call again. No Lua.
 *
 * What a read has taken out of the FILE stays in `taken` until the read is settled, so an abandoned read puts
 * all of it back. Other code can read from the same FILE: between two reads `taken` is empty.
 */
#ifndef DBRUN_IO_STREAM_H
#define DBRUN_IO_STREAM_H

#include "base/buf.h"

#include <stdio.h>

/* L_MAXLENNUM of Lua: a longer text is no numeral. */
enum { STREAM_NUMERAL = 200 };

struct stream {
    FILE *file;
    struct buf taken;
    size_t start;   /* in `taken`: the beginning of the current value */
    size_t seen;    /* in `taken`: the end of what was looked at */
    int error;      /* errno of a read that failed */
    unsigned reads; /* reads left before the caller must wait in any case; the caller sets it */
    bool ended;     /* the input ended, or a read failed */
};

enum stream_status {
    STREAM_DONE, /* the value is there */
    STREAM_NONE, /* there is no value: the input has ended, or is no numeral */
    STREAM_WAIT, /* call again when the descriptor is readable */
    STREAM_OOM,
};

/* True when a read of this FILE can wait for something that the loop can watch: a pipe, a socket, a
 * terminal. */
bool stream_may_wait(FILE *file);

/* From now on reads take no more from the descriptor than they need. False: the FILE already holds bytes. */
bool stream_read_exactly(FILE *file);

/* Between two reads: takes a line with its line end, if it fits and the FILE's buffer holds it completely.
 * Returns its length, 0 when there is none. */
size_t stream_short_line(struct stream *s, char *out, size_t size);

/* Begins a read of one or more values. */
void stream_begin(struct stream *s);
/* Reads a line with its line end. NONE: no byte is left. */
enum stream_status stream_line(struct stream *s);
/* Reads `max` bytes, or fewer at the end of the input. NONE: the input has already ended. `max` 0 only asks
 * for this. */
enum stream_status stream_block(struct stream *s, size_t max);
/* Reads everything to the end. */
enum stream_status stream_all(struct stream *s);
/* Reads the longest text that can begin a Lua numeral, after blanks; NUL-terminated. The caller converts
 * it. */
enum stream_status stream_numeral(struct stream *s, char text[STREAM_NUMERAL + 1]);
/* The value: `len` bytes from `start`. */
static inline const char *stream_value(const struct stream *s, size_t *len)
{
    *len = s->seen - s->start;
    return *len > 0 ? s->taken.data + s->start : "";
}
/* Moves past the value. */
void stream_next(struct stream *s);

/* Ends the read: what it looked at and did not use goes back into the FILE. */
void stream_settle(struct stream *s);
/* Abandons the read: everything that it took goes back. */
void stream_give_up(struct stream *s);
/* For another read that cannot wait: puts back what the current value has taken. The read continues later
 * with what comes then. False: out of memory. */
bool stream_lend(struct stream *s);

#endif
