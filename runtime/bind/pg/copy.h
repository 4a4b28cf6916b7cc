/*
 * What the files of COPY share: copy.c begins, sends and ends COPY FROM STDIN; copy_encode.c encodes its
 * rows, copy_value.c their values; copy_out.c reads COPY TO STDOUT.
 */
#ifndef DBRUN_BIND_PG_COPY_H
#define DBRUN_BIND_PG_COPY_H

#include "bind/pg/link.h"
#include "pg/copy_end.h"
#include "pg/copyfmt.h"

/* Sends the COPY whose SQL (a string) is at 2; then k continues and calls pg_copy_begun. */
int pg_copy_start(lua_State *L, struct pg_link *link, const char *shown, lua_KFunction k);
/* Ends the wait; raises when the machine is not in `state`, PG_COPY_IN or PG_COPY_OUT. */
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
    bool watched; /* `end` scans what raw() adds */
    struct copy_end end;
    lua_Integer rows;
    int ncols;     /* 0 = unknown: each row has as many columns as values */
    bool *special; /* for each column: Lua writes every value; after `types` in the same block */
    const struct pg_type *types[];
};

/* User values of the encoder: the names of the columns, and the function of lua/dbrun/db/copy.lua that writes
 * a value by its column's type: (value, column, row) -> value. */
enum { COPY_NAMES = 1, COPY_WRITE = 2 };

bool pg_copy_is_json(const struct pg_type *t);
/* If the value on top, of column `c` (from 0), is a table, replaces it by what Lua makes of it. (In binary a
 * plain list stays: it is written in C.) */
void pg_copy_prepare(lua_State *L, struct copy_encoder *x, int c);
/* Appends the prepared value on top of the stack. The running function must have runtime and encoder as
 * upvalues. */
enum copyfmt_result pg_copy_text_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t);
enum copyfmt_result pg_copy_binary_value(lua_State *L, struct copy_encoder *x, const struct pg_type *t);

/* The buffer of the encoder at `arg`; raises when there is no encoder. */
struct buf *pg_copy_buffer(lua_State *L, int arg);
/* Registers the encoder's class and pushes {encoder=, binary=}. */
void pg_copy_encoder_open(lua_State *L, struct runtime *rt);

/* Lease methods copy_out_begin and reads_binary, and the iterator's class. */
int pg_copy_out_begin(lua_State *L);
int pg_copy_reads_binary(lua_State *L);
void pg_copy_out_class(lua_State *L, struct runtime *rt);

#endif
