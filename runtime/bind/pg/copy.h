/*
 * COPY between its files: copy.c begins, sends and ends COPY FROM STDIN; copy_encode.c makes what is
 * sent, row by row, copy_value.c each value; copy_out.c reads COPY TO STDOUT.
 */
#ifndef DBRUN_BIND_PG_COPY_H
#define DBRUN_BIND_PG_COPY_H

#include "bind/pg/link.h"
#include "pg/copyfmt.h"

/* Starts a COPY with the SQL (a string) at 2 and goes on in k, which calls pg_copy_begun. */
int pg_copy_start(lua_State *L, struct pg_link *link, lua_KFunction k);
/* Ends the wait; raises when the COPY has not come to `state`. */
void pg_copy_begun(lua_State *L, struct pg_link *link, int status, enum pg_state state);

/* Methods of leases. */
int pg_copy_begin(lua_State *L);
int pg_copy_send(lua_State *L);
int pg_copy_end(lua_State *L);

enum copy_format { COPY_TEXT, COPY_CSV, COPY_BINARY };

struct copy_encoder {
    struct buf out;
    enum copy_format format;
    bool by_name; /* rows by column name instead of by position */
    lua_Integer rows;
    int ncols; /* 0 = not known: as many as the row has */
    const struct pg_type *types[];
};

/* User values of the encoder: the columns' names, and the function that makes an array literal of a list. */
enum { COPY_NAMES = 1, COPY_ARRAY_TEXT = 2 };

bool pg_copy_is_json(const struct pg_type *t);
/* Appends the value at the top. The running function has runtime and encoder as upvalues. */
enum copyfmt_result pg_copy_text_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t);
enum copyfmt_result pg_copy_binary_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t);

/* The buffer of the encoder at `arg`. */
struct buf *pg_copy_buffer(lua_State *L, int arg);
/* Registers the encoder's class and pushes {encoder=, binary=}. */
void pg_copy_encoder_open(lua_State *L, struct runtime *rt);

/* Lease methods copy_out_begin and reads_binary, and the iterator's class. */
int pg_copy_out_begin(lua_State *L);
int pg_copy_reads_binary(lua_State *L);
void pg_copy_out_class(lua_State *L, struct runtime *rt);

#endif
