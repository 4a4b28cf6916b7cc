/* SQL's scanner: the end of each kind of piece, and pieces without an end; compared with PostgreSQL. */
#include "base/buf.h"
#include "check.h"
#include "pg/scan.h"
#include "pg_scanner.h"

/* The kinds, one letter each, and '!' after a piece without an end. */
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
    check_kinds("1 1.5e3 0x1F .5 1..e'\\''", "nbnbnb.nbn..s");
    check_kinds("1.e-5 1e+ 1e 1_0 0o17 0b1 0xg 1_", "nbnw.bnwbnbnbnbnwbnw");
    check_kinds("1e3$$;$$ 0xf$a$;$a$ 1a$$", "ndbndbnw");
    check_kinds("$1 $12abc $ $x $$a$$ $_x1$ $$ $_x1$", "pbpwb.b.wbdbd");
    check_kinds("a$b$c$b$", "w");
    check_kinds("gr\xc3\xb6\xc3\x9f\x65 $\xc3\xa9$;$\xc3\xa9$;", "wbd.");
    check_kinds("a<=b::c;", "w..w..w.");
}

/* standard_conforming_strings is off. */
static void check_backslash(const char *sql, size_t first_end, bool open)
{
    struct sql_scan x = {.sql = sql, .len = strlen(sql), .backslash = true};
    enum sql_kind kind;
    do
        kind = sql_next(&x);
    while (kind != SQL_STRING && kind != SQL_END);
    CHECK(kind == SQL_STRING && x.at == first_end && x.open == open);
}

static void test_backslash(void)
{
    check_backslash("'a\\';'", 6, false);
    check_backslash("'a\\'';'", 5, false);
    check_backslash("e'\\''", 5, false);
    check_backslash("n'\\''", 5, false);
    check_backslash("ab'\\''", 6, false);
    check_backslash("b'\\''", 5, true);
    check_backslash("X'\\''", 5, true);
    check_backslash("U&'\\''", 6, true);
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
    check_kinds("'a'\n'\\' 'b'", "sbs");
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

/* Bytes after the length are not read, and a NUL byte is a byte. */
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

/* ---- random texts, compared with the server's scanner ---- */

enum { MOST = 512 };

static const char *const whole[] = {
    "'a'",        "'it''s'",   "'\\'",      "E'\\''", "e'a'",      "b'0'", "X'f'",        "\"a\"",
    "\"a\"\"b\"", "$$;$$",     "$a$ $ $a$", "--\n",   "-- it's\n", "/**/", "/* /*;*/ */", "a",
    "e",          "\303\2511", "_b$c$",     "$1",     "1",         "1.5",  ".5e3",        "1..2",
    " ",          " ",         "\n",        "\t",     ";",         "(",    ")",           ",",
    ".",          ":",         "::",        ":=",     "<",         "-",    "*",           "||"};
static const char *const parts[] = {"'",  "''", "\"", "$",  "$$", "$a$", "a$", "E'", "x'",
                                    "\\", "/*", "*/", "--", "/",  "e5",  "+",  "?",  "\r"};

static void add_random(struct prng *r, struct buf *sql)
{
    for (uint32_t n = 1 + prng_below(r, 16); n > 0; n--)
        buf_adds(sql, prng_one_in(r, 6) ? parts[prng_below(r, sizeof parts / sizeof *parts)]
                                        : whole[prng_below(r, sizeof whole / sizeof *whole)]);
}

/* A prefix of a string is a word here and a part of the string there: both begin at the quote. */
static void mark(const char *sql, size_t at, size_t end, char letter, char *marks)
{
    while (letter == 's' && sql[at] != '\'' && sql[at] != '$')
        at++;
    memset(marks + at, letter, end - at);
}

/* Marks strings, names and comments. False: the server's scanner reads the text unlike the server. */
static bool mark_ours(const char *sql, size_t len, char *marks, bool *open)
{
    static const char letters[] = {[SQL_COMMENT] = 'c', [SQL_QUOTED] = 'q',    [SQL_STRING] = 's',
                                   [SQL_DOLLAR] = 's',  [SQL_PARAMETER] = 'p', [SQL_SIGN] = 0};
    struct sql_scan x = {.sql = sql, .len = len};
    for (;;) {
        size_t from = x.at;
        enum sql_kind kind = sql_next(&x);
        if (kind == SQL_END)
            return true;
        *open = *open || x.open;
        if (kind == SQL_STRING && memmem(sql + from, x.at - from, "--", 2))
            return false;
        if (letters[kind])
            mark(sql, from, x.at, letters[kind], marks);
    }
}

static void mark_theirs(const char *sql, const struct scanner_token *list, long n, char *marks)
{
    for (const struct scanner_token *t = list; t < list + n; t++) {
        char letter = t->kind == SCANNER_LINE_COMMENT || t->kind == SCANNER_BLOCK_COMMENT ? 'c'
                      : t->kind == SCANNER_IDENT && sql[t->at] == '"'                     ? 'q'
                      : t->kind >= SCANNER_SCONST && t->kind <= SCANNER_XCONST            ? 's'
                      : t->kind == SCANNER_PARAM                                          ? 'p'
                                                                                          : 0;
        if (letter)
            mark(sql, t->at, t->end, letter, marks);
    }
}

/* Compares with the server's scanner, which can refuse a text for other reasons than a missing end.
 * `compared` counts the texts that it accepts. */
static bool agrees(const char *sql, size_t len, uint64_t *compared)
{
    static struct scanner_token list[MOST];
    char ours[MOST] = {0}, theirs[MOST] = {0}, why[200];
    bool open = false;
    if (!mark_ours(sql, len, ours, &open))
        return true;
    long n = scanner_read(sql, list, MOST, why);
    if (n < 0)
        return open || strncmp(why, "unterminated", 12) != 0;
    ++*compared;
    mark_theirs(sql, list, n, theirs);
    return !open && memcmp(ours, theirs, len) == 0;
}

static void test_server(void)
{
    struct prng r = prng_new(check_seed("pg_scan"));
    uint64_t compared = 0;
    if (!scanner_open()) {
        printf("libpg_query is not installed: nothing to compare with\n");
        return;
    }
    for (uint64_t round = check_ops(20000); round > 0; round--) {
        struct buf sql = {0};
        add_random(&r, &sql);
        if (!CHECK(sql.len < MOST && agrees(sql.data, sql.len, &compared)))
            printf("  sql: %s\n", sql.data);
        buf_free(&sql);
    }
    CHECK(compared > 0);
}

int main(void)
{
    TEST("each piece ends where PostgreSQL ends it", test_kinds);
    TEST("without standard_conforming_strings plain strings have escapes", test_backslash);
    TEST("comments end at a newline, or nest", test_comments);
    TEST("a string that continues on the next line keeps its rules", test_strings_that_go_on);
    TEST("a piece without an end reaches to the end of the text, and is marked as open", test_without_end);
    TEST("a text ends at its length, not at a NUL byte", test_length);
    TEST("the first word comes after comments, parentheses and empty statements", test_first_word);
    TEST("several statements are distinguished from one that contains semicolons", test_several);
    TEST("random texts have the strings, names and comments that the server's scanner finds", test_server);
    return check_end("pg_scan");
}
