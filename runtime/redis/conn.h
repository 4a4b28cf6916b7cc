/*
 * One connection to a Redis server as a machine that never waits. Commands are written into its
 * queue; step() sends what it can, reads what there is, and hands each reply to the call it answers.
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

/* The longest reply that is accepted, as a tape (redis/resp.h). */
#define REDISCONN_MAX_REPLY (UINT64_C(1) << 30)

enum redisconn_state { REDISCONN_HANDSHAKE, REDISCONN_OPEN, REDISCONN_FAILED };

/* What step answers: REDIS_IO_READ and REDIS_IO_WRITE to wait for, and one of these. */
#define REDISCONN_DONE   4u /* nothing unsent, nothing unanswered */
#define REDISCONN_BROKEN 8u /* redisconn_error says why; nothing more will come */

struct redisconn;

struct redisconn_events {
    /* `c` is answered, or was dropped; it is in no list any more. */
    redis_call_fn *on_done;
    /* A reply that no call waits for, on a connection that subscribed. NULL: that is an error. */
    void (*on_push)(struct resp_reply *r, void *data);
};

/* Takes over the connected descriptor (non-blocking), also when it fails: NULL, `e` set. */
struct redisconn *redisconn_new(int fd, struct redis_target *target, struct error *e);
/* Calls that are still in its lists are forgotten. NULL is harmless. */
void redisconn_free(struct redisconn *c);

/* Who is told from now on; `events` must outlive that. NULL: nobody. */
void redisconn_listen(struct redisconn *c, const struct redisconn_events *events, void *data);
int redisconn_fd(const struct redisconn *c);
enum redisconn_state redisconn_state(const struct redisconn *c);
/* Why it failed: kind connect or protocol. */
const struct error *redisconn_error(const struct redisconn *c);
const struct redis_target *redisconn_target(const struct redisconn *c);
/* Where commands are written: append with resp_add_*, then redis_queue_push. */
struct redis_queue *redisconn_queue(struct redisconn *c);

/* Makes all the progress possible now. `ready`: the REDIS_IO_ bits a driver saw; 0 = only send. */
unsigned redisconn_step(struct redisconn *c, unsigned ready);

/* After a failure, or to give up: the next call that was sent. NULL at the end. */
struct redis_call *redisconn_pop_sent(struct redisconn *c);

/* Nothing unsent, unanswered or half read. */
bool redisconn_is_drained(const struct redisconn *c);
/* And the server has said nothing since and not gone away (asks the socket): fit for somebody else. */
bool redisconn_is_idle(struct redisconn *c);
/* Does anybody still want a reply that was asked for? */
bool redisconn_is_awaited(const struct redisconn *c);
/* Calls that were sent and not answered. */
uint32_t redisconn_unanswered(const struct redisconn *c);
/* Bytes received so far: tells a slow server from a dead one. */
uint64_t redisconn_received(const struct redisconn *c);

#endif
