/* Statements in the trace (--trace). There must be a trace. */
#ifndef DBRUN_BIND_PG_STATEMENT_TRACE_H
#define DBRUN_BIND_PG_STATEMENT_TRACE_H

#include "bind/pg/statement.h"

void pg_trace_begin(struct pg_statement *st);
/* It has a connection; `parked`: its task has waited for it. */
void pg_trace_waited(lua_State *L, struct pg_statement *st, bool parked);
/* It has ended as st->result or st->error says. */
void pg_trace_statement(lua_State *L, struct pg_statement *st);
void pg_trace_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome);

#endif
