/* Parameters as other libraries write them: found where a value is expected, and nowhere else. */
#include "check.h"
#include "pg/placeholder.h"

static void check_found(const char *sql, enum pg_placeholder kind, const char *text)
{
    char found[48] = "";
    CHECK(pg_placeholder_find(sql, strlen(sql), found, sizeof found) == kind);
    CHECK_STR(found, text);
}

static void test_found(void)
{
    check_found("select * from t where id = ?", PG_PLACE_FOREIGN, "?");
    check_found("select * from t where id=? and b = 1", PG_PLACE_FOREIGN, "?");
    check_found("insert into t values (?, ?)", PG_PLACE_FOREIGN, "?");
    check_found("select * from t limit ? offset 1", PG_PLACE_FOREIGN, "?");
    check_found("select ?::int", PG_PLACE_FOREIGN, "?");
    check_found("select d ?", PG_PLACE_FOREIGN, "?");
    check_found("values (%s, 1)", PG_PLACE_FOREIGN, "%s");
    check_found("select * from t where a like %s", PG_PLACE_FOREIGN, "%s");
    check_found("select * from t where a = %(name)s", PG_PLACE_FOREIGN, "%(name)s");
    check_found("select @p1", PG_PLACE_FOREIGN, "@p1");
    check_found("where id = @id", PG_PLACE_FOREIGN, "@id");
    check_found("where id = $id", PG_PLACE_FOREIGN, "$id");
    check_found("where id = :1", PG_PLACE_FOREIGN, ":1");
    check_found("where id = :id", PG_PLACE_NAMED, ":id");
    check_found("where a and:id", PG_PLACE_ATTACHED, "and:id");
    check_found("where a and/**/:id", PG_PLACE_NAMED, ":id");
    check_found("limit:1", PG_PLACE_FOREIGN, ":1");
    check_found("/* ' */ select ?", PG_PLACE_FOREIGN, "?");
    check_found("?", PG_PLACE_FOREIGN, "?");
    check_found("%", PG_PLACE_NONE, "");
    check_found("%(", PG_PLACE_NONE, "");
    check_found("%(a)", PG_PLACE_NONE, "");
    check_found("@", PG_PLACE_NONE, "");
    check_found(":", PG_PLACE_NONE, "");
    check_found("$", PG_PLACE_NONE, "");
}

static void test_not_found(void)
{
    static const char *const texts[] = {
        "",
        "select 1",
        "select $1, $2",
        "select '?', \"a?\", $$ ? $$, $a$ %s $a$, 'it''s :x' -- ? %s :id\n",
        "select /* ? /* %s */ :id */ 1",
        "select d ? 'k' from t",
        "select d ? $1, d ?| array['a'], d ?& $2, d->'a' ? 'b', (d) ? k",
        "select d @? '$.a', d @@ '$.a > 1', @ 5, @-5, a @> b",
        "select 10 % s, a %s, (a) %s, a[1] %s",
        "select a::int, a[1:2], a[i:j], now()::date, 'x'::text",
        "select x := 1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_found(texts[i], PG_PLACE_NONE, "");
}

static void test_hint(void)
{
    struct error e = {0};
    error_set(&e, ERROR_QUERY, "syntax error");
    error_set_field(&e, ERROR_SQLSTATE, "42601");
    pg_error_of_statement(&e, "select ?");
    CHECK_STR(e.field[ERROR_STATEMENT], "select ?");
    CHECK(strstr(e.field[ERROR_HINT], "$1") && strstr(e.field[ERROR_HINT], "not as ?"));
    error_set_field(&e, ERROR_SQLSTATE, "42883");
    error_set_field(&e, ERROR_HINT, "The server's own.");
    pg_error_of_statement(&e, "select ?");
    CHECK(strstr(e.field[ERROR_HINT], "not as ?. The server's own."));
    error_set_field(&e, ERROR_HINT, NULL);
    error_set_field(&e, ERROR_SQLSTATE, "42P01"); /* no such table */
    pg_error_of_statement(&e, "select ?");
    CHECK(!e.field[ERROR_HINT]);
    error_clear(&e);
}

int main(void)
{
    TEST("a parameter of another library is found where a value is expected", test_found);
    TEST("strings, comments, operators, casts and slices are not parameters", test_not_found);
    TEST("the error of a statement gets the hint, before the server's own", test_hint);
    return check_end("pg_placeholder");
}
