/*
 * What each PostgreSQL type is for a script, and whether its binary form is read here. Built-in types are a
 * table (their OIDs are fixed: src/include/catalog/pg_type.dat); enums, domains, composites and what else a
 * database has of its own come from its catalog, looked up once and kept.
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
    PG_KIND_NUMERIC,
    PG_KIND_BYTEA,
    PG_KIND_DATE,
    PG_KIND_TIME,
    PG_KIND_TIMESTAMP,
    PG_KIND_TIMESTAMPTZ,
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
    bool binary; /* the binary form is understood */
    const char *name;
    Oid elem;                      /* of an array, its elements; of a range or multirange, its bounds */
    char delim;                    /* between array elements; 0 = ',' */
    const struct pg_field *fields; /* of a composite */
    int nfields;
};

/* The types of one database, beyond the built-in ones. */
struct pg_catalog;

struct pg_catalog *pg_catalog_new(void);
void pg_catalog_free(struct pg_catalog *c);
/* Reads the answer to pg_catalog_sql. False when memory is out. The types given so far stay readable. */
bool pg_catalog_load(struct pg_catalog *c, const PGresult *r);
/* Takes one parameter: an array of OIDs as text. Gives those types and all that they are made of. */
extern const char pg_catalog_sql[];

/* Never NULL: a type that nobody knows is text, with the name "". `c` may be NULL. */
const struct pg_type *pg_type_of(const struct pg_catalog *c, Oid oid);
/* False also for what has to be asked for again: composites, after a while. */
bool pg_type_is_known(const struct pg_catalog *c, Oid oid);
/* The fields of composites may have changed. */
void pg_catalog_expire(struct pg_catalog *c);
/* Is none of the database's own? */
bool pg_types_all_builtin(const PGresult *r);
/* Can every column of this result (or description) be read in binary? */
bool pg_types_all_binary(const struct pg_catalog *c, const PGresult *r);

#endif
