/*
 * Finds the statement of an SQL text that ends the transaction around it. The server's command tag says it
 * too, but only afterwards.
 */
#ifndef DBRUN_PG_TX_TEXT_H
#define DBRUN_PG_TX_TEXT_H

/* The first statement that is COMMIT, END, ROLLBACK (but not TO a savepoint), ABORT or PREPARE TRANSACTION;
 * NULL when there is none. Ignores strings, comments, brackets and the bodies of routines. */
const char *sql_transaction_end(const char *sql);

#endif
