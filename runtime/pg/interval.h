/*
 * Intervals as text. The server prints them in one of four styles (IntervalStyle); dbrun returns them in
 * `postgres`, the server's default: "1 year 2 mons -3 days +04:05:06.7". See EncodeInterval in datetime.c.
 */
#ifndef DBRUN_PG_INTERVAL_H
#define DBRUN_PG_INTERVAL_H

#include <stdbool.h>
#include <stddef.h>

enum { INTERVAL_MAX = 128 };

/* True when the text is in the style `postgres`. */
bool interval_is_postgres(const char *text);
/* Rewrites a text in any of the other styles; returns the length, or 0 when the text is in none of them. */
size_t interval_to_postgres(const char *text, char out[INTERVAL_MAX]);

#endif
