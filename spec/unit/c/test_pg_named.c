/* The lexer of :name parameters: what it rewrites, and text that only looks like a parameter. */
#include "check.h"
#include "pg/named.h"

struct sample {
    const char *sql;
    const char *rewritten; /* NULL: unchanged */
    const char *names;     /* in the order of their numbers, separated by blanks */
};

static void names_of(const char *sql, const struct pg_names *names, char *out)
{
    *out = '\0';
    for (size_t i = 0; i < names->n; i++) {
        strcat(out, i ? " " : "");
        strncat(out, sql + names->list[i].at, names->list[i].len);
    }
}

static void check_sample(const struct sample *s)
{
    struct buf out = {0};
    struct pg_names names = {0};
    char list[512];
    CHECK(pg_named_rewrite(s->sql, strlen(s->sql), &out, &names));
    names_of(s->sql, &names, list);
    CHECK_STR(out.data ? out.data : "", s->rewritten ? s->rewritten : s->sql);
    CHECK_STR(list, s->names ? s->names : "");
    buf_free(&out);
    free(names.list);
}

#define CHECK_SAMPLES(list)                                                                                  \
    for (size_t i_ = 0; i_ < sizeof(list) / sizeof *(list); i_++)                                            \
    check_sample(&(list)[i_])

static void test_parameters(void)
{
    static const struct sample list[] = {
        {"select :a", "select $1", "a"},
        {":a", "$1", "a"},
        {"select :a, :b, :a", "select $1, $2, $1", "a b"},
        {"select :a,:b,:ab", "select $1,$2,$3", "a b ab"},
        {"select :_x1 + :X1", "select $1 + $2", "_x1 X1"},
        {"where id=:id and n<:n", "where id=$1 and n<$2", "id n"},
        {"select (:a), f(:b), -:c", "select ($1), f($2), -$3", "a b c"},
        {"select :a::int, :b::text[]", "select $1::int, $2::text[]", "a b"},
        {"select cast(:a as int)", "select cast($1 as int)", "a"},
        {"select x -> :key ->> :other", "select x -> $1 ->> $2", "key other"},
        {"select a||:b||c", "select a||$1||c", "b"},
        {"select :größe, :日本", "select $1, $2", "größe 日本"},
        {"in (:a, :b)\n\tor\n:c", "in ($1, $2)\n\tor\n$3", "a b c"},
        {"limit :n;", "limit $1;", "n"},
        {"select [:a]", "select [$1]", "a"},
        {"x[:i]", "x[$1]", "i"},
        {"", "", ""},
    };
    CHECK_SAMPLES(list);
}

static void test_strings(void)
{
    static const struct sample list[] = {
        {"select ':a', :b", "select ':a', $1", "b"},
        {"select 'it''s :a', :b", "select 'it''s :a', $1", "b"},
        {"select 'a\\', :b", "select 'a\\', $1", "b"},
        {"select E'a\\' :a', :b", "select E'a\\' :a', $1", "b"},
        {"select e'\\\\', :b", "select e'\\\\', $1", "b"},
        {"select E'''' , :b", "select E'''' , $1", "b"},
        {"select E'a'\n'b\\' :a', :b", "select E'a'\n'b\\' :a', $1", "b"},
        {"select E'a' \n -- then\n 'b\\' :a', :b", "select E'a' \n -- then\n 'b\\' :a', $1", "b"},
        {"select E'a' 'b\\', :b", "select E'a' 'b\\', $1", "b"},
        {"select fe'\\', :b", "select fe'\\', $1", "b"},
        {"select U&'\\0041:a', :b", "select U&'\\0041:a', $1", "b"},
        {"select B'01', X'ff', N':a', :b", "select B'01', X'ff', N':a', $1", "b"},
        {"select '", NULL, NULL},
        {"select ':a", NULL, NULL},
        {"select E'\\", NULL, NULL},
        {"select '''", NULL, NULL},
        {"select interval '1:30', time '12:30:00' at time zone :zone",
         "select interval '1:30', time '12:30:00' at time zone $1", "zone"},
    };
    CHECK_SAMPLES(list);
}

static void test_identifiers(void)
{
    static const struct sample list[] = {
        {"select \"a:b\" from \":c\"", NULL, NULL},
        {"select \"a\"\":b\" , :c", "select \"a\"\":b\" , $1", "c"},
        {"select \"it's\", :c", "select \"it's\", $1", "c"},
        {"select \"a\\\", :c", "select \"a\\\", $1", "c"},
        {"select \":a", NULL, NULL},
    };
    CHECK_SAMPLES(list);
}

static void test_dollars(void)
{
    static const struct sample list[] = {
        {"select $$:a$$, :b", "select $$:a$$, $1", "b"},
        {"select $x$:a $$ :b $y$ $x$, :c", "select $x$:a $$ :b $y$ $x$, $1", "c"},
        {"select $é$:a$é$, :c", "select $é$:a$é$, $1", "c"},
        {"select $a1$ :a $a$ $a1$ , :c", "select $a1$ :a $a$ $a1$ , $1", "c"},
        {"select a$b$, :c, d$b$", "select a$b$, $1, d$b$", "c"},
        {"select $$ :a", NULL, NULL},
        {"select $x$ :a $X$", NULL, NULL},
        {"do $$begin raise notice ':a'; x := 1; end$$", NULL, NULL},
        {"select $1$:a$1$", "select $1$$1$1$", "a"},
        {"select $", NULL, NULL},
        {"select $$", NULL, NULL},
        {"select $$$$, :a", "select $$$$, $1", "a"},
    };
    CHECK_SAMPLES(list);
}

