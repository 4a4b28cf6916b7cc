/*
 * Statements that run CONCURRENTLY commit in several transactions. When one fails between two of them, what
 * it has begun stays: an invalid index, or a partition that is half detached.
 */
#ifndef DBRUN_PG_CONCURRENT_H
#define DBRUN_PG_CONCURRENT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* True for CREATE INDEX, REINDEX, DROP INDEX and DETACH PARTITION with CONCURRENTLY. */
bool pg_is_concurrent(const char *sql, size_t len);

/* True for the SQLSTATE of an error that such a statement raises before it begins: what it names does not
 * allow it, or the session does not. */
bool pg_concurrent_is_refusal(const char *sqlstate);

/* Adds what to look at and to do, when the outcome of such a statement is unknown. It is not retryable: a
 * second CREATE INDEX finds the name in use, and with IF NOT EXISTS leaves the invalid index. */
void pg_error_of_concurrent(struct error *e, const char *sql);

#endif
