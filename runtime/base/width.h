/*
 * The columns that a text takes on a terminal, independent of the locale. Control characters and bytes that
 * are not UTF-8 count as the escape that printable_line_add writes for them, so a text is measured as it is
 * printed.
 */
#ifndef DBRUN_BASE_WIDTH_H
#define DBRUN_BASE_WIDTH_H

#include <stddef.h>

/* The bytes of one visible character at the start of `text`: a character with its combining marks, an emoji
 * sequence, a flag, or an escaped byte or character. Sets its columns: 0, 1, 2, or those of the escape. `len`
 * is at least 1. */
size_t width_next(const char *text, size_t len, size_t *columns);

/* Columns of the whole text. */
size_t width_of(const char *text, size_t len);

/* Bytes at the start of `text` that fit into `most` columns; never within a character, nor between a
 * character and its marks. Sets the columns that they take. */
size_t width_fit(const char *text, size_t len, size_t most, size_t *columns);

#endif
