/*
 * The generic pool: slots, FIFO waiters, policy. It knows neither Lua, nor libuv, nor a database. It never
 * waits and reads no clock: the caller passes `now`, and reports results (opened, failed, pinged, reset,
 * closed) when they come.
 *
 * States of a slot; there is a list for each:
 *
 *            acquire            pool_opened                 release
 *   (none) ----------> OPENING -------------> LEASED/IDLE <---------+
 *                         | open_failed           | acquire: check   |
 *                         v                       v                  |
 *                      (none)    IDLE --ping--> PINGING --ok--> LEASED --> RESETTING --ok--> IDLE
 *                                  |               | failed        | broken     | failed
 *                                  +---------------+------> CLOSING <-----------+ --pool_closed--> (none)
 *
 * Always true:  opening + pinging + idle + leased + resetting + closing <= size + overflow
 *               a waiter without an opening or pinging slot => idle is empty, and a limit is reached
 *               waiters are served strictly first in, first out; a later one never overtakes
 *               a waiter is settled exactly once
 *
 * Calls may nest: open, ping, reset and close may report their result before they return, and `settled` may
 * acquire and release. The work that a nested call causes is done when the outermost one ends. `check` and
 * `judge` must not call the pool.
 *
 * Who owns what: the pool owns its slots; `slot->conn` belongs to the embedder, who makes it in `open`
 * and destroys it in `close`. A waiter belongs to the caller and must stay where it is until settled
 * or cancelled.
 */
#ifndef DBRUN_POOL_POOL_H
#define DBRUN_POOL_POOL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;

enum pool_slot_state {
    SLOT_OPENING,
    SLOT_IDLE,    /* list: idle, most recently used first */
    SLOT_PINGING, /* pre-ping: a round trip before it is handed out */
    SLOT_LEASED,  /* list: leased, oldest first */
    SLOT_RESETTING,
    SLOT_CLOSING,
};

enum pool_check { POOL_CHECK_OK, POOL_CHECK_PING, POOL_CHECK_DEAD };

struct pool_slot {
    struct pool *pool;
    void *conn; /* the embedder's */
    enum pool_slot_state state;
    struct pool_slot *next; /* in the list of its state */
    struct pool_slot *prev;
    uint64_t opened_at;
    uint64_t idle_since;
    uint64_t leased_at;
    uint64_t generation;  /* the pool's generation when its connect began */
    uint64_t expires_at;  /* recycle with jitter; UINT64_MAX = never */
    const void *owner;    /* who holds it (a task), NULL = unknown */
    uint32_t owner_waits; /* waiters of the same owner in this pool's queue */
    bool invalid;         /* close it on return */
    /* the pool's own */
    bool proven;          /* the server has just answered: `check` is not needed */
    enum pool_check said; /* result of a check that has still to be acted on; else POOL_CHECK_OK */
    struct pool_list *list;
};

enum pool_settle {
    POOL_GRANTED,  /* waiter->slot is yours; give it back with pool_release */
    POOL_WAITING,  /* queued: `settled` will be called, or call pool_cancel */
    POOL_FULL,     /* nowait and no capacity */
    POOL_DEADLOCK, /* deadlock: every slot is held by an owner that waits for one, the caller included */
    POOL_FAILED,   /* the connect failed: waiter->error says why */
    POOL_CLOSED,   /* the pool was closed */
};

struct pool_waiter {
    /* filled in by the caller */
    const void *owner;
    /* Answer POOL_FULL at once instead of waiting for a release. (The answer can still be POOL_WAITING while
     * a slot is being opened, pinged, reset or closed, because that slot needs no release.) */
    bool nowait;
    void (*settled)(struct pool_waiter *w); /* not called for the `w` that pool_acquire itself answers */
    /* filled in by the pool */
    enum pool_settle result;
    struct pool_slot *slot;
    struct error error; /* set only with POOL_FAILED; the caller then clears it */
    struct pool_waiter *next;
    struct pool_waiter *prev;
    uint64_t since;
    bool queued; /* not settled and not withdrawn yet */
    bool marked; /* its owner held connections when it was queued */
    bool inside; /* pool_acquire has not returned yet */
};

enum pool_verdict { POOL_REUSE, POOL_RESET, POOL_BROKEN };

/* What the embedder does for the pool. Each of open, ping, reset and close may report its result before it
 * returns (the sync engine does) or later. */
struct pool_ops {
    void (*open)(struct pool_slot *s);  /* -> pool_opened | pool_open_failed */
    void (*close)(struct pool_slot *s); /* -> pool_closed; destroys s->conn */
    /* Checks at checkout whether the connection is usable. Never blocks. idle_ns is 0 when the connection
     * goes straight from its last user to a waiter. Not called for a connection that was just opened, pinged
     * or reset. */
    enum pool_check (*check)(struct pool_slot *s, uint64_t idle_ns);
    void (*ping)(struct pool_slot *s);               /* -> pool_pinged */
    enum pool_verdict (*judge)(struct pool_slot *s); /* on return */
    void (*reset)(struct pool_slot *s);              /* -> pool_reset_done */
    /* The pool is closed and its last slot is gone. May free the pool. May be NULL. */
    void (*drained)(struct pool *p);
};

