/* For the files of this folder only. */
#ifndef DBRUN_TRACE_IMPL_H
#define DBRUN_TRACE_IMPL_H

#include "trace/file.h"
#include "trace/trace.h"

#include <stdatomic.h>

enum {
    TRACE_LINES = (TRACE_TEXT_SIZE + 800) * 2, /* the most bytes that the lines of an event take */
    TRACE_RECORDS = 1024                       /* from half of them on, the thread makes lines */
};

/* The spans that have begun in the lane and not ended, outermost first. */
struct lane {
    uint64_t *open;
    uint32_t n;
    uint32_t cap;
    bool taken;
};

/* An event that has ended and is not in the file yet. Lines are made of many records at once: a single line
 * costs more than all other trace work of a statement, because the caches hold the program's data. */
struct record {
    struct trace_text *text;
    uint64_t start, until;
    uint64_t rows, wait, count;
    const char *end;
    const char *kind, *code; /* of an event that becomes a line at once */
    uint32_t task, lane;
    int conn;
    bool whole; /* one event, not a pair */
    bool many;  /* `count` statements of one text */
    bool has_rows, has_wait, blocking, redis;
};

struct trace {
    /* Used only by the program's thread. */
    uint64_t since; /* when the running task was resumed; 0: none runs */
    uint64_t ran;
    struct trace_file *file;
    struct trace_texts *texts;
    struct lane *lanes; /* from 1 on */
    uint32_t nlanes;
    uint32_t lowest; /* no lane below this one is free */
    uint64_t serial;
    /* The records from `told` to `ended` have still to become lines. The program's thread adds them without
     * the file's lock; making lines of them needs the lock. */
    _Atomic uint32_t ended, told;
    _Atomic bool failed; /* a write has failed and was not reported yet */
    /* Used with the lock held. */
    uint64_t start;   /* of the program, on the monotonic clock */
    uint64_t room;    /* bytes for events */
    uint64_t least;   /* in ns: shorter events are left out */
    unsigned step;    /* how far the room is filled, in steps */
    uint64_t next_id; /* for pairs of b and e */
    uint64_t written;
    uint64_t left_out;
    uint64_t blocked;
    uint64_t sum[TRACE_CATS];
    uint64_t count[64]; /* number of written events by the power of two of their us */
    struct trace_settings s;
    struct record records[TRACE_RECORDS];
};

/* Unless stated otherwise, the functions below are called with the file's lock held. */

/* Microseconds from the start of the program. */
static inline uint64_t trace_time(const struct trace *t, uint64_t time)
{
    return time > t->start ? (time - t->start) / 1000 : 0;
}

/* ---- limit.c ---- */

/* The bytes of the limit that are reserved for the counts at the end. */
uint64_t trace_totals_room(const struct trace *t);
/* True when there is room for lines of `size` bytes. */
bool trace_has_room(const struct trace *t, size_t size);
/* The same for an event that took `ns` and ended at `until`; counts the event if there is no room. */
bool trace_is_wanted(struct trace *t, uint64_t ns, uint64_t until, size_t size);
void trace_note_written(struct trace *t, uint64_t ns);
/* Reports the errno of a failed write, if not 0. On the program's thread. */
void trace_tell_failure(struct trace *t, int reason);

/* ---- lane.c ---- */

/* Names a row. Takes the lock itself. */
void trace_name_thread(struct trace *t, unsigned pid, uint64_t tid, const char *what);
/* Removes the span from its lane. True: all spans that began after it in the lane have ended, so it nests.
 * Without the lock, because only the program's thread uses lanes. */
bool trace_pop(struct trace *t, const struct trace_span *span);
void trace_lanes_free(struct trace *t);

/* ---- tell.c ---- */

/* Counts the event and adds its lines. */
void trace_tell(struct trace *t, const struct record *r);
/* The same for all waiting records; `data` is the trace. Also called in a signal handler. */
void trace_tell_records(void *data);

#endif
