/* What the failure of a statement means, and what can be done about it without asking the script. */
#ifndef DBRUN_BIND_PG_RECOVERY_H
#define DBRUN_BIND_PG_RECOVERY_H

#include "bind/pg/statement.h"

/* May the statement that failed be run once more, by itself? Only when the server had forgotten the prepared
 * one or its columns have changed, and nothing else hangs on it. */
bool pg_statement_may_run_again(struct pg_statement *st, struct pg_cached *entry);
/* Did it fail for what a connection keeps between statements, not for the statement itself? */
bool pg_statement_is_of_cache(const struct error *e);
/* Fills in what only the caller of the machine knows: the SQL, and whether lost work was lost. */
void pg_statement_complete_error(struct pg_statement *st, const char *sql);

#endif
