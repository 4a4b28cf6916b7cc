/*
 * Checks whether a text fits the description of its type. Another program may have altered the fields of a
 * composite type since they were looked up: then the text has another number of fields, or fields of other
 * types. A change that the text does not show (a renamed field) is not noticed.
 */
#ifndef DBRUN_PG_SHAPE_H
#define DBRUN_PG_SHAPE_H

#include "pg/types.h"

/* True also for a text that is malformed in another way: the decoder says so. */
bool pg_shape_fits(const struct pg_catalog *c, Oid type, const char *text, size_t len);

/* True when a column has a type with fields, or an array of such a type. */
bool pg_shape_has_fields(const struct pg_catalog *c, const PGresult *r);
/* True when a text column of the result has a value that does not fit. Looks at the first thousand rows. */
bool pg_shape_is_wrong(const struct pg_catalog *c, const PGresult *r);

#endif
