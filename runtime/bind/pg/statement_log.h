/* Statements in the log (--log debug) and in the trace (--trace): what ran, how long, how many rows, from
 * which line of the script. */
#ifndef DBRUN_BIND_PG_STATEMENT_LOG_H
#define DBRUN_BIND_PG_STATEMENT_LOG_H

#include "bind/pg/statement.h"

/* Does anybody want to know? */
static inline bool pg_statement_is_told(const struct runtime *rt)
{
    return log_wants(rt->log, LOG_LEVEL_DEBUG) || rt->trace;
}

/* The statement begins. */
void pg_log_begun(struct pg_statement *st);
/* The statement at stack index 2 has ended: st->result or st->error says how. Nothing when it did not begin
 * while the log wanted it. Does not raise. */
void pg_log_statement(lua_State *L, struct pg_statement *st);
/* The same for a statement that was cancelled. `outcome`: whether it was sent. */
void pg_log_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome);
/* The statement has a connection; `parked`: its task has waited for it. */
void pg_log_waited(lua_State *L, struct pg_statement *st, bool parked);

#endif
