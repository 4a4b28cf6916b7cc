/*
 * Makes the error value (SQLSTATE, position, hint and so on) from what libpq reports. SQLSTATE classes:
 * appendix A of the PostgreSQL manual.
 */
#ifndef DBRUN_PG_ERRORS_H
#define DBRUN_PG_ERRORS_H

#include "base/error.h"
#include "pg/libpq.h"

/* Makes the error from an error result. When the connection is lost, the caller sets `outcome`, because it
 * knows what was sent. */
void pg_error_from_result(struct error *e, const PGresult *r, const char *sql);
/* Adds to the context that not a statement but the COMMIT of a group of `n` statements failed. */
void pg_error_of_commit(struct error *e, size_t n);
/* Makes the error from a connection that libpq has closed. `outcome` as above. */
void pg_error_from_loss(struct error *e, const PGconn *conn);
/* Makes the error from an error that libpq made because it cannot read what the server sent. `outcome` as
 * above. */
void pg_error_from_nonsense(struct error *e, const PGresult *r);
/* A lost connection: `what` names it, `why` gives the reason (only its first line is used). */
void pg_error_lost(struct error *e, const char *what, const char *why);
/* How a connection ended on which nothing was in flight. */
struct pg_end {
    struct error words; /* what the server said, if it said anything */
    bool inside;        /* a transaction was open */
};
/* A lost connection on which nothing, or only a part (`part`), was sent. `end` can be NULL. Also sets the
 * outcome. */
void pg_error_not_sent(struct error *e, bool part, const struct pg_end *end);
/* A deadline passed: of command_timeout, "`what` within ... s", or of a transaction (`what` is NULL). The
 * caller sets the outcome. */
void pg_error_late(struct error *e, const char *what, double seconds);
/* Makes the error from a failed connect. `target` is the host and port as the user knows them. The connection
 * must have been in verbose mode. libpq's message never contains the connection string here. */
void pg_error_from_connect(struct error *e, const PGconn *conn, const char *target);
/* The hint of 25006, unless more is known (pg_link_note_read_only). */
#define PG_READ_ONLY_HINT                                                                                    \
    "This server or session is read-only (a standby, default_transaction_read_only, dbrun --read-only): "    \
    "connect to the primary, for example with target_session_attrs=read-write in DATABASE_URL."
/* True for FATAL or PANIC, after which the server closes the connection. */
bool pg_error_ends_session(const PGresult *r);
/* True when this SQLSTATE means that the connection is lost (57P01, 57P02, 57P03, class 08 without 08P01). */
bool pg_sqlstate_is_disconnect(const char *sqlstate);

#endif
