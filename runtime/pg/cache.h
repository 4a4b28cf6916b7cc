/*
 * The prepared statements of one connection, evicted least recently used first. A statement is prepared when
 * it runs for the second time, so statements that run once leave nothing on the server.
 *
 * A prepared statement keeps the parameter types, and the meaning of its literals, from the time when it was
 * parsed: an insert still sends a timestamp to a column that has become a timestamptz. So an entry is used
 * only for a limited time and while no relevant change is known (machine_epoch.c); then it is renewed.
 *
 * Names have a random part: with a transaction pooler several clients share a server session, and a name must
 * not run the statement of another client.
 */
#ifndef DBRUN_PG_CACHE_H
#define DBRUN_PG_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pg_cache;

struct pg_cached {
    struct pg_cached *chain; /* same bucket */
    struct pg_cached *newer;
    struct pg_cached *older;
    uint64_t hash;
    size_t len;
    int ref;         /* a reference that the embedder stores with the statement; 0 = none */
    uint64_t types;  /* fingerprint of the parameter types of its last run */
    uint64_t parsed; /* when the server parsed it last (base/deadline.h) */
    uint64_t schema; /* the epochs of machine.h at that time */
    uint64_t session;
    uint64_t batch;  /* the number of the last batch that used it */
    size_t parse;    /* the number of the PREPARE that this batch sent for it; 0: it was prepared before */
    unsigned effect; /* enum pg_effect */
    bool seen;       /* it ran once since it was added or renewed */
    bool prepared;   /* the server knows it by `name` */
    bool described;  /* the prepared statement has answered, so the server refuses a plan with other column
                        types */
    bool own_types;  /* a column has a user-defined type, whose fields may change */
    bool typed;      /* a parameter has a declared type */
    bool repeatable; /* it only reads */
    bool binary;     /* at its last description every column could be read in binary */
    bool medium;     /* set by the embedder: its last result was too large for one message, and not huge */
    char name[40];
    char sql[];
};

/* Keeps at most `limit` statements (0 = none: every lookup is NULL). Calls `forget` for each removed entry
 * that has a `ref`. NULL when out of memory. */
struct pg_cache *pg_cache_new(uint32_t limit, void (*forget)(void *data, int ref), void *data);
void pg_cache_free(struct pg_cache *c);

/* The entry of this text or NULL; counts as a use. */
struct pg_cached *pg_cache_find(struct pg_cache *c, const char *sql, size_t len);
/* An entry for a text that has none; NULL when it cannot be cached (too long, cache off, out of memory).
 * `evicted` gets the name of a prepared statement for the caller to close on the server, or "". */
struct pg_cached *pg_cache_add(struct pg_cache *c, const char *sql, size_t len, char evicted[40]);
void pg_cache_forget(struct pg_cache *c, struct pg_cached *e);
/* Renews the statement: it counts as one that has not run yet. If it is prepared, it gets another name, and
 * pg_cache_take_deferred returns the old one later. */
void pg_cache_renew(struct pg_cache *c, struct pg_cached *e);
/* Stores a name from `evicted` that the caller cannot close now ... */
void pg_cache_defer_close(struct pg_cache *c, const char name[40]);
/* ... and returns such a name to a caller that can; false when there is none. `must`: only when as many names
 * as the limit are kept. */
bool pg_cache_take_deferred(struct pg_cache *c, bool must, char name[40]);
/* Forgets all statements, because the server has dropped them (DISCARD ALL, reset). */
void pg_cache_clear(struct pg_cache *c);
/* Clears the cache; from now on every lookup is NULL. */
void pg_cache_disable(struct pg_cache *c);
uint32_t pg_cache_count(const struct pg_cache *c);
uint32_t pg_cache_limit(const struct pg_cache *c);

#endif
