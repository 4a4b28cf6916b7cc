/* The scanner of SQL: where each kind of piece ends, and what has no end. */
#include "check.h"
#include "pg/scan.h"

/* The kinds, one letter each, and '!' behind a piece without an end. */
static void kinds_of(const char *sql, char *out)
{
    static const char letters[] = " bcwqsdpn.";
    struct sql_scan x = {.sql = sql, .len = strlen(sql)};
    size_t before = 0;
    enum sql_kind kind;
    while ((kind = sql_next(&x)) != SQL_END) {
        CHECK(x.at > before && x.at <= x.len);
        before = x.at;
        *out++ = letters[kind];
        if (x.open)
            *out++ = '!';
    }
    CHECK(x.at == x.len && sql_next(&x) == SQL_END);
    *out = '\0';
}

static void check_kinds(const char *sql, const char *expected)
{
    char kinds[256];
    kinds_of(sql, kinds);
    CHECK_STR(kinds, expected);
}

static void test_kinds(void)
{
    check_kinds("", "");
    check_kinds("select a.b, $1", "wbw.w.bp");
    check_kinds(" \t\r\n\f\v", "b");
    check_kinds("\"a\"\"b\" 'it''s' ''", "qbsbs");
    check_kinds("E'a\\'b' e'\\\\' fe'\\'", "sbsbws");
    check_kinds("U&'\\0041' B'01' n'x' U&\"a\"", "w.sbwsbwsbw.q");
    check_kinds("1 1.5e3 0x1F .5 1..e'\\''", "nbnwbnwb.nbns");
    check_kinds("$1 $12abc $ $x $$a$$ $_x1$ $$ $_x1$", "pbpwb.b.wbdbd");
    check_kinds("a$b$c$b$", "w");
    check_kinds("gr\xc3\xb6\xc3\x9f\x65 $\xc3\xa9$;$\xc3\xa9$;", "wbd.");
    check_kinds("a<=b::c;", "w..w..w.");
}

static void test_comments(void)
{
    check_kinds("--a\n1", "cbn");
    check_kinds("--a\r1", "cbn");
    check_kinds("/* a /* b */ c */1", "cn");
    check_kinds("/*/ */1", "cn");
    check_kinds("2*/**/3*--4", "n.cn.c");
    check_kinds("--'\n'--'", "cbs");
    check_kinds("/* ' */'/*'", "cs");
}

/* The parts of one E-string under the same rules; of a plain string each part is a piece. */
static void test_strings_that_go_on(void)
{
    check_kinds("e'a'\n'\\'b'", "s");
    check_kinds("e'a' -- x\n '\\'b'", "s");
    check_kinds("e'a' '\\'", "sbs");
    check_kinds("e'a'/**/\n'\\'", "scbs");
    check_kinds("'a'\n'\\'", "sbs");
}

static void test_without_end(void)
{
    check_kinds("'a", "s!");
    check_kinds("'a''", "s!");
    check_kinds("\"a", "q!");
    check_kinds("e'a\\'", "s!");
    check_kinds("e'a\\", "s!");
    check_kinds("e'a'\n'b", "s!");
    check_kinds("$$a$", "d!");
    check_kinds("$a$ $A$", "d!");
    check_kinds("/* /* */", "c!");
    check_kinds("--a", "c");
    check_kinds("'a' 'b", "sbs!");
}

/* Bytes behind the length are not read, and a NUL byte is a byte. */
static void test_length(void)
{
    struct sql_scan x = {.sql = "'ab'", .len = 3};
    CHECK(sql_next(&x) == SQL_STRING && x.open && x.at == 3);
    x = (struct sql_scan){.sql = "a\0b", .len = 3};
    CHECK(sql_next(&x) == SQL_WORD && sql_next(&x) == SQL_SIGN && sql_next(&x) == SQL_WORD);
}

static void test_first_word(void)
{
    CHECK_STR(sql_first_word(" \n-- a\n/* b /* c */ */ (( select 1"), "select 1");
    CHECK_STR(sql_first_word("'a'"), "'a'");
    CHECK_STR(sql_first_word(" ;/* a */; select 1"), "select 1");
    CHECK_STR(sql_first_word(" /* select"), "");
    CHECK_STR(sql_first_word(""), "");
}

static void test_several(void)
{
    CHECK(!sql_is_several(""));
    CHECK(!sql_is_several("select 1"));
    CHECK(!sql_is_several("select 1; ;-- end\n/* ; */ ;"));
    CHECK(!sql_is_several("select ';', \";\", $$;$$ -- ; select"));
    CHECK(!sql_is_several("select 'a;b"));
    CHECK(sql_is_several("select 1; commit"));
    CHECK(sql_is_several("select 1;/* */;'a'"));
}

int main(void)
{
    TEST("each piece ends where PostgreSQL ends it", test_kinds);
    TEST("comments end at a newline, or nest", test_comments);
    TEST("an E-string that goes on in the next line keeps its rules", test_strings_that_go_on);
    TEST("a piece without an end reaches to the end, and says so", test_without_end);
    TEST("a text has a length, not a NUL byte", test_length);
    TEST("the first word stands behind comments, parentheses and empty statements", test_first_word);
    TEST("several statements are told from one with semicolons in it", test_several);
    return check_end("pg_scan");
}
