/*
 * Only for pool.c (the calls of users and embedders), pool_pump.c (the transitions, and the decision what
 * comes next) and pool_policy.c (creation, retirement, figures).
 *
 * Every call that changes more than one slot runs between pool_enter and pool_leave. The calls only change
 * states and put slots on `ready`; the outermost pool_leave then runs the pump, which hands out, opens and
 * closes until nothing is left to do. Results that an operation reports before it returns, and calls made
 * from `settled`, find the depth above zero and only leave work for that pump: so nothing recurses, however
 * many waiters there are, and no list changes while a loop walks it.
 */
#ifndef DBRUN_POOL_IMPL_H
#define DBRUN_POOL_IMPL_H

#include "pool/pool.h"

#include <assert.h>

struct pool_list {
    struct pool_slot *head;
    struct pool_slot *tail;
    uint32_t count;
};

struct pool {
    struct pool_config config;
    uint32_t limit; /* slots that may exist at once; UINT32_MAX = no limit */
    uint32_t keep;  /* idle connections to keep; UINT32_MAX = all */
    uint32_t open;  /* slots in any state */
    struct pool_list list[SLOT_CLOSING + 1];
    struct pool_list ready; /* SLOT_IDLE too: usable, not yet handed out or on the idle list */
    struct pool_waiter *first;
    struct pool_waiter *last;
    uint32_t waiting;
    uint32_t depth;
    bool closed;
    bool reported_drained;
    uint64_t now; /* the latest time that was passed in */
    uint64_t generation;
    uint64_t random;
    /* since the pool was made */
    uint64_t opened, closed_count, detached, recycled, invalidated, timeouts, failed, acquired;
    uint64_t wait_count, wait_ns, wait_max_ns;
};

/* Why a connection is closed; decides what the statistics say. */
enum pool_reason {
    POOL_SURPLUS,  /* no waiter, and enough are idle */
    POOL_TOO_OLD,  /* recycle */
    POOL_UNUSABLE, /* died, failed a ping or a reset, broken, discarded, or older than an invalidate */
    POOL_SHUTDOWN, /* the pool is closed */
};

static inline void pool_list_push_head(struct pool_list *l, struct pool_slot *s)
{
    s->list = l;
    s->prev = NULL;
    s->next = l->head;
    if (l->head)
        l->head->prev = s;
    else
        l->tail = s;
    l->head = s;
    l->count++;
}

static inline void pool_list_push_tail(struct pool_list *l, struct pool_slot *s)
{
    s->list = l;
    s->next = NULL;
    s->prev = l->tail;
    if (l->tail)
        l->tail->next = s;
    else
        l->head = s;
    l->tail = s;
    l->count++;
}

static inline void pool_list_remove(struct pool_slot *s)
{
    struct pool_list *l = s->list;
    if (s->prev)
        s->prev->next = s->next;
    else
        l->head = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        l->tail = s->prev;
    l->count--;
    s->list = NULL;
}

/* Puts a slot on the list of its new state. Idle ones are reused last in, first out; every other
 * list is in the order of arrival. */
static inline void pool_slot_move(struct pool *p, struct pool_slot *s, enum pool_slot_state to)
{
    if (s->list)
        pool_list_remove(s);
    s->state = to;
    if (to == SLOT_IDLE)
        pool_list_push_head(&p->list[to], s);
    else
        pool_list_push_tail(&p->list[to], s);
}

static inline void pool_slot_lease(struct pool *p, struct pool_slot *s, const void *owner, uint64_t now)
{
    pool_slot_move(p, s, SLOT_LEASED);
    s->leased_at = now;
    s->owner = owner;
    s->owner_waits = 0;
    s->proven = false;
    p->acquired++;
}

/* True when the slot must not be handed out again. */
static inline bool pool_slot_retired(const struct pool *p, const struct pool_slot *s)
{
    return s->invalid || s->generation != p->generation || p->closed;
}

/* Never below zero, although callers may pass clocks that were read a moment apart. */
static inline uint64_t pool_slot_idle_ns(const struct pool_slot *s, uint64_t now)
{
    return now > s->idle_since ? now - s->idle_since : 0;
}

/* True when the connection is usable. Checks only once, because a check can change what the next check would
 * see: a failed result is kept until pool_slot_suspect. */
static inline bool pool_slot_passes(const struct pool *p, struct pool_slot *s, uint64_t now)
{
    if (s->said == POOL_CHECK_OK)
        s->said = p->config.ops->check(s, pool_slot_idle_ns(s, now));
    return s->said == POOL_CHECK_OK;
}

/* ---- pool_pump.c ---- */

void pool_enter(struct pool *p, uint64_t now);
/* At the end of the outermost call, runs the pump and then calls `drained`, which may free the pool. */
void pool_leave(struct pool *p);

/* Marks the slot as usable: the pump hands it out, keeps it or closes it. `proven` = the server has just
 * answered on it, so `check` is not needed. */
void pool_slot_ready(struct pool *p, struct pool_slot *s, bool proven);
void pool_slot_close(struct pool *p, struct pool_slot *s, enum pool_reason why);
/* Frees the slot and its capacity. */
void pool_slot_gone(struct pool *p, struct pool_slot *s);
/* Pings or replaces an idle connection whose check did not return POOL_CHECK_OK. */
void pool_slot_suspect(struct pool *p, struct pool_slot *s);
/* The server closed this connection: closes it and treats all older ones as dead too. */
void pool_slot_dead(struct pool *p, struct pool_slot *s);

void pool_waiter_push(struct pool *p, struct pool_waiter *w);
void pool_waiter_remove(struct pool *p, struct pool_waiter *w);
/* Takes the waiter off the queue and calls its `settled`, which may free it. */
void pool_waiter_settle(struct pool *p, struct pool_waiter *w, enum pool_settle result);
/* Starts a new generation and closes the idle connections of the old one. */
void pool_retire_all(struct pool *p);

#endif
