/*
 * Has a type changed since a statement was prepared? Errors such as "value out of range" come from the
 * statement's input as a rule; from a column that has become a bigint, sometimes. Two descriptions tell: of
 * the statement as it was prepared, and of the same text parsed anew. Both are asked for one after the other,
 * on the same connection.
 */
#ifndef DBRUN_BIND_PG_STALE_H
#define DBRUN_BIND_PG_STALE_H

#include "bind/pg/statement.h"

enum pg_stale { PG_STALE_ASK, PG_STALE_YES, PG_STALE_NO, PG_STALE_CANCELLED };

/* Can an error with this SQLSTATE (or NULL) come from a prepared statement whose types have changed?
 * `of_datatype`: the error names a data type. */
bool pg_stale_is_suspect(const char *state, bool of_datatype);
/* Asks for the next description; false: it was not sent. Stack: parameters from 3 on. */
bool pg_stale_ask(lua_State *L, struct pg_statement *st);
/* A description has come: ask for the next one, or the answer. YES: the entry begins anew. CANCELLED: the
 * statement's error is that of the cancel, or of the interrupt. */
enum pg_stale pg_stale_take(struct pg_statement *st);

#endif
