/*
 * What libpq reports, as the error value: SQLSTATE, position, hint and so on.
 * SQLSTATE classes: appendix A of the PostgreSQL manual.
 */
#ifndef DBRUN_PG_ERRORS_H
#define DBRUN_PG_ERRORS_H

#include "base/error.h"

#include <libpq-fe.h>

/* From an error result. `outcome` of a lost connection is left to the caller, who knows what was sent. */
void pg_error_from_result(struct error *e, const PGresult *r, const char *sql);
/* From a connection that libpq has given up. `outcome` as above. */
void pg_error_from_loss(struct error *e, const PGconn *conn);
/* From an error that libpq made itself because it does not understand the server. `outcome` as above. */
void pg_error_from_nonsense(struct error *e, const PGresult *r);
/* Of a connection that is gone: which one, and why (the first line counts). */
void pg_error_lost(struct error *e, const char *what, const char *why);
/* From a connect that failed; the message of libpq never carries a connection string here. `target` is
 * the host and port as the user knows them. The connection must have been in verbose mode. */
void pg_error_from_connect(struct error *e, const PGconn *conn, const char *target);
/* FATAL and PANIC are the last that a server says. */
bool pg_error_ends_session(const PGresult *r);
/* Does this SQLSTATE mean that the connection is gone? (57P01, 57P02, 57P03, class 08) */
bool pg_sqlstate_is_disconnect(const char *sqlstate);

#endif
