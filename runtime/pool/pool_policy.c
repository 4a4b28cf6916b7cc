#include "pool/pool_impl.h"

#include <stdlib.h>

struct pool *pool_new(const struct pool_config *config)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->config = *config;
    p->keep = config->size ? config->size : UINT32_MAX;
    p->limit = UINT32_MAX;
    if (config->size && config->overflow >= 0 && config->size < UINT32_MAX - (uint32_t)config->overflow)
        p->limit = config->size + (uint32_t)config->overflow;
    p->random = config->seed ? config->seed : UINT64_C(0x9e3779b97f4a7c15);
    return p;
}

void *pool_data(const struct pool *p)
{
    return p->config.data;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    assert(p->open == 0 && !p->first && p->depth == 0);
    free(p);
}

/* ---- retirement ---- */

void pool_invalidate(struct pool *p, uint64_t now)
{
    pool_enter(p, now);
    pool_retire_all(p);
    pool_leave(p);
}

void pool_dispose(struct pool *p, uint64_t now)
{
    pool_invalidate(p, now);
}

void pool_close(struct pool *p, uint64_t now)
{
    pool_enter(p, now);
    p->closed = true;
    pool_leave(p);
}

bool pool_is_closed(const struct pool *p)
{
    return p->closed;
}

/* ---- deadlock ---- */

bool pool_would_deadlock(const struct pool *p, const void *owner)
{
    const struct pool_list *leased = &p->list[SLOT_LEASED];
    bool holds = false;
    /* A slot that is not leased serves a waiter or frees its capacity without a release. */
    if (!owner || leased->count < p->limit)
        return false;
    for (const struct pool_slot *s = leased->head; s; s = s->next) {
        if (s->owner == owner)
            holds = true;
        else if (s->owner_waits == 0)
            return false;
    }
    return holds;
}

/* ---- figures ---- */

void pool_stats(const struct pool *p, struct pool_stats *out)
{
    *out = (struct pool_stats){
        .size = p->config.size,
        .overflow = p->limit == UINT32_MAX ? UINT32_MAX : p->limit - p->config.size,
        .open = p->open,
        .idle = p->list[SLOT_IDLE].count + p->ready.count,
        .leased = p->list[SLOT_LEASED].count,
        .opening = p->list[SLOT_OPENING].count,
        .resetting = p->list[SLOT_RESETTING].count,
        .closing = p->list[SLOT_CLOSING].count,
        .waiting = p->waiting,
        .opened = p->opened,
        .closed = p->closed_count,
        .recycled = p->recycled,
        .invalidated = p->invalidated,
        .timeouts = p->timeouts,
        .failed = p->failed,
        .acquired = p->acquired,
        .wait_count = p->wait_count,
        .wait_ns = p->wait_ns,
        .wait_max_ns = p->wait_max_ns,
        .pinging = p->list[SLOT_PINGING].count,
        .detached = p->detached,
    };
}

bool pool_wants_back(const struct pool *p)
{
    return p->waiting > p->list[SLOT_OPENING].count && p->open >= p->config.size;
}

void pool_each_leased(const struct pool *p, void (*fn)(const struct pool_slot *s, void *data), void *data)
{
    for (const struct pool_slot *s = p->list[SLOT_LEASED].head; s; s = s->next)
        fn(s, data);
}

void pool_each(const struct pool *p, void (*fn)(struct pool_slot *s, void *data), void *data)
{
    struct pool_slot *next;
    for (int state = SLOT_OPENING; state <= SLOT_CLOSING; state++)
        for (struct pool_slot *s = p->list[state].head; s; s = next) {
            next = s->next;
            fn(s, data);
        }
    for (struct pool_slot *s = p->ready.head; s; s = next) {
        next = s->next;
        fn(s, data);
    }
}
