#include "pg/effect.h"
#include "base/number.h"
#include "pg/concurrent.h"
#include "pg/piece.h"

#include <string.h>

enum { ALL_EFFECTS = PG_CHANGES_SCHEMA | PG_CHANGES_SESSION | PG_ENDS };

/* Also matches the quoted name. */
static bool calls_set_config(struct sql_piece p)
{
    if (p.kind == SQL_QUOTED)
        return p.len == 12 && memcmp(p.text, "\"set_config\"", 12) == 0;
    return sql_is_word(p, "set_config");
}

/* False for settings that change neither the meaning of a statement nor the form of a value: time limits,
 * planning, names of the session. */
static bool is_of_meaning(struct sql_piece name)
{
    static const char *const others[] = {"'statement_timeout'",
                                         "'lock_timeout'",
                                         "'idle_in_transaction_session_timeout'",
                                         "'transaction_timeout'",
                                         "'client_connection_check_interval'",
                                         "'tcp_user_timeout'",
                                         "'synchronous_commit'",
                                         "'plan_cache_mode'",
                                         "'jit'",
                                         "'application_name'"};
    for (size_t i = 0; name.kind == SQL_STRING && i < sizeof others / sizeof *others; i++)
        if (name.len == strlen(others[i]) && memcmp(name.text, others[i], name.len) == 0)
            return false;
    return true;
}

/* `p` is the function's name; `x` is positioned after it. A call whose setting is no literal counts as a
 * change of any setting. */
static bool is_set_config(struct sql_piece p, struct sql_scan x)
{
    if (!calls_set_config(p))
        return false;
    if (!sql_is_sign(sql_take_piece(&x), '('))
        return true;
    struct sql_piece name = sql_take_piece(&x);
    return is_of_meaning(name) || !sql_is_sign(sql_take_piece(&x), ',');
}

static bool is_one_of(struct sql_piece p, const char *const *words)
{
    for (; *words; words++)
        if (sql_is_word(p, *words))
            return true;
    return false;
}

/* The effects that follow from the first word. */
static unsigned of_first_word(struct sql_piece p)
{
    static const char *const plans[] = {"select", "insert", "update", "delete", "with",
                                        "values", "table",  "merge",  NULL};
    static const char *const runs[] = {"fetch", "move", "copy", "explain", "execute", NULL};
    static const char *const none[] = {"begin",   "start",      "savepoint", "release", "show",
                                       "close",   "lock",       "listen",    "notify",  "declare",
                                       "prepare", "deallocate", NULL};
    static const char *const session[] = {"set", "reset", "discard", NULL};
    static const char *const ends[] = {"commit", "end", "rollback", "abort", NULL};
    if (is_one_of(p, plans))
        return PG_HAS_PLAN;
    if (is_one_of(p, runs))
        return PG_RUNS;
    if (is_one_of(p, none))
        return 0;
    if (is_one_of(p, session))
        return PG_CHANGES_SESSION;
    if (is_one_of(p, ends))
        return PG_ENDS;
    return PG_CHANGES_SCHEMA | PG_CHANGES_SESSION;
}

/* True when the text contains this word, in upper or lower case, also inside a string. */
static bool mentions(const struct sql_scan *x, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= x->len; i++)
        if (ascii_begins(x->sql + i, word, n))
            return true;
    return false;
}

/* What runs CONCURRENTLY commits. A CALL may commit, because the procedure is unknown. A DO block may commit
 * only if its text says so: COMMIT in PL/pgSQL, spi_commit() and the like in other languages, or a CALL. */
static unsigned of_commits(struct sql_piece first, const struct sql_scan *x)
{
    static const char *const maybe[] = {"create", "reindex", "drop", "alter", NULL};
    if (is_one_of(first, maybe)) {
        size_t from = (size_t)(first.text - x->sql);
        return pg_is_concurrent(first.text, x->len - from) ? PG_CONCURRENT | PG_MAY_COMMIT : 0;
    }
    bool may = sql_is_word(first, "call") ||
               (sql_is_word(first, "do") && (mentions(x, "commit") || mentions(x, "call")));
    return may ? PG_MAY_COMMIT : 0;
}

/* The effects that follow from a later word: INTO creates a table unless it belongs to INSERT or MERGE;
 * CREATE can follow EXPLAIN ANALYZE; PREPARED: COMMIT PREPARED commits the DDL of another session's
 * transaction, and PREPARE TRANSACTION hands over this session's. */
static unsigned of_word(struct sql_piece p, struct sql_piece before, const struct sql_scan *x)
{
    if (sql_is_word(p, "into") && !sql_is_word(before, "insert") && !sql_is_word(before, "merge"))
        return PG_CHANGES_SCHEMA | PG_CHANGES_SESSION;
    if (sql_is_word(p, "create") ||
        (sql_is_word(p, "prepared") && (sql_is_word(before, "commit") || sql_is_word(before, "rollback"))) ||
        (sql_is_word(p, "transaction") && sql_is_word(before, "prepare")))
        return PG_CHANGES_SCHEMA | PG_CHANGES_SESSION;
    return is_set_config(p, *x) ? PG_CHANGES_SESSION : 0;
}

unsigned pg_effect_of(const char *sql, size_t len, bool plain_strings)
{
    struct sql_scan x = {.sql = sql, .len = len};
    struct sql_piece before = {SQL_END, sql, 0};
    unsigned effect = 0;
    bool first = true; /* the next word is the first of a statement */
    if (!plain_strings && memchr(sql, '\\', len))
        effect = ALL_EFFECTS;
    for (;;) {
        struct sql_piece p = sql_take_piece(&x);
        if (p.kind == SQL_END)
            return effect;
        if (sql_is_sign(p, ';'))
            first = true;
        else if (first && !sql_is_sign(p, '(')) {
            effect |= of_first_word(p) | of_commits(p, &x);
            first = false;
        } else
            effect |= of_word(p, before, &x);
        before = p;
    }
}
