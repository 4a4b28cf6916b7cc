/*
 * Writes what COPY FROM reads: fields in the text and CSV formats, and values in the binary format, made from
 * their texts. Formats: "File Formats" on the manual's page about COPY; binary forms: the *recv functions of
 * src/backend/utils/adt. Each call appends a complete field to the caller's buffer, or nothing.
 */
#ifndef DBRUN_PG_COPYFMT_H
#define DBRUN_PG_COPYFMT_H

#include "base/buf.h"
#include "pg/types.h"

#include <stdint.h>

enum copyfmt_result {
    COPYFMT_OK,
    COPYFMT_INVALID, /* the text is not a value of the type: SQLSTATE 22P02 on the server */
    COPYFMT_RANGE,   /* the value is outside the type's range: 22003 */
    COPYFMT_UNKNOWN, /* this code does not know the type's binary form */
    COPYFMT_OOM,
};

/* The binary format begins with the header and ends with the trailer. */
#define COPYFMT_HEADER     "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
#define COPYFMT_HEADER_LEN 19
#define COPYFMT_TRAILER    "\377\377"

/* ---- text and CSV ---- */

/* Writes a value other than NULL (which is \N); escapes backslash, tab, newline and carriage return. */
bool copyfmt_text(struct buf *b, const char *s, size_t len);
/* Quotes the value, because COPY reads an empty field without quotes as NULL. */
bool copyfmt_csv(struct buf *b, const char *s, size_t len);
/* Writes bytes as the text of a bytea: \x0aff; in the text format the backslash is escaped. */
bool copyfmt_bytea(struct buf *b, const char *s, size_t len, bool text_format);

/* ---- binary: length and value ---- */

enum copyfmt_result copyfmt_integer(struct buf *b, enum pg_kind kind, int64_t v);
enum copyfmt_result copyfmt_float(struct buf *b, enum pg_kind kind, double v);
enum copyfmt_result copyfmt_bool(struct buf *b, bool v);
/* Reads the text as the server would (dates and times: ISO 8601 only; timestamptz: only with a zone) and
 * writes the value. `s` must be followed by a NUL. */
enum copyfmt_result copyfmt_value(struct buf *b, const struct pg_type *t, const char *s, size_t len);
/* copyfmt_value for the type numeric. */
enum copyfmt_result copyfmt_numeric(struct buf *b, const char *s, size_t len);
/* True when copyfmt_value accepts every text that the server accepts for this type, with the same meaning. */
bool copyfmt_is_total(const struct pg_type *t);

#endif
