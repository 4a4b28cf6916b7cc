/*
 * A session sends commands on a connection. The shared session of a client takes a connection from the pool
 * when the first command comes, sends the commands that all tasks issue in one turn of the loop in one write,
 * and connects again when the connection is lost. A dedicated session has one connection, for commands that
 * block or change the connection, and ends with it.
 *
 * The path of a command: redis_session_queue returns the buffer to write it into, redis_session_take a call
 * for it, and redis_session_issue queues it. The call keeps the reply until the task takes it.
 *
 * Who owns what: the session owns its calls (in chunks, so that a command allocates nothing), its backlog and
 * its timers. A call in flight has a `struct wait`, used only from issue to reply or abandon. Sessions are
 * reference-counted: each handle in Lua holds a reference.
 */
#ifndef DBRUN_BIND_REDIS_SESSION_H
#define DBRUN_BIND_REDIS_SESSION_H

#include "bind/redis/pool.h"
#include "task/where.h"

struct redis_session;
struct session_chunk;

/* The callbacks of a dedicated session's subscription. */
struct redis_subscription {
    /* Called when the connection is lost or the session was closed; can be called more than once. */
    void (*on_lost)(struct redis_subscription *s, const struct error *why);
    /* Called when the session ends: frees the subscription. */
    void (*free)(struct redis_subscription *s);
};

struct session_call {
    struct redis_call call; /* first: the machine's callback casts it back */
    struct redis_session *session;
    struct wait *wait; /* NULL: no task waits, or the task has stopped waiting */
    uint32_t expect;   /* number of replies */
    uint64_t deadline;
    uint64_t began;    /* when it began, for the log; 0: commands are not logged */
    uint64_t answered; /* the serial number of the connection that brought the reply */
    uint64_t received; /* the connection's counter of received bytes when the command was issued */
    char *copy;       /* the bytes of the command, if it may be sent again; with `undo`, those that undo it */
    size_t undo;      /* number of bytes in `copy` that undo the command (undo.c); 0: none */
    uint32_t replies; /* number of replies to these */
    uint8_t tries;    /* a call in the background: how often it can still be sent again */
    uint8_t shape;    /* of the reply, a redis_shape_id */
    bool blocks;      /* the server can answer late: its silence says nothing */
    bool failed;      /* there is no reply; `error` says why, or is NULL when out of memory */
    struct error *error;
    struct session_call *next_free;
};

struct redis_session {
    struct runtime *rt;
    struct redis_pool *pool;
    struct redis_session *next, *prev;       /* in the pool's list */
    struct redis_link *link;                 /* NULL: not connected now */
    struct redis_link *retired;              /* links that get no more commands, only replies */
    struct redis_link *lingering;            /* links of a closed session, which they keep alive */
    struct redis_subscription *subscription; /* owned; NULL: none */
    struct redis_queue backlog;              /* commands that wait for a connection */
    struct wait_queue room;                  /* tasks whose command would make the queue too long */
    size_t promised; /* bytes of the woken tasks, which are about to queue their commands */
    struct deferred flush;
    unsigned refs;
    bool demoted; /* the server replied READONLY, so it is no longer the master: connect to the new one */
    bool crowded; /* many bytes are queued: commands must check for room */
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
    struct error trouble; /* why the last attempt to connect failed, while another one will follow; a
                             dedicated session: why its connection was lost */
    double retry_pause;
    uint64_t wanting_since;    /* a shared session: commands wait for a connection; 0 = no */
    uint64_t lost_at;          /* when an established connection was lost; 0 = never */
    struct script_place place; /* a dedicated session: the script line that made it */
    uint64_t answered;         /* serial number of the connection whose reply a task took last; 0 = none */
    uint64_t commands, connects, losses;
};

/* Returns one reference; NULL when out of memory. Holds the pool. */
struct redis_session *redis_session_new(struct runtime *rt, struct redis_pool *pool, bool shared);
struct redis_session *redis_session_ref(struct redis_session *s);
/* Dropping the last reference ends the session without informing its tasks. NULL is harmless. */
void redis_session_unref(struct redis_session *s);
/* Accepts no more commands, fails those under way, and returns the connection to the pool. Idempotent. */
void redis_session_close(struct redis_session *s);

/* The queue into which commands are written now. */
static inline struct redis_queue *redis_session_queue(struct redis_session *s)
{
    return s->link ? redisconn_queue(s->link->conn) : &s->backlog;
}
/* One or more commands that were written into the queue. */
struct redis_request {
    struct session_call *call;
    struct redis_queue *queue; /* from redis_session_queue; its bytes are the last in it, from `from` on */
    size_t from;
    uint32_t expect; /* number of replies */
    uint64_t deadline;
    bool repeat; /* a shared session sends it again when its connection is lost, if there was memory for its
                    copy */
};
/* Queues the request. Wakes `w` when it is answered or has failed. */
void redis_session_issue(struct redis_session *s, const struct redis_request *r, struct wait *w);
/* The same for a command that no task waits for, because it has no reply. */
void redis_session_post(struct redis_session *s, struct session_call *c, size_t from);
/* Call it after a change of `demoted`, `crowded` or `closed`. */
static inline void redis_session_judge(struct redis_session *s)
{
    s->unusual = s->demoted || s->crowded || s->closed;
}
/* The `abandon` of a wait for a command. Stores the enum error_outcome in w->data, cast to a pointer. */
void redis_session_abandon(struct wait *w);

