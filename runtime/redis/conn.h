/*
 * One connection to a Redis server as a state machine that never waits. Commands are written into its queue;
 * redisconn_step sends what it can, reads what has arrived, and passes each reply to its call.
 *
 *   HANDSHAKE --TLS done--> OPEN --closed, protocol error, out of memory--> FAILED
 *       |                                                                     ^
 *       +---------------------------------------------------------------------+
 *
 * A call waits in one of two lists, in the order in which the server will answer:
 *   unsent (the queue)         the server cannot have run it: it may be sent on another connection
 *   sent   (the connection)    the server may have run it
 *
 * Who owns what: the connection owns its transport, reader, buffers and error; calls belong to the
 * embedder (redis/queue.h). The functions in redisconn_events must not free the connection.
 */
#ifndef DBRUN_REDIS_CONN_H
#define DBRUN_REDIS_CONN_H

#include "base/error.h"
#include "redis/queue.h"
#include "redis/resp.h"
#include "redis/target.h"
#include "redis/transport.h"

#include <stdbool.h>
#include <stdint.h>

enum redisconn_state { REDISCONN_HANDSHAKE, REDISCONN_OPEN, REDISCONN_FAILED };

/* What redisconn_step returns: REDIS_IO_READ and REDIS_IO_WRITE to wait for, and one of these. */
#define REDISCONN_DONE   4u /* nothing unsent, nothing unanswered */
#define REDISCONN_BROKEN 8u /* redisconn_error says why; no more replies will come */

struct redisconn;

struct redisconn_events {
    /* The call was answered or dropped; it is no longer in a list. */
    redis_call_fn *on_done;
    /* A message to a subscriber: a reply without a call. NULL: such a reply is an error. */
    void (*on_push)(struct resp_reply *r, void *data);
};

/* Takes over the connected descriptor (non-blocking), also on failure: NULL, with `e` set. */
struct redisconn *redisconn_new(int fd, struct redis_target *target, struct error *e);
/* Calls in its lists are dropped without a callback. NULL is harmless. */
void redisconn_free(struct redisconn *c);

/* Sets the callbacks; `events` must outlive the connection. NULL: none. */
void redisconn_listen(struct redisconn *c, const struct redisconn_events *events, void *data);
int redisconn_fd(const struct redisconn *c);
enum redisconn_state redisconn_state(const struct redisconn *c);
/* Why it failed: kind connect or protocol. */
const struct error *redisconn_error(const struct redisconn *c);
const struct redis_target *redisconn_target(const struct redisconn *c);
/* The queue for commands: append with resp_add_*, then call redis_queue_push. */
struct redis_queue *redisconn_queue(struct redisconn *c);

/* Makes all the progress possible now. `ready`: the REDIS_IO_ bits that are ready; 0 = only send. */
unsigned redisconn_step(struct redisconn *c, unsigned ready);

/* After a failure, or before redisconn_free: removes and returns the next call that was sent. NULL at the
 * end. */
struct redis_call *redisconn_pop_sent(struct redisconn *c);

/* Moves to `to` the calls that the server cannot have run; the connection must get no new calls. It only
 * sends the rest of a call that was partly sent, with all that is in the same TLS record. False: no memory,
 * nothing was moved. */
bool redisconn_move_unsent(struct redisconn *c, struct redis_queue *to);
/* Moves only calls of which nothing was sent, so that more can be sent after the others. */
bool redisconn_move_rest(struct redisconn *c, struct redis_queue *to);

/* True when a partly sent command was removed from its queue. The connection must then get no new calls. */
bool redisconn_is_cut(const struct redisconn *c);

/* True when nothing is unsent, unanswered or half read. */
bool redisconn_is_drained(const struct redisconn *c);
/* True when drained, and the socket shows neither data nor a close: another task can use it. */
bool redisconn_is_idle(struct redisconn *c);
/* True when something waits for one of its calls: not dropped, not in the background. */
bool redisconn_is_awaited(const struct redisconn *c);
/* True when it has a call in the background, sent or not. */
bool redisconn_has_background(const struct redisconn *c);
/* True when the call was sent on this connection and is unanswered. */
bool redisconn_has_sent(const struct redisconn *c, const struct redis_call *call);
/* Calls that were sent and not answered. */
uint32_t redisconn_unanswered(const struct redisconn *c);
/* Calls that were answered so far. */
uint64_t redisconn_answered(const struct redisconn *c);
/* The sent call whose reply comes next; NULL when there is none. */
struct redis_call *redisconn_oldest(const struct redisconn *c);
/* Bytes received so far: shows whether a slow server still sends. */
uint64_t redisconn_received(const struct redisconn *c);
/* True when it failed because the server closed it. */
bool redisconn_was_closed(const struct redisconn *c);
/* The certificates of its TLS session; none without TLS. */
struct certificates redisconn_certificates(const struct redisconn *c);
/* True when there is something to read, or the server has closed the connection. */
bool redisconn_has_news(struct redisconn *c);
/* Abandons the connection: it fails with this error, and nothing more is read from it. */
void redisconn_give_up(struct redisconn *c, const struct error *why);

#endif
