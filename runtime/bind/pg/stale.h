/*
 * Finds out whether a type has changed since a statement was prepared. An error such as "value out of range"
 * is mostly caused by the statement's input, but sometimes by a column that has become a bigint. Comparing
 * two descriptions decides: that of the prepared statement, and that of the same text parsed anew. They are
 * asked for one after the other on the same connection.
 */
#ifndef DBRUN_BIND_PG_STALE_H
#define DBRUN_BIND_PG_STALE_H

#include "bind/pg/statement.h"

enum pg_stale { PG_STALE_ASK, PG_STALE_YES, PG_STALE_NO, PG_STALE_CANCELLED };

/* True when an error with this SQLSTATE (or NULL) can come from a prepared statement whose types have
 * changed. `of_datatype`: the error names a data type. */
bool pg_stale_is_suspect(const char *state, bool of_datatype);
/* Asks for the next description; false: it was not sent. Stack: parameters from 3 on. */
bool pg_stale_ask(lua_State *L, struct pg_statement *st);
/* Takes a description: ask for the next one, or the answer. YES: the entry was renewed. CANCELLED: the
 * statement's error is that of the cancel or the interrupt. */
enum pg_stale pg_stale_take(struct pg_statement *st);

#endif
