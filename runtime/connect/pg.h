/*
 * Connecting to PostgreSQL: blocking, with a deadline. Runs on a worker thread, because libpq resolves names
 * and derives SCRAM keys without a time limit.
 */
#ifndef DBRUN_CONNECT_PG_H
#define DBRUN_CONNECT_PG_H

#include "base/error.h"
#include "io/poll.h"
#include "pg/libpq.h"

/* `keywords`/`values`: NULL-terminated, as PQconnectStartParams takes them; `target`: host and port for
 * messages. NULL on failure, with `err` set (field `layer` says how far the connect came). The connection is
 * non-blocking, and its session has the settings of pg/settings.h. */
PGconn *connect_pg(const char *const *keywords, const char *const *values, const char *target,
                   uint64_t deadline, const struct io_interrupt *intr, struct error *err);
/* The same for one of several connections: `*plain` is 0 at first, and 1 once a pooler refused options.
 * Several threads can share it. */
PGconn *connect_pg_again(const char *const *keywords, const char *const *values, const char *target,
                         uint64_t deadline, const struct io_interrupt *intr, int *plain, struct error *err);

/* Runs one statement on such a connection; NULL with `err` set when it fails. Only for rows with four
 * columns. */
PGresult *connect_pg_ask(PGconn *conn, const char *sql, uint64_t deadline, struct error *err);

#endif
