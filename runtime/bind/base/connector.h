/*
 * How a pool comes to its connections, whatever the database: each connect runs on a thread of its own, under
 * a deadline. On the loop its result comes back by itself; a blocking caller waits for the thread.
 *
 *   connect ends in time          wrapped, and the pool has it (pool_opened), or the error (pool_open_failed)
 *   it is late (the resolver and  the pool is told a timeout; the result is thrown away when it comes
 *   key derivation know no time)
 *   the pool closes               the pool is told; likewise
 *
 * Who owns what: the embedder (an engine, a pool of Redis) embeds the connector, and outlives its connects by
 * calling connector_forget. A connect holds its target; the thread owns the connect until it has ended.
 */
#ifndef DBRUN_BIND_CONNECTOR_H
#define DBRUN_BIND_CONNECTOR_H

#include "bind/base/runtime.h"
#include "pool/pool.h"

struct connecting;

/* One kind of server. */
struct connector_ops {
    const char *server;   /* "PostgreSQL": for messages, as the next one */
    const char *variable; /* where a user names the host */
    /* Where to connect to: counted from several threads, and never changed. */
    void (*hold)(void *target);
    void (*let_go)(void *target);
    /* Its host and port as the user knows them. */
    const char *(*describe)(const void *target);
    /* On the thread: an established connection, or NULL with `e` set. It should not try again when
     * connecting_is_wanted says no. */
    void *(*connect)(void *target, uint64_t deadline, const struct connecting *c, struct error *e);
    /* Makes what the pool keeps, and takes the connection over; NULL (and it is closed) when memory is out.
     */
    void *(*wrap)(struct pool_slot *slot, void *conn);
    /* A connection that nobody wants any more; may run on the thread. */
    void (*close)(void *conn);
};

struct connector {
    struct runtime *rt;
    const struct connector_ops *ops;
    void *target;
    double connect_timeout; /* seconds */
    bool blocking;          /* the caller waits: no loop */
    struct connecting *first;
};

/* pool_ops.open: the pool hears of it at once when the connector is blocking, or nothing can be started. */
void connector_open(struct connector *cr, struct pool_slot *slot);
/* The pool closes: connects under way have failed, and end by themselves. */
void connector_forget(struct connector *cr);
/* On the thread: does anybody still wait for it? */
bool connecting_is_wanted(const struct connecting *c);

#endif
