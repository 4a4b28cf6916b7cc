#include "pg/named.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct lexer {
    const char *s;
    size_t len;
    size_t at;
};

static int peek(const struct lexer *x, size_t ahead)
{
    return x->at + ahead < x->len ? (unsigned char)x->s[x->at + ahead] : -1;
}

static bool starts_name(int c)
{
    return c >= 0 && (isalpha(c) || c == '_' || c >= 0x80);
}

static bool continues_name(int c)
{
    return c >= 0 && (isalnum(c) || c == '_' || c >= 0x80);
}

/* Each skip_ function moves past its token; an unfinished one reaches to the end. */

static void skip_quoted(struct lexer *x, int quote, bool backslash)
{
    for (x->at++; x->at < x->len; x->at++) {
        int c = peek(x, 0);
        if (backslash && c == '\\') {
            x->at++;
        } else if (c == quote) {
            if (peek(x, 1) != quote) {
                x->at++;
                return;
            }
            x->at++;
        }
    }
    x->at = x->len;
}

static void skip_line_comment(struct lexer *x)
{
    while (x->at < x->len && x->s[x->at] != '\n' && x->s[x->at] != '\r')
        x->at++;
}

static void skip_block_comment(struct lexer *x)
{
    int depth = 0;
    while (x->at < x->len) {
        if (peek(x, 0) == '/' && peek(x, 1) == '*') {
            depth++;
            x->at += 2;
        } else if (peek(x, 0) == '*' && peek(x, 1) == '/') {
            x->at += 2;
            if (--depth == 0)
                return;
        } else {
            x->at++;
        }
    }
}

/* At '$': a dollar-quoted string, or a parameter like $1, or just the sign. */
static void skip_dollar(struct lexer *x)
{
    size_t tag = 1;
    if (isdigit(peek(x, 1) < 0 ? 0 : peek(x, 1))) {
        x->at++;
        return;
    }
    while (continues_name(peek(x, tag)))
        tag++;
    if (peek(x, tag) != '$') {
        x->at++;
        return;
    }
    const char *open = x->s + x->at;
    size_t n = tag + 1;
    for (x->at += n; x->at + n <= x->len; x->at++) {
        if (memcmp(x->s + x->at, open, n) == 0) {
            x->at += n;
            return;
        }
    }
    x->at = x->len;
}

/* A string goes on in the next line's quotes, under the same rules: then moves to them. */
static bool string_goes_on(struct lexer *x)
{
    struct lexer y = *x;
    bool newline = false;
    for (;;) {
        int c = peek(&y, 0);
        if (c == '-' && peek(&y, 1) == '-') {
            skip_line_comment(&y);
        } else if (c == ' ' || (c >= '\t' && c <= '\r')) {
            newline = newline || c == '\n' || c == '\r';
            y.at++;
        } else {
            break;
        }
    }
    if (!newline || peek(&y, 0) != '\'')
        return false;
    *x = y;
    return true;
}

/* A word; the prefix of E'..' turns backslashes on. */
static void skip_word(struct lexer *x)
{
    size_t from = x->at;
    while (continues_name(peek(x, 0)) || peek(x, 0) == '$')
        x->at++;
    if (x->at - from == 1 && (x->s[from] == 'e' || x->s[from] == 'E') && peek(x, 0) == '\'')
        do
            skip_quoted(x, '\'', true);
        while (string_goes_on(x));
}

/* The number of a name, giving a new one its own; 0 when memory is out. */
static size_t number_of(struct pg_names *names, const char *sql, size_t at, size_t len)
{
    for (size_t i = 0; i < names->n; i++)
        if (names->list[i].len == len && memcmp(sql + names->list[i].at, sql + at, len) == 0)
            return i + 1;
    if (names->n == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 8;
        struct pg_name *list = realloc(names->list, cap * sizeof *list);
        if (!list)
            return 0;
        names->list = list;
        names->cap = cap;
    }
    names->list[names->n++] = (struct pg_name){at, len};
    return names->n;
}

/* At ':'. What stands before it tells a slice ("a[1:n]") from a parameter. */
static bool is_parameter(const struct lexer *x)
{
    int before = x->at > 0 ? (unsigned char)x->s[x->at - 1] : -1;
    return starts_name(peek(x, 1)) && before != ':' && !continues_name(before) && before != ']' &&
           before != ')' && before != '"';
}

static bool rewrite_parameter(struct lexer *x, struct buf *out, struct pg_names *names)
{
    size_t at = ++x->at;
    while (continues_name(peek(x, 0)))
        x->at++;
    size_t number = number_of(names, x->s, at, x->at - at);
    return number > 0 && buf_addf(out, "$%zu", number);
}

bool pg_named_rewrite(const char *sql, size_t len, struct buf *out, struct pg_names *names)
{
    struct lexer x = {sql, len, 0};
    while (x.at < x.len) {
        size_t from = x.at;
        int c = peek(&x, 0);
        if (c == ':' && is_parameter(&x)) {
            if (!rewrite_parameter(&x, out, names))
                return false;
            continue;
        }
        if (c == '\'' || c == '"')
            skip_quoted(&x, c, false);
        else if (c == '-' && peek(&x, 1) == '-')
            skip_line_comment(&x);
        else if (c == '/' && peek(&x, 1) == '*')
            skip_block_comment(&x);
        else if (c == '$')
            skip_dollar(&x);
        else if (starts_name(c))
            skip_word(&x);
        else
            x.at++;
        if (!buf_add(out, sql + from, x.at - from))
            return false;
    }
    return !out->oom;
}
