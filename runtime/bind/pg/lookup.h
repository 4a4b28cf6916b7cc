/*
 * Types that are not built in (enums, domains, composites, arrays of them) are looked up in the catalog
 * before the values of a result are read, on the connection of the result: pg_lookup_needed, pg_lookup_send,
 * wait, pg_lookup_done.
 */
#ifndef DBRUN_BIND_PG_LOOKUP_H
#define DBRUN_BIND_PG_LOOKUP_H

#include "bind/pg/link.h"

/* True when a column has a type that was not looked up yet. */
bool pg_lookup_is_unknown(const struct pg_engine *e, const PGresult *r);
/* True when the results have columns of types that must be looked up, and this is possible now. Includes
 * types that were looked up before but do not fit a value. */
bool pg_lookup_needed(const struct pg_link *link, PGresult *const *list, size_t n);
/* The same for the columns of rows that will come one by one. Once they come it is too late for a lookup, so
 * composite types are looked up each time. */
bool pg_lookup_needed_for_rows(const struct pg_link *link, PGresult *description);
/* Sends the lookup; step the machine to its end afterwards. False: not sent, m.error says why. */
bool pg_lookup_send(struct pg_link *link, PGresult *const *results, size_t n);
/* The same for an array of OIDs as text: "{1,2}". */
bool pg_lookup_send_list(struct pg_link *link, const char *oids);
/* Takes the answer or the error. When the catalog refuses (SQLSTATE 42xxx: the role has no rights on it)
 * outside a transaction, values of such types stay text from now on. Any other failure sets `err` and returns
 * false: the same statement must not return a text once and a table the next time. */
bool pg_lookup_done(struct pg_link *link, struct error *err);
/* Adds to the error of the lookup that the statement itself has run. */
void pg_lookup_tell(struct pg_link *link, struct error *err);

#endif
