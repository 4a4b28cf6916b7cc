/*
 * Calls, and the queue of calls that have not been sent yet. A queue belongs to a connection, or exists
 * before a connection is open. When a connection fails, its unsent calls move to the next one.
 *
 * Who owns what: the queue owns its bytes. A call belongs to the embedder and must stay where it is
 * while it is in a list.
 */
#ifndef DBRUN_REDIS_QUEUE_H
#define DBRUN_REDIS_QUEUE_H

#include "base/buf.h"
#include "redis/resp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum redis_call_state {
    REDIS_CALL_NEW,
    REDIS_CALL_UNSENT, /* in a queue: the server cannot have run any of it */
    REDIS_CALL_SENT,   /* in a connection: the server may have run it. (One command: when its last
                        * byte has left; several: when the first one has.) */
    REDIS_CALL_DONE,   /* answered, failed or dropped; in no list */
};

/* One command, or several that are answered together (`expect` replies). */
struct redis_call {
    struct redis_call *next;
    size_t size;     /* bytes of the command(s) */
    uint32_t expect; /* replies still to come */
    enum redis_call_state state;
    bool dropped;            /* discard its replies */
    bool background;         /* nothing waits for its replies, but it must be sent */
    struct resp_reply reply; /* its replies, one after the other */
};

/* Zero-initialised = empty. */
struct redis_queue {
    struct buf out;
    size_t written; /* bytes of `out` that were sent */
    size_t taken;   /* bytes after `written` that a TLS record holds: they are sent unchanged, or never */
    size_t start;   /* where the first call begins in `out`; beyond `written` while several commands
                     * of one call are on their way */
    struct redis_call *head;
    struct redis_call *tail;
    bool cut;         /* a command was sent in part, and its rest never will be: nothing more may be sent */
    uint32_t dropped; /* dropped calls whose bytes must be removed */
    size_t dropped_size; /* the size of these bytes */
};

/* Called for a call that leaves its list: it was answered, or dropped and is now free. */
typedef void redis_call_fn(struct redis_call *c, void *data);

/* Queues `c`, which expects `expect` replies; its bytes were just appended to q->out from offset `from`
 * on. */
void redis_queue_push(struct redis_queue *q, struct redis_call *c, size_t from, uint32_t expect);
/* Abandons a call, sent or not. True: it will not be sent. False: the server may run it, and its reply will
 * be discarded. Either way it stays in its list for now and is passed to the list's redis_call_fn later. */
bool redis_queue_drop(struct redis_queue *q, struct redis_call *c);
/* Removes the bytes of dropped calls and passes the calls to `gone`. Cheap when there are none. */
void redis_queue_compact(struct redis_queue *q, redis_call_fn *gone, void *data);
/* The transport holds `taken` of the unsent bytes: they must not change. */
static inline void redis_queue_took(struct redis_queue *q, size_t taken)
{
    q->taken = taken;
}
/* `n` more bytes were sent, and none are taken; calls `sent` for each call that the server can now run. */
void redis_queue_wrote(struct redis_queue *q, size_t n, redis_call_fn *sent, void *data);
/* The taken bytes will be sent: calls `sent` for each call that the server can then run. */
void redis_queue_settle(struct redis_queue *q, redis_call_fn *sent, void *data);
/* Moves to `to` the calls of `from` that were not sent completely. False: no memory, both are unchanged. */
bool redis_queue_move(struct redis_queue *to, struct redis_queue *from);
/* The same for calls of which nothing was sent, except background calls, which must follow what was sent on
 * this connection. What stays is sent completely. */
bool redis_queue_move_rest(struct redis_queue *to, struct redis_queue *from);
/* True when the call waits in this queue. */
bool redis_queue_has(const struct redis_queue *q, const struct redis_call *c);
/* Removes and returns the first call; NULL when there is none. Also removes its bytes, and unsent bytes
 * before them. */
struct redis_call *redis_queue_pop(struct redis_queue *q);
void redis_queue_free(struct redis_queue *q);

/* Unsent bytes, those of dropped calls included. */
static inline size_t redis_queue_pending(const struct redis_queue *q)
{
    return q->out.len - q->written;
}

#endif