struct pool_config {
    uint32_t size;    /* kept open; 0 = no limit */
    int32_t overflow; /* above that, closed on return; -1 = no limit */
    uint32_t opening; /* connects under way at once; 0 = no limit */
    uint64_t recycle; /* age in ns after which a connection is replaced at checkout; 0 = never */
    uint64_t seed;    /* for the jitter of recycle (at most 10 % earlier) */
    const struct pool_ops *ops;
    void *data;
};

struct pool_stats {
    uint32_t size, overflow; /* overflow: slots allowed above size; UINT32_MAX = no limit */
    uint32_t open;           /* everything that counts against the limit */
    uint32_t idle, leased, opening, resetting, closing;
    uint32_t waiting;
    /* Of the closed connections: recycled for their age; invalidated because they were unusable (died, failed
     * a ping or a reset, broken, discarded, or older than an invalidate). failed: connects. */
    uint64_t opened, closed, recycled, invalidated, timeouts, failed;
    uint64_t acquired;
    uint64_t wait_count, wait_ns, wait_max_ns; /* of acquires answered POOL_WAITING, whatever their result */
    uint32_t pinging;
    uint64_t detached; /* opened == closed + detached + open connections that are not opening */
};

/* NULL when out of memory. */
struct pool *pool_new(const struct pool_config *config);
void *pool_data(const struct pool *p);
/* The pool must be drained (or never used). */
void pool_free(struct pool *p);

/* True for a deadlock: `owner` holds a connection, and each of the others is held by an owner that waits too.
 * False for a NULL owner. pool_acquire calls this itself. */
bool pool_would_deadlock(const struct pool *p, const void *owner);
/* True when more waiters are queued than connections are being opened, and `size` connections are open. Then
 * a caller that keeps a connection without need should release it. */
bool pool_wants_back(const struct pool *p);
/* Grants the connection that pool_acquire would grant at once. NULL when there is none or its check failed;
 * the next pool_acquire acts on the failed check. */
struct pool_slot *pool_take(struct pool *p, const void *owner, uint64_t now);
bool pool_has_idle(const struct pool *p);
/* True when a waiter is queued, so that a release grants it the connection. */
bool pool_has_waiter(const struct pool *p);
/* Takes a connection or queues. POOL_WAITING means that `w` is queued; any other answer is final and also set
 * in w->result. */
enum pool_settle pool_acquire(struct pool *p, struct pool_waiter *w, uint64_t now);
/* Withdraws a waiter that is still queued; false when it was already withdrawn or settled (the caller must
 * then release a granted slot). `timed_out` counts it in the statistics. */
bool pool_cancel(struct pool *p, struct pool_waiter *w, bool timed_out, uint64_t now);
/* Returns a leased slot to the pool: it is judged, then reused, reset or closed. Needs no I/O in the
 * caller. */
void pool_release(struct pool *p, struct pool_slot *s, uint64_t now);
/* Returns a leased slot to the pool, which closes its connection, whatever its state. */
void pool_discard(struct pool *p, struct pool_slot *s, uint64_t now);
/* Takes the leased connection out of the pool for good (LISTEN, detach): the caller owns s->conn afterwards;
 * the slot is freed and so is its capacity. */
void *pool_detach(struct pool *p, struct pool_slot *s, uint64_t now);

/* ---- reports from the embedder ---- */
void pool_opened(struct pool_slot *s, void *conn, uint64_t now);
/* Frees the slot. The error moves to the first waiter (without one it is cleared; `e` is empty afterwards),
 * and the next waiter may open a connection. */
void pool_open_failed(struct pool_slot *s, struct error *e, uint64_t now);
/* With alive = false the server went away: every older connection is invalidated and this one replaced. */
void pool_pinged(struct pool_slot *s, bool alive, uint64_t now);
void pool_reset_done(struct pool_slot *s, bool ok, uint64_t now);
void pool_closed(struct pool_slot *s, uint64_t now);
/* The loop noticed that the connection died: an idle one is closed now, others when they are released. */
void pool_died(struct pool_slot *s, uint64_t now);

/* ---- policy ---- */

/* Retires every connection opened before now: idle ones at once, leased ones on release. */
void pool_invalidate(struct pool *p, uint64_t now);
/* Closes idle connections as invalidate does, and leased ones on release; the pool goes on working
 * (SQLAlchemy's dispose). */
void pool_dispose(struct pool *p, uint64_t now);
/* Ends the pool: waiters get POOL_CLOSED, idle connections are closed now, leased ones on release; then
 * `drained` is called, inside this call when nothing is open. */
void pool_close(struct pool *p, uint64_t now);
bool pool_is_closed(const struct pool *p);

void pool_stats(const struct pool *p, struct pool_stats *out);
/* Calls fn for each leased slot, the oldest lease first. */
void pool_each_leased(const struct pool *p, void (*fn)(const struct pool_slot *s, void *data), void *data);
/* Calls fn for each slot, whatever its state. */
void pool_each(const struct pool *p, void (*fn)(struct pool_slot *s, void *data), void *data);

#endif
