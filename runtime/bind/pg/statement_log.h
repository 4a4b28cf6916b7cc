/* Statements in the log (--log debug): what ran, how long, how many rows, from which line of the script. */
#ifndef DBRUN_BIND_PG_STATEMENT_LOG_H
#define DBRUN_BIND_PG_STATEMENT_LOG_H

#include "bind/pg/statement.h"

/* The statement at stack index 2 has ended: st->result or st->error says how. Nothing when it did not begin
 * while the log wanted it. Does not raise. */
void pg_log_statement(lua_State *L, struct pg_statement *st);
/* The same for a statement that was cancelled. */
void pg_log_cancelled(lua_State *L, struct pg_statement *st);
/* The statement has waited for a connection, and has one. */
void pg_log_waited(lua_State *L, struct pg_statement *st);

#endif
