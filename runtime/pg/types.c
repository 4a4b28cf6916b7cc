#include "pg/types.h"

#include "base/deadline.h"
#include "base/number.h"

#include <stdlib.h>
#include <string.h>

/* Sorted by OID. (The type "char" is not read in binary, because its NUL byte is an empty text.) */
static const struct pg_type builtin[] = {
    {16, PG_KIND_BOOL, true, "bool", 0, 0, NULL, 0},
    {17, PG_KIND_BYTEA, true, "bytea", 0, 0, NULL, 0},
    {18, PG_KIND_TEXT, false, "char", 0, 0, NULL, 0},
    {19, PG_KIND_TEXT, true, "name", 0, 0, NULL, 0},
    {20, PG_KIND_INT8, true, "int8", 0, 0, NULL, 0},
    {21, PG_KIND_INT2, true, "int2", 0, 0, NULL, 0},
    {22, PG_KIND_TEXT, false, "int2vector", 0, 0, NULL, 0},
    {23, PG_KIND_INT4, true, "int4", 0, 0, NULL, 0},
    {24, PG_KIND_TEXT, false, "regproc", 0, 0, NULL, 0},
    {25, PG_KIND_TEXT, true, "text", 0, 0, NULL, 0},
    {26, PG_KIND_OID, true, "oid", 0, 0, NULL, 0},
    {27, PG_KIND_TEXT, false, "tid", 0, 0, NULL, 0},
    {28, PG_KIND_TEXT, false, "xid", 0, 0, NULL, 0},
    {29, PG_KIND_TEXT, false, "cid", 0, 0, NULL, 0},
    {30, PG_KIND_TEXT, false, "oidvector", 0, 0, NULL, 0},
    {114, PG_KIND_JSON, true, "json", 0, 0, NULL, 0},
    {142, PG_KIND_TEXT, true, "xml", 0, 0, NULL, 0},
    {143, PG_KIND_ARRAY, true, "_xml", 142, 0, NULL, 0},
    {194, PG_KIND_TEXT, false, "pg_node_tree", 0, 0, NULL, 0},
    {199, PG_KIND_ARRAY, true, "_json", 114, 0, NULL, 0},
    {600, PG_KIND_TEXT, false, "point", 0, 0, NULL, 0},
    {601, PG_KIND_TEXT, false, "lseg", 0, 0, NULL, 0},
    {602, PG_KIND_TEXT, false, "path", 0, 0, NULL, 0},
    {603, PG_KIND_TEXT, false, "box", 0, 0, NULL, 0},
    {604, PG_KIND_TEXT, false, "polygon", 0, 0, NULL, 0},
    {628, PG_KIND_TEXT, false, "line", 0, 0, NULL, 0},
    {629, PG_KIND_ARRAY, false, "_line", 628, 0, NULL, 0},
    {650, PG_KIND_TEXT, false, "cidr", 0, 0, NULL, 0},
    {651, PG_KIND_ARRAY, false, "_cidr", 650, 0, NULL, 0},
    {700, PG_KIND_FLOAT4, true, "float4", 0, 0, NULL, 0},
    {701, PG_KIND_FLOAT8, true, "float8", 0, 0, NULL, 0},
    {705, PG_KIND_TEXT, true, "unknown", 0, 0, NULL, 0},
    {718, PG_KIND_TEXT, false, "circle", 0, 0, NULL, 0},
    {719, PG_KIND_ARRAY, false, "_circle", 718, 0, NULL, 0},
    {774, PG_KIND_TEXT, false, "macaddr8", 0, 0, NULL, 0},
    {775, PG_KIND_ARRAY, false, "_macaddr8", 774, 0, NULL, 0},
    {790, PG_KIND_TEXT, false, "money", 0, 0, NULL, 0},
    {791, PG_KIND_ARRAY, false, "_money", 790, 0, NULL, 0},
    {829, PG_KIND_TEXT, false, "macaddr", 0, 0, NULL, 0},
    {869, PG_KIND_TEXT, false, "inet", 0, 0, NULL, 0},
    {1000, PG_KIND_ARRAY, true, "_bool", 16, 0, NULL, 0},
    {1001, PG_KIND_ARRAY, true, "_bytea", 17, 0, NULL, 0},
    {1002, PG_KIND_ARRAY, false, "_char", 18, 0, NULL, 0},
    {1003, PG_KIND_ARRAY, true, "_name", 19, 0, NULL, 0},
    {1005, PG_KIND_ARRAY, true, "_int2", 21, 0, NULL, 0},
    {1007, PG_KIND_ARRAY, true, "_int4", 23, 0, NULL, 0},
    {1008, PG_KIND_ARRAY, false, "_regproc", 24, 0, NULL, 0},
    {1009, PG_KIND_ARRAY, true, "_text", 25, 0, NULL, 0},
    {1014, PG_KIND_ARRAY, true, "_bpchar", 1042, 0, NULL, 0},
    {1015, PG_KIND_ARRAY, true, "_varchar", 1043, 0, NULL, 0},
    {1016, PG_KIND_ARRAY, true, "_int8", 20, 0, NULL, 0},
    {1017, PG_KIND_ARRAY, false, "_point", 600, 0, NULL, 0},
    {1018, PG_KIND_ARRAY, false, "_lseg", 601, 0, NULL, 0},
    {1019, PG_KIND_ARRAY, false, "_path", 602, 0, NULL, 0},
    {1020, PG_KIND_ARRAY, false, "_box", 603, ';', NULL, 0},
    {1021, PG_KIND_ARRAY, true, "_float4", 700, 0, NULL, 0},
    {1022, PG_KIND_ARRAY, true, "_float8", 701, 0, NULL, 0},
    {1027, PG_KIND_ARRAY, false, "_polygon", 604, 0, NULL, 0},
    {1028, PG_KIND_ARRAY, true, "_oid", 26, 0, NULL, 0},
    {1033, PG_KIND_TEXT, false, "aclitem", 0, 0, NULL, 0},
    {1034, PG_KIND_ARRAY, false, "_aclitem", 1033, 0, NULL, 0},
    {1040, PG_KIND_ARRAY, false, "_macaddr", 829, 0, NULL, 0},
    {1041, PG_KIND_ARRAY, false, "_inet", 869, 0, NULL, 0},
    {1042, PG_KIND_TEXT, true, "bpchar", 0, 0, NULL, 0},
    {1043, PG_KIND_TEXT, true, "varchar", 0, 0, NULL, 0},
    {1082, PG_KIND_DATE, true, "date", 0, 0, NULL, 0},
    {1083, PG_KIND_TIME, true, "time", 0, 0, NULL, 0},
    {1114, PG_KIND_TIMESTAMP, true, "timestamp", 0, 0, NULL, 0},
    {1115, PG_KIND_ARRAY, true, "_timestamp", 1114, 0, NULL, 0},
    {1182, PG_KIND_ARRAY, true, "_date", 1082, 0, NULL, 0},
    {1183, PG_KIND_ARRAY, true, "_time", 1083, 0, NULL, 0},
    {1184, PG_KIND_TIMESTAMPTZ, true, "timestamptz", 0, 0, NULL, 0},
    {1185, PG_KIND_ARRAY, true, "_timestamptz", 1184, 0, NULL, 0},
    {1186, PG_KIND_INTERVAL, false, "interval", 0, 0, NULL, 0},
    {1187, PG_KIND_ARRAY, false, "_interval", 1186, 0, NULL, 0},
    {1231, PG_KIND_ARRAY, false, "_numeric", 1700, 0, NULL, 0},
    {1263, PG_KIND_ARRAY, true, "_cstring", 2275, 0, NULL, 0},
    {1266, PG_KIND_TEXT, false, "timetz", 0, 0, NULL, 0},
    {1270, PG_KIND_ARRAY, false, "_timetz", 1266, 0, NULL, 0},
    {1560, PG_KIND_TEXT, false, "bit", 0, 0, NULL, 0},
    {1561, PG_KIND_ARRAY, false, "_bit", 1560, 0, NULL, 0},
    {1562, PG_KIND_TEXT, false, "varbit", 0, 0, NULL, 0},
    {1563, PG_KIND_ARRAY, false, "_varbit", 1562, 0, NULL, 0},
    {1700, PG_KIND_NUMERIC, false, "numeric", 0, 0, NULL, 0},
    {2202, PG_KIND_TEXT, false, "regprocedure", 0, 0, NULL, 0},
    {2203, PG_KIND_TEXT, false, "regoper", 0, 0, NULL, 0},
    {2204, PG_KIND_TEXT, false, "regoperator", 0, 0, NULL, 0},
    {2205, PG_KIND_TEXT, false, "regclass", 0, 0, NULL, 0},
    {2206, PG_KIND_TEXT, false, "regtype", 0, 0, NULL, 0},
    {2210, PG_KIND_ARRAY, false, "_regclass", 2205, 0, NULL, 0},
    {2211, PG_KIND_ARRAY, false, "_regtype", 2206, 0, NULL, 0},
    {2249, PG_KIND_TEXT, false, "record", 0, 0, NULL, 0},
    {2275, PG_KIND_TEXT, true, "cstring", 0, 0, NULL, 0},
    {2278, PG_KIND_TEXT, false, "void", 0, 0, NULL, 0},
    {2287, PG_KIND_ARRAY, false, "_record", 2249, 0, NULL, 0},
    {2950, PG_KIND_TEXT, false, "uuid", 0, 0, NULL, 0},
    {2951, PG_KIND_ARRAY, false, "_uuid", 2950, 0, NULL, 0},
    {2970, PG_KIND_TEXT, false, "txid_snapshot", 0, 0, NULL, 0},
    {3220, PG_KIND_TEXT, false, "pg_lsn", 0, 0, NULL, 0},
    {3221, PG_KIND_ARRAY, false, "_pg_lsn", 3220, 0, NULL, 0},
    {3361, PG_KIND_TEXT, false, "pg_ndistinct", 0, 0, NULL, 0},
    {3402, PG_KIND_TEXT, false, "pg_dependencies", 0, 0, NULL, 0},
    {3614, PG_KIND_TEXT, false, "tsvector", 0, 0, NULL, 0},
    {3615, PG_KIND_TEXT, false, "tsquery", 0, 0, NULL, 0},
    {3643, PG_KIND_ARRAY, false, "_tsvector", 3614, 0, NULL, 0},
    {3645, PG_KIND_ARRAY, false, "_tsquery", 3615, 0, NULL, 0},
    {3734, PG_KIND_TEXT, false, "regconfig", 0, 0, NULL, 0},
    {3769, PG_KIND_TEXT, false, "regdictionary", 0, 0, NULL, 0},
    {3802, PG_KIND_JSONB, true, "jsonb", 0, 0, NULL, 0},
    {3807, PG_KIND_ARRAY, true, "_jsonb", 3802, 0, NULL, 0},
    {3904, PG_KIND_RANGE, false, "int4range", 23, 0, NULL, 0},
    {3905, PG_KIND_ARRAY, false, "_int4range", 3904, 0, NULL, 0},
    {3906, PG_KIND_RANGE, false, "numrange", 1700, 0, NULL, 0},
    {3907, PG_KIND_ARRAY, false, "_numrange", 3906, 0, NULL, 0},
    {3908, PG_KIND_RANGE, false, "tsrange", 1114, 0, NULL, 0},
    {3909, PG_KIND_ARRAY, false, "_tsrange", 3908, 0, NULL, 0},
    {3910, PG_KIND_RANGE, false, "tstzrange", 1184, 0, NULL, 0},
    {3911, PG_KIND_ARRAY, false, "_tstzrange", 3910, 0, NULL, 0},
    {3912, PG_KIND_RANGE, false, "daterange", 1082, 0, NULL, 0},
    {3913, PG_KIND_ARRAY, false, "_daterange", 3912, 0, NULL, 0},
    {3926, PG_KIND_RANGE, false, "int8range", 20, 0, NULL, 0},
    {3927, PG_KIND_ARRAY, false, "_int8range", 3926, 0, NULL, 0},
    {4072, PG_KIND_TEXT, false, "jsonpath", 0, 0, NULL, 0},
    {4089, PG_KIND_TEXT, false, "regnamespace", 0, 0, NULL, 0},
    {4096, PG_KIND_TEXT, false, "regrole", 0, 0, NULL, 0},
    {4191, PG_KIND_TEXT, false, "regcollation", 0, 0, NULL, 0},
    {4451, PG_KIND_MULTIRANGE, false, "int4multirange", 3904, 0, NULL, 0},
    {4532, PG_KIND_MULTIRANGE, false, "nummultirange", 3906, 0, NULL, 0},
    {4533, PG_KIND_MULTIRANGE, false, "tsmultirange", 3908, 0, NULL, 0},
    {4534, PG_KIND_MULTIRANGE, false, "tstzmultirange", 3910, 0, NULL, 0},
    {4535, PG_KIND_MULTIRANGE, false, "datemultirange", 3912, 0, NULL, 0},
    {4536, PG_KIND_MULTIRANGE, false, "int8multirange", 3926, 0, NULL, 0},
    {5038, PG_KIND_TEXT, false, "pg_snapshot", 0, 0, NULL, 0},
    {5069, PG_KIND_TEXT, false, "xid8", 0, 0, NULL, 0},
    {6150, PG_KIND_ARRAY, false, "_int4multirange", 4451, 0, NULL, 0},
    {6151, PG_KIND_ARRAY, false, "_nummultirange", 4532, 0, NULL, 0},
    {6152, PG_KIND_ARRAY, false, "_tsmultirange", 4533, 0, NULL, 0},
    {6153, PG_KIND_ARRAY, false, "_tstzmultirange", 4534, 0, NULL, 0},
    {6155, PG_KIND_ARRAY, false, "_datemultirange", 4535, 0, NULL, 0},
    {6157, PG_KIND_ARRAY, false, "_int8multirange", 4536, 0, NULL, 0},
};

