/*
 * Columns that a text takes on a terminal, whatever the locale is. Control characters and bytes that are not
 * UTF-8 count as the escape that printable_line_add writes for them, so a text is measured as it is printed.
 */
#ifndef DBRUN_BASE_WIDTH_H
#define DBRUN_BASE_WIDTH_H

#include <stddef.h>

/* Bytes of what is seen as one character at the start of `text`: a character with the marks that join it, an
 * emoji with what belongs to it, a flag, or what is escaped. Gives its columns: 0, 1, 2, or those of the
 * escape. `len` is at least 1. */
size_t width_next(const char *text, size_t len, size_t *columns);

/* Columns of the whole text. */
size_t width_of(const char *text, size_t len);

/* Bytes at the start of `text` that fit into `most` columns; never within a character, nor between a
 * character and its marks. Gives the columns that they take. */
size_t width_fit(const char *text, size_t len, size_t most, size_t *columns);

#endif
