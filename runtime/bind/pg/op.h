/*
 * One statement of one task, from checkout to result; the block is used again by the task's next statement.
 * The stages are where it may be resumed (statement.c has their chart). Shared by op.c, checkout.c, share.c,
 * reply.c, recovery.c and statement.c.
 *
 * Who owns what: the op is a userdata that is anchored on the stack of its C function and with its task. What
 * it holds (connection, result, error, a place in the pool's or the mux's queue) goes with pg_op_clean.
 */
#ifndef DBRUN_BIND_PG_OP_H
#define DBRUN_BIND_PG_OP_H

#include "bind/pg/lease.h"
#include "bind/pg/result.h"

struct pg_stream;

enum pg_stage {
    STAGE_IDLE,
    STAGE_SHARED,
    STAGE_ACQUIRE,
    STAGE_ACQUIRED,
    STAGE_CONNECTED,
    STAGE_DRAINED,
    STAGE_SEND,
    STAGE_REPLY
};

struct pg_op {
    struct pg_engine *engine;
    struct pg_link *link;
    struct pg_lease *lease;   /* NULL: the statement takes and gives back a connection by itself */
    struct pg_stream *stream; /* on the stack: takes the connection over once the statement is sent */
    lua_KFunction k;          /* goes on with the stage that it is in (statement.c) */
    struct pool_waiter waiter;
    struct wait *wait;
    PGresult *result;
    struct error error;
    enum pg_stage stage;
    enum pg_shape shape;
    int nparams; /* on the stack from index 3 on; 1 = engine or lease, 2 = the SQL */
    bool simple;
    int top;                        /* of the stack, while on_connect runs */
    struct pg_lease *connect_lease; /* what on_connect gets: anchored on the stack */
    bool acquire_only;
    bool describe_only;
    bool retried;
    struct pg_shared *shared; /* STAGE_SHARED: the statement as the mux has it */
    struct pg_cached *entry;  /* of the statement, while the catalog is asked about its types */
    bool looking_up;
    bool describing; /* rows: asks for the columns first ... */
    bool described;  /* ... once */
};

/* ---- op.c ---- */

void pg_op_classes(lua_State *L, struct runtime *rt);
/* The current task's op, pushed on the stack so that it lives as long as this call does. */
struct pg_op *pg_op_take(lua_State *L, struct runtime *rt);
/* Goes on at once with the stage that the op is in. */
static inline int pg_op_next(lua_State *L, struct pg_op *op)
{
    return op->k(L, LUA_OK, (lua_KContext)op);
}
/* Gives up what the op still holds; it is free for the next statement then. */
void pg_op_clean(struct pg_op *op);
/* Raises the op's error. */
int pg_op_raise(lua_State *L, struct pg_op *op);
int pg_op_raise_cancelled(lua_State *L, struct pg_op *op);

/* ---- checkout.c ---- */

/* STAGE_ACQUIRE: takes a connection, or queues. */
int pg_op_checkout(lua_State *L, struct pg_op *op);
/* STAGE_ACQUIRED: the pool has answered, at once or while the task was parked. */
int pg_op_checked_out(lua_State *L, struct pg_op *op, bool parked);
/* The pool, or its time limit, refuses: raises. */
int pg_op_checkout_failed(lua_State *L, struct pg_op *op, enum pool_settle result);
/* The op has its connection. */
int pg_op_leased(lua_State *L, struct pg_op *op);
/* STAGE_CONNECTED: on_connect has returned, or raised. */
int pg_op_connected(lua_State *L, struct pg_op *op, int status);

/* ---- share.c ---- */

/* Queues for a shared connection. */
int pg_op_share(lua_State *L, struct pg_op *op);
/* STAGE_SHARED: it has ended, or has a connection for itself. */
int pg_op_shared(lua_State *L, struct pg_op *op);

/* ---- reply.c ---- */

/* STAGE_DRAINED: what was cancelled on the lease has ended. */
int pg_op_drained(lua_State *L, struct pg_op *op);
/* STAGE_SEND */
int pg_op_send(lua_State *L, struct pg_op *op);
/* STAGE_REPLY */
int pg_op_replied(lua_State *L, struct pg_op *op, bool parked);

#endif
