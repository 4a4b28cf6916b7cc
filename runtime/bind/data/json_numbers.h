/* Rewrites JSON numbers that no Lua integer can hold, so that the parser accepts them. */
#ifndef DBRUN_BIND_JSON_NUMBERS_H
#define DBRUN_BIND_JSON_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>

/* The most bytes that json_numbers_rewrite writes for a text of `len` bytes. */
size_t json_numbers_room(size_t len);
/* Copies the JSON text to `out`, and sets the length. An integer beyond 64 bits is written as a float; with
 * `exact`, such an integer, and any number that no float holds exactly, is written as a string. False when
 * nothing was changed. The text must be followed by a NUL. */
bool json_numbers_rewrite(const char *text, size_t len, bool exact, char *out, size_t *out_len);

#endif
