/*
 * The prepared statements of one connection: least recently used goes first. A statement is prepared
 * when it is seen for the second time, so that statements that run once leave nothing on the server.
 *
 * Names carry a random part: behind a transaction pooler, where connections of several clients share
 * a server session, a name can then never run somebody else's statement.
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
    int ref;        /* the embedder's, for what it keeps with a statement; 0 = nothing */
    uint64_t types; /* fingerprint of the parameter types that it has run with */
    bool seen;      /* it ran once */
    bool prepared;  /* the server knows it by `name` */
    bool described; /* the prepared one has answered, so `binary` is known */
    bool own_types; /* a column is of a type of the database's own, whose fields may change */
    bool binary;    /* every column can be read in binary; its plan cannot change the types unnoticed */
    char name[40];
    char sql[];
};

/* At most `limit` statements (0 = none: every lookup is NULL). `forget` is called for each entry with a
 * `ref` that goes. NULL when memory is out. */
struct pg_cache *pg_cache_new(uint32_t limit, void (*forget)(void *data, int ref), void *data);
void pg_cache_free(struct pg_cache *c);

/* The entry of this text, made when there is none; NULL when it is not to be cached (too long, cache
 * off, out of memory). `evicted` gets the name of a prepared statement that had to go, or "". */
struct pg_cached *pg_cache_get(struct pg_cache *c, const char *sql, size_t len, char evicted[40]);
/* The entry of this text if there is one; counts as use. */
struct pg_cached *pg_cache_find(struct pg_cache *c, const char *sql, size_t len);
void pg_cache_forget(struct pg_cache *c, struct pg_cached *e);
/* A name that `evicted` gave could not be closed now: it is given again by a later lookup. */
void pg_cache_defer_close(struct pg_cache *c, const char name[40]);
/* The server has forgotten them all (DISCARD ALL, reset). */
void pg_cache_clear(struct pg_cache *c);
/* From now on every lookup is NULL. */
void pg_cache_disable(struct pg_cache *c);
uint32_t pg_cache_count(const struct pg_cache *c);

#endif
