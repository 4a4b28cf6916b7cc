/*
 * The error value of floors 0 to 2: what went wrong, and everything a person needs to fix it. The binding
 * turns it into the Lua error object (bind/base/error.h).
 *
 * An error is a plain struct that its owner zero-initialises and clears. Setting never fails: when out of
 * memory, the message is a static text.
 */
#ifndef DBRUN_BASE_ERROR_H
#define DBRUN_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

enum error_kind {
    ERROR_NONE,
    ERROR_USAGE,
    ERROR_CONFIG,
    ERROR_CONNECT,
    ERROR_TIMEOUT,
    ERROR_CANCELLED,
    ERROR_QUERY,
    ERROR_CONSTRAINT,
    ERROR_POOL,
    ERROR_REDIS,
    ERROR_PROTOCOL,
    ERROR_IO,
};

/* Whether the requested work was done. */
enum error_outcome {
    OUTCOME_NONE,     /* no work was requested */
    OUTCOME_NOT_SENT, /* nothing reached the server: safe to try again */
    OUTCOME_FAILED,   /* the server refused or rolled it back */
    OUTCOME_UNKNOWN,  /* it may have happened */
};

/* Texts beside the message. Kept in one array so that adding a field touches one line. */
enum error_field {
    ERROR_SQLSTATE,
    ERROR_SEVERITY,
    ERROR_DETAIL,
    ERROR_HINT,
    ERROR_CONTEXT,
    ERROR_SCHEMA,
    ERROR_TABLE,
    ERROR_COLUMN,
    ERROR_DATATYPE,
    ERROR_CONSTRAINT_NAME,
    ERROR_STATEMENT, /* the SQL that failed */
    ERROR_CODE,      /* the first word of a Redis error reply */
    ERROR_LAYER,     /* of a failed connect: name, network, tls, authentication, database, server, time */
    ERROR_ROUTINE,   /* the server's C function that raised it: independent of the language of messages */
    ERROR_FIELDS,
};

struct error {
    enum error_kind kind;
    enum error_outcome outcome;
    bool retryable;
    int position; /* 1-based, in characters, into ERROR_STATEMENT; 0 = none */
    int column;   /* the number of the result's column that cannot be read, from 1; 0 = none */
    char *message;
    char **field; /* ERROR_FIELDS of them; NULL in an error that is not set */
};

/* Replaces whatever `e` held. Does nothing when `e` is NULL. */
void error_set(struct error *e, enum error_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void error_setv(struct error *e, enum error_kind kind, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
/* Sets one field of an error that is set; a copy of `text` is kept. NULL removes it. */
void error_set_field(struct error *e, enum error_field f, const char *text);
/* The hint for an errno that means a system limit (descriptors, processes); else NULL. */
const char *error_limit_hint(int err);
/* Moves `from` into `to` (cleared first); `from` is empty afterwards. */
void error_move(struct error *to, struct error *from);
void error_copy(struct error *to, const struct error *from);
void error_clear(struct error *e);
bool error_is_set(const struct error *e);

/* "query", "not_sent", "sqlstate": the names scripts see. */
const char *error_kind_name(enum error_kind k);
/* NULL for OUTCOME_NONE. */
const char *error_outcome_name(enum error_outcome o);
const char *error_field_name(enum error_field f);

#endif
