/*
 * Which statement of an SQL text ends the transaction that it runs in. The server tells it too, by the
 * command tag; but then it has happened.
 */
#ifndef DBRUN_PG_TX_TEXT_H
#define DBRUN_PG_TX_TEXT_H

/* The first statement that is COMMIT, END, ROLLBACK (but not TO a savepoint), ABORT or PREPARE TRANSACTION;
 * NULL when there is none. What stands in strings, comments, brackets and the bodies of routines does not
 * count. */
const char *sql_transaction_end(const char *sql);

#endif
