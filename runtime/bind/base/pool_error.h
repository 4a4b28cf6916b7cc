/* The error of a task that got no connection from a pool: the cause, the holders, a hint. */
#ifndef DBRUN_BIND_POOL_ERROR_H
#define DBRUN_BIND_POOL_ERROR_H

#include "base/error.h"
#include "pool/pool.h"
#include "task/where.h"

/* The holder of a connection. */
struct pool_holder {
    const char *how; /* "at" when `who` is a script line, else "by" */
    char who[SCRIPT_WHERE];
    const char *statement; /* the last statement on the connection; "" = not known */
};

/* The texts that differ between pools. */
struct pool_words {
    const char *prefix;  /* begins every message; "" = none */
    const char *closed;  /* the message when the pool is closed */
    const char *size;    /* the settings that allow more connections */
    const char *timeout; /* the setting that allows a longer wait */
    const char *full;    /* another remedy when the pool is full and calls do not wait; NULL = none */
    double waits;        /* how long a task waits, in seconds */
    /* Sets `h` for a leased slot. */
    void (*holder)(const struct pool_slot *slot, struct pool_holder *h);
};

/* Sets `e` for the pool's answer `why` (neither POOL_GRANTED nor POOL_FAILED). */
void pool_error(const struct pool *p, enum pool_settle why, const struct pool_words *w, struct error *e);

#endif
