/*
 * Text that comes from elsewhere: UTF-8 and hexadecimal digits.
 */
#ifndef DBRUN_BASE_TEXT_H
#define DBRUN_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed UTF-8 sequence (RFC 3629) at the start of `text`; 0 when there is none within
 * `left` bytes. Looks at no byte behind the first wrong one, so a NUL that ends the text is enough. */
size_t utf8_len(const char *text, size_t left);
/* Is all of it well-formed UTF-8? NUL bytes are. */
bool utf8_is_valid(const char *text, size_t len);

/* The value of a hexadecimal digit, -1 when it is not one. */
int hex_digit(char c);
/* Writes 2 * n lower-case digits, and no NUL. */
void hex_write(char *out, const void *bytes, size_t n);

#endif
