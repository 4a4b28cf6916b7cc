/*
 * A session sends commands on a connection. The shared session of a client takes a connection from the pool
 * when the first command comes, sends the commands that all tasks issue in one turn of the loop in one write,
 * and connects again when the connection is lost. A dedicated session has one connection, for commands that
 * block or change the connection, and ends with it.
 *
 * A command's way: redis_session_queue gives the buffer to write it into, redis_session_take a call for it,
 * and redis_session_issue queues it. The call keeps the reply until the task takes it.
 *
 * Who owns what: the session owns its calls (in chunks, so that a command allocates none), its backlog and
 * its timers. A call in flight has a `struct wait`, used only from issue to reply or abandon. Sessions are
 * counted: each handle in Lua holds a reference.
 */
#ifndef DBRUN_BIND_REDIS_SESSION_H
#define DBRUN_BIND_REDIS_SESSION_H

#include "bind/redis/pool.h"
#include "task/where.h"

struct redis_session;
struct session_chunk;

/* The callbacks of a dedicated session's subscription. */
struct redis_subscription {
    /* The connection is lost, or the session was closed; may be called more than once. */
    void (*on_lost)(struct redis_subscription *s, const struct error *why);
    /* The session ends: frees the subscription. */
    void (*free)(struct redis_subscription *s);
};

struct session_call {
    struct redis_call call; /* first: the machine's callback casts it back */
    struct redis_session *session;
    struct wait *wait; /* NULL: no task waits, or the task has given up */
    uint32_t expect;   /* number of replies */
    uint64_t deadline;
    uint64_t began;    /* when, for the log; 0: it does not want commands */
    uint64_t answered; /* the serial number of the connection that brought the reply */
    uint64_t received; /* the connection's counter of received bytes when the command was issued */
    char *copy;        /* the bytes of the command, when it may be sent again; with `undo`, of that */
    size_t undo;       /* bytes in `copy` of what undoes the command (undo.c); 0: none */
    uint32_t replies;  /* to what undoes it */
    uint8_t tries;     /* of a call in the background: how often it may still be sent again */
    uint8_t shape;     /* of the reply, a redis_shape_id */
    bool blocks;       /* the server may answer late: its silence says nothing */
    bool failed;       /* there is no reply; `error` says why, or is NULL when memory was out */
    struct error *error;
    struct session_call *next_free;
};

struct redis_session {
    struct runtime *rt;
    struct redis_pool *pool;
    struct redis_session *next, *prev;       /* in the pool's list */
    struct redis_link *link;                 /* NULL: not connected now */
    struct redis_link *retired;              /* links that get no more commands, only replies */
    struct redis_link *lingering;            /* those of a closed session, which they keep alive */
    struct redis_subscription *subscription; /* owned; NULL: none */
    struct redis_queue backlog;              /* commands that wait for a connection */
    struct wait_queue room;                  /* tasks whose command would make the queue too long */
    size_t promised;                         /* bytes of those that have been woken and write now */
    struct deferred flush;
    unsigned refs;
    bool demoted; /* the server replied READONLY, so it is not the master any more: connect to the new one */
    bool crowded; /* many bytes are queued: commands look whether there is room */
    bool shared;  /* takes connections from the pool when commands come */
    bool closed;
    bool unusual;  /* demoted, crowded or closed: one test for the usual command */
    uint32_t live; /* the number of commands that a task waits for */
    struct session_chunk *chunks;
    struct session_call *free_calls;
    struct session_call *converting; /* the call whose reply is becoming Lua values */
    struct pool_waiter waiter;
    bool acquiring;
    bool granted;              /* the session has waiter.slot, but is not attached to it yet */
    struct wait *acquire_wait; /* a dedicated session: the task that waits for its connection */
    struct sched_timer acquire_timer;
    struct sched_timer retry_timer;
    struct sched_timer sweep_timer;
    bool retrying;
    struct error trouble; /* why the last attempt to connect failed, while there will be others */
    double retry_pause;
    uint64_t wanting_since;    /* a shared session: commands wait for a connection; 0 = no */
    uint64_t lost_at;          /* when an established connection was lost; 0 = never */
    struct script_place place; /* a dedicated session: the script line that made it */
    uint64_t answered;         /* by which connection the reply came that a task took last; 0 = none */
    uint64_t commands, connects, losses;
};

/* Gives one reference; NULL when memory is out. Holds the pool. */
struct redis_session *redis_session_new(struct runtime *rt, struct redis_pool *pool, bool shared);
struct redis_session *redis_session_ref(struct redis_session *s);
/* Dropping the last reference ends the session without telling its tasks. NULL is harmless. */
void redis_session_unref(struct redis_session *s);
/* Accepts no more commands, fails those under way, and gives the connection back to the pool. Idempotent. */
void redis_session_close(struct redis_session *s);

