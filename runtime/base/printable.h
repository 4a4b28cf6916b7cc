/*
 * Text of others on a terminal. What a server, a file or an environment says may contain control characters,
 * which move the cursor, change the window's title or hide what was printed. Errors keep such a text as it
 * came; it is escaped where it is printed.
 */
#ifndef DBRUN_BASE_PRINTABLE_H
#define DBRUN_BASE_PRINTABLE_H

#include "base/buf.h"

/* Appends `text` with \xNN in place of each control character but newline and tab, and of each byte that is
 * not UTF-8, and with \uNNNN in place of the control characters of Unicode: U+0080 to U+009F, those that
 * change the direction of writing, its marks, line ends, and the byte order mark. False when memory is out.
 */
bool printable_add(struct buf *out, const char *text, size_t len);

/* As printable_add, on one line: newline, tab and carriage return are written as \n, \t and \r. */
bool printable_line_add(struct buf *out, const char *text, size_t len);

/* The control character that the first `n` bytes of `text`, a sequence of UTF-8, are; 0 when they are none.
 */
unsigned printable_control(const char *text, size_t n);

#endif
