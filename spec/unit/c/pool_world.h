/*
 * A world for the pool's tests: an embedder whose connections do what the test says, when it says so.
 *
 * Operations stay pending until the test reports their results (world_opened, ...), or finish at once when
 * world->sync is set, as in the sync engine.
 */
#ifndef DBRUN_SPEC_POOL_WORLD_H
#define DBRUN_SPEC_POOL_WORLD_H

#include "pool/pool.h"

enum { WORLD_MAX = 64, S = 1000000000 };

struct world_conn {
    int id; /* 1, 2, ... in the order they were opened */
    enum pool_check check;
    enum pool_verdict verdict;
    bool ping_fails;
    bool reset_fails;
    uint64_t idle_ns; /* the argument of check */
};

struct world_queue {
    struct pool_slot *slot[WORLD_MAX];
    int n;
};

struct world_waiter {
    struct pool_waiter w; /* first: settled() gets its address */
    struct world *world;
    int calls;                                  /* of settled */
    void (*then)(struct world_waiter *settled); /* called from settled */
};

struct world {
    struct pool *pool;
    uint64_t now;
    bool sync;
    int fail_opens; /* sync: the number of next connects that fail */
    struct world_queue opening, closing, pinging, resetting;
    struct world_queue alive; /* every slot that has a connection */
    int conns, checks, judges, pings, resets, drained;
    int order[WORLD_MAX]; /* ids of waiters, as they were settled */
    int settled;
};

/* `recycle` in seconds. */
void world_open(struct world *w, uint32_t size, int32_t overflow, uint64_t recycle);
/* Closes the pool, finishes all pending operations, checks that nothing is left, frees it. */
void world_end(struct world *w);

/* Acquires for `owner`; `id` numbers the waiter in world->order. */
enum pool_settle world_acquire(struct world *w, struct world_waiter *x, const void *owner);
enum pool_settle world_acquire_now(struct world *w, struct world_waiter *x, const void *owner);
/* An acquire that must be granted at once; opens what it needs. */
struct pool_slot *world_take(struct world *w, const void *owner);
void world_release(struct world *w, struct pool_slot *s);
struct world_conn *world_conn(struct pool_slot *s);

/* Report a result for the oldest pending operation of the kind, and check that there is one. */
void world_opened(struct world *w);
void world_open_failed(struct world *w, const char *why);
void world_pinged(struct world *w, bool alive);
void world_reset_done(struct world *w, bool ok);
void world_closed(struct world *w);
void world_all_closed(struct world *w);

struct pool_stats world_stats(const struct world *w);

#endif
