/* Completes the error of a failed statement, and decides whether the statement may run again. */
#ifndef DBRUN_BIND_PG_RECOVERY_H
#define DBRUN_BIND_PG_RECOVERY_H

#include "bind/pg/statement.h"

/* True when the failed statement may run again without asking the script: outside a transaction, once, and
 * only when the server had lost the prepared statement or its columns have changed. Renews the entry then, or
 * switches the engine's cache off if the server loses statements. */
bool pg_statement_may_run_again(struct pg_statement *st, struct pg_cached *entry);
/* True when a whole failed batch may run again, without names: only when all of it was undone, and when it
 * failed at a statement that had been prepared before: the server has lost this statement, its columns have
 * changed, or a change of its types may have caused the error (stale.h). `sql`: the statement that failed, or
 * NULL. When false, completes m->error. */
bool pg_batch_may_run_again(struct pg_engine *engine, struct pg_machine *m, const char *sql);
/* True when a prepared statement of the connection caused the error, and not the statement itself. */
bool pg_statement_is_of_cache(const struct error *e);
/* The outcome of a statement for whose end no task waits any more. */
enum error_outcome pg_statement_unfinished(const struct pg_statement *st, const char *sql);
/* Adds what the machine does not know: the SQL, and the outcome of a lost or abandoned statement. */
void pg_statement_complete_error(struct pg_statement *st, const char *sql);

#endif