static const struct pg_type unknown = {0, PG_KIND_TEXT, false, "", 0, 0, NULL, 0};

/* ---- types that are not built in ---- */

enum { BUCKETS = 64 };

struct entry {
    struct entry *next;
    struct pg_type type;
    struct pg_field *fields; /* type.fields, but not const */
    char *name;
    uint64_t seen_at; /* when the catalog was read, in monotonic nanoseconds */
    uint64_t round;   /* number of the last pg_type_is_known that visited this type */
};

struct pg_catalog {
    struct entry *bucket[BUCKETS];
    struct entry *replaced; /* entries whose fields changed: a value of the old type may still be decoded */
    uint64_t expired_at;
    uint64_t round;
};

/* ALTER TABLE changes the fields of a composite type. pg_catalog_expire handles this program's; another
 * program's is noticed because entries older than this are looked up again. */
#define FIELDS_FRESH (1 * NS_PER_S)

/* Operators that no schema in the search_path can replace. */
#define EQ " operator(pg_catalog.=) "
#define NE " operator(pg_catalog.<>) "
#define GT " operator(pg_catalog.>) "

/* PostgreSQL 13 has no multiranges. A column name without a table is resolved in the inner query first: there
 * it is the column of pg_range, or, where pg_range has none, this column, whose 0 is the OID of no type. */