/* ---- pending.c: the calls, and how each ends ---- */

/* A call for the next command; NULL when out of memory. */
struct session_call *redis_session_take(struct redis_session *s);
/* Puts a call back for reuse; it must not be in a list. */
void redis_session_give(struct session_call *c);
/* Their `data` is the link; NULL for calls that were dropped before they reached a link. */
extern const struct redisconn_events redis_session_events;
/* The queue in which a call waits, which can be that of a retired link. */
struct redis_queue *redis_session_queue_of(struct redis_session *s, const struct redis_call *call);
/* True when the call, sent or not, belongs to this link. */
bool redis_link_has(const struct redis_link *link, const struct redis_call *call);
/* True when there is, or may be, something to undo on this link. No command on the link may then be cut off.
 */
bool redis_session_may_undo(struct redis_link *link);
/* Fails a call that was removed from its list. */
void redis_session_fail_call(struct session_call *c, const struct error *why, enum error_outcome outcome);
void redis_session_fail_backlog(struct redis_session *s, const struct error *why);
/* Frees all calls when the session ends. */
void redis_session_free_calls(struct redis_session *s);

/* ---- room.c: the limit on queued bytes ---- */

/* True when a command of about `size` bytes can be queued now, and no other task waits for room. */
bool redis_session_has_room(struct redis_session *s, size_t size);
/* Queues `w` to wait for room, with a call that is used for nothing else. The woken task must call
 * redis_session_settled_in, unless the call has failed. */
void redis_session_wait_for_room(struct session_call *c, struct wait *w, size_t size);
/* The `abandon` of a wait for room. */
void redis_session_leave_room(struct wait *w);
/* Call it when the task has queued its command, or cannot. */
void redis_session_settled_in(struct session_call *c);
/* Wakes the tasks for which there is room now, first come, first served. */
void redis_session_admit(struct redis_session *s);

/* ---- undo.c: sends what undoes an abandoned command ---- */

/* Sends commands that nothing waits for. Sends them again when the connection is lost before their replies,
 * so they must be harmless when they run twice. The end of the program waits a moment for them. False: out of
 * memory, or no connection. */
bool redis_undo_post(struct redis_session *s, const char *bytes, size_t size, uint32_t expect);
/* Keeps what undoes the call's command. False when out of memory. */
bool redis_undo_keep(struct session_call *c, const char *bytes, size_t size, uint32_t expect);
/* For an abandoned call that may run: sends what undoes it right after it, on the same connection. */
void redis_undo_call(struct redis_session *s, const struct session_call *c);
/* Fails the calls of a link that must be closed, and queues what undoes those that were sent. True: keep the
 * link until this is answered. */
bool redis_undo_close(struct redis_session *s, struct redis_link *link, const struct error *why);

/* ---- session_connect.c: taking and losing connections ---- */

/* A shared session: begins to take a connection, unless it already does. */
void redis_session_connect(struct redis_session *s);
/* A shared session: makes the next attempt to connect now. */
void redis_session_retry_now(struct redis_session *s);
/* A dedicated session: like pool_acquire. After POOL_WAITING, either `w` is woken and s->waiter has the
 * result, or the caller must call redis_session_give_up. */
enum pool_settle redis_session_acquire(struct redis_session *s, struct wait *w, const void *owner);
/* Takes over the slot that s->waiter was granted. */
void redis_session_attach(struct redis_session *s);
/* Leaves the pool's queue. */
void redis_session_give_up(struct redis_session *s, bool timed_out);
/* Retires the current connection: no more commands are sent on it, and unsent commands move to a new one.
 * Used when the server sent nothing until the deadline of a command, and when another server became the
 * master. */
void redis_session_retire(struct redis_session *s);
/* Invalidates all connections of the pool, which go to the old master; sent commands are still answered. The
 * next connect asks the sentinels for the new master. */
void redis_session_leave(struct redis_session *s);
/* Returns to the pool the retired connections on which no task waits for a reply, once what undoes a command
 * there is answered or some seconds have passed. */
void redis_session_sweep(struct redis_session *s);
/* Makes idle shared sessions of the pool return their connections while others wait for one: an idle session
 * gets no event at which it would notice them. */
void redis_session_make_way(struct redis_pool *p);
/* Stops connecting and gives all connections back. */
void redis_session_detach(struct redis_session *s);

#endif
