/*
 * COPY between its files: pg_copy.c begins, sends and ends COPY FROM STDIN, pg_copy_encode.c makes what is
 * sent, pg_copy_out.c reads COPY TO STDOUT.
 */
#ifndef DBRUN_BIND_PG_COPY_H
#define DBRUN_BIND_PG_COPY_H

#include "bind/pg_impl.h"

/* Starts a COPY with the SQL at 2 and goes on in k, which calls pg_copy_begun. */
int pg_copy_start(lua_State *L, struct pg_link *link, lua_KFunction k);
/* Ends the wait; raises when the COPY has not come to `state`. */
void pg_copy_begun(lua_State *L, struct pg_link *link, int status, enum pg_state state);

/* The buffer of the encoder at `arg`. */
struct buf *pg_copy_buffer(lua_State *L, int arg);
/* Registers the encoder's class and pushes {encoder=, binary=}. */
void pg_copy_encoder_open(lua_State *L, struct runtime *rt);

/* Lease methods copy_out_begin and reads_binary, and the iterator's class. */
int pg_copy_out_begin(lua_State *L);
int pg_copy_reads_binary(lua_State *L);
void pg_copy_out_class(lua_State *L, struct runtime *rt);

#endif
