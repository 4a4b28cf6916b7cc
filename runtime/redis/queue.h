/*
 * Calls, and the queue of those that are not sent yet. A queue may belong to a connection or exist before one
 * is open. When a connection fails, what was not sent moves to the next one.
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
    bool dropped;            /* its replies are to be thrown away */
    bool background;         /* nothing waits for its replies, but it is to be sent */
    struct resp_reply reply; /* its replies, one after the other */
};

/* Zero-initialised = empty. */
struct redis_queue {
    struct buf out;
    size_t written; /* bytes of `out` that were sent */
    size_t taken;   /* bytes after those that a TLS record holds: they are sent as they are, or never */
    size_t start;   /* where the first call begins in `out`; beyond `written` while several commands
                     * of one call are on their way */
    struct redis_call *head;
    struct redis_call *tail;
    bool cut;            /* the first bytes of a command have left, and the rest will not: nothing more may
                          * be sent behind them */
    uint32_t dropped;    /* dropped calls whose bytes are to be removed */
    size_t dropped_size; /* and these bytes */
};

/* Called for a call that leaves its list: answered, or dropped and now free. */
typedef void redis_call_fn(struct redis_call *c, void *data);

/* Queues `c`, which expects `expect` replies; its bytes were just appended to q->out from offset `from`
 * on. */
void redis_queue_push(struct redis_queue *q, struct redis_call *c, size_t from, uint32_t expect);
/* Gives up a call, sent or not. True: it will not be sent. False: the server may run it; its reply will be
 * thrown away. Either way it stays in its list for now and comes back through the list's redis_call_fn. */
bool redis_queue_drop(struct redis_queue *q, struct redis_call *c);
/* Removes the bytes of dropped calls and passes the calls to `gone`. Cheap when there are none. */
void redis_queue_compact(struct redis_queue *q, redis_call_fn *gone, void *data);
/* The transport holds `taken` of the bytes that were not sent: they stay as they are. */
static inline void redis_queue_took(struct redis_queue *q, size_t taken)
{
    q->taken = taken;
}
/* `n` more bytes were sent, and none are taken; calls `sent` for each call that the server may run now. */
void redis_queue_wrote(struct redis_queue *q, size_t n, redis_call_fn *sent, void *data);
/* The bytes that are taken will be sent: calls `sent` for each call that the server may run then. */
void redis_queue_settle(struct redis_queue *q, redis_call_fn *sent, void *data);
/* Moves to `to` the calls of `from` that were not sent completely. False: no memory, both are unchanged. */
bool redis_queue_move(struct redis_queue *to, struct redis_queue *from);
/* The same for those of which nothing has left, except the background ones, which belong behind what was sent on
 * this connection. What stays is sent to its end. */
bool redis_queue_move_rest(struct redis_queue *to, struct redis_queue *from);
/* Is the call one that waits in this queue? */
bool redis_queue_has(const struct redis_queue *q, const struct redis_call *c);
/* Takes out the first call; NULL when there is none. Its bytes, and those before it that were not sent, go
 * with it. */
struct redis_call *redis_queue_pop(struct redis_queue *q);
void redis_queue_free(struct redis_queue *q);

/* Bytes that were not sent, those of dropped calls included. */
static inline size_t redis_queue_pending(const struct redis_queue *q)
{
    return q->out.len - q->written;
}

#endif
