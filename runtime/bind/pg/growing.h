/*
 * A large result of query or columns becomes Lua values while its rows arrive (the machine returns them one
 * by one): so the whole result is never in memory twice, and the server works meanwhile. The script notices
 * no difference: an error can still follow the rows, and a value that cannot be read is reported only after
 * the server has completed the statement.
 */
#ifndef DBRUN_BIND_PG_GROWING_H
#define DBRUN_BIND_PG_GROWING_H

#include "bind/pg/statement.h"

/* True when the result of this sent statement may grow. Not with codecs of the script, because they may use
 * the connection, and not when the last result was of medium size. */
bool pg_growing_may(lua_State *L, const struct pg_statement *st);
/* Takes the rows that have arrived. Returns what pg_machine_step returned last. Runs no code of the script,
 * except finalisers at its end. `L` is the statement's coroutine; the values stay on its stack. */
unsigned pg_growing_take(lua_State *L, struct pg_statement *st);
/* Called when the statement has succeeded, with its last result, without rows, in st->result. Puts the rows
 * that could not be read yet back into st->result. False when out of memory. */
bool pg_growing_over(struct pg_statement *st);
/* Pushes the values and returns their number; raises if a value could not be read. */
int pg_growing_push(lua_State *L, struct pg_statement *st);
/* The bytes that the values would take as a libpq result. */
size_t pg_growing_bytes(const struct pg_statement *st);
/* Discards the values, because the statement runs again. */
void pg_growing_forget(lua_State *L, struct pg_statement *st);

#endif
