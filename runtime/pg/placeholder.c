#include "pg/placeholder.h"

#include "base/buf.h"
#include "base/number.h"
#include "pg/scan.h"

#include <stdio.h>
#include <string.h>

/* ---- finding ---- */

struct piece {
    enum sql_kind kind;
    size_t from;
    size_t end;
};

static struct piece take(struct sql_scan *x)
{
    struct piece p;
    p.kind = sql_next_piece(x, &p.from);
    p.end = x->at;
    return p;
}

/* Keywords in front of a value. */
static bool is_before_value(const char *word, size_t len)
{
    static const char *const keywords[] = {
        "and",    "or",       "not",      "where",   "on",     "having", "in",        "like",
        "ilike",  "similar",  "to",       "between", "case",   "when",   "then",      "else",
        "select", "distinct", "values",   "limit",   "offset", "set",    "returning", "from",
        "is",     "any",      "all",      "some",    "by",     "using",  "escape",    "fetch",
        "first",  "next",     "interval", "default", "as",
    };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (ascii_is_word(word, len, keywords[i]))
            return true;
    return false;
}

/* True when a value ends here, so that what follows is an operator. */
static bool is_operand(const char *sql, const struct piece *p)
{
    switch (p->kind) {
    case SQL_WORD:
        return !is_before_value(sql + p->from, p->end - p->from);
    case SQL_SIGN:
        return sql[p->from] == ')' || sql[p->from] == ']';
    case SQL_END:
        return false;
    default:
        return true;
    }
}

static bool ends_value(const char *sql, size_t len, size_t at)
{
    return at >= len || strchr(",);", sql[at]) != NULL;
}

/* The end of a name that begins at `at`; `at` itself when none does. */
static size_t name_end(const char *sql, size_t len, size_t at)
{
    if (at < len && sql_starts_name((unsigned char)sql[at]))
        while (at < len && sql_continues_name((unsigned char)sql[at]))
            at++;
    return at;
}

/* %s, %d, %(name)s */
static size_t percent_end(const char *sql, size_t len, size_t at)
{
    size_t end = name_end(sql, len, at + 1);
    if (end == at + 2)
        return end;
    if (at + 1 >= len || sql[at + 1] != '(')
        return at;
    end = name_end(sql, len, at + 2);
    return end > at + 2 && end + 1 < len && sql[end] == ')' && sql_starts_name((unsigned char)sql[end + 1])
               ? end + 2
               : at;
}

/* A run of digits, or a name. */
static size_t word_end(const char *sql, size_t len, size_t at)
{
    size_t end = name_end(sql, len, at);
    while (end == at && at < len && sql[at] >= '0' && sql[at] <= '9')
        end = ++at;
    return end;
}

/* The end of the parameter that begins with the sign at p->from; p->from when there is none. `next`: where
 * the next piece begins. */
static size_t foreign_end(const char *sql, size_t len, const struct piece *before, const struct piece *p,
                          size_t next)
{
    size_t at = p->from;
    bool after_operand = is_operand(sql, before);
    char previous = at > 0 ? sql[at - 1] : ' ';
    switch (sql[at]) {
    case '?': /* not of ?|, ?&, @? */
        if (previous == '@' || (at + 1 < len && strchr("|&", sql[at + 1]) && sql[at + 1]))
            return at;
        return !after_operand || ends_value(sql, len, next) ? at + 1 : at;
    case '%':
        return after_operand ? at : percent_end(sql, len, at);
    case '@':
        return after_operand || previous == '@' ? at : name_end(sql, len, at + 1);
    case '$':
        return name_end(sql, len, at + 1);
    case ':':
        return after_operand || previous == ':' ? at : word_end(sql, len, at + 1);
    default:
        return at;
    }
}

enum pg_placeholder pg_placeholder_find(const char *sql, size_t len, char *out, size_t size)
{
    struct sql_scan x = {.sql = sql, .len = len};
    struct piece before = {SQL_END, 0, 0};
    for (struct piece p = take(&x); p.kind != SQL_END; p = take(&x)) {
        struct sql_scan ahead = x;
        size_t end = p.from;
        if (p.kind == SQL_SIGN)
            end = foreign_end(sql, len, &before, &p, take(&ahead).from);
        if (end > p.from + (sql[p.from] != '?')) {
            bool named = sql[p.from] == ':' && sql_starts_name((unsigned char)sql[p.from + 1]);
            bool attached = named && before.kind == SQL_WORD && before.end == p.from;
            size_t from = attached ? before.from : p.from;
            snprintf(out, size, "%.*s", (int)(end - from < 40 ? end - from : 40), sql + from);
            return attached ? PG_PLACE_ATTACHED : named ? PG_PLACE_NAMED : PG_PLACE_FOREIGN;
        }
        before = p;
    }
    return PG_PLACE_NONE;
}

/* ---- the hint ---- */

