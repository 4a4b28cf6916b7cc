/* For the files of this folder only. */
#ifndef DBRUN_TRACE_IMPL_H
#define DBRUN_TRACE_IMPL_H

#include "trace/file.h"
#include "trace/trace.h"

#include <stdatomic.h>

enum {
    TRACE_LINES = (TRACE_TEXT_SIZE + 800) * 2, /* the lines of an event at most */
    TRACE_RECORDS = 1024                       /* of half of them on the thread makes lines */
};

/* What has begun in the lane and not ended, outermost first. */
struct lane {
    uint64_t *open;
    uint32_t n;
    uint32_t cap;
    bool taken;
};

/* An event that has ended and is not in the file yet. To make its line while the caches hold what the program
 * works on costs more than the statement's other work for the trace: lines are made of many records at once.
 */
struct record {
    struct trace_text *text;
    uint64_t start, until;
    uint64_t rows, wait, count;
    const char *end;
    const char *kind, *code; /* of one that is told at once */
    uint32_t task, lane;
    int conn;
    bool whole; /* one event, not a pair */
    bool many;  /* `count` statements of one text */
    bool has_rows, has_wait, blocking, redis;
};

struct trace {
    /* Of the program's thread. */
    uint64_t since; /* when the task that runs was resumed; 0: none does */
    uint64_t ran;
    struct trace_file *file;
    struct trace_texts *texts;
    struct lane *lanes; /* from 1 on */
    uint32_t nlanes;
    uint32_t lowest; /* no lane below it is free */
    uint64_t serial;
    /* Records from `told` to `ended` wait. The program's thread adds them without the file's lock; who makes
     * lines of them has it. */
    _Atomic uint32_t ended, told;
    _Atomic bool failed; /* a write, which is still to be told */
    /* With the lock. */
    uint64_t start;   /* of the program, on the monotonic clock */
    uint64_t room;    /* bytes for events */
    uint64_t least;   /* ns: shorter events are left out */
    unsigned step;    /* of filling it */
    uint64_t next_id; /* of pairs of b and e */
    uint64_t written;
    uint64_t left_out;
    uint64_t blocked;
    uint64_t sum[TRACE_CATS];
    uint64_t count[64]; /* of written events by the power of two of their us */
    struct trace_settings s;
    struct record records[TRACE_RECORDS];
};

/* Where nothing else is said, functions from here on are called with the file's lock. */

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
/* The same for an event that took `ns` and ended at `until`; one for which there is none is counted. */
bool trace_is_wanted(struct trace *t, uint64_t ns, uint64_t until, size_t size);
void trace_note_written(struct trace *t, uint64_t ns);
/* Tells the errno of a write that failed; 0: none has. In the program's thread. */
void trace_tell_failure(struct trace *t, int reason);

/* ---- lane.c ---- */

/* Names a row. Takes the lock. */
void trace_name_thread(struct trace *t, unsigned pid, uint64_t tid, const char *what);
/* Takes the span out of its lane. True: what began in the lane after it has ended, so that it nests. Without
 * the lock: lanes are of the program's thread. */
bool trace_pop(struct trace *t, const struct trace_span *span);
void trace_lanes_free(struct trace *t);

/* ---- tell.c ---- */

/* Counts the event and puts its lines. */
void trace_tell(struct trace *t, const struct record *r);
/* The same for all records that wait; `data` is the trace. Also in the handler of a signal. */
void trace_tell_records(void *data);

#endif