static void test_comments(void)
{
    static const struct sample list[] = {
        {"select 1 -- :a\n, :b", "select 1 -- :a\n, $1", "b"},
        {"select 1 -- it's\n, :b", "select 1 -- it's\n, $1", "b"},
        {"select 1 -- :a\r, :b", "select 1 -- :a\r, $1", "b"},
        {"select 1 /* :a */ + :b", "select 1 /* :a */ + $1", "b"},
        {"select 1 /* /* :a */ :b */ + :c", "select 1 /* /* :a */ :b */ + $1", "c"},
        {"select 1 /* ' */ + :c", "select 1 /* ' */ + $1", "c"},
        {"select 1 /* :a", NULL, NULL},
        {"select 1 --:a", NULL, NULL},
        {"select 1 /*/ :a */ + :b", "select 1 /*/ :a */ + $1", "b"},
        {"select a <--:b\n :c", "select a <--:b\n $1", "c"},
        {"select 2 */*:a*/ :b", "select 2 */*:a*/ $1", "b"},
        {"select 1 - -:a", "select 1 - -$1", "a"},
    };
    CHECK_SAMPLES(list);
}

static void test_not_parameters(void)
{
    static const struct sample list[] = {
        {"select a::int, b::text::varchar", NULL, NULL},
        {"select '1'::int, 2::text", NULL, NULL},
        {"select f(x := 1, y:=2)", NULL, NULL},
        {"select a[1:2], a[b:c], a[f(1):n], a[\"x\":n], a[b[1]:n]", NULL, NULL},
        {"select a[1:n][2:m]", NULL, NULL},
        {"select :1, :\"a\", :'a', : a, :", NULL, NULL},
        {"select :::a", NULL, NULL},
        {"select array[1]::int[], (1)::int", NULL, NULL},
    };
    CHECK_SAMPLES(list);
}

/* For any text: it ends, reads nothing beyond the end, and leaves all other text unchanged. */
static void test_random(void)
{
    static const char *const pieces[] = {":a", ":b1", "'",  "\"", "$$", "$t$", "--", "\n", "/*",
                                         "*/", "E'",  "\\", "::", ":=", "[",   "]",  "(",  ")",
                                         " ",  "x",   "é",  "1",  ":",  "$1",  ";",  "e",  "''"};
    struct prng r = prng_new(check_seed("pg_named"));
    for (uint64_t round = check_ops(20000); round > 0; round--) {
        struct buf sql = {0};
        struct buf out = {0};
        struct pg_names names = {0};
        uint32_t n = prng_below(&r, 20);
        for (uint32_t i = 0; i < n; i++)
            buf_adds(&sql, pieces[prng_below(&r, sizeof pieces / sizeof *pieces)]);
        /* A block of the exact size, so that a sanitizer sees a read beyond the end. */
        char *exact = malloc(sql.len ? sql.len : 1);
        memcpy(exact, sql.data ? sql.data : "", sql.len);
        if (!CHECK(pg_named_rewrite(exact, sql.len, &out, &names)))
            printf("  sql: %s\n", sql.data);
        size_t at = 0;
        bool same = true;
        for (size_t i = 0; i < sql.len && same;) {
            if (out.data[at] == exact[i]) {
                at++, i++;
                continue;
            }
            /* A difference is ":name" in one text and "$n" in the other. */
            char *end;
            same = exact[i] == ':' && out.data[at] == '$';
            unsigned long number = strtoul(out.data + at + 1, &end, 10);
            same = same && number >= 1 && number <= names.n;
            if (same) {
                at = (size_t)(end - out.data);
                i += 1 + names.list[number - 1].len;
            }
        }
        if (!CHECK(same && at == out.len))
            printf("  sql: %s\n  out: %s\n", sql.data, out.data);
        free(exact);
        buf_free(&sql);
        buf_free(&out);
        free(names.list);
    }
}

static void test_sure(void)
{
    static const struct {
        const char *sql;
        int n;
        bool sure;
    } list[] = {
        {"select $1", 1, true},
        {"select $1, 'a\\'", 1, true},
        {"select $1 || 'a\\':$1'", 1, false},
        {"select 'a\\'', $1", 1, true}, /* not rewritten: the string has no end */
        {"select $1, E'a\\'$1', $2", 2, true},
        {"select $1 || 'a\\'$2'", 1, true}, /* written with numbers, of which there is one */
        {"select 'a\\n' || $1", 1, true},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (!CHECK(pg_named_is_sure(list[i].sql, strlen(list[i].sql), list[i].n) == list[i].sure))
            printf("    %s\n", list[i].sql);
}

int main(void)
{
    TEST("rewritten SQL says whether a backslash matters", test_sure);
    TEST("each :name becomes $n, the same name the same number", test_parameters);
    TEST("nothing inside a string constant is a parameter", test_strings);
    TEST("nothing inside a quoted identifier is a parameter", test_identifiers);
    TEST("nothing inside a dollar-quoted string is a parameter", test_dollars);
    TEST("nothing inside a comment is a parameter, nested ones too", test_comments);
    TEST("casts, assignments and array slices are left alone", test_not_parameters);
    TEST("any text is rewritten without harm", test_random);
    return check_end("pg_named");
}
