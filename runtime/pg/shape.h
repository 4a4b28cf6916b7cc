/*
 * Does a text fit the description of its type? The fields of a composite type may have been altered by
 * another program since they were looked up: then the text has another number of fields, or fields of other
 * types. What the text does not show (a field that was renamed) is not noticed.
 */
#ifndef DBRUN_PG_SHAPE_H
#define DBRUN_PG_SHAPE_H

#include "pg/types.h"

/* True also for a text that is malformed in another way: the decoder says so. */
bool pg_shape_fits(const struct pg_catalog *c, Oid type, const char *text, size_t len);

/* Does a column have a type with fields, or is an array of one? */
bool pg_shape_has_fields(const struct pg_catalog *c, const PGresult *r);
/* Does a text column of the result have a value that does not fit? Looks at the first thousand rows. */
bool pg_shape_is_wrong(const struct pg_catalog *c, const PGresult *r);

#endif
