/*
 * One statement of one task, from checkout to result; the task's next statement reuses the block. The stages
 * are the points where it can be resumed (query.c has their chart). Shared by statement.c, checkout.c,
 * share.c, reply.c, recovery.c and query.c.
 *
 * Who owns what: the statement is a userdata that is anchored on the stack of its C function and with its
 * task. pg_statement_clean gives up what it holds (connection, result, error, a place in the pool's or the
 * mux's queue).
 */
#ifndef DBRUN_BIND_PG_STATEMENT_H
#define DBRUN_BIND_PG_STATEMENT_H

#include "base/buf.h"
#include "bind/pg/lease.h"
#include "bind/pg/result.h"

struct pg_stream;

enum pg_stage { STAGE_IDLE, STAGE_SHARED, STAGE_ACQUIRED, STAGE_CONNECTED, STAGE_DRAINED, STAGE_REPLY };

/* The description that was asked for (stale.h). */
enum pg_comparing { COMPARE_NONE, COMPARE_OLD, COMPARE_NEW };

/* What the rows of a large result become (growing.h): undecided; Lua values; a copy, because their types must
 * be looked up first; nothing, because a value could not be read (FAILED) or the statement will run again
 * (DROP). */
enum pg_grow { GROW_NOT, GROW_VALUES, GROW_COPY, GROW_FAILED, GROW_DROP };

struct pg_growing {
    enum pg_grow how;
    unsigned step; /* what the machine's last step returned */
    int at;        /* the stack index of the values made so far */
    lua_Integer rows;
    struct pg_row_plan *plan;
    struct buf copy;
};

struct pg_statement {
    struct pg_engine *engine;
    struct pg_link *link;
    struct pg_lease *lease;   /* NULL: the statement takes a connection from the pool and returns it */
    struct pg_stream *stream; /* rows(), on the stack: takes the connection over with the first row */
    lua_KFunction k;          /* runs the next stage (query.c) */
    struct pool_waiter waiter;
    struct wait *wait;
    PGresult *result;
    struct error error;
    enum pg_stage stage;
    enum pg_result_shape shape;
    unsigned form;          /* FORM_ bits */
    uint64_t began;         /* when it began, for the log or the trace; 0: neither records statements */
    struct trace_span span; /* with a trace */
    int nparams;            /* on the stack from index 3 on; 1 = engine or lease, 2 = the SQL */
    bool simple;
    int top;                        /* the stack's top before on_connect was called */
    struct pg_lease *connect_lease; /* the argument of on_connect; anchored on the stack */
    bool acquire_only;
    bool describe_only;
    bool retried;
    struct pg_shared *shared; /* STAGE_SHARED: the statement as the mux has it */
    struct pg_cached *entry;  /* the statement's cache entry, while the catalog or its types are asked for */
    enum pg_comparing comparing;
    PGresult *old;   /* the description of the statement as it was prepared */
    bool stale_only; /* the statement does not run: only asks whether its types have changed */
    bool guessed;    /* see struct pg_machine */
    bool looking_up;
    bool describing; /* rows(): the columns were asked for */
    bool described;  /* rows(): the columns were asked for once; not again */
    struct pg_growing growing;
};

/* True when the result is not in st->result, because its values were made while it arrived. */
static inline bool pg_statement_is_grown(const struct pg_statement *st)
{
    return st->growing.how == GROW_VALUES || st->growing.how == GROW_FAILED;
}

/* True when the lease was released while this statement waited: the link may serve another statement now. */
static inline bool pg_statement_is_lost(const struct pg_statement *st)
{
    return st->lease && st->lease->link != st->link;
}

/* ---- statement.c ---- */

void pg_statement_classes(lua_State *L, struct runtime *rt);
/* The current task's statement, pushed on the stack so that it lives as long as this call does. */
struct pg_statement *pg_statement_take(lua_State *L, struct runtime *rt);
/* Releases what the statement still holds; the block can then be reused. */
void pg_statement_clean(struct pg_statement *st);
/* Pushes the metatable of result and rows. For a prepared statement the metatable is made once and kept with
 * its cache entry, if the entry still exists. */
void pg_statement_push_meta(lua_State *L, struct pg_statement *st);
/* Raises the statement's error. */
int pg_statement_raise(lua_State *L, struct pg_statement *st);
int pg_statement_raise_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome);

/* ---- checkout.c ---- */

/* Takes an idle connection for the lease on top of the stack, without a statement. False: a statement is
 * needed, because a task must wait, on_connect runs first, or the checkout is logged or traced. Allocates
 * nothing. */
bool pg_lease_take(lua_State *L, struct pg_lease *lease, struct pg_engine *e);
/* True when a lease can wait for its connection without a statement. */
bool pg_lease_may_wait(const struct pg_engine *e);
/* The same as pg_statement_checkout for the lease at 2, which has room for it. */
int pg_lease_checkout(lua_State *L, struct pg_lease *lease, struct pg_engine *e);
/* Takes a connection, or queues; continues at STAGE_ACQUIRED. */
int pg_statement_checkout(lua_State *L, struct pg_statement *st);
/* STAGE_ACQUIRED: the pool has answered, at once or while the task was parked. */
int pg_statement_checked_out(lua_State *L, struct pg_statement *st, bool parked);
/* Raises the error of a refusal by the pool or of its time limit. */
int pg_statement_checkout_failed(lua_State *L, struct pg_statement *st, enum pool_settle result);
/* Called when the statement has its connection. */
int pg_statement_leased(lua_State *L, struct pg_statement *st);
/* STAGE_CONNECTED: on_connect has returned, or raised. */
int pg_statement_connected(lua_State *L, struct pg_statement *st, int status);

/* ---- share.c ---- */

/* Queues for a shared connection. */
int pg_statement_share(lua_State *L, struct pg_statement *st);
/* STAGE_SHARED: the statement has ended, or has got a connection alone. */
int pg_statement_shared(lua_State *L, struct pg_statement *st);

/* ---- reply.c ---- */

/* STAGE_DRAINED: the cancelled statement of the lease has ended. */
int pg_statement_drained(lua_State *L, struct pg_statement *st);
/* Encodes the parameters and sends; continues at STAGE_REPLY. */
int pg_statement_send(lua_State *L, struct pg_statement *st);
/* STAGE_REPLY */
int pg_statement_replied(lua_State *L, struct pg_statement *st, bool parked);

#endif
