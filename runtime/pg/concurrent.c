#include "pg/concurrent.h"

#include "base/buf.h"
#include "base/number.h"
#include "pg/piece.h"

#include <string.h>

enum concurrent { CONCURRENT_NOT, CONCURRENT_CREATE, CONCURRENT_REINDEX, CONCURRENT_DROP, CONCURRENT_DETACH };

static bool is_end(struct sql_piece p)
{
    return p.kind == SQL_END || sql_is_sign(p, ';');
}

/* True when the next piece is this word; moves past it. */
static bool take_word(struct sql_scan *x, const char *word)
{
    struct sql_scan ahead = *x;
    if (!sql_is_word(sql_take_piece(&ahead), word))
        return false;
    *x = ahead;
    return true;
}

/* Behind CREATE. Sets `name` to the index's name as it is written; it has none when the server makes one. */
static bool is_create(struct sql_scan *x, struct sql_piece *name)
{
    take_word(x, "unique");
    if (!take_word(x, "index") || !take_word(x, "concurrently"))
        return false;
    if (take_word(x, "if"))
        while (take_word(x, "not") || take_word(x, "exists"))
            ;
    *name = sql_take_piece(x);
    if (sql_is_word(*name, "on") || (name->kind != SQL_WORD && name->kind != SQL_QUOTED))
        *name = (struct sql_piece){0};
    return true;
}

/* An option of REINDEX that is followed by false, off or 0 is off. */
static bool is_off(struct sql_piece value)
{
    static const char *const words[] = {"false", "off", "'false'", "'off'", "0"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (value.kind != SQL_END && ascii_is_word(value.text, value.len, words[i]))
            return true;
    return false;
}

/* Behind REINDEX: CONCURRENTLY stands among the options, or in front of the name. */
static bool is_reindex(struct sql_scan *x)
{
    for (struct sql_piece p = sql_take_piece(x); !is_end(p); p = sql_take_piece(x)) {
        struct sql_scan ahead = *x;
        if (sql_is_word(p, "concurrently"))
            return !is_off(sql_take_piece(&ahead));
    }
    return false;
}

/* Behind ALTER: CONCURRENTLY is the last word. */
static bool is_detach(struct sql_scan *x)
{
    bool detach = false, partition = false;
    struct sql_piece last = {0};
    if (!take_word(x, "table"))
        return false;
    for (struct sql_piece p = sql_take_piece(x); !is_end(p); p = sql_take_piece(x)) {
        partition = partition || (detach && sql_is_word(p, "partition") && sql_is_word(last, "detach"));
        detach = detach || sql_is_word(p, "detach");
        last = p;
    }
    return partition && sql_is_word(last, "concurrently");
}

static enum concurrent find(const char *sql, size_t len, struct sql_piece *name)
{
    struct sql_scan x = {.sql = sql, .len = len};
    struct sql_piece first = sql_take_piece(&x);
    while (sql_is_sign(first, ';'))
        first = sql_take_piece(&x);
    if (sql_is_word(first, "create"))
        return is_create(&x, name) ? CONCURRENT_CREATE : CONCURRENT_NOT;
    if (sql_is_word(first, "reindex"))
        return is_reindex(&x) ? CONCURRENT_REINDEX : CONCURRENT_NOT;
    if (sql_is_word(first, "drop"))
        return take_word(&x, "index") && take_word(&x, "concurrently") ? CONCURRENT_DROP : CONCURRENT_NOT;
    if (sql_is_word(first, "alter"))
        return is_detach(&x) ? CONCURRENT_DETACH : CONCURRENT_NOT;
    return CONCURRENT_NOT;
}

bool pg_is_concurrent(const char *sql, size_t len)
{
    struct sql_piece name = {0};
    return find(sql, len, &name) != CONCURRENT_NOT;
}

bool pg_concurrent_is_refusal(const char *sqlstate)
{
    static const char *const states[] = {
        "0A000", /* a partitioned table, a system catalog, several indexes */
        "25001", /* in a transaction */
        "25006", /* on a standby */
        "2BP01", /* a constraint needs the index */
        "55000", /* there is a default partition, or a detach is pending */
    };
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(sqlstate, states[i]) == 0)
            return true;
    return false;
}

static bool add_hint(struct buf *out, enum concurrent what, struct sql_piece name)
{
    switch (what) {
    case CONCURRENT_CREATE:
        if (!name.text)
            return buf_addf(out,
                            "CREATE INDEX CONCURRENTLY may leave an INVALID index: \\d of the table shows "
                            "it. Drop it (DROP INDEX CONCURRENTLY), then run this again.");
        return buf_addf(out,
                        "CREATE INDEX CONCURRENTLY may leave the index %.*s behind, INVALID (\\d of the "
                        "table shows it). Drop it (DROP INDEX CONCURRENTLY IF EXISTS %.*s), then run this "
                        "again.",
                        (int)name.len, name.text, (int)name.len, name.text);
    case CONCURRENT_REINDEX:
        return buf_addf(out, "REINDEX CONCURRENTLY may leave INVALID indexes: select indexrelid::regclass "
                             "from pg_index where not indisvalid. Drop those that end in _ccnew or _ccold "
                             "(and a number), then run this again.");
    case CONCURRENT_DROP:
        return buf_addf(out, "DROP INDEX CONCURRENTLY may leave the index behind, INVALID: statements do not "
                             "use it any more, and still write into it. Run this again.");
    case CONCURRENT_DETACH:
        return buf_addf(out,
                        "The partition may be half detached (inhdetachpending in pg_inherits). If it is, "
                        "run ALTER TABLE ... DETACH PARTITION ... FINALIZE.");
    case CONCURRENT_NOT:
        break;
    }
    return false;
}

void pg_error_of_concurrent(struct error *e, const char *sql)
{
    struct sql_piece name = {0};
    struct buf hint = {0};
    if (!sql || !e->field || e->outcome != OUTCOME_UNKNOWN)
        return;
    enum concurrent what = find(sql, strlen(sql), &name);
    if (what == CONCURRENT_NOT)
        return;
    e->retryable = false;
    const char *given = e->field[ERROR_HINT];
    if (add_hint(&hint, what, name) && (!given || buf_addf(&hint, " %s", given)))
        error_set_field(e, ERROR_HINT, hint.data);
    buf_free(&hint);
}
