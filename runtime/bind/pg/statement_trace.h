/* Statements in the trace (--trace). There must be a trace. */
#ifndef DBRUN_BIND_PG_STATEMENT_TRACE_H
#define DBRUN_BIND_PG_STATEMENT_TRACE_H

#include "bind/pg/statement.h"

void pg_trace_begin(struct pg_statement *st);
/* Records that the statement has its connection; `parked`: its task has waited for the connection. */
void pg_trace_waited(lua_State *L, struct pg_statement *st, bool parked);
/* Records the end of the statement, with st->result or st->error. */
void pg_trace_statement(lua_State *L, struct pg_statement *st);
void pg_trace_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome);

#endif
