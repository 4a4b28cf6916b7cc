/*
 * The type table: what each PostgreSQL type is for a script, and whether its binary form is read here.
 * OIDs are those of src/include/catalog/pg_type.dat: fixed for built-in types.
 */
#ifndef DBRUN_PG_TYPES_H
#define DBRUN_PG_TYPES_H

#include <libpq-fe.h>
#include <stdbool.h>

enum pg_kind {
    PG_KIND_TEXT, /* whatever has no better form: the server's text */
    PG_KIND_BOOL,
    PG_KIND_INT2,
    PG_KIND_INT4,
    PG_KIND_INT8,
    PG_KIND_OID,
    PG_KIND_FLOAT4,
    PG_KIND_FLOAT8,
    PG_KIND_BYTEA,
    PG_KIND_DATE,
    PG_KIND_TIME,
    PG_KIND_TIMESTAMP,
    PG_KIND_TIMESTAMPTZ,
    PG_KIND_JSON,
    PG_KIND_JSONB,
};

struct pg_type {
    Oid oid;
    enum pg_kind kind;
    bool binary; /* the binary form is understood */
    const char *name;
};

/* Never NULL: an unknown type is text, with the name "". */
const struct pg_type *pg_type_of(Oid oid);
/* Can every column of this result (or description) be read in binary? */
bool pg_types_all_binary(const PGresult *r);

#endif