#define NO_MULTIRANGES " cross join (values (0::pg_catalog.oid)) none(rngmultitypid)"

/* Gives one row for each attribute of a composite type, in their order, and one row for any other type.
 * Qualifies every name with its schema, because a temporary table called oid is a type of that name, which
 * the server would find first. A type of an extension is recognised by its input function, because any type
 * can be called hstore. */
const char pg_catalog_sql[] =
    "with recursive need(oid) as ("
    " select pg_catalog.unnest($1::pg_catalog.oid[])"
    " union"
    " select part.oid from need join pg_catalog.pg_type t on t.oid" EQ "need.oid" NO_MULTIRANGES
    " cross join lateral ("
    "  select t.typelem where t.typelem" NE "0 and t.typcategory" EQ "'A'"
    "  union all select t.typbasetype where t.typtype" EQ "'d'"
    "  union all select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid" EQ "t.oid"
    "  union all select r.rngtypid from pg_catalog.pg_range r where rngmultitypid" EQ "t.oid"
    "  union all select a.atttypid from pg_catalog.pg_attribute a where a.attrelid" EQ "t.typrelid"
    "   and t.typtype" EQ "'c' and a.attnum" GT "0 and not a.attisdropped"
    " ) part(oid)) "
    "select need.oid, t.typname,"
    " case when t.typtype" NE "'b' then t.typtype when p.proname" EQ "'hstore_in' then 'H'"
    "  when p.proname" EQ "'vector_in' then 'V' else t.typtype end,"
    " t.typcategory, t.typelem, t.typbasetype,"
    " coalesce(r.rngsubtype, m.rngtypid), t.typdelim, a.attname, a.atttypid "
    "from need left join pg_catalog.pg_type t on t.oid" EQ "need.oid"
    " left join pg_catalog.pg_proc p on p.oid" EQ "t.typinput"
    " left join pg_catalog.pg_range r on r.rngtypid" EQ "t.oid" NO_MULTIRANGES
    " left join lateral (select x.rngtypid from pg_catalog.pg_range x where rngmultitypid" EQ
    "t.oid) m on true"
    " left join pg_catalog.pg_attribute a on a.attrelid" EQ "t.typrelid and t.typtype" EQ "'c'"
    "  and a.attnum" GT "0 and not a.attisdropped "
    "order by need.oid, a.attnum";

