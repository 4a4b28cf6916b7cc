/*
 * The pool of Redis connections: the generic pool, over connections that are opened on worker threads and
 * stepped on the loop.
 *
 * Who owns what: a redis_pool is counted; its handle in Lua and each session hold a reference. It owns its
 * links while they are in a slot. A link's user (a session) only borrows the link, from the grant to
 * redis_link_release.
 */
#ifndef DBRUN_BIND_REDIS_POOL_H
#define DBRUN_BIND_REDIS_POOL_H

#include "bind/base/connector.h"
#include "bind/base/pool_error.h"
#include "bind/base/runtime.h"
#include "io/watch.h"
#include "pool/pool.h"
#include "redis/conn.h"

struct redis_link;

/* The callbacks of a link's user. They run after the machine's step, so they may release the link. */
struct redis_link_user {
    /* The machine has stepped: replies may have come. */
    void (*progress)(struct redis_link *l);
    /* The connection has failed; the user must give the link back. */
    void (*failed)(struct redis_link *l);
    /* The pool was invalidated, and the user keeps its link without end: it must move to another one (which
     * changes link->user). NULL: the link is closed when the user gives it back. */
    void (*outdated)(struct redis_link *l);
    /* Describes the user, for the error of a task that gets no connection. */
    void (*describe)(const struct redis_link *l, struct pool_holder *h);
};

struct redis_link {
    struct redisconn *conn;
    struct io_watch *watch;
    struct redis_pool *pool;
    struct pool_slot *slot;
    const struct redis_link_user *user; /* NULL: idle */
    void *data;                         /* belongs to the user */
    struct redis_link *next;            /* belongs to the user */
    uint64_t until;                     /* belongs to the user; 0 at the beginning */
    uint64_t serial;                    /* from 1, of all pools of the program together */
    bool paused;                        /* do not read: the user has too many messages */
    bool held;                          /* neither read nor write: it is not known who is the primary */
    bool spoilt;                        /* its state is not clean: close it instead of reusing it */
    uint64_t mark, marked_at;           /* guard.c: the call that is waited for, and since when; 0 = none */
    uint64_t answered;                  /* guard.c: what it has seen answered */
    struct redis_call ping;
    struct sched_timer ping_timer;
    bool ponged;
};

/* Lua's handle for watching a pool, which it does not keep. */
struct redis_watcher {
    struct redis_pool *pool; /* NULL: it is gone */
};

/* What watches a pool for a server that does not answer (guard.h). */
struct redis_guard {
    struct sched_timer timer; /* runs while commands are in flight */
    bool asleep;              /* watched, and the timer does not run */
    bool holds;               /* others know who is the primary: replies of a silent server wait for them */
    bool leaving;             /* what was not sent is not sent to this server at all */
    struct redis_watcher *watcher;
    struct wait *wait;     /* of the task that decides; NULL: it does not wait */
    uint64_t silent_since; /* connections that were given up for their silence; 0 = none */
    uint64_t due; /* when the decision about a server that is no primary any more is due; 0 = never */
};

struct redis_pool {
    struct runtime *rt;
    struct pool *pool;
    struct redis_target *target;
    struct connector connector;
    unsigned refs;
    bool full_is_error; /* on_full="error" */
    double timeout;     /* seconds to wait for a slot */
    uint64_t ping_idle; /* ns */
    uint64_t comeback;  /* ns that commands wait for the server after a connection was lost */
    size_t max_queued;  /* bytes that may be queued on a connection before commands wait for room */
    struct redis_guard guard;
    struct redis_session *sessions; /* all that use this pool */
};

struct redis_pool_options {
    uint32_t max_connections;
    bool full_is_error;
    double timeout;
    double connect_timeout;
    double ping_idle;
    double comeback;
    size_t max_queued;
};

/* Gives one reference; NULL when memory is out. Holds `target`. */
struct redis_pool *redis_pool_new(struct runtime *rt, struct redis_target *target,
                                  const struct redis_pool_options *o);
/* A pool for one connection to the same server that nothing holds up: without database and name. */
struct redis_pool *redis_pool_new_bare(const struct redis_pool *p);
struct redis_pool *redis_pool_ref(struct redis_pool *p);
/* Dropping the last reference closes and frees the pool. NULL is harmless. */
void redis_pool_unref(struct redis_pool *p);
/* Gives no more connections; closes idle ones now, and those in use when they come back. Idempotent. */
void redis_pool_close(struct redis_pool *p);

/* Connections that were opened before now get no more commands: idle ones are closed, shared ones once they
 * are answered, dedicated ones when they come back. */
void redis_pool_invalidate(struct redis_pool *p);

/* Sends the queued commands, and watches the socket for replies. May call user->failed. */
void redis_link_push(struct redis_link *l);
/* Has the server closed an idle connection? Then the user is told now (user->failed), not after a write. */
void redis_link_look(struct redis_link *l);
/* The same, and reads what has arrived. */
void redis_link_resume(struct redis_link *l);
/* Neither reads nor writes until redis_link_resume. */
void redis_link_hold(struct redis_link *l);
/* Breaks the connection: its user gets user->failed. The link is gone afterwards. */
void redis_link_break(struct redis_link *l, const struct error *why);
/* Gives the link back to its pool, which keeps or closes it (op_judge). */
void redis_link_release(struct redis_link *l);

/* Starts the guard's timer if it sleeps. */
void redis_pool_watch(struct redis_pool *p, uint64_t at);
static inline void redis_pool_used(struct redis_pool *p)
{
    if (p->guard.asleep)
        redis_pool_watch(p, 0);
}

/* Sets `e` to the reason why the pool gave no connection in `waited` seconds, with the holders of its
 * connections. */
void redis_pool_explain(struct redis_pool *p, enum pool_settle why, double waited, struct error *e);

#endif
