/*
 * Parameters as other libraries write them: ?, %s, %(name)s, @p1, $name, :1. The server refuses them with an
 * error that says nothing about parameters. A `?` between two operands is the operator of jsonb.
 */
#ifndef DBRUN_PG_PLACEHOLDER_H
#define DBRUN_PG_PLACEHOLDER_H

#include "base/error.h"

#include <stddef.h>

/* What a text has in the place of a value. */
enum pg_placeholder {
    PG_PLACE_NONE,
    PG_PLACE_FOREIGN, /* a parameter in the notation of another library */
    PG_PLACE_NAMED,   /* :name, a parameter only when a table of values is given */
    PG_PLACE_ATTACHED /* word:name, no parameter, because of slices ([a:b]) */
};

/* Finds the first one outside strings, quoted identifiers and comments; writes it, shortened, to `out`. */
enum pg_placeholder pg_placeholder_find(const char *sql, size_t len, char *out, size_t size);
/* Writes the hint for what was found; PG_PLACE_HINT bytes are enough for each hint. */
enum { PG_PLACE_HINT = 192 };
void pg_placeholder_hint(enum pg_placeholder kind, const char *found, char *out, size_t size);

/* Sets the statement of an error, and adds the hint when the server may have refused such a parameter. */
void pg_error_of_statement(struct error *e, const char *sql);

#endif
