/*
 * The trace of a run (--trace FILE): what the program waited for, as trace events in a file, whose form
 * README.md tells. Nothing here knows Lua, libuv or a database; task/ and the bindings say what has happened.
 *
 * Something that begins in a lane is a span. Its event is written when it ends, as one that nests in its lane
 * if everything that began there after it has ended before. The trace owns its texts (trace_keep); a span is
 * the caller's, and holds nothing.
 */
#ifndef DBRUN_TRACE_TRACE_H
#define DBRUN_TRACE_TRACE_H

#include "trace/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace;

/* Something that has begun in a lane. Zeroed: nothing has. */
struct trace_span {
    uint64_t start;
    uint64_t serial;
    uint32_t lane;
};

struct trace_settings {
    const char *path;
    uint64_t limit;   /* bytes of lines */
    const char *page; /* HTML that stands before the lines; NULL: they stand alone */
    size_t page_size;
    const char *version;
    const char *script;                         /* its name, without arguments */
    void (*tell)(void *data, const char *text); /* tells that the file cannot be written any more */
    void *data;
};

enum { TRACE_TASKS = 1, TRACE_CONNECTIONS = 2, TRACE_REDIS_SERVER = 3 }; /* pid */

/* Opens the file and writes its first lines. NULL, and errno, when that fails. What `s` points to must stay.
 */
struct trace *trace_open(const struct trace_settings *s);
/* The program has ended: writes the counts, closes the file and frees the trace. */
void trace_close(struct trace *t, int status);
/* These are masked in what is written. NULL: they are gone. */
void trace_mask(struct trace *t, const struct secrets *secrets);
/* See trace/file.h. */
void trace_rescue(struct trace *t);
void trace_before_fork(struct trace *t);
void trace_after_fork(struct trace *t, bool child);

/* ---- lanes and spans ---- */

/* The lowest lane that is free; 0 when memory is out. */
uint32_t trace_lane_take(struct trace *t);
/* 0 is harmless. */
void trace_lane_give(struct trace *t, uint32_t lane);
struct trace_span trace_begin(struct trace *t, uint32_t lane, uint64_t start);
/* It is not to be told. Harmless for one that was told, or is zeroed. */
void trace_drop(struct trace *t, struct trace_span *span);
/* A task is resumed now, or has stopped and the next is resumed at once. */
void trace_runs(struct trace *t);
/* The last that was ready has stopped. */
void trace_waits(struct trace *t);
/* When the wait of a task has ended, told by what runs first when it is resumed: then, if it has begun before
 * that, else now. */
uint64_t trace_resumed(const struct trace *t, const struct trace_span *span);

/* ---- events ---- */

/* What is told of a span at its end; what is 0 or NULL is not known. */
struct trace_event {
    enum trace_cat cat;
    const char *name; /* see struct trace_key */
    const char *sql;
    size_t len;
    const char *file;
    int line;
    const struct trace_text *text; /* in place of these five: from trace_keep */
    uint32_t task;
    int conn; /* the server's process; of a pooler any number, also one below zero */
    bool has_rows;
    bool has_wait;
    bool blocking; /* the program waited, not only the task */
    bool redis;
    uint64_t rows;
    uint64_t wait;    /* ns */
    uint64_t until;   /* when it ended; 0: now */
    uint64_t count;   /* how many statements or commands; 0: one, and nothing is said */
    const char *end;  /* of a transaction */
    const char *kind; /* of the error, if it has failed */
    const char *code; /* SQLSTATE, or that of Redis */
};

/* The text of an event that is told later; that of all others when there is no room for it. */
const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key);
/* The span ends now, and is told. */
void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *event);
/* A part of the span has ended, which began with it, and the span goes on: a statement of a pipeline, the
 * wait for a connection. */
void trace_part(struct trace *t, const struct trace_span *span, const struct trace_event *event);
/* A connection was opened, or was not; `kind` says why. */
void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind);
/* The server's process of a new connection. */
void trace_name_connection(struct trace *t, int conn);

#endif
