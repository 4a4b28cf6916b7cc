/*
 * What COPY reads: fields in its text and CSV formats, and the binary forms of values that come as text.
 * Section "COPY", File Formats, of the PostgreSQL manual; binary forms: the *recv functions of
 * src/backend/utils/adt. Each call appends to the caller's buffer, whole or not at all.
 */
#ifndef DBRUN_PG_COPYFMT_H
#define DBRUN_PG_COPYFMT_H

#include "base/buf.h"
#include "pg/types.h"

#include <stdint.h>

enum copyfmt_result {
    COPYFMT_OK,
    COPYFMT_INVALID, /* no value of this type: SQLSTATE 22P02 on the server */
    COPYFMT_RANGE,   /* beyond what the type holds: 22003 */
    COPYFMT_UNKNOWN, /* the type's binary form is not known here */
    COPYFMT_OOM,
};

/* What stands in front of the rows in the binary format, and behind them. */
#define COPYFMT_HEADER     "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
#define COPYFMT_HEADER_LEN 19
#define COPYFMT_TRAILER    "\377\377"

/* ---- text and CSV ---- */

/* A value that is not NULL (NULL is \N); backslash, tab, newline and carriage return are escaped. */
bool copyfmt_text(struct buf *b, const char *s, size_t len);
/* Quoted, so that an empty value is no NULL (which is nothing at all). */
bool copyfmt_csv(struct buf *b, const char *s, size_t len);
/* Bytes as the text of a bytea: \x0aff; escaped once more in the text format. */
bool copyfmt_bytea(struct buf *b, const char *s, size_t len, bool text_format);

/* ---- binary: length and value ---- */

enum copyfmt_result copyfmt_integer(struct buf *b, enum pg_kind kind, int64_t v);
enum copyfmt_result copyfmt_float(struct buf *b, enum pg_kind kind, double v);
enum copyfmt_result copyfmt_bool(struct buf *b, bool v);
/* A value from its text, as the server would read it (dates and times: ISO 8601 only, timestamptz with its
 * zone). `s` must be followed by a NUL. */
enum copyfmt_result copyfmt_value(struct buf *b, const struct pg_type *t, const char *s, size_t len);
/* The part of copyfmt_value for numeric. */
enum copyfmt_result copyfmt_numeric(struct buf *b, const char *s, size_t len);
/* Is every text that the server would take for this type taken by copyfmt_value too, with the same
 * meaning? */
bool copyfmt_is_total(const struct pg_type *t);

#endif
