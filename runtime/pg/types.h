/*
 * Which Lua value each PostgreSQL type becomes, and whether it is read in binary. Built-in types are in a
 * table (their OIDs are fixed: src/include/catalog/pg_type.dat); other types (enums, domains, composites,
 * types of extensions) are looked up in the database's catalog and kept.
 */
#ifndef DBRUN_PG_TYPES_H
#define DBRUN_PG_TYPES_H

#include "pg/libpq.h"

#include <stdbool.h>

enum pg_kind {
    PG_KIND_TEXT, /* any other type: the server's text */
    PG_KIND_BOOL,
    PG_KIND_INT2,
    PG_KIND_INT4,
    PG_KIND_INT8,
    PG_KIND_OID,
    PG_KIND_FLOAT4,
    PG_KIND_FLOAT8,
    PG_KIND_NUMERIC,
    PG_KIND_BYTEA,
    PG_KIND_DATE,
    PG_KIND_TIME,
    PG_KIND_TIMESTAMP,
    PG_KIND_TIMESTAMPTZ,
    PG_KIND_INTERVAL,
    PG_KIND_JSON,
    PG_KIND_JSONB,
    PG_KIND_ARRAY,
    PG_KIND_COMPOSITE,
    PG_KIND_RANGE,
    PG_KIND_MULTIRANGE,
    PG_KIND_HSTORE,
    PG_KIND_VECTOR,
};

struct pg_field {
    char *name;
    Oid type;
};

struct pg_type {
    Oid oid;
    enum pg_kind kind;
    bool binary; /* can be read in binary */
    const char *name;
    Oid elem;                      /* array: the elements; range: the bounds; multirange: the ranges */
    char delim;                    /* between array elements; 0 = ',' */
    const struct pg_field *fields; /* of a composite type */
    int nfields;
};

/* The types of one database that are not built in. */
struct pg_catalog;

struct pg_catalog *pg_catalog_new(void);
void pg_catalog_free(struct pg_catalog *c);
/* True when the answer to pg_catalog_sql has the columns that pg_catalog_load reads. */
bool pg_catalog_is_answer(const PGresult *r);
/* Reads the answer to pg_catalog_sql. False when out of memory. Types that pg_type_of has returned stay
 * valid. */
bool pg_catalog_load(struct pg_catalog *c, const PGresult *r);
/* Takes one parameter: an array of OIDs as text. Returns these types and all types that they contain. */
extern const char pg_catalog_sql[];

/* Never NULL: an unknown type is text, with the name "". `c` may be NULL. */
const struct pg_type *pg_type_of(const struct pg_catalog *c, Oid oid);
/* False also for a composite type (or one that contains it) that must be looked up again, because its fields
 * may have changed. */
bool pg_type_is_known(struct pg_catalog *c, Oid oid);
/* Makes all composite types unknown, because their fields may have changed: they are looked up again. */
void pg_catalog_expire(struct pg_catalog *c);
/* True when the types of all columns are built in. */
bool pg_types_all_builtin(const PGresult *r);
/* True when every column of this result (or description) can be read in binary. */
bool pg_types_all_binary(const struct pg_catalog *c, const PGresult *r);

#endif
