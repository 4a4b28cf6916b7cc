#include "pg/types.h"

#include <stddef.h>

/* Sorted by OID. */
static const struct pg_type types[] = {
    {16, PG_KIND_BOOL, true, "bool"},
    {17, PG_KIND_BYTEA, true, "bytea"},
    {18, PG_KIND_TEXT, true, "char"},
    {19, PG_KIND_TEXT, true, "name"},
    {20, PG_KIND_INT8, true, "int8"},
    {21, PG_KIND_INT2, true, "int2"},
    {23, PG_KIND_INT4, true, "int4"},
    {25, PG_KIND_TEXT, true, "text"},
    {26, PG_KIND_OID, true, "oid"},
    {114, PG_KIND_JSON, true, "json"},
    {142, PG_KIND_TEXT, true, "xml"},
    {650, PG_KIND_TEXT, false, "cidr"},
    {700, PG_KIND_FLOAT4, true, "float4"},
    {701, PG_KIND_FLOAT8, true, "float8"},
    {790, PG_KIND_TEXT, false, "money"},
    {829, PG_KIND_TEXT, false, "macaddr"},
    {869, PG_KIND_TEXT, false, "inet"},
    {1042, PG_KIND_TEXT, true, "bpchar"},
    {1043, PG_KIND_TEXT, true, "varchar"},
    {1082, PG_KIND_DATE, true, "date"},
    {1083, PG_KIND_TIME, true, "time"},
    {1114, PG_KIND_TIMESTAMP, true, "timestamp"},
    {1184, PG_KIND_TIMESTAMPTZ, true, "timestamptz"},
    {1186, PG_KIND_TEXT, false, "interval"},
    {1266, PG_KIND_TEXT, false, "timetz"},
    {1560, PG_KIND_TEXT, false, "bit"},
    {1562, PG_KIND_TEXT, false, "varbit"},
    {1700, PG_KIND_TEXT, false, "numeric"},
    {2950, PG_KIND_TEXT, false, "uuid"},
    {3802, PG_KIND_JSONB, true, "jsonb"},
};

static const struct pg_type unknown = {0, PG_KIND_TEXT, false, ""};

const struct pg_type *pg_type_of(Oid oid)
{
    size_t low = 0;
    size_t high = sizeof types / sizeof *types;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (types[mid].oid == oid)
            return &types[mid];
        if (types[mid].oid < oid)
            low = mid + 1;
        else
            high = mid;
    }
    return &unknown;
}

bool pg_types_all_binary(const PGresult *r)
{
    int n = PQnfields(r);
    for (int i = 0; i < n; i++)
        if (!pg_type_of(PQftype(r, i))->binary)
            return false;
    return true;
}
