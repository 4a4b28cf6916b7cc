/*
 * The pool of Redis connections: the generic pool, over connections that are opened on worker threads and
 * stepped on the loop.
 *
 * Who owns what: a redis_pool is reference-counted; its handle in Lua and each session hold a reference. It
 * owns its links while they are in a slot. A link's user (a session) only borrows the link, from the grant to
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

/* The callbacks of a link's user. They run after the machine's step, so they can release the link. */
struct redis_link_user {
    /* Called when the machine has stepped: replies may have arrived. */
    void (*progress)(struct redis_link *l);
    /* Called when the connection has failed; the user must return the link to its pool. */
    void (*failed)(struct redis_link *l);
    /* Called when the pool was invalidated: a user that keeps its link without end must move to another link
     * (which changes link->user). NULL: the link is closed when the user returns it. */
    void (*outdated)(struct redis_link *l);
    /* Describes the user for the error of a task that gets no connection. */
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
    uint64_t serial;                    /* from 1, unique across all pools of the program */
    bool paused;                        /* do not read: the user has too many messages */
    bool held;                          /* neither read nor write: the primary is unknown */
    bool spoilt;                        /* its state is not clean: close it instead of reusing it */
    uint64_t mark, marked_at; /* guard.c: the call whose reply is awaited, and since when; 0 = none */
    uint64_t answered;        /* guard.c: the number of answered calls it has seen */
    struct redis_call ping;
    struct sched_timer ping_timer;
    bool ponged;
};

/* Lua's handle for watching a pool; does not keep the pool alive. */
struct redis_watcher {
    struct redis_pool *pool; /* NULL: the pool is gone */
};

/* Watches a pool for a server that does not answer (guard.h). */
struct redis_guard {
    struct sched_timer timer; /* runs while commands are in flight */
    bool asleep;              /* watched, and the timer does not run */
    bool holds;   /* other servers know the primary: replies of a silent server wait until they were asked */
    bool leaving; /* nothing more is sent to this server */
    struct redis_watcher *watcher;
    struct wait *wait;     /* the wait of the task that decides; NULL: it does not wait */
    uint64_t silent_since; /* when the silence of abandoned connections began; 0 = none */
    uint64_t due; /* when the decision about a server that is no longer the primary is due; 0 = never */
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
    size_t max_queued;  /* bytes that can be queued on a connection before commands wait for room */
    struct redis_guard guard;
    struct redis_session *sessions; /* all sessions that use this pool */
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

/* Returns one reference; NULL when out of memory. Holds `target`. */
struct redis_pool *redis_pool_new(struct runtime *rt, struct redis_target *target,
                                  const struct redis_pool_options *o);
/* A pool for one separate connection to the same server, without database and name, which no other command
 * delays. */
struct redis_pool *redis_pool_new_bare(const struct redis_pool *p);
struct redis_pool *redis_pool_ref(struct redis_pool *p);
/* Dropping the last reference closes and frees the pool. NULL is harmless. */
void redis_pool_unref(struct redis_pool *p);
/* Grants no more connections; closes idle ones now, and those in use when they are returned. Idempotent. */
void redis_pool_close(struct redis_pool *p);

/* Connections that were opened before now get no more commands: idle ones are closed now, shared ones once
 * all is answered, dedicated ones when they are returned. */
void redis_pool_invalidate(struct redis_pool *p);

/* Sends the queued commands, and watches the socket for replies. Can call user->failed. */
void redis_link_push(struct redis_link *l);
/* If the server has closed an idle connection, calls user->failed now instead of after a write. */
void redis_link_look(struct redis_link *l);
/* Ends a hold, and reads what has arrived. */
void redis_link_resume(struct redis_link *l);
/* Neither reads nor writes until redis_link_resume. */
void redis_link_hold(struct redis_link *l);
/* Breaks the connection: its user gets user->failed. The link is gone afterwards. */
void redis_link_break(struct redis_link *l, const struct error *why);
/* Returns the link to its pool, which keeps or closes it (op_judge). */
void redis_link_release(struct redis_link *l);

/* Starts the guard's timer if it does not run. */
void redis_pool_watch(struct redis_pool *p, uint64_t at);
static inline void redis_pool_used(struct redis_pool *p)
{
    if (p->guard.asleep)
        redis_pool_watch(p, 0);
}

/* True when waiters wait for the server (a connection is being opened or pinged), and not for the holders of
 * connections. */
bool redis_pool_is_connecting(const struct redis_pool *p);
/* Sets `e` to the reason why the pool granted no connection within `waited` seconds, with the holders of its
 * connections. */
void redis_pool_explain(struct redis_pool *p, enum pool_settle why, double waited, struct error *e);

#endif
