/*
 * Rows one by one: the iterator of `for row in engine:rows(...)`, and the part that COPY TO STDOUT shares
 * with it.
 *
 * Who owns what: while a row becomes Lua values, a finaliser of the script may end the stream, release its
 * lease, close its engine, or (sync) read the next row. So a box on the stack owns the row, and holds a
 * reference to the engine, whose decoder is in use.
 */
#ifndef DBRUN_BIND_PG_STREAM_H
#define DBRUN_BIND_PG_STREAM_H

#include "bind/pg/link.h"

/* An iterator over rows, or over the data of a COPY (copy_out.c). */
struct pg_stream {
    struct pg_link *link; /* NULL = at the end */
    bool own;             /* return the connection to the pool at the end */
    bool woken;           /* a step has woken its task, which has not taken the step's result yet */
    bool lost;            /* the lease was released before the end: asking for more raises */
    uint64_t until;       /* the time limit of the row that is being read; 0 = no wait for this row yet */
    unsigned form;        /* of its rows: FORM_ bits (result.h) */
    unsigned first;       /* the result of the step made before the stream was attached; 0 = none */
};

/* The row that is becoming Lua values. */
struct pg_row_box {
    struct pg_engine *engine; /* NULL = empty */
    PGresult *row;            /* a row of a statement */
    struct buf buf;           /* a row of a COPY */
    bool kept;                /* the stream keeps it for its next row */
};

/* User values of a stream: the column names, the rows' metatable and plan, the lease (which must not be
 * collected while its rows are read), and the box of the last row. */
enum {
    PG_STREAM_NAMES = 1,
    PG_STREAM_META,
    PG_STREAM_PLAN,
    PG_STREAM_LEASE,
    PG_STREAM_BOX,
    PG_STREAM_VALUES = PG_STREAM_BOX
};

/* Pushes an empty box for a row of the stream at 1. */
struct pg_row_box *pg_row_box_push(lua_State *L);
/* Takes a reference to the engine for a row that is put into the box. */
void pg_row_box_begin(struct pg_row_box *box, struct pg_engine *e);
/* Empties the box at `index` when its row is made, and keeps it for the next row. */
void pg_row_box_done(lua_State *L, int index);
/* Pushes a row iterator without a connection. */
struct pg_stream *pg_stream_new(lua_State *L);
/* Passes the link, on which the statement was sent, to the stream. `own`: see struct pg_stream. */
void pg_stream_attach(struct pg_stream *s, struct pg_link *link, bool own);
/* The same when the first row is already the machine's result, or the statement has ended. */
void pg_stream_attach_ready(struct pg_stream *s, struct pg_link *link, bool own);
/* Ends a stream that was read to its end: returns the connection to the pool. */
void pg_stream_finish(struct pg_stream *s);
/* Ends a stream early: discards the rest, and cancels the statement if it still runs. */
void pg_stream_stop(struct pg_stream *s);
/* For a loop that was left early. In a transaction that goes on (not `failed`), a cancel would fail the
 * transaction: so the rest has a few seconds to arrive. */
void pg_stream_leave(struct pg_stream *s, bool failed);
/* For __gc: ends a stream whose loop never ended. Does not block. */
void pg_stream_collected(struct pg_stream *s);
/* Raises while a codec runs, because the stream owns the text that the codec decodes. */
void pg_stream_check_codec(lua_State *L, const struct pg_stream *s);
/* True when there is more to read; raises where the task cannot wait, or when the lease was released
 * meanwhile. */
bool pg_stream_check_next(lua_State *L, struct pg_stream *s);
/* Async engine: waits for the socket; then k continues and first calls pg_stream_resumed (false = at the
 * end). */
int pg_stream_park(lua_State *L, struct pg_stream *s, unsigned want, lua_KFunction k);
bool pg_stream_resumed(lua_State *L, struct pg_stream *s);
/* Sync engine: waits for the socket and steps. Raises when the wait timed out, or was interrupted. */
void pg_stream_poll_blocking(lua_State *L, struct pg_stream *s, unsigned want);
/* Pushes the four values for `for row in engine:rows(...)`; the stream is at `index`. */
int pg_stream_push_iterator(lua_State *L, int index);
void pg_stream_class(lua_State *L, struct runtime *rt);

#endif
