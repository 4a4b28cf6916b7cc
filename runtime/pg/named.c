#include "pg/named.h"
#include "base/number.h"
#include "pg/scan.h"

#include <stdlib.h>
#include <string.h>

/* The number of a name; adds a new name; 0 when out of memory. */
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

/* At a colon: the byte before it distinguishes a slice ("a[1:n]") from a parameter. */
static bool is_parameter(const char *sql, size_t len, size_t colon)
{
    int before = colon > 0 ? (unsigned char)sql[colon - 1] : -1;
    return colon + 1 < len && sql_starts_name((unsigned char)sql[colon + 1]) && before != ':' &&
           !sql_continues_name(before) && before != ']' && before != ')' && before != '"';
}

/* Writes the name at `at` as its number, and returns where the name ends; 0 when out of memory. */
static size_t rewrite_parameter(const char *sql, size_t len, size_t at, struct buf *out,
                                struct pg_names *names)
{
    size_t end = at;
    while (end < len && sql_continues_name((unsigned char)sql[end]))
        end++;
    size_t number = number_of(names, sql, at, end - at);
    return number > 0 && buf_addf(out, "$%zu", number) ? end : 0;
}

bool pg_named_rewrite(const char *sql, size_t len, struct buf *out, struct pg_names *names)
{
    struct sql_scan x = {.sql = sql, .len = len};
    size_t written = 0; /* bytes of the SQL copied so far */
    for (;;) {
        size_t from = x.at;
        enum sql_kind kind = sql_next(&x);
        if (kind == SQL_END)
            return buf_add(out, sql + written, len - written);
        names->numbered = names->numbered || kind == SQL_PARAMETER;
        if (kind != SQL_SIGN || sql[from] != ':' || !is_parameter(sql, len, from))
            continue;
        if (!buf_add(out, sql + written, from - written))
            return false;
        written = x.at = rewrite_parameter(sql, len, x.at, out, names);
        if (written == 0)
            return false;
    }
}

/* The place of the next $n; `len` when there is none. */
static size_t next_number(struct sql_scan *x)
{
    for (;;) {
        size_t from = x->at;
        enum sql_kind kind = sql_next(x);
        if (kind == SQL_END)
            return x->len;
        if (kind == SQL_PARAMETER)
            return from;
    }
}

/* Rewritten SQL has exactly the parameters $1 to $n. With another highest number the SQL was not rewritten,
 * and the answer is true. */
bool pg_named_is_sure(const char *sql, size_t len, int n)
{
    struct sql_scan plain = {.sql = sql, .len = len};
    struct sql_scan escaped = {.sql = sql, .len = len, .backslash = true};
    int64_t highest = 0;
    bool same = true;
    for (size_t at = next_number(&plain); at < len; at = next_number(&plain)) {
        int64_t number = number_leading(sql + at + 1);
        highest = number > highest ? number : highest;
        same = same && next_number(&escaped) == at;
    }
    return highest != n || (same && next_number(&escaped) == len);
}
