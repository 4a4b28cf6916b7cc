/*
 * pipeline=: tasks share connections. The mux queues the statements of all tasks; at the end of the loop's
 * turn each free connection takes up to `most` statements at once, each as its own group (pg/machine.h). A
 * statement that cannot be shared, or is not prepared on that connection yet, gets the connection alone and
 * is sent as without pipeline=, which prepares it.
 *
 * Who owns what: a pg_shared belongs to the statement that queued it. The mux uses it from pg_mux_add until
 * the statement has ended (`wait` is woken) or is removed. It holds copies, so that the mux reads no Lua
 * value.
 */
#ifndef DBRUN_BIND_PG_MUX_H
#define DBRUN_BIND_PG_MUX_H

#include "base/error.h"
#include "pg/machine.h"

struct pg_engine;
struct pg_link;
struct pg_mux;
struct wait;

struct pg_shared {
    struct pg_shared *next; /* in the queue, or in the list of spare blocks */
    struct wait *wait;      /* the wait of its task; NULL once the task was woken */
    struct pg_link *flight; /* the connection on which it was sent; NULL = queued */
    bool sent;              /* the statement's time limit applies, not the pool's */
    bool alone;             /* it must get a connection alone */
    bool large;             /* its block is larger than the spare blocks */
    int pid;                /* for the trace: the server's process, and when it was sent */
    uint64_t sent_at;
    bool tried; /* one connection has already broken before this statement was sent */
    /* how it ended: one of these */
    struct pg_link *link; /* it got this connection alone */
    PGresult *result;
    struct error error;
    /* the statement, copied */
    const char *sql;
    size_t len;
    struct pg_params params;
};

/* A copy of the statement; NULL when out of memory. */
struct pg_shared *pg_shared_new(struct pg_mux *mux, const char *sql, size_t len, const struct pg_params *p);
/* Frees a statement that has ended or was removed. Does not return `link` to the pool. */
void pg_shared_free(struct pg_mux *mux, struct pg_shared *s);

/* pipeline=n: at most n statements in flight on each connection. NULL when out of memory. */
struct pg_mux *pg_mux_new(struct pg_engine *e, int most);
/* No statement may be queued or in flight. */
void pg_mux_free(struct pg_mux *mux);
/* Queues a statement. */
void pg_mux_add(struct pg_mux *mux, struct pg_shared *s);
/* Removes a statement whose task no longer waits. If it was already sent, its reply is discarded when it
 * comes. */
void pg_mux_remove(struct pg_mux *mux, struct pg_shared *s);
#endif
