/*
 * pipeline=: tasks share connections. What tasks issue queues here; at the end of the loop's turn each free
 * connection takes up to `most` statements at once, each a group of its own (pg/machine.h). A statement that
 * is not prepared on that connection yet gets the connection for itself and goes the ordinary way, which
 * prepares it; so does one that could not be shared.
 *
 * Who owns what: a pg_shared belongs to the statement that queued it. The mux knows it from pg_mux_add until
 * it has ended (`wait` is woken) or is removed; then it must not be in the queue nor in flight. It is bytes:
 * no Lua value is looked at behind pg_mux_add.
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
    struct pg_shared *next; /* in the queue, or among the spare ones */
    struct wait *wait;      /* of its task; NULL once it was woken */
    struct pg_link *flight; /* the connection it was sent on; NULL = queued */
    bool sent;              /* its own time limit counts, not the pool's */
    bool alone;             /* it must not be shared */
    bool large;             /* its block is of its own size */
    bool tried;             /* a connection broke while it was sent; nothing of it was */
    /* how it ended: one of these */
    struct pg_link *link; /* it has this connection for itself */
    PGresult *result;
    struct error error;
    /* the statement, copied */
    const char *sql;
    size_t len;
    struct pg_params params;
};

/* A copy of the statement; NULL when memory is out. */
struct pg_shared *pg_shared_new(struct pg_mux *mux, const char *sql, size_t len, const struct pg_params *p);
/* It must have ended or been removed. A connection that it has is not given back. */
void pg_shared_free(struct pg_mux *mux, struct pg_shared *s);

/* pipeline=n: at most n statements in flight on each connection. NULL when memory is out. */
struct pg_mux *pg_mux_new(struct pg_engine *e, int most);
/* The engine is going: nothing is queued or in flight any more. */
void pg_mux_free(struct pg_mux *mux);
/* Queues it. */
void pg_mux_add(struct pg_mux *mux, struct pg_shared *s);
/* Its wait was abandoned. */
void pg_mux_remove(struct pg_mux *mux, struct pg_shared *s);
#endif
