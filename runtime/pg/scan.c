#include "pg/scan.h"

#include <string.h>

static int peek(const struct sql_scan *x, size_t ahead)
{
    return x->at + ahead < x->len ? (unsigned char)x->sql[x->at + ahead] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool sql_starts_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

bool sql_continues_name(int c)
{
    return sql_starts_name(c) || is_digit(c);
}

/* Each skip_ function moves past its piece. */

static void skip_quoted(struct sql_scan *x, int quote, bool backslash)
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
    x->open = true;
}

static void skip_line_comment(struct sql_scan *x)
{
    while (x->at < x->len && x->sql[x->at] != '\n' && x->sql[x->at] != '\r')
        x->at++;
}

static void skip_block_comment(struct sql_scan *x)
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
    x->open = true;
}

/* At '$': a dollar-quoted string, or a parameter like $1, or just the sign. */
static enum sql_kind skip_dollar(struct sql_scan *x)
{
    size_t tag = 1;
    if (is_digit(peek(x, 1))) {
        do
            x->at++;
        while (is_digit(peek(x, 0)));
        return SQL_PARAMETER;
    }
    while (sql_continues_name(peek(x, tag)))
        tag++;
    if (peek(x, tag) != '$') {
        x->at++;
        return SQL_SIGN;
    }
    const char *quote = x->sql + x->at;
    size_t n = tag + 1;
    for (x->at += n; x->at + n <= x->len; x->at++) {
        if (memcmp(x->sql + x->at, quote, n) == 0) {
            x->at += n;
            return SQL_DOLLAR;
        }
    }
    x->at = x->len;
    x->open = true;
    return SQL_DOLLAR;
}

/* If the string is continued by quotes on a later line, moves there; the same rules apply. */
static bool string_goes_on(struct sql_scan *x)
{
    struct sql_scan y = *x;
    bool newline = false;
    for (;;) {
        int c = peek(&y, 0);
        if (c == '-' && peek(&y, 1) == '-') {
            skip_line_comment(&y);
        } else if (is_blank(c)) {
            newline = newline || c == '\n' || c == '\r';
            y.at++;
        } else {
            break;
        }
    }
    if (!newline || peek(&y, 0) != '\'')
        return false;
    x->at = y.at;
    return true;
}

static void skip_string(struct sql_scan *x, bool backslash)
{
    do
        skip_quoted(x, '\'', backslash);
    while (!x->open && string_goes_on(x));
}

/* True when the quote at x->at is that of B'..', X'..' or U&'..', which never have escapes. */
static bool has_prefix(const struct sql_scan *x)
{
    size_t at = x->at;
    if (at >= 1 && memchr("bBxX", x->sql[at - 1], 4))
        at -= 1;
    else if (at >= 2 && x->sql[at - 1] == '&' && (x->sql[at - 2] | 0x20) == 'u')
        at -= 2;
    else
        return false;
    int c = at >= 1 ? (unsigned char)x->sql[at - 1] : -1;
    return !sql_continues_name(c) && c != '$';
}

/* A word; the prefix of E'..' turns backslashes on. */
static enum sql_kind skip_word(struct sql_scan *x)
{
    size_t from = x->at;
    while (sql_continues_name(peek(x, 0)) || peek(x, 0) == '$')
        x->at++;
    if (x->at - from != 1 || (x->sql[from] != 'e' && x->sql[from] != 'E') || peek(x, 0) != '\'')
        return SQL_WORD;
    skip_string(x, true);
    return SQL_STRING;
}

/* Each digit may have a _ before it. */
static void skip_digits(struct sql_scan *x, const char *digits)
{
    for (;;) {
        size_t underscore = peek(x, 0) == '_';
        int c = peek(x, underscore);
        if (c <= 0 || !strchr(digits, c))
            return;
        x->at += underscore + 1;
    }
}

/* 0x, 0o or 0b, when a digit of its base follows. */
static bool skip_other_base(struct sql_scan *x)
{
    int base = peek(x, 0) == '0' && peek(x, 1) > 0 ? peek(x, 1) | 0x20 : 0;
    const char *digits = base == 'x'   ? "0123456789abcdefABCDEF"
                         : base == 'o' ? "01234567"
                         : base == 'b' ? "01"
                                       : "";
    struct sql_scan y = *x;
    y.at += 2;
    skip_digits(&y, digits);
    if (y.at == x->at + 2)
        return false;
    x->at = y.at;
    return true;
}

static void skip_number(struct sql_scan *x)
{
    static const char decimal[] = "0123456789";
    if (skip_other_base(x))
        return;
    skip_digits(x, decimal);
    if (peek(x, 0) == '.' && peek(x, 1) != '.') { /* 1..2 is a range of PL/pgSQL */
        x->at++;
        if (is_digit(peek(x, 0)))
            skip_digits(x, decimal);
    }
    int c = peek(x, 0);
    size_t sign = peek(x, 1) == '+' || peek(x, 1) == '-';
    if ((c == 'e' || c == 'E') && is_digit(peek(x, 1 + sign))) {
        x->at += 1 + sign;
        skip_digits(x, decimal);
    }
}

enum sql_kind sql_next(struct sql_scan *x)
{
    int c = peek(x, 0);
    x->open = false;
    if (c < 0)
        return SQL_END;
    if (is_blank(c)) {
        while (is_blank(peek(x, 0)))
            x->at++;
        return SQL_BLANK;
    }
    if (c == '-' && peek(x, 1) == '-') {
        skip_line_comment(x);
        return SQL_COMMENT;
    }
    if (c == '/' && peek(x, 1) == '*') {
        skip_block_comment(x);
        return SQL_COMMENT;
    }
    if (c == '\'') {
        skip_string(x, x->backslash && !has_prefix(x));
        return SQL_STRING;
    }
    if (c == '"') {
        skip_quoted(x, c, false);
        return SQL_QUOTED;
    }
    if (c == '$')
        return skip_dollar(x);
    if (sql_starts_name(c))
        return skip_word(x);
    if (is_digit(c)) {
        skip_number(x);
        return SQL_NUMBER;
    }
    x->at++;
    return SQL_SIGN;
}

enum sql_kind sql_next_piece(struct sql_scan *x, size_t *from)
{
    enum sql_kind kind;
    do {
        *from = x->at;
        kind = sql_next(x);
    } while (kind == SQL_BLANK || kind == SQL_COMMENT);
    return kind;
}

/* ---- queries about a statement ---- */

const char *sql_first_word(const char *sql)
{
    struct sql_scan x = {.sql = sql, .len = strlen(sql)};
    size_t from;
    while (sql_next_piece(&x, &from) == SQL_SIGN && (sql[from] == '(' || sql[from] == ';'))
        ;
    return sql + from;
}

bool sql_is_several(const char *sql)
{
    struct sql_scan x = {.sql = sql, .len = strlen(sql)};
    bool ended = false;
    size_t from;
    while (sql_next_piece(&x, &from) != SQL_END) {
        if (ended && sql[from] != ';')
            return true;
        ended = ended || sql[from] == ';'; /* no other piece begins with a semicolon */
    }
    return false;
}
