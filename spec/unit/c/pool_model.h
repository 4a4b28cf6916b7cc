/*
 * The model of the randomised pool test, and the embedder that maintains it: the order of the waiters, what
 * each connection is doing, which ones must not be used again. It knows nothing of how the pool works; it
 * relies only on what the pool asks of the embedder and reports to users.
 */
#ifndef DBRUN_SPEC_POOL_MODEL_H
#define DBRUN_SPEC_POOL_MODEL_H

#include "check.h"
#include "pool/pool.h"

enum { MAX_SLOTS = 128, MAX_WAITERS = 64, OWNERS = 10 };

enum doing { OPENING, UNUSED, PINGING, LEASED, RESETTING, CLOSING, DOINGS };

struct conn {
    struct pool_slot *slot;
    enum doing doing;
    uint64_t generation;
    uint64_t since;    /* when it became unused, or was leased */
    bool doomed;       /* must never be handed out again */
    bool looked;       /* its server answered, or it was checked, in the current operation */
    const void *owner; /* of the lease */
};

struct asker {
    struct pool_waiter w; /* first */
    bool inside;          /* its pool_acquire has not returned */
};

struct model {
    struct pool *pool;
    struct prng random;
    uint64_t now;
    uint32_t limit, keep;
    uint64_t recycle;
    int sync; /* one in `sync` operations answers at once; 0 = none */
    int depth;
    bool closed, free_when_drained;
    int drained;
    uint64_t generation;
    struct conn *conn[MAX_SLOTS];
    int conns;
    struct asker *queue[MAX_WAITERS];
    int waiters;
    int owner_waits[OWNERS];
    struct pool_stats want; /* counters only */
};

extern struct model m;
extern const char owners[OWNERS]; /* their addresses are the owners */
extern const struct pool_ops model_ops;

static inline bool chance(uint32_t n)
{
    return prng_one_in(&m.random, n);
}

int model_count(enum doing doing);
/* The connection of a slot; the test fails when there is none. */
struct conn *model_conn(const struct pool_slot *s);
/* A random connection that is doing that; NULL when there is none. */
struct conn *model_pick(enum doing doing);
void model_forget_conn(struct conn *c);
void model_new_generation(void);
/* Whether the connection must not be handed out any more. */
bool model_doomed(const struct conn *c);
void model_forget_asker(struct asker *a);
/* The next waiter: first come, first served. */
void model_check_first(const struct asker *a);
/* Whether `owner` would complete a deadlock by waiting. */
bool model_deadlock(const void *owner);
/* Notes a lease, and checks that it was allowed. */
void model_granted(struct pool_slot *s, const void *owner);
/* The result of a connection's operation. */
void model_opened(struct conn *c);
void model_open_failed(struct conn *c);
void model_closed(struct conn *c);
void model_pinged(struct conn *c, bool alive);
void model_reset_done(struct conn *c, bool ok);
/* Checks that the pool agrees with the model, and keeps its rules. */
void model_check(void);

#endif
