/*
 * Shared by the files of the operation: op.c (its life, the stages, where statements come in),
 * checkout.c and reply.c. Nobody else includes this.
 */
#ifndef DBRUN_BIND_PG_OP_H
#define DBRUN_BIND_PG_OP_H

#include "bind/pg/impl.h"

/* ---- op.c ---- */

/* The continuation of every wait: goes on with the stage that the op is in. */
int pg_op_k(lua_State *L, int status, lua_KContext ctx);
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
/* STAGE_CONNECTED: on_connect has returned, or raised. */
int pg_op_connected(lua_State *L, struct pg_op *op, int status);
/* Queues for a shared connection; STAGE_SHARED: it has its result, or a connection for itself. */
int pg_op_share(lua_State *L, struct pg_op *op);
int pg_op_shared(lua_State *L, struct pg_op *op);
/* Notes the script's line on the connection, for those who wait for it too long. */
void pg_op_note_place(lua_State *L, struct pg_link *link);

/* ---- reply.c ---- */

/* STAGE_DRAINED: what was cancelled on the lease has ended. */
int pg_op_drained(lua_State *L, struct pg_op *op);
/* STAGE_SEND */
int pg_op_send(lua_State *L, struct pg_op *op);
/* STAGE_REPLY */
int pg_op_replied(lua_State *L, struct pg_op *op, bool parked);

#endif
