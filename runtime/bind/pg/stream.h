/*
 * Rows one by one: what `for row in engine:rows(...)` iterates over, and what COPY TO STDOUT shares with it.
 *
 * Who owns what: while a row becomes Lua values, a finaliser of the script's may end the stream, release its
 * lease, close its engine, or (sync) read on. So the row is in a box on the stack by then, which counts the
 * engine, whose decoder is in use.
 */
#ifndef DBRUN_BIND_PG_STREAM_H
#define DBRUN_BIND_PG_STREAM_H

#include "bind/pg/link.h"

/* What is read from a connection piece by piece: rows, or a COPY (copy_out.c). */
struct pg_stream {
    struct pg_link *link; /* NULL = at the end */
    bool own;             /* it gives the connection back at the end */
    bool lost;            /* the lease was released before the end: the next piece is an error */
    unsigned first;       /* the step that was made before it was attached; 0 = none */
};

/* What is being made into Lua values. */
struct pg_row_box {
    struct pg_engine *engine; /* NULL = empty */
    PGresult *row;            /* of rows */
    struct buf buf;           /* of COPY */
    bool kept;                /* by the stream, for its next row */
};

/* User values of a stream: names of columns, the lease (it must not be collected while its rows are read),
 * and the box of its last row. */
enum { PG_STREAM_NAMES = 1, PG_STREAM_LEASE, PG_STREAM_BOX, PG_STREAM_VALUES = PG_STREAM_BOX };

/* Pushes an empty box for a row of the stream at 1. */
struct pg_row_box *pg_row_box_push(lua_State *L);
/* A row comes into the box. */
void pg_row_box_begin(struct pg_row_box *box, struct pg_engine *e);
/* The row is made: the box at `index` is empty again, and kept for the next one. */
void pg_row_box_done(lua_State *L, int index);
/* A row iterator that holds no connection yet. */
struct pg_stream *pg_stream_new(lua_State *L);
/* The statement has been sent on the link. `own`: give it back to the pool at the end. */
void pg_stream_attach(struct pg_stream *s, struct pg_link *link, bool own);
/* As above, when the first row has come (it is the machine's result), or there is none. */
void pg_stream_attach_ready(struct pg_stream *s, struct pg_link *link, bool own);
/* Read to the end: the connection goes back. */
void pg_stream_finish(struct pg_stream *s);
/* Not read to the end: what is left is thrown away, and cancelled when it has not arrived yet. */
void pg_stream_stop(struct pg_stream *s);
/* The loop was left. In a transaction that goes on (not `failed`) a cancel has time. */
void pg_stream_leave(struct pg_stream *s, bool failed);
/* Collected without its block having ended: it must not block. */
void pg_stream_collected(struct pg_stream *s);
/* Raises inside of a codec, whose text belongs to the stream. */
void pg_stream_check_codec(lua_State *L, const struct pg_stream *s);
/* May the next piece be asked for? False at the end; raises where nothing can wait, or when the lease was
 * released meanwhile. */
bool pg_stream_check_next(lua_State *L, struct pg_stream *s);
/* Async: waits for the socket and goes on in k, which calls pg_stream_resumed first (false = at the end). */
int pg_stream_park(lua_State *L, struct pg_stream *s, unsigned want, lua_KFunction k);
bool pg_stream_resumed(lua_State *L, struct pg_stream *s);
/* Sync: waits for the socket and steps. Raises when it took too long, or was interrupted. */
void pg_stream_poll_blocking(lua_State *L, struct pg_stream *s, unsigned want);
/* Pushes what `for row in engine:rows(...)` takes: the stream stands at `index`. */
int pg_stream_push_iterator(lua_State *L, int index);
void pg_stream_class(lua_State *L, struct runtime *rt);

#endif
