#include "pg/tx_text.h"

#include "base/number.h"
#include "pg/scan.h"

#include <stdbool.h>
#include <string.h>

/* The scan of one text, statement by statement. */
struct reader {
    struct sql_scan x;
    size_t from;        /* where the last piece begins */
    enum sql_kind kind; /* of the last piece */
    int brackets;       /* the number of open ones */
    int bodies;         /* open BEGIN ATOMIC and CASE of a routine's body */
    bool routine;       /* the statement is CREATE FUNCTION or CREATE PROCEDURE */
    bool begun;         /* the last word was BEGIN */
};

static bool next(struct reader *r)
{
    r->kind = sql_next_piece(&r->x, &r->from);
    return r->kind != SQL_END;
}

static bool is(const struct reader *r, const char *word)
{
    return r->kind == SQL_WORD && ascii_is_word(r->x.sql + r->from, r->x.at - r->from, word);
}

static bool is_sign(const struct reader *r, char c)
{
    return r->kind == SQL_SIGN && r->x.sql[r->from] == c;
}

/* True when the last word read and the words after it end a transaction. Looks ahead without moving the
 * caller's place. */
static bool is_end(const struct reader *from)
{
    struct reader r = *from;
    bool rollback = is(&r, "rollback");
    if (is(&r, "prepare"))
        return next(&r) && is(&r, "transaction");
    if (!rollback && !is(&r, "commit") && !is(&r, "end") && !is(&r, "abort"))
        return false;
    next(&r);
    if (is(&r, "work") || is(&r, "transaction"))
        next(&r);
    return !is(&r, "prepared") && !(rollback && is(&r, "to"));
}

/* Enters and leaves the body of a routine, whose statements end with semicolons, too. */
static void look_for_body(struct reader *r)
{
    bool begun = r->begun;
    r->begun = is(r, "begin");
    if (begun && is(r, "atomic"))
        r->bodies++;
    else if (r->bodies > 0 && is(r, "case"))
        r->bodies++;
    else if (r->bodies > 0 && is(r, "end"))
        r->bodies--;
}

/* Reads to the end of the statement; false at the end of the text. */
static bool skip_statement(struct reader *r)
{
    bool create = is(r, "create");
    for (bool first = true; r->kind != SQL_END; next(r)) {
        if (is_sign(r, '('))
            r->brackets++;
        else if (is_sign(r, ')'))
            r->brackets--;
        else if (is_sign(r, ';') && r->brackets <= 0 && r->bodies == 0)
            return true;
        if (create && !first && !r->routine && !is(r, "or") && !is(r, "replace")) {
            r->routine = is(r, "function") || is(r, "procedure");
            create = r->routine;
        }
        if (r->routine)
            look_for_body(r);
        first = false;
    }
    return false;
}

const char *sql_transaction_end(const char *sql)
{
    struct reader r = {.x = {.sql = sql, .len = strlen(sql)}};
    while (next(&r)) {
        if (is_end(&r))
            return sql + r.from;
        r.brackets = r.bodies = 0;
        r.routine = r.begun = false;
        if (!skip_statement(&r))
            break;
    }
    return NULL;
}