enum {
    COL_OID,
    COL_NAME,
    COL_TYPE,
    COL_CATEGORY,
    COL_ELEM,
    COL_BASE,
    COL_RANGE,
    COL_DELIM,
    COL_FIELD,
    COL_FIELD_TYPE,
    COLUMNS
};

struct pg_catalog *pg_catalog_new(void)
{
    return calloc(1, sizeof(struct pg_catalog));
}

static void entry_free(struct entry *e)
{
    for (int i = 0; i < e->type.nfields; i++)
        free(e->fields[i].name);
    free(e->fields);
    free(e->name);
    free(e);
}

static void list_free(struct entry *e)
{
    while (e) {
        struct entry *next = e->next;
        entry_free(e);
        e = next;
    }
}

void pg_catalog_free(struct pg_catalog *c)
{
    if (!c)
        return;
    for (int i = 0; i < BUCKETS; i++)
        list_free(c->bucket[i]);
    list_free(c->replaced);
    free(c);
}

void pg_catalog_expire(struct pg_catalog *c)
{
    c->expired_at = mono_now();
}

static struct entry *find(const struct pg_catalog *c, Oid oid)
{
    struct entry *e = c ? c->bucket[oid % BUCKETS] : NULL;
    while (e && e->type.oid != oid)
        e = e->next;
    return e;
}

