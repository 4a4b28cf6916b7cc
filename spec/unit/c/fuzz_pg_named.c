/*
 * For libFuzzer (make fuzz): the lexer of `:name` parameters, against the server's own scanner (libpg_query).
 *
 * Where the server's scanner sees a colon directly before a word, which is not part of a cast, slice or
 * assignment, there must be a parameter; in strings, comments and dollar quotes there must be none.
 * The rewritten text must contain everything else unchanged.
 */
#include "pg/named.h"
#include "pg_scanner.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 4096, COLON = ':' };

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* ---- the expected parameters ---- */

static bool is_name_char(int c)
{
    return isalnum(c) || c == '_' || c >= 0x80;
}

/* The places that a slice, a cast or an assignment excludes are the lexer's own rule (named.c). */
static bool may_precede(const char *sql, size_t at)
{
    int c = at > 0 ? (unsigned char)sql[at - 1] : -1;
    return c != ':' && !is_name_char(c) && c != ']' && c != ')' && c != '"';
}

/* Where libpg_query cannot decide: a comment in front of a string can be between two parts of one, which the
 * server knows and libpg_query's scanner does not; after a colon a string with a prefix (:e'..') is not SQL,
 * and an identifier with a dollar sign is more than a parameter's name. */
static bool is_doubtful(const char *sql, const struct scanner_token *t)
{
    char c = sql[t[0].end];
    bool word = t[1].kind == SCANNER_IDENT || t[1].keyword;
    if (t[0].kind == SCANNER_LINE_COMMENT)
        return sql[t[1].at] == '\'';
    if (t[0].kind != COLON || t[1].at != t[0].end)
        return false;
    return word ? memchr(sql + t[1].at, '$', t[1].end - t[1].at) != NULL
                : isalpha((unsigned char)c) || c == '_';
}

/* Marks the places where the scanner allows a parameter. False: it cannot decide. */
static bool expect(const char *sql, const struct scanner_token *t, size_t n, char *expected)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (is_doubtful(sql, t + i))
            return false;
        if (t[i].kind != COLON || t[i + 1].at != t[i].end)
            continue;
        bool word = t[i + 1].kind == SCANNER_IDENT || t[i + 1].keyword;
        char c = sql[t[i].end];
        if (word && c != '"' && may_precede(sql, t[i].at))
            expected[t[i].at] = 1;
    }
    return true;
}

/* Walks both texts: they differ only where a parameter was expected. */
static void compare(const char *sql, size_t len, const char *expected, const struct buf *out,
                    const struct pg_names *names)
{
    size_t at = 0;
    size_t to = 0;
    while (at < len) {
        if (!expected[at]) {
            must(to < out->len && out->data[to] == sql[at]);
            at++;
            to++;
            continue;
        }
        char *end;
        must(out->data[to] == '$');
        unsigned long number = strtoul(out->data + to + 1, &end, 10);
        must(number >= 1 && number <= names->n);
        const struct pg_name *name = &names->list[number - 1];
        must(name->at + name->len <= len && at + 1 + name->len <= len);
        must(memcmp(sql + name->at, sql + at + 1, name->len) == 0);
        at += 1 + name->len;
        must(at >= len || !is_name_char((unsigned char)sql[at]));
        to = (size_t)(end - out->data);
        /* A digit after the name would be read as part of the number. */
    }
    must(to == out->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scanner_token tokens[MOST];
    static char expected[MOST + 1];
    if (size > MOST || memchr(data, 0, size))
        return 0;
    must(scanner_open());
    char *sql = malloc(size + 1);
    struct buf out = {0};
    struct pg_names names = {0};
    must(sql != NULL);
    memcpy(sql, data, size);
    sql[size] = '\0';
    must(pg_named_rewrite(sql, size, &out, &names));
    char why[200];
    long n = scanner_read(sql, tokens, MOST, why);
    memset(expected, 0, size + 1);
    if (n >= 0 && expect(sql, tokens, (size_t)n, expected))
        compare(sql, size, expected, &out, &names);
    buf_free(&out);
    free(names.list);
    free(sql);
    return 0;
}
