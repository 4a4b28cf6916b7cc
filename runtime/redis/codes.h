/*
 * What the error replies of Redis and Valkey mean, by their first word: what to do, whether the same command
 * can succeed later, and whether it may have changed something.
 *
 * A server refuses a command before it runs it, so the outcome of an error reply is "failed". Exceptions: a
 * script or function that fails half-way keeps what it has written, and MIGRATE may have sent its keys.
 */
#ifndef DBRUN_REDIS_CODES_H
#define DBRUN_REDIS_CODES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

enum { REDIS_CODE_SIZE = 32 };

/* The first word of an error reply, when it is one in capitals; else "". */
void redis_code_read(const char *text, size_t len, char code[REDIS_CODE_SIZE]);
/* True when this is the code of the error reply. */
bool redis_code_is(const char *text, size_t len, const char *code);
/* True when a command with this error can succeed when it is sent again later. */
bool redis_code_is_transient(const char *code);
/* What to do about it; NULL when the code says nothing. */
const char *redis_code_hint(const char *code);
/* Adds the code, the hint, the outcome and whether to retry to `e`, which is already set. */
void redis_code_describe(struct error *e, const char *text, size_t len);

#endif
