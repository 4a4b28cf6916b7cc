/*
 * Opens connections for a pool of any database: each connect runs on its own thread, under a deadline. On the
 * loop a callback delivers its result; a blocking caller waits for the thread.
 *
 *   the connect ends in time      the pool gets the wrapped connection (pool_opened) or an error
 *                                 (pool_open_failed)
 *   it is late (the resolver and  the pool gets a timeout; the result is discarded when it comes
 *   key derivation know no limit)
 *   the pool closes               the pool gets an error; the result is discarded when it comes
 *
 * Who owns what: an engine or a Redis pool embeds the connector, and calls connector_forget before it is
 * freed. A connect holds its target; the thread owns the connect until the connect has ended.
 */
#ifndef DBRUN_BIND_CONNECTOR_H
#define DBRUN_BIND_CONNECTOR_H

#include "bind/base/runtime.h"
#include "pool/pool.h"

struct connecting;

/* One kind of server. */
struct connector_ops {
    const char *server;   /* for messages: "PostgreSQL" */
    const char *variable; /* for messages: the environment variable that names the host */
    unsigned trace_pid;   /* its pid in the trace */
    /* Reference counting of the target (address and login). Threads share the target; only its count changes,
     * atomically. */
    void (*hold)(void *target);
    void (*let_go)(void *target);
    /* The target's host and port as the user knows them. */
    const char *(*describe)(const void *target);
    /* On the thread: returns an established connection, or NULL with `e` set. Should not retry once
     * connecting_is_wanted says no. */
    void *(*connect)(void *target, uint64_t deadline, const struct connecting *c, struct error *e);
    /* Takes over the connection and makes what the pool keeps in the slot; NULL when out of memory, and the
     * connection is then closed. */
    void *(*wrap)(struct pool_slot *slot, void *conn);
    /* Closes the connection of an abandoned connect; can run on the thread. */
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

/* For pool_ops.open. Calls the pool before it returns when the connector is blocking, or when no thread can
 * be started. */
void connector_open(struct connector *cr, struct pool_slot *slot);
/* For a pool that closes: fails every connect under way and leaves it to its thread. */
void connector_forget(struct connector *cr);
/* Fails all connects under way with this error, and leaves them to their threads. The pool can begin others
 * inside this call. */
void connector_abandon(struct connector *cr, const struct error *why);
/* On the thread: true while the pool still waits for this connect. */
bool connecting_is_wanted(const struct connecting *c);

#endif