static Oid get_oid(const PGresult *r, int row, int column)
{
    return (Oid)number_int(PQgetvalue(r, row, column));
}

/* Sets the kind from the catalog's row. A domain is read as its base type. */
static void classify(struct entry *e, const PGresult *r, int row)
{
    struct pg_type *t = &e->type;
    char type = PQgetvalue(r, row, COL_TYPE)[0];
    t->delim = PQgetvalue(r, row, COL_DELIM)[0];
    if (type == 'c') {
        t->kind = PG_KIND_COMPOSITE;
    } else if (type == 'r' || type == 'm') {
        t->kind = type == 'r' ? PG_KIND_RANGE : PG_KIND_MULTIRANGE;
        t->elem = get_oid(r, row, COL_RANGE);
    } else if (type == 'd') {
        t->elem = get_oid(r, row, COL_BASE);
    } else if (type == 'H') {
        t->kind = PG_KIND_HSTORE;
    } else if (type == 'V') {
        t->kind = PG_KIND_VECTOR;
    } else if (PQgetvalue(r, row, COL_CATEGORY)[0] == 'A' && get_oid(r, row, COL_ELEM)) {
        t->kind = PG_KIND_ARRAY;
        t->elem = get_oid(r, row, COL_ELEM);
    }
}

static struct entry *add(struct pg_catalog *c, const PGresult *r, int row)
{
    struct entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->type.oid = get_oid(r, row, COL_OID);
    e->name = strdup(PQgetvalue(r, row, COL_NAME));
    if (!e->name) {
        free(e);
        return NULL;
    }
    e->type.name = e->name;
    e->seen_at = mono_now();
    classify(e, r, row);
    e->next = c->bucket[e->type.oid % BUCKETS];
    c->bucket[e->type.oid % BUCKETS] = e;
    return e;
}

static bool add_field(struct entry *e, const PGresult *r, int row)
{
    if (PQgetisnull(r, row, COL_FIELD))
        return true;
    size_t n = (size_t)e->type.nfields;
    struct pg_field *fields = realloc(e->fields, (n + 1) * sizeof *fields);
    if (!fields)
        return false;
    e->fields = fields;
    e->type.fields = fields;
    fields[n].name = strdup(PQgetvalue(r, row, COL_FIELD));
    fields[n].type = get_oid(r, row, COL_FIELD_TYPE);
    if (!fields[n].name)
        return false;
    e->type.nfields++;
    return true;
}

