/*
 * The end marker in the data of COPY FROM STDIN: a backslash and a dot at the end of a line. The server
 * silently ignores all data after it. In CSV the marker must be the whole line, outside quotes; from
 * PostgreSQL 18 on such a line is a value.
 */
#ifndef DBRUN_PG_COPY_END_H
#define DBRUN_PG_COPY_END_H

#include <stdbool.h>
#include <stddef.h>

enum copy_end_at {
    COPY_END_LINE, /* at the beginning of a line */
    COPY_END_IN,   /* in a line */
    COPY_END_BACKSLASH,
    COPY_END_DOT, /* after a backslash and a dot that may be the marker */
    COPY_END_OVER /* after the marker */
};

struct copy_end {
    bool csv;
    char quote;
    char escape; /* 0: the same as the quote */
    enum copy_end_at at;
    bool quoted;   /* CSV: in quotes */
    bool escaped;  /* CSV: after an escape, in quotes */
    bool returned; /* after a '\r', which was counted */
    size_t breaks; /* the line breaks so far */
    size_t line;   /* number of the last complete line, from 1 on; after the marker: the marker's line */
};

/* `quote` and `escape` as in the options of COPY. */
void copy_end_begin(struct copy_end *e, bool csv, char quote, char escape);
/* Scans the next part of the data. False: data follows the marker in line e->line; line breaks do not count
 * as data. */
bool copy_end_feed(struct copy_end *e, const char *data, size_t len);

#endif
