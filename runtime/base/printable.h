/*
 * Text from outside on a terminal. Text from a server, a file or the environment can contain control
 * characters, which move the cursor, change the window's title or hide what was printed. Errors keep such a
 * text unchanged; it is escaped where it is printed.
 */
#ifndef DBRUN_BASE_PRINTABLE_H
#define DBRUN_BASE_PRINTABLE_H

#include "base/buf.h"

/* Appends `text` with \xNN for each control character except newline and tab, and for each byte that is not
 * UTF-8, and with \uNNNN for the control characters of Unicode: U+0080 to U+009F, those that change or mark
 * the direction of writing, line ends, and the byte order mark. False when out of memory. */
bool printable_add(struct buf *out, const char *text, size_t len);

/* As printable_add, on one line: newline, tab and carriage return are written as \n, \t and \r. */
bool printable_line_add(struct buf *out, const char *text, size_t len);

/* The control character encoded by the first `n` bytes of `text`, a UTF-8 sequence; 0 when they encode
 * none. */
unsigned printable_control(const char *text, size_t n);

#endif
