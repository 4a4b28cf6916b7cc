/*
 * PostgreSQL's dates and times as ISO 8601 text, and back.
 * Units are PostgreSQL's own (src/include/datatype/timestamp.h): days and microseconds since
 * 2000-01-01, the smallest and the largest value standing for -infinity and infinity.
 */
#ifndef DBRUN_PG_TIMEFMT_H
#define DBRUN_PG_TIMEFMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TIMEFMT_MAX = 64 };

/* "2024-02-29"; "0044-03-15 BC" before year 1; "infinity", "-infinity". Returns the length. */
size_t timefmt_date(char out[TIMEFMT_MAX], int32_t days);
/* "12:34:56" or "12:34:56.789" (no trailing zeros; 24:00:00 is possible). */
size_t timefmt_time(char out[TIMEFMT_MAX], int64_t usec);
/* "2024-02-29T12:34:56.789"; with `utc` the suffix "+00:00". */
size_t timefmt_timestamp(char out[TIMEFMT_MAX], int64_t usec, bool utc);

/* Reads what the server prints with DateStyle ISO ("2024-02-29 12:34:56.789+02", "... BC",
 * "infinity") and what timefmt_timestamp prints. Without a zone the time counts as UTC. */
bool timefmt_parse_timestamp(const char *text, int64_t *usec);

#endif
