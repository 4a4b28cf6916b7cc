/*
 * Checks that a new session has the requested settings. A pooler may silently drop them (PgBouncer with
 * ignore_startup_parameters = options). They cannot be set through it later, because the next transaction may
 * get another session.
 */
#ifndef DBRUN_CONNECT_ASKED_H
#define DBRUN_CONNECT_ASKED_H

#include "base/error.h"
#include "pg/libpq.h"

#include <stdbool.h>
#include <stdint.h>

/* `sql`: two statements that return rows (name, present value, requested value, backend's process); the
 * second is for a server that refuses the first. False with `err` set when a value is not the requested
 * one. */
bool connect_pg_asked(PGconn *conn, char *const sql[2], const char *target, uint64_t deadline,
                      struct error *err);

#endif
