/*
 * The trace of a run (--trace FILE): what the program waited for, as trace events in a file (its format:
 * README.md). Nothing here knows Lua, libuv or a database; task/ and the bindings report what has happened.
 *
 * A span is something that has begun in a lane. Its event is written when it ends: as an event nested in the
 * lane if all spans that began there after it have already ended. The trace owns its texts (trace_keep); the
 * caller owns a span, which holds no memory.
 */
#ifndef DBRUN_TRACE_TRACE_H
#define DBRUN_TRACE_TRACE_H

#include "trace/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace;

/* Something that has begun in a lane. Zeroed: nothing has begun. */
struct trace_span {
    uint64_t start;
    uint64_t serial;
    uint32_t lane;
};

struct trace_settings {
    const char *path;
    uint64_t limit;   /* bytes of lines */
    const char *page; /* HTML before the lines; NULL: only the lines */
    size_t page_size;
    const char *version;
    const char *script;                         /* the script's name, without arguments */
    void (*tell)(void *data, const char *text); /* reports that the file can no longer be written */
    void *data;
};

enum { TRACE_TASKS = 1, TRACE_CONNECTIONS = 2, TRACE_REDIS_SERVER = 3 }; /* pid */

/* Opens the file and writes its first lines. NULL, with errno, on failure. What `s` points to must stay
 * valid. */
struct trace *trace_open(const struct trace_settings *s);
/* At the end of the program: writes the counts, closes the file and frees the trace. */
void trace_close(struct trace *t, int status);
/* Masks these secrets in what is written. NULL: none. */
void trace_mask(struct trace *t, const struct secrets *secrets);
/* See trace/file.h. */
void trace_rescue(struct trace *t);
void trace_before_fork(struct trace *t);
void trace_after_fork(struct trace *t, bool child);

/* ---- lanes and spans ---- */

/* Takes the lowest free lane; 0 when out of memory. */
uint32_t trace_lane_take(struct trace *t);
/* Frees the lane. 0 is harmless. */
void trace_lane_give(struct trace *t, uint32_t lane);
struct trace_span trace_begin(struct trace *t, uint32_t lane, uint64_t start);
/* Drops the span without an event. Harmless for a span that has ended, or is zeroed. */
void trace_drop(struct trace *t, struct trace_span *span);
/* Call it when a task is resumed, or has stopped and the next one is resumed at once. */
void trace_runs(struct trace *t);
/* Call it when the last ready task has stopped. */
void trace_waits(struct trace *t);
/* The time at which a task's wait has ended, for the code that runs first in the resumed task: the time of
 * the resume if the span began before it, else now. */
uint64_t trace_resumed(const struct trace *t, const struct trace_span *span);

/* ---- events ---- */

/* What is recorded about a span at its end; 0 or NULL: not known. */
struct trace_event {
    enum trace_cat cat;
    const char *name; /* see struct trace_key */
    const char *sql;
    size_t len;
    const char *file;
    int line;
    const struct trace_text *text; /* instead of these five: from trace_keep */
    uint32_t task;
    int conn; /* the server's process; a pooler sends any number, also a negative one */
    bool has_rows;
    bool has_wait;
    bool blocking; /* the whole program waited, not only the task */
    bool redis;
    uint64_t rows;
    uint64_t wait;    /* ns */
    uint64_t until;   /* when it ended; 0: now */
    uint64_t count;   /* number of statements or commands; 0: one, not recorded */
    const char *end;  /* how a transaction ended */
    const char *kind; /* kind of the error, if it has failed */
    const char *code; /* SQLSTATE, or the code of Redis */
};

/* The text for an event that is recorded later; the text of "(others)" when there is no room. */
const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key);
/* Ends the span now, and records its event. */
void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *event);
/* Records a part of the span that began with it, and has ended while the span goes on: a statement of a
 * pipeline, the wait for a connection. */
void trace_part(struct trace *t, const struct trace_span *span, const struct trace_event *event);
/* Records that a connection was opened, or failed with an error of this kind. */
void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind);
/* Names the row of a new connection after its server process. */
void trace_name_connection(struct trace *t, int conn);

#endif
