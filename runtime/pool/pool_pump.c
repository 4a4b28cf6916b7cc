#include "pool/pool_impl.h"

#include <stdlib.h>

/* ---- waiters ---- */

/* Marks the connections that the waiter's owner holds, for pool_would_deadlock; returns whether there are
 * any. The walk is short, because there are never more leases than the limit, and only acquires that wait
 * need it. */
static bool mark_owner(struct pool *p, const void *owner, bool waits)
{
    bool holds = false;
    for (struct pool_slot *s = p->list[SLOT_LEASED].head; s; s = s->next) {
        if (s->owner != owner)
            continue;
        holds = true;
        if (waits)
            s->owner_waits++;
        else if (s->owner_waits)
            s->owner_waits--;
    }
    return holds;
}

void pool_waiter_push(struct pool *p, struct pool_waiter *w)
{
    w->queued = true;
    w->since = p->now;
    w->next = NULL;
    w->prev = p->last;
    if (p->last)
        p->last->next = w;
    else
        p->first = w;
    p->last = w;
    p->waiting++;
    w->marked = w->owner && mark_owner(p, w->owner, true);
}

void pool_waiter_remove(struct pool *p, struct pool_waiter *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        p->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        p->last = w->prev;
    p->waiting--;
    w->queued = false;
    w->next = w->prev = NULL;
    if (w->marked) /* slots that its owner got later have no mark of this waiter */
        mark_owner(p, w->owner, false);
    if (w->inside)
        return; /* answered by pool_acquire itself: it did not wait */
    uint64_t waited = p->now - w->since;
    p->wait_count++;
    p->wait_ns += waited;
    if (waited > p->wait_max_ns)
        p->wait_max_ns = waited;
}

void pool_waiter_settle(struct pool *p, struct pool_waiter *w, enum pool_settle result)
{
    pool_waiter_remove(p, w);
    w->result = result;
    if (!w->inside)
        w->settled(w);
}

/* ---- slots ---- */

void pool_slot_ready(struct pool *p, struct pool_slot *s, bool proven)
{
    pool_list_remove(s);
    s->state = SLOT_IDLE;
    s->idle_since = p->now;
    s->proven = proven;
    pool_list_push_tail(&p->ready, s);
}

void pool_slot_close(struct pool *p, struct pool_slot *s, enum pool_reason why)
{
    if (why == POOL_TOO_OLD)
        p->recycled++;
    else if (why == POOL_UNUSABLE)
        p->invalidated++;
    pool_slot_move(p, s, SLOT_CLOSING);
    p->config.ops->close(s);
}

void pool_slot_gone(struct pool *p, struct pool_slot *s)
{
    pool_list_remove(s);
    p->open--;
    free(s);
}

void pool_retire_all(struct pool *p)
{
    p->generation++;
    while (p->list[SLOT_IDLE].head)
        pool_slot_close(p, p->list[SLOT_IDLE].head, p->closed ? POOL_SHUTDOWN : POOL_UNUSABLE);
}

void pool_slot_dead(struct pool *p, struct pool_slot *s)
{
    /* When several connections die together, only the first starts a generation: connections opened after it
     * must survive. */
    bool news = s->generation == p->generation;
    pool_slot_close(p, s, p->closed ? POOL_SHUTDOWN : POOL_UNUSABLE);
    if (news)
        pool_retire_all(p);
}

void pool_slot_suspect(struct pool *p, struct pool_slot *s)
{
    enum pool_check said = s->said;
    s->said = POOL_CHECK_OK;
    if (said == POOL_CHECK_DEAD) {
        pool_slot_dead(p, s);
    } else {
        pool_slot_move(p, s, SLOT_PINGING);
        p->config.ops->ping(s);
    }
}

static void grant(struct pool *p, struct pool_slot *s)
{
    struct pool_waiter *w = p->first;
    w->slot = s;
    pool_slot_lease(p, s, w->owner, p->now);
    pool_waiter_settle(p, w, POOL_GRANTED);
}

/* Checkout for the first waiter: age, check, pre-ping. */
static void offer(struct pool *p, struct pool_slot *s)
{
    if (p->now > s->expires_at) {
        pool_slot_close(p, s, POOL_TOO_OLD);
        return;
    }
    if (s->proven || pool_slot_passes(p, s, p->now))
        grant(p, s);
    else
        pool_slot_suspect(p, s);
}

/* ---- the pump ---- */

static void place_ready(struct pool *p, struct pool_slot *s)
{
    if (pool_slot_retired(p, s)) {
        pool_slot_close(p, s, p->closed ? POOL_SHUTDOWN : POOL_UNUSABLE);
    } else if (p->first) {
        offer(p, s);
    } else if (p->list[SLOT_IDLE].count >= p->keep) {
        pool_slot_close(p, s, POOL_SURPLUS);
    } else {
        s->proven = false;
        pool_slot_move(p, s, SLOT_IDLE);
    }
}

static void open_one(struct pool *p)
{
    struct pool_slot *s = calloc(1, sizeof *s);
    if (!s) {
        struct pool_waiter *w = p->first;
        w->error = (struct error){0};
        error_set(&w->error, ERROR_POOL, "not enough memory");
        pool_waiter_settle(p, w, POOL_FAILED);
        return;
    }
    s->pool = p;
    s->generation = p->generation;
    p->open++; /* before the connect begins, so that two connects never share the last place */
    pool_slot_move(p, s, SLOT_OPENING);
    p->config.ops->open(s);
}

/* True when there are more waiters than connects and pings in progress. */
static bool has_unserved_waiter(const struct pool *p)
{
    return p->waiting > p->list[SLOT_OPENING].count + p->list[SLOT_PINGING].count;
}

static bool may_open(const struct pool *p)
{
    uint32_t most = p->config.opening;
    return p->open < p->limit && (most == 0 || p->list[SLOT_OPENING].count < most);
}

/* Does one step; the conditions are read again for each step, because a step can call the embedder, which can
 * call the pool. */
static bool pump_step(struct pool *p)
{
    struct pool_slot *idle = p->list[SLOT_IDLE].head;
    if (p->ready.head)
        place_ready(p, p->ready.head);
    else if (p->closed && p->first)
        pool_waiter_settle(p, p->first, POOL_CLOSED);
    else if (idle && p->closed)
        pool_slot_close(p, idle, POOL_SHUTDOWN);
    else if (idle && has_unserved_waiter(p))
        offer(p, idle);
    else if (has_unserved_waiter(p) && may_open(p))
        open_one(p);
    else
        return false;
    return true;
}

void pool_enter(struct pool *p, uint64_t now)
{
    p->depth++;
    if (now > p->now)
        p->now = now;
}

void pool_leave(struct pool *p)
{
    if (p->depth == 1)
        while (pump_step(p))
            ;
    p->depth--;
    if (p->depth == 0 && p->closed && p->open == 0 && !p->reported_drained) {
        p->reported_drained = true;
        if (p->config.ops->drained)
            p->config.ops->drained(p);
    }
}
