/*
 * Writes one line of the trace piece by piece into memory that is large enough: text, numbers, texts as JSON.
 */
#ifndef DBRUN_TRACE_LINE_H
#define DBRUN_TRACE_LINE_H

#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Each function returns the position for the next piece. */

static inline char *line_put(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

#define line_lit(at, literal) line_put((at), (literal), sizeof(literal) - 1)

char *line_long_number(char *at, uint64_t n);

static inline char *line_number(char *at, uint64_t n)
{
    if (n >= 10)
        return line_long_number(at, n);
    *at = (char)('0' + n);
    return at + 1;
}

/* A word that needs no escape: a kind, an SQLSTATE. */
char *line_word(char *at, const char *word);

/* Appends the text as the content of a JSON string: control characters escaped, `<` as \u003c, so that no
 * text ends the script element of a page, and U+FFFD for bytes that are not UTF-8. At most six bytes for each
 * byte. */
bool line_json(struct buf *out, const char *text, size_t len);

#endif
