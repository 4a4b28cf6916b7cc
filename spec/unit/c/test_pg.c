/* Dates and times to text and back, and the type table. */
#include "check.h"
#include "pg/timefmt.h"
#include "pg/types.h"

#define DAY INT64_C(86400000000)

/* The text that PostgreSQL 15 prints (timestamptz in UTC, DateStyle ISO), and the binary form. */
static const struct {
    const char *server;
    const char *iso;
    int64_t usec;
} known[] = {
    {"2000-01-01 00:00:00+00", "2000-01-01T00:00:00+00:00", 0},
    {"2000-01-01 00:00:00.000001+00", "2000-01-01T00:00:00.000001+00:00", 1},
    {"1999-12-31 23:59:59.999999+00", "1999-12-31T23:59:59.999999+00:00", -1},
    {"1970-01-01 00:00:00+00", "1970-01-01T00:00:00+00:00", -10957 * DAY},
    {"2024-02-29 12:34:56.789+00", "2024-02-29T12:34:56.789+00:00", 8825 * DAY + INT64_C(45296789) * 1000},
    {"0001-01-01 00:00:00+00", "0001-01-01T00:00:00+00:00", -730119 * DAY},
    {"0001-12-31 23:59:59.5+00 BC", "0001-12-31T23:59:59.5+00:00 BC", -730119 * DAY - 500000},
    {"0044-03-15 00:00:00+00 BC", "0044-03-15T00:00:00+00:00 BC", -746117 * DAY},
    {"4714-11-24 00:00:00+00 BC", "4714-11-24T00:00:00+00:00 BC", INT64_C(-211813488000000000)},
    {"10000-01-01 00:00:00+00", "10000-01-01T00:00:00+00:00", 2921940 * DAY},
    {"294276-12-31 23:59:59.999999+00", "294276-12-31T23:59:59.999999+00:00", INT64_C(9223371331199999999)},
    {"infinity", "infinity", INT64_MAX},
    {"-infinity", "-infinity", INT64_MIN},
};

static void test_known(void)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[TIMEFMT_MAX];
        int64_t usec = 42;
        size_t len = timefmt_timestamp(text, known[i].usec, true);
        CHECK_STR(text, known[i].iso);
        CHECK_EQ(len, strlen(text));
        CHECK(timefmt_parse_timestamp(known[i].server, &usec));
        CHECK_EQ(usec, known[i].usec);
        CHECK(timefmt_parse_timestamp(known[i].iso, &usec));
        CHECK_EQ(usec, known[i].usec);
    }
}

