/*
 * Does a new session have the settings that were asked for? A pooler may drop them without a word (PgBouncer
 * with ignore_startup_parameters = options). They cannot be set behind it: with the next transaction the
 * session may be another one.
 */
#ifndef DBRUN_CONNECT_ASKED_H
#define DBRUN_CONNECT_ASKED_H

#include "base/error.h"
#include "pg/libpq.h"

#include <stdbool.h>
#include <stdint.h>

/* `sql`: two statements that answer with rows (name, present value, value asked for, backend's process); the
 * second one is for a server that refuses the first. False with `err` set when a value is not the one asked
 * for. */
bool connect_pg_asked(PGconn *conn, char *const sql[2], const char *target, uint64_t deadline,
                      struct error *err);

#endif