static const struct pg_type *find_builtin(Oid oid)
{
    size_t low = 0;
    size_t high = sizeof builtin / sizeof *builtin;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (builtin[mid].oid == oid)
            return &builtin[mid];
        if (builtin[mid].oid < oid)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static struct entry **place_of(struct pg_catalog *c, const struct entry *e)
{
    struct entry **at = &c->bucket[e->type.oid % BUCKETS];
    while (*at != e)
        at = &(*at)->next;
    return at;
}

static bool same_fields(const struct pg_type *a, const struct pg_type *b)
{
    bool same = a->nfields == b->nfields;
    for (int i = 0; same && i < a->nfields; i++)
        same = a->fields[i].type == b->fields[i].type && strcmp(a->fields[i].name, b->fields[i].name) == 0;
    return same;
}

/* If the composite type was known before, keeps the old entry unless its fields have changed. */
static void settle(struct pg_catalog *c, struct entry *e)
{
    struct entry *old = e ? e->next : NULL;
    while (old && old->type.oid != e->type.oid)
        old = old->next;
    if (!old)
        return;
    if (same_fields(&old->type, &e->type)) {
        old->seen_at = e->seen_at;
        *place_of(c, e) = e->next;
        entry_free(e);
        return;
    }
    *place_of(c, old) = old->next;
    old->next = c->replaced;
    c->replaced = old;
}

bool pg_catalog_is_answer(const PGresult *r)
{
    return PQresultStatus(r) == PGRES_TUPLES_OK && PQnfields(r) == COLUMNS;
}

bool pg_catalog_load(struct pg_catalog *c, const PGresult *r)
{
    struct entry *e = NULL;
    for (int row = 0; row < PQntuples(r); row++) {
        Oid oid = get_oid(r, row, COL_OID);
        if (!e || e->type.oid != oid) {
            settle(c, e);
            const struct entry *known = find(c, oid);
            e = NULL;
            if (find_builtin(oid) || (known && known->type.kind != PG_KIND_COMPOSITE))
                continue;
            e = add(c, r, row);
        }
        if (e && add_field(e, r, row))
            continue;
        if (e) {
            *place_of(c, e) = e->next;
            entry_free(e);
        }
        return false;
    }
    settle(c, e);
    return true;
}

const struct pg_type *pg_type_of(const struct pg_catalog *c, Oid oid)
{
    const struct pg_type *t = find_builtin(oid);
    /* Follows domains over domains to their base type; the limit of 32 ends a loop in a broken catalog. */
    for (int depth = 0; !t && depth < 32; depth++) {
        const struct entry *e = find(c, oid);
        if (!e)
            break;
        if (e->type.kind != PG_KIND_TEXT || !e->type.elem)
            return &e->type;
        oid = e->type.elem;
        t = find_builtin(oid);
    }
    return t ? t : &unknown;
}

enum { DEEPEST = 1000 };

/* Visits each type once, however many types contain it: 22 levels of types with two fields each would be 4
 * million paths. */
static bool is_known(struct pg_catalog *c, Oid oid, int depth)
{
    if (oid == 0 || depth > DEEPEST || find_builtin(oid))
        return true;
    struct entry *e = find(c, oid);
    if (!e)
        return false;
    if (e->round == c->round)
        return true;
    e->round = c->round;
    if (e->type.kind == PG_KIND_COMPOSITE &&
        (e->seen_at <= c->expired_at || mono_now() - e->seen_at > FIELDS_FRESH))
        return false;
    for (int i = 0; i < e->type.nfields; i++)
        if (!is_known(c, e->fields[i].type, depth + 1))
            return false;
    return is_known(c, e->type.elem, depth + 1);
}

bool pg_type_is_known(struct pg_catalog *c, Oid oid)
{
    c->round++;
    return is_known(c, oid, 0);
}

bool pg_types_all_binary(const struct pg_catalog *c, const PGresult *r)
{
    int n = PQnfields(r);
    for (int i = 0; i < n; i++)
        if (!pg_type_of(c, PQftype(r, i))->binary)
            return false;
    return true;
}

bool pg_types_all_builtin(const PGresult *r)
{
    int n = PQnfields(r);
    for (int i = 0; i < n; i++)
        if (!find_builtin(PQftype(r, i)))
            return false;
    return true;
}