static void test_zones(void)
{
    static const struct {
        const char *text;
        const char *utc;
    } list[] = {
        {"2024-06-01 12:00:00+02", "2024-06-01T10:00:00+00:00"},
        {"2024-06-01 12:00:00-03:30", "2024-06-01T15:30:00+00:00"},
        {"1880-01-01 00:00:00+00:53:28", "1879-12-31T23:06:32+00:00"},
        {"2024-01-01 00:30:00.25+05:45", "2023-12-31T18:45:00.25+00:00"},
        {"0001-01-01 00:30:00+01", "0001-12-31T23:30:00+00:00 BC"},
        {"0001-12-31 23:30:00-01 BC", "0001-01-01T00:30:00+00:00"},
        {"2024-06-01T12:00:00Z", "2024-06-01T12:00:00+00:00"},
        {"2024-06-01 12:00:00", "2024-06-01T12:00:00+00:00"},
        {"2024-06-01T12:00", "2024-06-01T12:00:00+00:00"},
        {"2024-06-01", "2024-06-01T00:00:00+00:00"},
        {"0044-03-15 BC", "0044-03-15T00:00:00+00:00 BC"},
        {"2024-06-01 12:00:00.123456+00", "2024-06-01T12:00:00.123456+00:00"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[TIMEFMT_MAX];
        int64_t usec;
        if (CHECK(timefmt_parse_timestamp(list[i].text, &usec))) {
            timefmt_timestamp(text, usec, true);
            CHECK_STR(text, list[i].utc);
        }
    }
}

static void test_dates(void)
{
    static const struct {
        int32_t days;
        const char *text;
    } list[] = {
        {0, "2000-01-01"},
        {-1, "1999-12-31"},
        {59, "2000-02-29"},
        {60, "2000-03-01"},
        {-36524, "1900-01-01"},
        {-36524 + 58, "1900-02-28"},
        {-36524 + 59, "1900-03-01"},
        {-730119, "0001-01-01"},
        {-730120, "0001-12-31 BC"},
        {-2451545 + 0, "4714-11-24 BC"}, /* the server's first day */
        {2145031948, "5874897-12-31"},   /* and its last */
        {INT32_MAX, "infinity"},
        {INT32_MIN, "-infinity"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[TIMEFMT_MAX];
        CHECK_EQ(timefmt_date(text, list[i].days), strlen(list[i].text));
        CHECK_STR(text, list[i].text);
    }
}

static void test_times(void)
{
    static const struct {
        int64_t usec;
        const char *text;
    } list[] = {
        {0, "00:00:00"},   {1, "00:00:00.000001"}, {100000, "00:00:00.1"}, {DAY - 1, "23:59:59.999999"},
        {DAY, "24:00:00"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[TIMEFMT_MAX];
        CHECK_EQ(timefmt_time(text, list[i].usec), strlen(list[i].text));
        CHECK_STR(text, list[i].text);
    }
}

static void test_broken(void)
{
    static const char *const list[] = {
        "", " ", "2024", "2024-", "2024-1-01", "2024-01-1", "2024-13-01", "2024-00-01", "2024-01-00",
        "2024-01-32", "2024-01-01 ", "2024-01-01T", "2024-01-01 1:00:00", "2024-01-01 10",
        "2024-01-01 10:00:", "2024-01-01 10:00:00.", "2024-01-01 10:00:00+", "2024-01-01 10:00:00+2",
        "2024-01-01 10:00:00+02:", "2024-01-01 10:00:00 AD", "2024-01-01 10:00:00 BC ", "24-01-01",
        "-2024-01-01", "infinityy", "Infinity", "2024-01-01 10:00:00x", "Mon Jan 01 10:00:00 2024 UTC",
        "01.01.2024 10:00:00", "1234567-01-01", "2024-06-01 12:00:00.1234567+00", "2024-06-01 12:00:00+16",
        "2024-06-01 12:00:00+15:60",
        /* Well-formed, but out of the range of 64 bits of microseconds. */
        "294277-01-01 00:00:00", "999999-12-31 00:00:00", "999999-12-31 00:00:00 BC"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int64_t usec;
        if (!CHECK(!timefmt_parse_timestamp(list[i], &usec)))
            printf("    accepted \"%s\"\n", list[i]);
    }
}

/* Any 64 bits, and values near round ones, through text and back. */
static void test_round_trip(void)
{
    struct prng r = prng_new(check_seed("pg"));
    int64_t first = known[8].usec;
    int64_t last = known[10].usec;
    for (uint64_t n = check_ops(300000); n > 0; n--) {
        char text[TIMEFMT_MAX];
        int64_t back;
        int64_t usec = (int64_t)(prng_next(&r) >> prng_below(&r, 40));
        if (prng_one_in(&r, 2))
            usec = -usec;
        if (prng_one_in(&r, 4)) /* at midnight, or a microsecond beside it */
            usec = usec / DAY * DAY + (int64_t)prng_below(&r, 3) - 1;
        if (usec < first || usec > last)
            continue;
        size_t len = timefmt_timestamp(text, usec, prng_one_in(&r, 2));
        if (!CHECK(len < TIMEFMT_MAX && len == strlen(text)) ||
            !CHECK(timefmt_parse_timestamp(text, &back)) || !CHECK_EQ(back, usec)) {
            printf("    %s\n", text);
            return;
        }
    }
}

/* Every day of a leap cycle around both ends of the calendar follows the one before. */
static void test_calendar(void)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = 1600;
    int month = 1;
    int day = 1;
    for (int32_t days = -146097; days < 2 * 146097; days++) { /* 1600-01-01 is day -146097 */
        char text[TIMEFMT_MAX];
        char expected[TIMEFMT_MAX];
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        timefmt_date(text, days);
        snprintf(expected, sizeof expected, "%04d-%02d-%02d", year, month, day);
        if (!CHECK_STR(text, expected))
            return;
        if (++day > lengths[month - 1] + (month == 2 && leap)) {
            day = 1;
            month = month == 12 ? 1 : month + 1;
            year += month == 1;
        }
    }
}

/* Damaged text is never read beyond its end, and accepted text prints as a time again. */
static void test_random_text(void)
{
    static const char alphabet[] = "0123456789-:. T+ZBCinfty";
    struct prng r = prng_new(check_seed("pg"));
    for (uint64_t n = check_ops(200000); n > 0; n--) {
        const char *from = known[prng_below(&r, sizeof known / sizeof *known)].server;
        size_t len = strlen(from);
        char *text = malloc(len + 1);
        int64_t usec;
        memcpy(text, from, len + 1);
        for (uint32_t k = prng_below(&r, 3) + 1; k > 0; k--)
            text[prng_below(&r, (uint32_t)len)] = alphabet[prng_below(&r, sizeof alphabet - 1)];
        text[prng_below(&r, (uint32_t)len + 1)] = '\0';
        if (timefmt_parse_timestamp(text, &usec)) {
            char iso[TIMEFMT_MAX];
            int64_t back;
            timefmt_timestamp(iso, usec, true);
            if (!CHECK(timefmt_parse_timestamp(iso, &back)) || !CHECK_EQ(back, usec))
                printf("    %s -> %s\n", text, iso);
        }
        free(text);
    }
}

/* ---- types ---- */

static void test_types(void)
{
    static const struct {
        Oid oid;
        enum pg_kind kind;
        const char *name;
    } list[] = {
        {16, PG_KIND_BOOL, "bool"},
        {17, PG_KIND_BYTEA, "bytea"},
        {20, PG_KIND_INT8, "int8"},
        {21, PG_KIND_INT2, "int2"},
        {23, PG_KIND_INT4, "int4"},
        {25, PG_KIND_TEXT, "text"},
        {26, PG_KIND_OID, "oid"},
        {114, PG_KIND_JSON, "json"},
        {700, PG_KIND_FLOAT4, "float4"},
        {701, PG_KIND_FLOAT8, "float8"},
        {1082, PG_KIND_DATE, "date"},
        {1083, PG_KIND_TIME, "time"},
        {1114, PG_KIND_TIMESTAMP, "timestamp"},
        {1184, PG_KIND_TIMESTAMPTZ, "timestamptz"},
        {1700, PG_KIND_NUMERIC, "numeric"},
        {2950, PG_KIND_TEXT, "uuid"},
        {3802, PG_KIND_JSONB, "jsonb"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const struct pg_type *t = pg_type_of(NULL, list[i].oid);
        CHECK_EQ(t->oid, list[i].oid);
        CHECK_EQ(t->kind, list[i].kind);
        CHECK_STR(t->name, list[i].name);
    }
}

/* Also checks that the table is sorted: an entry out of place would not be found. */
static void test_every_type(void)
{
    unsigned found = 0;
    for (Oid oid = 0; oid < 20000; oid++) {
        const struct pg_type *t = pg_type_of(NULL, oid);
        if (!CHECK(t != NULL))
            return;
        if (t->name[0]) {
            CHECK_EQ(t->oid, oid);
            found++;
        } else {
            CHECK_EQ(t->kind, PG_KIND_TEXT);
            CHECK(!t->binary);
        }
    }
    CHECK(found >= 20);
    CHECK(!pg_type_of(NULL, UINT32_MAX)->binary);
    CHECK(!pg_type_of(NULL, 1700)->binary); /* numeric: its binary form is not read */
}

static PGresult *described(const Oid *types, int n)
{
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    static char name[] = "c";
    PGresAttDesc columns[4];
    memset(columns, 0, sizeof columns);
    for (int i = 0; i < n; i++) {
        columns[i].name = name;
        columns[i].typid = types[i];
    }
    CHECK(PQsetResultAttrs(r, n, columns));
    return r;
}

static void test_all_binary(void)
{
    static const struct {
        Oid types[4];
        int n;
        bool all;
    } list[] = {
        {{20, 25, 16, 1184}, 4, true},
        {{20, 1700}, 2, false}, /* numeric */
        {{99999}, 1, false},    /* an extension's type */
        {{25}, 1, true},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        PGresult *r = described(list[i].types, list[i].n);
        CHECK_EQ(pg_types_all_binary(NULL, r), list[i].all);
        PQclear(r);
    }
}

/* A result of pg_catalog_sql with `columns` of its columns: composite types 100000 to 100000 + levels - 1,
 * each with two fields of the type before it. */
static PGresult *nested_types(int levels, int columns)
{
    PGresAttDesc attributes[10];
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    memset(attributes, 0, sizeof attributes);
    for (int c = 0; c < columns; c++)
        attributes[c].name = (char *)"column";
    PQsetResultAttrs(r, columns, attributes);
    for (int row = 0; row < levels * 2; row++) {
        char oid[16];
        char inner[16];
        snprintf(oid, sizeof oid, "%d", 100000 + row / 2);
        snprintf(inner, sizeof inner, "%d", row < 2 ? 23 : 100000 + row / 2 - 1);
        char *values[10] = {oid, "t", "c", "C", "0", "0", NULL, ",", row % 2 ? "b" : "a", inner};
        for (int c = 0; c < columns; c++)
            PQsetvalue(r, row, c, values[c], values[c] ? (int)strlen(values[c]) : -1);
    }
    return r;
}

static void test_nested_types(void)
{
    enum { LEVELS = 200 };
    struct pg_catalog *c = pg_catalog_new();
    PGresult *r = nested_types(LEVELS, 10);
    CHECK(pg_catalog_is_answer(r));
    CHECK(pg_catalog_load(c, r));
    for (int i = 0; i < LEVELS; i++)
        CHECK(pg_type_is_known(c, (Oid)(100000 + i)));
    CHECK(!pg_type_is_known(c, 100000 + LEVELS));
    pg_catalog_expire(c);
    CHECK(!pg_type_is_known(c, 100000 + LEVELS - 1));
    PQclear(r);
    pg_catalog_free(c);
}

static void test_catalog_answers(void)
{
    for (int columns = 0; columns < 10; columns++) {
        PGresult *r = nested_types(1, columns);
        CHECK(!pg_catalog_is_answer(r));
        PQclear(r);
    }
    PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK);
    CHECK(!pg_catalog_is_answer(r));
    PQclear(r);
}

int main(void)
{
    struct error err = {0};
    if (!libpq_open(&err)) /* no connection opens it here */
        return 1;
    TEST("times print and read as PostgreSQL's own", test_known);
    TEST("times in any zone are the same moment in UTC", test_zones);
    TEST("dates from 4714 BC to 5874897", test_dates);
    TEST("times of day, 24:00:00 too", test_times);
    TEST("text that is not a time is refused", test_broken);
    TEST("any time is the same after conversion to text and back", test_round_trip);
    TEST("the calendar has no gap and no day twice", test_calendar);
    TEST("damaged text does no harm", test_random_text);
    TEST("each known type has its kind", test_types);
    TEST("every other type is text", test_every_type);
    TEST("types become known in time proportional to their number", test_nested_types);
    TEST("a result of the catalog query has the expected columns", test_catalog_answers);
    TEST("results are binary only when every column can be read in binary", test_all_binary);
    return check_end("pg");
}
