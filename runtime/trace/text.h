/*
 * The texts of the trace: each SQL text, command or kind of wait with the line of the script it came from.
 * The part of an event that comes from its text is made once. Each text has counts, which include events for
 * which the file has no room.
 *
 * The table owns the texts until it is freed. Its size is limited: later texts are counted as "(others)".
 */
#ifndef DBRUN_TRACE_TEXT_H
#define DBRUN_TRACE_TEXT_H

#include "base/buf.h"
#include "base/secrets.h"

#include <stdint.h>

enum trace_cat {
    TRACE_POSTGRES,
    TRACE_SHARED,
    TRACE_PIPELINE,
    TRACE_PIPED,
    TRACE_ROWS,
    TRACE_COPY,
    TRACE_TRANSACTION,
    TRACE_POOL,
    TRACE_REDIS,
    TRACE_SLEEP,
    TRACE_WAIT,
    TRACE_CATS
};

extern const char *const trace_cat_names[TRACE_CATS];

enum {
    TRACE_FILE_SIZE = 60,  /* bytes of a script's name, with its NUL */
    TRACE_NAME_MOST = 60,  /* bytes of a text that become the event's name */
    TRACE_SQL_MOST = 2000, /* bytes of a text in `args` */
    /* The most memory that an event needs, except for its numbers. */
    TRACE_TEXT_SIZE = (TRACE_NAME_MOST + TRACE_SQL_MOST + TRACE_FILE_SIZE) * 6 + 200,
    TRACE_BUCKETS = 240
};

struct trace_counts {
    uint64_t calls, errors, rows, total, most; /* ns */
    uint32_t bucket[TRACE_BUCKETS];            /* counts of durations, for the 95th percentile */
};

/* What identifies a text. */
struct trace_key {
    enum trace_cat cat;
    const char *name; /* NULL: the beginning of the SQL */
    const char *sql;  /* NULL: none. For Redis, only the name is set */
    size_t len;
    const char *file; /* the script's line; line 0: none */
    int line;
};

struct trace_text {
    struct trace_text *next;
    uint64_t hash;
    size_t len;
    enum trace_cat cat;
    int line;
    bool passes; /* not kept: see trace_text_passing */
    char file[TRACE_FILE_SIZE];
    struct buf head; /* {"name":"...","cat":"..." */
    struct buf args; /* ,"sql":"...","place":"..." */
    struct trace_counts *counts;
};

struct trace_texts;

/* NULL when out of memory. */
struct trace_texts *trace_texts_new(void);
void trace_texts_free(struct trace_texts *t);
/* Masks these secrets from now on. NULL: none. */
void trace_texts_mask(struct trace_texts *t, const struct secrets *secrets);
/* The text, valid as long as the table. NULL when the table is full, or out of memory. */
struct trace_text *trace_text_find(struct trace_texts *t, const struct trace_key *key);
/* The "(others)" of a category. */
struct trace_text *trace_text_others(struct trace_texts *t, enum trace_cat cat);
/* A text for which there was no room, valid until the next call. NULL when out of memory. */
struct trace_text *trace_text_passing(struct trace_texts *t, const struct trace_key *key);
/* Counts `n` statements, which took `ns` together. */
void trace_text_count(struct trace_text *x, uint64_t n, uint64_t ns, uint64_t rows, bool failed);
/* Calls `put` with a line for each counted text, the longest totals first, at most `room` bytes, and with a
 * line that sums up the rest. */
void trace_texts_tell(struct trace_texts *t, size_t room,
                      void (*put)(void *data, const char *line, size_t len), void *data);

#endif
