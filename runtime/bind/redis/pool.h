/*
 * The pool of Redis connections: the generic pool's rules, over connections that are made on worker
 * threads and live on the loop.
 *
 * Who owns what: a redis_pool is counted; its handle in Lua, each client and each lease hold it. It
 * owns its links while they are in a slot. A link's user (a session) only borrows it, from the grant to
 * pool_release or pool_discard.
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

/* Whom a connection that is in use tells. Called with the connection unwound: it may be released. */
struct redis_link_user {
    /* The machine has stepped: replies may have come. */
    void (*progress)(struct redis_link *l);
    /* The connection has failed; give it back with pool_discard. */
    void (*failed)(struct redis_link *l);
    /* Who it is, for the error of somebody who gets no connection. */
    void (*describe)(const struct redis_link *l, struct pool_holder *h);
};

struct redis_link {
    struct redisconn *conn;
    struct io_watch *watch;
    struct redis_pool *pool;
    struct pool_slot *slot;
    const struct redis_link_user *user; /* NULL: idle */
    void *data;                         /* the user's */
    struct redis_link *next;            /* the user's too */
    bool paused;                        /* its user is behind: do not read */
    bool spoilt;                        /* in a state nobody else should meet: not to be used again */
    struct redis_call ping;
    struct sched_timer ping_timer;
    bool ponged;
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
    uint64_t comeback;  /* ns that commands wait for a server that was there and is gone */
};

struct redis_pool_options {
    uint32_t max_connections;
    bool full_is_error;
    double timeout;
    double connect_timeout;
    double ping_idle;
    double comeback;
};

/* NULL when memory is out. Holds `target`. One reference. */
struct redis_pool *redis_pool_new(struct runtime *rt, struct redis_target *target,
                                  const struct redis_pool_options *o);
struct redis_pool *redis_pool_ref(struct redis_pool *p);
/* The last one closes the pool. NULL is harmless. */
void redis_pool_unref(struct redis_pool *p);
/* No more connections: idle ones close now, those in use when they come back. Idempotent. */
void redis_pool_close(struct redis_pool *p);

/* Sends what is queued, and watches for what is still to come. May call user->failed. */
void redis_link_push(struct redis_link *l);
/* Gives the link back to its pool, which judges it. */
void redis_link_release(struct redis_link *l);

/* Fills in why there was no connection, and who holds them. */
void redis_pool_explain(struct redis_pool *p, enum pool_settle why, struct error *e);

#endif
