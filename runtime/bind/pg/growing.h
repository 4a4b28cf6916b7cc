/*
 * A large result of query or columns becomes Lua values while it comes (the machine hands its rows out one by
 * one): so there is never a copy of all of it beside the values, and the server works meanwhile. To the
 * script it is as if all had come first: what follows the rows may still be an error, and a value that cannot
 * be read is told only when the server has ended the statement well.
 */
#ifndef DBRUN_BIND_PG_GROWING_H
#define DBRUN_BIND_PG_GROWING_H

#include "bind/pg/statement.h"

/* May the result of this statement, which was sent, grow? Not where codecs of the script make its values:
 * they may use the connection. Nor where it was of medium size the last time. */
bool pg_growing_may(lua_State *L, const struct pg_statement *st);
/* Takes the rows that have come. Returns what pg_machine_step returned last. No code of the script runs
 * before its end, where finalisers may. `L` is the statement's coroutine; what it made stays on the stack. */
unsigned pg_growing_take(lua_State *L, struct pg_statement *st);
/* The statement has ended well, and st->result is its last result, without rows. Rows that could not be read
 * yet come back into it. False when memory is out. */
bool pg_growing_over(struct pg_statement *st);
/* Pushes the values and returns their number; or raises the error that one could not be read. */
int pg_growing_push(lua_State *L, struct pg_statement *st);
/* The bytes that they would take as a result of libpq. */
size_t pg_growing_bytes(const struct pg_statement *st);
/* Throws away what was made: the statement runs again. */
void pg_growing_forget(lua_State *L, struct pg_statement *st);

#endif
