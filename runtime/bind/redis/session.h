/*
 * A session is where commands go. The shared session of a client takes a connection from the pool when the
 * first command comes, pipelines what all tasks issue in one turn of the loop into one write, and
 * connects again when the connection is lost. A dedicated session has one connection, for commands that
 * block or change the connection, and ends with it.
 *
 * A command's way: redis_session_queue gives the buffer to write it into, redis_session_take a call for it,
 * redis_session_issue puts it on its way. The reply is kept in the call until the task takes it.
 *
 * Who owns what: the session owns its calls (in chunks, so nothing is allocated per command), its backlog
 * and its timers. A call in flight has a `struct wait`, touched only between issue and reply or
 * abandon. Sessions are counted: each handle in Lua holds one.
 */
#ifndef DBRUN_BIND_REDIS_SESSION_H
#define DBRUN_BIND_REDIS_SESSION_H

#include "bind/redis/pool.h"
#include "task/where.h"

struct redis_session;
struct session_chunk;

/* What a dedicated session that subscribed tells its subscription. */
struct redis_subscription {
    /* The connection is gone, or the session was closed; may come more than once. */
    void (*on_lost)(struct redis_subscription *s, const struct error *why);
    /* The session ends: the block goes with it. */
    void (*free)(struct redis_subscription *s);
};

struct session_call {
    struct redis_call call; /* first: the machine hands it back */
    struct redis_session *session;
    struct wait *wait; /* NULL: nobody waits (any more) */
    uint32_t expect;   /* replies in all */
    uint64_t deadline;
    uint64_t received; /* what the connection had received when this was issued */
    char *copy;        /* the command once more, when it may be repeated */
    uint8_t shape;     /* of the reply, for whoever takes it */
    bool failed;       /* there is no reply; `error` says why, when there was memory to */
    struct error *error;
    struct session_call *next_free;
};

struct redis_session {
    struct runtime *rt;
    struct redis_pool *pool;
    struct redis_link *link;                 /* NULL: not connected now */
    struct redis_link *retired;              /* those that did not answer in time: only drained */
    struct redis_subscription *subscription; /* owned; NULL: it did not subscribe */
    struct redis_queue backlog;              /* commands that wait for a connection */
    struct deferred flush;
    unsigned refs;
    bool demoted; /* the server said that it is no master any more: look for the new one */
    bool shared;  /* takes connections by itself */
    bool closed;
    uint32_t live; /* commands that somebody waits for */
    struct session_chunk *chunks;
    struct session_call *free_calls;
    struct session_call *converting; /* its reply is being made into Lua values right now */
    struct pool_waiter waiter;
    bool acquiring;
    bool granted;              /* waiter.slot is ours, and not attached yet */
    struct wait *acquire_wait; /* a dedicated session: the task that waits for its connection */
    struct sched_timer acquire_timer;
    struct sched_timer retry_timer;
    bool retrying;
    double retry_pause;
    uint64_t lost_at;          /* when an established connection was lost; 0 = never */
    struct script_place place; /* a dedicated session: the script line that took it */
    uint64_t commands, connects, losses;
};

/* One reference. NULL when memory is out. Holds the pool. */
struct redis_session *redis_session_new(struct runtime *rt, struct redis_pool *pool, bool shared);
struct redis_session *redis_session_ref(struct redis_session *s);
/* The last one ends the session without a word to anybody. NULL is harmless. */
void redis_session_unref(struct redis_session *s);
/* No more commands; those under way fail. The connection goes back to the pool. Idempotent. */
void redis_session_close(struct redis_session *s);

/* The queue that commands are to be written into now. */
struct redis_queue *redis_session_queue(struct redis_session *s);
/* The bytes of the command stand at the end of the queue, from `from` on. `w` is woken when it is
 * answered or has failed. With `repeat` it is sent again when its connection is lost. */
void redis_session_issue(struct redis_session *s, struct session_call *c, struct wait *w, size_t from,
                         uint32_t expect, uint64_t deadline, bool repeat);
/* The same for a command that has no reply of its own: nobody waits. */
void redis_session_post(struct redis_session *s, struct session_call *c, size_t from);
/* For struct wait: nobody waits any more. Leaves the outcome in w->data. */
void redis_session_abandon(struct wait *w);

/* ---- pending.c: the calls, and how each ends ---- */

/* A call for what is about to be issued, NULL when memory is out. */
struct session_call *redis_session_take(struct redis_session *s);
/* Gives back a call that is in no list. */
void redis_session_give(struct session_call *c);
extern const struct redisconn_events redis_session_events;
/* Ends a call that is in no list any more. */
void redis_session_fail_call(struct session_call *c, const struct error *why, enum error_outcome outcome);
void redis_session_fail_backlog(struct redis_session *s, const struct error *why);
/* All of them: the session ends. */
void redis_session_free_calls(struct redis_session *s);

/* ---- session_connect.c: how a session comes to its connection, and what happens when it goes ---- */

/* A shared session: begins to take a connection, unless that is under way. */
void redis_session_connect(struct redis_session *s);
/* A dedicated session: like pool_acquire. POOL_WAITING: `w` will be woken and s->waiter tells, or
 * redis_session_give_up is called. */
enum pool_settle redis_session_acquire(struct redis_session *s, struct wait *w, const void *owner);
/* Takes over the slot that s->waiter was granted. */
void redis_session_attach(struct redis_session *s);
void redis_session_give_up(struct redis_session *s, bool timed_out);
/* The connection did not say a word for as long as a command may take: others get another one. */
void redis_session_retire(struct redis_session *s);
/* All connections to the old master are done with, once what was sent is answered; the next one goes where
 * the sentinels say. */
void redis_session_leave(struct redis_session *s);
/* Lets go of retired connections that nobody waits for. */
void redis_session_sweep(struct redis_session *s);
/* Gives the connection back when nothing is under way on it and somebody waits for one. */
void redis_session_yield(struct redis_session *s);
/* Stops connecting and lets go of all connections. */
void redis_session_detach(struct redis_session *s);

#endif
