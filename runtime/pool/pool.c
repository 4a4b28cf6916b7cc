#include "base/deadline.h"
#include "pool/pool_impl.h"

/* ---- taking and giving back ---- */

static enum pool_settle answer(struct pool_waiter *w, enum pool_settle result)
{
    w->result = result;
    return result;
}

/* Queues `w`, or returns why it cannot be queued. */
static enum pool_settle queue(struct pool *p, struct pool_waiter *w)
{
    /* Slots that are not leased become free without a release (or can be opened), and waiters ahead in the
     * queue get theirs first. A waiter beyond that number would need a leased slot. */
    if (w->nowait && p->limit - p->list[SLOT_LEASED].count <= p->waiting)
        return answer(w, POOL_FULL);
    if (pool_would_deadlock(p, w->owner))
        return answer(w, POOL_DEADLOCK);
    pool_waiter_push(p, w);
    return answer(w, POOL_WAITING);
}

static enum pool_settle acquire_slowly(struct pool *p, struct pool_waiter *w, uint64_t now)
{
    struct pool_slot *s = p->list[SLOT_IDLE].head;
    w->inside = true;
    pool_enter(p, now);
    if (s && s->said != POOL_CHECK_OK)
        pool_slot_suspect(p, s);
    queue(p, w);
    pool_leave(p);
    w->inside = false;
    return w->result;
}

struct pool_slot *pool_take(struct pool *p, const void *owner, uint64_t now)
{
    struct pool_slot *s = p->list[SLOT_IDLE].head;
    if (!s || p->closed || p->first || now > s->expires_at || !pool_slot_passes(p, s, now))
        return NULL;
    pool_slot_lease(p, s, owner, now);
    return s;
}

enum pool_settle pool_acquire(struct pool *p, struct pool_waiter *w, uint64_t now)
{
    w->queued = false;
    w->slot = pool_take(p, w->owner, now);
    if (w->slot)
        return answer(w, POOL_GRANTED);
    if (p->closed)
        return answer(w, POOL_CLOSED);
    return acquire_slowly(p, w, now);
}

bool pool_has_idle(const struct pool *p)
{
    return p->list[SLOT_IDLE].head != NULL;
}

bool pool_has_waiter(const struct pool *p)
{
    return p->first != NULL;
}

bool pool_cancel(struct pool *p, struct pool_waiter *w, bool timed_out, uint64_t now)
{
    if (!w->queued)
        return false;
    pool_enter(p, now);
    pool_waiter_remove(p, w);
    if (timed_out)
        p->timeouts++;
    pool_leave(p);
    return true;
}

static void give_back(struct pool *p, struct pool_slot *s, enum pool_verdict verdict)
{
    s->owner = NULL;
    if (p->closed)
        pool_slot_close(p, s, POOL_SHUTDOWN);
    else if (verdict == POOL_BROKEN)
        pool_slot_close(p, s, POOL_UNUSABLE);
    else if (!p->first && p->list[SLOT_IDLE].count >= p->keep)
        pool_slot_close(p, s, POOL_SURPLUS); /* the connection is closed anyway: a reset would be wasted */
    else if (verdict == POOL_REUSE)
        pool_slot_ready(p, s, false);
    else {
        pool_slot_move(p, s, SLOT_RESETTING);
        p->config.ops->reset(s);
    }
}

void pool_release(struct pool *p, struct pool_slot *s, uint64_t now)
{
    assert(s->pool == p && s->state == SLOT_LEASED);
    enum pool_verdict verdict = pool_slot_retired(p, s) ? POOL_BROKEN : p->config.ops->judge(s);
    if (verdict == POOL_REUSE && !p->first && p->list[SLOT_IDLE].count < p->keep) {
        pool_slot_move(p, s, SLOT_IDLE);
        s->idle_since = now;
        s->owner = NULL;
        return;
    }
    pool_enter(p, now);
    give_back(p, s, verdict);
    pool_leave(p);
}

void pool_discard(struct pool *p, struct pool_slot *s, uint64_t now)
{
    assert(s->pool == p && s->state == SLOT_LEASED);
    pool_enter(p, now);
    give_back(p, s, POOL_BROKEN);
    pool_leave(p);
}

void *pool_detach(struct pool *p, struct pool_slot *s, uint64_t now)
{
    assert(s->pool == p && s->state == SLOT_LEASED);
    void *conn = s->conn;
    pool_enter(p, now);
    p->detached++;
    pool_slot_gone(p, s);
    pool_leave(p);
    return conn;
}

/* ---- reports from the embedder ---- */

/* The time at which a connection opened at `now` must be replaced. The jitter keeps connections that were
 * opened together from being replaced together. */
static uint64_t expiry(struct pool *p, uint64_t now)
{
    uint64_t age = p->config.recycle;
    if (age == 0)
        return UINT64_MAX;
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    age -= p->random % (age / 10 + 1);
    return deadline_after(now, age);
}

void pool_opened(struct pool_slot *s, void *conn, uint64_t now)
{
    struct pool *p = s->pool;
    assert(s->state == SLOT_OPENING);
    pool_enter(p, now);
    s->conn = conn;
    s->opened_at = p->now;
    s->expires_at = expiry(p, p->now);
    p->opened++;
    pool_slot_ready(p, s, true);
    pool_leave(p);
}

void pool_open_failed(struct pool_slot *s, struct error *e, uint64_t now)
{
    struct pool *p = s->pool;
    struct pool_waiter *w = p->first;
    assert(s->state == SLOT_OPENING);
    pool_enter(p, now);
    p->failed++;
    pool_slot_gone(p, s);
    if (w) {
        w->error = *e;
        *e = (struct error){0};
        pool_waiter_settle(p, w, POOL_FAILED);
    } else {
        error_clear(e);
    }
    pool_leave(p);
}

void pool_pinged(struct pool_slot *s, bool alive, uint64_t now)
{
    struct pool *p = s->pool;
    assert(s->state == SLOT_PINGING);
    pool_enter(p, now);
    if (alive)
        pool_slot_ready(p, s, true);
    else
        pool_slot_dead(p, s);
    pool_leave(p);
}

void pool_reset_done(struct pool_slot *s, bool ok, uint64_t now)
{
    struct pool *p = s->pool;
    assert(s->state == SLOT_RESETTING);
    pool_enter(p, now);
    if (ok)
        pool_slot_ready(p, s, true);
    else
        pool_slot_close(p, s, POOL_UNUSABLE);
    pool_leave(p);
}

void pool_closed(struct pool_slot *s, uint64_t now)
{
    struct pool *p = s->pool;
    assert(s->state == SLOT_CLOSING);
    pool_enter(p, now);
    p->closed_count++;
    pool_slot_gone(p, s);
    pool_leave(p);
}

void pool_died(struct pool_slot *s, uint64_t now)
{
    struct pool *p = s->pool;
    pool_enter(p, now);
    s->invalid = true;
    if (s->state == SLOT_IDLE)
        pool_slot_close(p, s, POOL_UNUSABLE);
    pool_leave(p);
}
