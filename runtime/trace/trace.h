/*
 * The trace of a run (--trace FILE): what the program waited for, as trace events in a file. Nothing here knows
 * Lua, libuv or a database; task/ and the bindings say what has happened.
 *
 * The file, in the array form of the trace event format, which Perfetto and chrome://tracing open:
 *
 *   [                          the first line
 *   {...},                     a line an event: one JSON object, a comma
 *   {...}                      the last line, of the event dbrun_totals: no comma
 *   ]                          only when the program has ended by itself
 *
 * After a crash "]" and dbrun_totals are missing, and the last line may be cut: read it line by line, drop the
 * commas, and drop a line that is no JSON. In FILE.html the viewer comes first (runtime/trace/viewer.html up to
 * the line that holds nothing but <!--events-->), then the same lines between
 * <script type="application/json" id="events"> and </script>.
 *
 * ts and dur are whole microseconds, ts from the start of the program. pid 1 "tasks": tid is a lane, from 1 on; a
 * task takes the lowest that is free with its first event, and gives it back at its end. pid 2 "connections": tid is
 * the number of the server's process. pid 3 "Redis": tid 1.
 *
 *   ph cat          name, args
 *   X  postgres     a statement on a connection of its own. name: the beginning of the SQL, on one line.
 *                   args: sql place task conn rows; of a failed one kind, sqlstate in place of rows
 *   X  pipeline     a round trip of several statements: a pipeline (name "pipeline"), or a portion of execute_many
 *                   (args.sql, too). args: statements rows place task conn; kind sqlstate
 *   X  pool         name "wait for a connection"; args: place task; kind when none came. Also for Redis (args.redis
 *                   is true). Opening the connection counts
 *   X  redis        a command, or a pipeline. name: the command. args: place task; commands (of a pipeline); kind, code
 *   X  sleep        task.sleep; args: task place
 *   X  wait         another wait: name "tasks" (a join, the end of a group), "condition", "signal", "child",
 *                   "message", "input"; args: task place
 *   X  transaction  from BEGIN to its end; holds what ran inside. args: place task conn; end ("COMMIT", "ROLLBACK",
 *                   absent: it was left open)
 *   X  rows         a loop over rows(), from the statement's end to the last row taken; args: sql place task conn
 *                   rows; wait: microseconds of it in which the task waited for the server (the rest is the script's)
 *   X  copy         COPY, from its first byte to its end; args as rows; name "COPY in" or "COPY out"
 *   b e shared      a statement on a shared connection (pipeline=): pid 2, id. args (of b): as postgres, and lane:
 *                   the task waited for it there
 *   b e piped       a statement inside of a pipeline: pid 2, id. args (of b): as shared; its time is in the pipeline's
 *   b e connect     a connection being opened: pid 2 or 3, id, tid 0 or 1; args: kind when it failed
 *   i  error        a statement, command or wait failed: pid 1, tid the lane, s "t"; name: sqlstate, code or kind;
 *                   args: kind sqlstate code sql place task
 *   i  trace        args.least_us: from here on events that took less are left out, to keep the file in its limit
 *   M  process_name process_sort_index thread_name: as usual
 *   M  dbrun_start  the first event; args: format (1), version, started (UTC), script, limit
 *   M  dbrun_statement  at the end, one for each text, cat and place, those with the longest total first: counts that
 *                   also hold what was left out. args: cat, sql (of redis: the command), place, calls, errors, rows,
 *                   total_us, max_us, p95_us. A text "(others)" sums up those for which there was no room
 *   M  dbrun_totals the last event. args: elapsed_us status written left_out least_us, and time_us: the sums
 *                   {postgres, shared, pipeline, rows, copy, pool, redis, sleep, wait, lua} over all tasks, of rows and
 *                   copy only the waits; lua: the time in which the program ran
 *
 * X events of a lane nest: each lies inside of another or beside it. A transaction, loop or COPY that does not (two of
 * them overlap in one task, or another task ends it) is written as b and e with pid 1 and the same cat, name and args.
 * b stands before its e. Members that do not apply are absent. A key's order is not fixed, lines are not in the order
 * of ts.
 *
 * No parameters, no values: sql is the text (secrets masked, at most 2,000 bytes), errors are told by their kind and
 * code. Control characters are escaped, `<` is \u003c, what is no UTF-8 is U+FFFD.
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
    uint64_t limit;     /* bytes of lines */
    const char *page; /* HTML that stands before the lines; NULL: they stand alone */
    size_t page_size;
    const char *version;
    const char *script;                          /* its name, without arguments */
    void (*tell)(void *data, const char *text);  /* tells that the file cannot be written any more */
    void *data;
};

enum { TRACE_TASKS = 1, TRACE_CONNECTIONS = 2, TRACE_REDIS_SERVER = 3 }; /* pid */

/* Opens the file and writes its first lines. NULL, and errno, when that fails. What `s` points to must stay. */
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
/* A task begins or stops to run. */
void trace_runs(struct trace *t, bool runs);

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
    int conn;         /* the server's process */
    bool has_rows;
    bool has_wait;
    bool blocking;    /* the program waited, not only the task */
    bool redis;
    uint64_t rows;
    uint64_t wait;    /* ns */
    uint64_t until;   /* when it ended; 0: now */
    uint64_t count;   /* how many statements or commands; 0: one, and nothing is said */
    const char *end;  /* of a transaction */
    const char *kind; /* of the error, if it has failed */
    const char *code; /* SQLSTATE, or that of Redis */
};

/* The text of an event that is told later. NULL when memory is out. */
const struct trace_text *trace_keep(struct trace *t, const struct trace_key *key);
/* The span ends now, and is told. */
void trace_end(struct trace *t, struct trace_span *span, const struct trace_event *event);
/* A statement of a pipeline has ended with it: `span` is the pipeline's, and goes on. */
void trace_piped(struct trace *t, const struct trace_span *span, const struct trace_event *event);
/* A connection was opened, or was not; `kind` says why. */
void trace_connected(struct trace *t, unsigned pid, uint64_t start, const char *kind);
/* The server's process of a new connection. */
void trace_name_connection(struct trace *t, int conn);

#endif
