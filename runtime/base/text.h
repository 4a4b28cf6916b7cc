/*
 * UTF-8 and hexadecimal digits.
 */
#ifndef DBRUN_BASE_TEXT_H
#define DBRUN_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed UTF-8 sequence (RFC 3629) at the start of `text`; 0 when there is none within
 * `left` bytes. Reads no byte after the first wrong one, so for text that ends in a NUL `left` may be
 * SIZE_MAX. */
size_t utf8_len(const char *text, size_t left);
/* True when the whole text is well-formed UTF-8. NUL bytes are allowed. */
bool utf8_is_valid(const char *text, size_t len);
/* The length of the text cut to at most `most` bytes, without splitting a character. */
size_t utf8_cut(const char *text, size_t len, size_t most);

/* The value of a hexadecimal digit; -1 for any other character. */
int hex_digit(char c);
/* Writes 2 * n lower-case digits, and no NUL. */
void hex_write(char *out, const void *bytes, size_t n);

#endif
