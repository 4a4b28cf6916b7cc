/* Statements in the log (--log debug) and in the trace (--trace): what ran, for how long, with how many rows,
 * from which line of the script. */
#ifndef DBRUN_BIND_PG_STATEMENT_LOG_H
#define DBRUN_BIND_PG_STATEMENT_LOG_H

#include "bind/pg/statement.h"

/* True when statements are logged or traced. */
static inline bool pg_statement_is_told(const struct runtime *rt)
{
    return log_wants(rt->log, LOG_LEVEL_DEBUG) || rt->trace;
}

/* Call it when the statement begins. */
void pg_log_begun(struct pg_statement *st);
/* Logs the end of the statement at stack index 2, with st->result or st->error. Does nothing for a statement
 * that began unlogged. Does not raise. */
void pg_log_statement(lua_State *L, struct pg_statement *st);
/* The same for a statement that was cancelled. `outcome`: whether it was sent. */
void pg_log_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome);
/* Records that the statement has its connection; `parked`: its task has waited for the connection. */
void pg_log_waited(lua_State *L, struct pg_statement *st, bool parked);

#endif
