/*
 * Writes PostgreSQL's dates and times as ISO 8601 text, and reads them. Units are PostgreSQL's
 * (src/include/datatype/timestamp.h): days and microseconds since 2000-01-01; the smallest value means
 * -infinity, the largest infinity.
 */
#ifndef DBRUN_PG_TIMEFMT_H
#define DBRUN_PG_TIMEFMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TIMEFMT_MAX = 64 };

/* "2024-02-29"; "0044-03-15 BC" before year 1; "infinity", "-infinity". Each function returns the length. */
size_t timefmt_date(char out[TIMEFMT_MAX], int32_t days);
/* "12:34:56" or "12:34:56.789" (without trailing zeros; 24:00:00 is possible). */
size_t timefmt_time(char out[TIMEFMT_MAX], int64_t usec);
/* "2024-02-29T12:34:56.789"; with `utc` the suffix "+00:00". */
size_t timefmt_timestamp(char out[TIMEFMT_MAX], int64_t usec, bool utc);

/* Reads the text that the server prints with DateStyle ISO ("2024-02-29 12:34:56.789+02", "... BC",
 * "infinity") or that timefmt_timestamp prints. A time without a zone is UTC. Does not check that the day
 * exists in its month, nor the ranges of hours, minutes and seconds. */
bool timefmt_parse_timestamp(const char *text, int64_t *usec);

/* True for a date as the server prints it with DateStyle ISO. Dates have a larger range than timestamps. */
bool timefmt_is_date(const char *text);

#endif
