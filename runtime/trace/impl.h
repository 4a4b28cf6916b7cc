/* For the files of this folder only. */
#ifndef DBRUN_TRACE_IMPL_H
#define DBRUN_TRACE_IMPL_H

#include "trace/file.h"
#include "trace/trace.h"

/* A line at most. */
enum { TRACE_LINE = TRACE_TEXT_SIZE + 800 };

/* What has begun in the lane and not ended, outermost first. */
struct lane {
    uint64_t *open;
    uint32_t n;
    uint32_t cap;
    bool taken;
};

struct trace {
    struct trace_settings s;
    struct trace_file *file;
    struct trace_texts *texts;
    uint64_t start;     /* of the program, on the monotonic clock */
    uint64_t room;      /* bytes for events */
    uint64_t least;     /* ns: shorter events are left out */
    unsigned step;      /* of filling it */
    struct lane *lanes; /* from 1 on */
    uint32_t nlanes;
    uint32_t lowest; /* no lane below it is free */
    uint64_t serial;
    uint64_t next_id; /* of pairs of b and e */
    uint64_t written;
    uint64_t left_out;
    uint64_t sum[TRACE_CATS];
    uint64_t ran, running_since, blocked;
    uint64_t count[64]; /* of written events by the power of two of their us */
};

/* Microseconds from the start of the program. */
static inline uint64_t trace_time(const struct trace *t, uint64_t time)
{
    return time > t->start ? (time - t->start) / 1000 : 0;
}

/* ---- limit.c ---- */

/* Bytes of the limit that are kept for the counts at the end. */
uint64_t trace_totals_room(const struct trace *t);
/* Is there room for lines of `size` bytes? */
bool trace_has_room(const struct trace *t, size_t size);
/* The same for an event that took `ns`; one for which there is none is counted. */
bool trace_is_wanted(struct trace *t, uint64_t ns, size_t size);
void trace_note_written(struct trace *t, uint64_t ns);
/* Tells the errno of a write that failed; 0: none has. */
void trace_tell_failure(struct trace *t, int reason);

/* ---- lane.c ---- */

/* Names a row. */
void trace_name_thread(struct trace *t, unsigned pid, uint64_t tid, const char *what);
/* Takes the span out of its lane. True: what began in the lane after it has ended, so that it nests. */
bool trace_pop(struct trace *t, const struct trace_span *span);
void trace_lanes_free(struct trace *t);

#endif