void pg_placeholder_hint(enum pg_placeholder kind, const char *found, char *out, size_t size)
{
    if (kind == PG_PLACE_NAMED)
        snprintf(out, size,
                 "the values of %s and its like are given by name, in one table: (sql, {%s = ...}).", found,
                 found + 1);
    else if (kind == PG_PLACE_ATTACHED)
        snprintf(out, size,
                 "%s is no parameter, because a name stands directly before the colon: put a blank there.",
                 found);
    else
        snprintf(out, size,
                 "parameters are written as $1, $2 ... or as :name with a table of values, not as %s.",
                 found);
}

/* True for syntax errors, unknown columns, operators and types, and a wrong number of parameters. */
static bool may_be_placeholder(const char *state)
{
    static const char *const states[] = {"42601", "42703", "42883", "42P18", "42725", "42P02", "08P01"};
    for (size_t i = 0; state && i < sizeof states / sizeof *states; i++)
        if (strcmp(state, states[i]) == 0)
            return true;
    return false;
}

/* ---- $1, $2 ... in wrong places, and values without a parameter ---- */

/* The parameters of a text. */
struct numbers {
    int64_t last;   /* the highest number; 0: there is none */
    bool has_asked; /* the number that was asked for is among them */
};

static struct numbers numbers_of(const char *sql, int64_t asked)
{
    struct sql_scan x = {.sql = sql, .len = strlen(sql)};
    struct numbers found = {0};
    for (struct piece p = take(&x); p.kind != SQL_END; p = take(&x)) {
        int64_t n = p.kind == SQL_PARAMETER ? number_leading(sql + p.from + 1) : 0;
        found.last = n > found.last ? n : found.last;
        found.has_asked = found.has_asked || (n > 0 && n == asked);
    }
    return found;
}

/* The number after the first `sign` that a digit follows, in the server's message of any language; else 0. */
static int64_t number_behind(const char *message, const char *sign)
{
    const char *at = strstr(message, sign);
    return at ? number_leading(at + strlen(sign)) : 0;
}

static bool takes_parameters(const char *sql)
{
    static const char *const words[] = {"select", "insert", "update",  "delete",  "merge", "values",
                                        "with",   "table",  "explain", "declare", "call",  "execute"};
    const char *word = sql_first_word(sql);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (ascii_begins(word, words[i], strlen(words[i])))
            return true;
    return false;
}

/* Writes what is wrong with the parameters, if that is why the server refuses the statement. */
static bool number_hint(const struct error *e, const char *sql, char *out, size_t size)
{
    static const char *const elsewhere =
        "a parameter cannot stand here: db.literal(v) writes a value into the text, db.ident(name) a name.";
    const char *state = e->field[ERROR_SQLSTATE];
    int64_t asked = number_behind(e->message, "$");
    struct numbers have = numbers_of(sql, asked);
    if (strcmp(state, "42601") == 0 && number_behind(e->message, "\"$") > 0)
        return snprintf(out, size, "%s", elsewhere) > 0;
    if (strcmp(state, "08P01") == 0 && have.last > 0 && strstr(e->message, "\"\""))
        return snprintf(
                   out, size,
                   "fewer values were given than the SQL has parameters: its last one is $%lld. SQL NULL is "
                   "db.null.",
                   (long long)have.last) > 0;
    if (strcmp(state, "42P18") != 0 || asked == 0)
        return false;
    if (!takes_parameters(sql))
        return snprintf(out, size, "%s", elsewhere) > 0;
    if (have.last == 0)
        return snprintf(out, size,
                        "values were given, but the SQL has no parameter: $1 in quotes or a comment does not "
                        "count.") > 0;
    if (asked > have.last)
        return snprintf(out, size,
                        "more values were given than the SQL has parameters: its last one is $%lld.",
                        (long long)have.last) > 0;
    if (!have.has_asked)
        return snprintf(out, size, "the SQL has $%lld, but no $%lld: number its parameters without a gap.",
                        (long long)have.last, (long long)asked) > 0;
    return snprintf(out, size, "say the type of the value: $%lld::type.", (long long)asked) > 0;
}

void pg_error_of_statement(struct error *e, const char *sql)
{
    char found[48];
    char text[PG_PLACE_HINT];
    struct buf hint = {0};
    error_set_field(e, ERROR_STATEMENT, sql);
    if (!sql || !e->field || !may_be_placeholder(e->field[ERROR_SQLSTATE]))
        return;
    enum pg_placeholder kind = pg_placeholder_find(sql, strlen(sql), found, sizeof found);
    if (kind != PG_PLACE_NONE)
        pg_placeholder_hint(kind, found, text, sizeof text);
    else if (!number_hint(e, sql, text, sizeof text))
        return;
    const char *given = e->field[ERROR_HINT];
    if (buf_addf(&hint, "%s%s%s", text, given ? " " : "", given ? given : ""))
        error_set_field(e, ERROR_HINT, hint.data);
    buf_free(&hint);
}
