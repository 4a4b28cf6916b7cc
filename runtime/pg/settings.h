/*
 * The settings of a session that the form of values depends on.
 *
 * DateStyle is reported by the server: its output style must be ISO; the order of day and month in input is
 * the user's. extra_float_digits (how many digits of a float come as text) and array_nulls (is NULL in an
 * array's text a null?) are not reported: they go into the startup message, so that they are the session's
 * defaults, and are put back after a statement that names them. client_encoding must be UTF8. bytea_output,
 * IntervalStyle and TimeZone may be anything: each form is read.
 */
#ifndef DBRUN_PG_SETTINGS_H
#define DBRUN_PG_SETTINGS_H

#include "pg/libpq.h"

#include <stdbool.h>
#include <stddef.h>

/* For `options` in the startup message. */
#define PG_SETTINGS_OPTIONS "-c extra_float_digits=3 -c array_nulls=on"

enum { PG_SETTINGS_SQL = 200 };

/* Were PG_SETTINGS_OPTIONS sent, and did a server get them? A pooler may drop options without a word; its
 * number for the backend is random, and then no process can have it. */
bool pg_settings_at_startup(const PGconn *conn);

/* Is the server's text not UTF-8? False when it does not say. */
bool pg_settings_other_encoding(const PGconn *conn);

/* Writes the statements that put back what is wrong; "" when nothing is. `unreported`: also what the server
 * does not report. `local`: until the end of the transaction. */
void pg_settings_mend(const PGconn *conn, bool unreported, bool local, char sql[PG_SETTINGS_SQL]);

/* Does the text name a setting that is not reported? `all`: or reset everything? */
bool pg_settings_named(const char *sql, size_t len, bool all);

#endif