/* The queue to write commands into now. */
static inline struct redis_queue *redis_session_queue(struct redis_session *s)
{
    return s->link ? redisconn_queue(s->link->conn) : &s->backlog;
}
/* A command, or several, that was written into the queue. */
struct redis_request {
    struct session_call *call;
    struct redis_queue *queue; /* redis_session_queue's: its bytes are the last there, from `from` on */
    size_t from;
    uint32_t expect; /* number of replies */
    uint64_t deadline;
    bool repeat; /* a shared session sends it again when its connection is lost, if there was memory for its
                    copy */
};
/* Queues it. Wakes `w` when it is answered or has failed. */
void redis_session_issue(struct redis_session *s, const struct redis_request *r, struct wait *w);
/* The same for a command that no task waits for, because it has no reply. */
void redis_session_post(struct redis_session *s, struct session_call *c, size_t from);
/* After a change of `demoted`, `crowded` or `closed`. */
static inline void redis_session_judge(struct redis_session *s)
{
    s->unusual = s->demoted || s->crowded || s->closed;
}
/* For struct wait: the task does not wait for its command any more. Stores the enum error_outcome in w->data,
 * cast to a pointer. */
void redis_session_abandon(struct wait *w);

/* ---- pending.c: the calls, and how each ends ---- */

/* A call for the next command; NULL when memory is out. */
struct session_call *redis_session_take(struct redis_session *s);
/* Gives a call back; it must not be in a list. */
void redis_session_give(struct session_call *c);
/* Their data is the link; NULL for calls that were dropped before they reached one. */
extern const struct redisconn_events redis_session_events;
/* The queue that a call waits in, which may be that of a retired link. */
struct redis_queue *redis_session_queue_of(struct redis_session *s, const struct redis_call *call);
/* Is there, or may there be, something to undo on this link? Then nothing there may end in its middle. */
bool redis_session_may_undo(struct redis_link *link);
/* Fails a call that was taken out of its list. */
void redis_session_fail_call(struct session_call *c, const struct error *why, enum error_outcome outcome);
void redis_session_fail_backlog(struct redis_session *s, const struct error *why);
/* Frees all calls when the session ends. */
void redis_session_free_calls(struct redis_session *s);

/* ---- room.c: the bound on the bytes that are queued ---- */

/* May a command of about `size` bytes be queued now, before all that wait for room? */
bool redis_session_has_room(struct redis_session *s, size_t size);
/* Lets `w` wait for room, with a call that is used for nothing else. Woken, the task ends that with
 * redis_session_settled_in, unless the call has failed. */
void redis_session_wait_for_room(struct session_call *c, struct wait *w, size_t size);
/* For struct wait: the task does not wait for room any more. */
void redis_session_leave_room(struct wait *w);
/* The task has queued its command, or cannot. */
void redis_session_settled_in(struct session_call *c);
/* Wakes those for whom there is room now, first come, first served. */
void redis_session_admit(struct redis_session *s);

/* ---- undo.c: what is sent behind a command that was given up ---- */

/* Sends commands that nothing waits for, again when the connection is lost before their replies; so they must
 * be harmless when they run twice. The end of the program waits a moment for them. False: not enough memory,
 * or there is no connection. */
bool redis_undo_post(struct redis_session *s, const char *bytes, size_t size, uint32_t expect);
/* Keeps what undoes the command of the call. False when memory is out. */
bool redis_undo_keep(struct session_call *c, const char *bytes, size_t size, uint32_t expect);
/* The call was given up and may run: sends what undoes it right behind it, on the same connection. */
void redis_undo_call(struct redis_session *s, const struct session_call *c);
/* Fails the calls of a link of the session, which is to be closed, and queues what undoes those that were
 * sent. True: the link is to be kept until that is answered. */
bool redis_undo_close(struct redis_session *s, struct redis_link *link, const struct error *why);

/* ---- session_connect.c: taking and losing connections ---- */

/* A shared session: begins to take a connection, unless that is under way. */
void redis_session_connect(struct redis_session *s);
/* A shared session: does not wait any longer before the next connect. */
void redis_session_retry_now(struct redis_session *s);
/* A dedicated session: like pool_acquire. After POOL_WAITING either `w` is woken and s->waiter has the
 * result, or the caller calls redis_session_give_up. */
enum pool_settle redis_session_acquire(struct redis_session *s, struct wait *w, const void *owner);
/* Takes over the slot that s->waiter was granted. */
void redis_session_attach(struct redis_session *s);
/* Leaves the pool's queue. */
void redis_session_give_up(struct redis_session *s, bool timed_out);
/* Sends no more commands on the current connection; the commands that were not sent move to a new one. Used
 * when the server sent nothing until the deadline of a command, and when another server became the master. */
void redis_session_retire(struct redis_session *s);
/* Stops using all connections of the pool, which go to the old master, once the sent commands are answered;
 * the next connect asks the sentinels for the new master. */
void redis_session_leave(struct redis_session *s);
/* Gives back the retired connections on which no task waits for a reply, once what undoes a command there is
 * answered, or some seconds have passed. */
void redis_session_sweep(struct redis_session *s);
/* Gives the connection back when nothing is under way on it and another waiter needs it. */
void redis_session_yield(struct redis_session *s);
/* Stops connecting and gives all connections back. */
void redis_session_detach(struct redis_session *s);

#endif
