/* What a task is told that got no connection from its pool: why, who holds them, and what helps. */
#ifndef DBRUN_BIND_POOL_ERROR_H
#define DBRUN_BIND_POOL_ERROR_H

#include "base/error.h"
#include "pool/pool.h"
#include "task/where.h"

/* Who holds a connection. */
struct pool_holder {
    const char *how; /* "at" a script line, "by" something else */
    char who[SCRIPT_WHERE];
    const char *statement; /* the last one on it; "" = not known */
};

/* What a pool is called, and which settings help. */
struct pool_words {
    const char *prefix;  /* of every message, "" = none */
    const char *closed;  /* the message when the pool is closed */
    const char *size;    /* the settings that allow more connections */
    const char *timeout; /* the setting that allows a longer wait */
    const char *full;    /* what else helps when the pool is full and nobody waits; NULL = nothing */
    double waits;        /* seconds that a task waits */
    /* Fills it in for a slot that is leased. */
    void (*holder)(const struct pool_slot *slot, struct pool_holder *h);
};

/* Sets `e` to the pool's answer `why` (not POOL_GRANTED, not POOL_FAILED). */
void pool_error(const struct pool *p, enum pool_settle why, const struct pool_words *w, struct error *e);

#endif
