/* Completes the error of a failed statement, and decides whether the statement may run again. */
#ifndef DBRUN_BIND_PG_RECOVERY_H
#define DBRUN_BIND_PG_RECOVERY_H

#include "bind/pg/statement.h"

/* May the failed statement run again without asking the script? Only outside of a transaction, once, and when
 * the server had lost the prepared statement or its columns have changed. Then the entry begins anew, or the
 * engine's cache is off when it is the server that loses statements. */
bool pg_statement_may_run_again(struct pg_statement *st, struct pg_cached *entry);
/* May a failed batch run again, all of it and without names? Only when nothing of it has stayed, and when it
 * failed at a statement that had been prepared before: the server has lost it, its columns have changed, or
 * the error is one that a change of its types may cause (stale.h). `sql`: the statement that failed, or NULL.
 * Completes m->error when it may not. */
bool pg_batch_may_run_again(struct pg_engine *engine, struct pg_machine *m, const char *sql);
/* Is the cause a prepared statement of the connection, and not the statement itself? */
bool pg_statement_is_of_cache(const struct error *e);
/* What became of a statement for whose end nobody waits any more. */
enum error_outcome pg_statement_unfinished(const struct pg_statement *st, const char *sql);
/* Adds what the machine does not know: the SQL, and the outcome of a lost or given up statement. */
void pg_statement_complete_error(struct pg_statement *st, const char *sql);

#endif
