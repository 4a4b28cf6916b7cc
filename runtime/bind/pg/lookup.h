/*
 * Types of the database's own (enums, domains, composites, arrays of them) are looked up before the values of
 * a result are read, on the connection that it came from: pg_lookup_needed, pg_lookup_send, wait,
 * pg_lookup_done.
 */
#ifndef DBRUN_BIND_PG_LOOKUP_H
#define DBRUN_BIND_PG_LOOKUP_H

#include "bind/pg/link.h"

/* Have the results columns of types that the catalog must be asked about (and can it be, now)? */
bool pg_lookup_needed(const struct pg_link *link, PGresult *const *list, size_t n);
/* Asks; then step the machine to its end. False: m.error says why not. */
bool pg_lookup_send(struct pg_link *link, PGresult *const *results, size_t n);
/* The answer has come, or an error. Where the catalog is closed to the role, values of such types stay text,
 * always; any other failure is an error (false), for the same statement must not give this today and that
 * tomorrow. */
bool pg_lookup_done(struct pg_link *link, struct error *err);
/* Adds to that error that the statement itself has run. */
void pg_lookup_tell(struct pg_link *link, struct error *err);

#endif
