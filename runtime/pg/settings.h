/*
 * The session settings on which the form of values depends.
 *
 * DateStyle is reported by the server: its output style must be ISO; the user may choose the order of day and
 * month in input. extra_float_digits (the digits of a float in text) and array_nulls (whether NULL in an
 * array's text means null) are not reported: the startup message makes them the session's defaults, and they
 * are restored after a statement that names them. client_encoding must be UTF8. bytea_output, IntervalStyle
 * and TimeZone can have any value: every form is read.
 */
#ifndef DBRUN_PG_SETTINGS_H
#define DBRUN_PG_SETTINGS_H

#include "pg/libpq.h"

#include <stdbool.h>
#include <stddef.h>

/* For `options` in the startup message. */
#define PG_SETTINGS_OPTIONS "-c extra_float_digits=3 -c array_nulls=on"

enum { PG_SETTINGS_SQL = 200 };

/* True when PG_SETTINGS_OPTIONS were sent and reached a server. A pooler may silently drop options; it is
 * recognised by its random backend number, which mostly is too large for a process number. */
bool pg_settings_at_startup(const PGconn *conn);

/* True when the server's text is not UTF-8. False when the server does not report its encoding. */
bool pg_settings_other_encoding(const PGconn *conn);

/* Writes the statements that restore wrong settings; "" when none is wrong. `unreported`: also restores
 * settings that the server does not report. `local`: only until the end of the transaction. */
void pg_settings_mend(const PGconn *conn, bool unreported, bool local, char sql[PG_SETTINGS_SQL]);

/* True when the text names a setting that is not reported; with `all` also when it resets all settings. */
bool pg_settings_named(const char *sql, size_t len, bool all);

#endif
