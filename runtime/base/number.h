/*
 * Numbers and words of a wire format as text. Always in the "C" locale: a script may set another one
 * (os.setlocale), which changes what strtod, printf and isalpha of the C library read and write. `make lint`
 * forbids these functions in the codecs.
 */
#ifndef DBRUN_BASE_NUMBER_H
#define DBRUN_BASE_NUMBER_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- numbers ---- */

/* strtod and strtof with a decimal point. */
double number_parse(const char *text, char **end);
float number_parse_float(const char *text, char **end);

enum { NUMBER_MAX = 32 };

/* Writes the shortest of 15, 16 or 17 digits that read back as the same number, with a NUL; returns the
 * length. The number must be finite. */
size_t number_format(char out[NUMBER_MAX], double v);

/* Reads "[+-]digits" up to a NUL; false when the text is different or exceeds int64. */
bool number_parse_int(const char *text, int64_t *v);
/* The same; 0 on failure. */
int64_t number_int(const char *text);
/* The number at the beginning of a text; 0: no digits, or more than nine. */
int64_t number_leading(const char *text);

/* Around calls of a library that uses the locale: the thread is in the "C" locale from begin to end. No Lua
 * error may be raised in between. */
locale_t number_locale_begin(void);
void number_locale_end(locale_t before);

/* ---- ASCII ---- */

static inline bool ascii_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline bool ascii_is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static inline bool ascii_is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || ascii_is_upper(c);
}

static inline bool ascii_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline char ascii_lower(char c)
{
    return ascii_is_upper(c) ? (char)(c - 'A' + 'a') : c;
}

static inline char ascii_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* True when the text begins with the first `n` bytes of `word`, in upper or lower case. */
bool ascii_begins(const char *text, const char *word, size_t n);
/* True when the text is this word, in upper or lower case. */
bool ascii_is_word(const char *text, size_t len, const char *word);

#endif
