/*
 * The end marker in the data of COPY FROM STDIN: a backslash and a dot at the end of a line. The server reads
 * no further, and says nothing of what stands behind it. In CSV the marker is a line of its own outside of
 * quotes; from PostgreSQL 18 on such a line is a value.
 */
#ifndef DBRUN_PG_COPY_END_H
#define DBRUN_PG_COPY_END_H

#include <stdbool.h>
#include <stddef.h>

enum copy_end_at {
    COPY_END_LINE, /* at the begin of a line */
    COPY_END_IN,   /* in a line */
    COPY_END_BACKSLASH,
    COPY_END_DOT, /* behind a backslash and a dot that may be the marker */
    COPY_END_OVER /* behind the marker */
};

struct copy_end {
    bool csv;
    char quote;
    char escape; /* 0: none of its own */
    enum copy_end_at at;
    bool quoted;   /* CSV: in quotes */
    bool escaped;  /* CSV: behind an escape, in quotes */
    bool returned; /* behind a '\r', which was counted */
    size_t breaks; /* the line breaks so far */
    size_t line;   /* of the last line that has ended, from 1 on: behind the marker, its line */
};

/* `quote` and `escape` as in the options of COPY. */
void copy_end_begin(struct copy_end *e, bool csv, char quote, char escape);
/* Looks at the next part of the data; false: data stands behind the marker in e->line. Line breaks there are
 * no data. */
bool copy_end_feed(struct copy_end *e, const char *data, size_t len);

#endif
