/*
 * The guard of a transaction that only its owner may end, not the statements that the script runs inside. A
 * text that would end the transaction is not sent. The scanner can misread a text (the server decides what is
 * a string), so the command tags and the state of the transaction are checked as well.
 */
#include "base/number.h"
#include "pg/machine_impl.h"
#include "pg/scan.h"
#include "pg/tx_text.h"

#include <string.h>

#define ENDED "the transaction was ended inside of it"
#define HOW                                                                                                  \
    "Return from its function to commit, raise an error to roll back; a session has commit() and "           \
    "rollback()."

void pg_machine_guard(struct pg_machine *m, bool on)
{
    m->guard = on ? PG_GUARDED : PG_UNGUARDED;
}

void pg_machine_guard_read(struct pg_machine *m, const char *sql)
{
    if (m->guard == PG_GUARDED && !pg_machine_is_scanned_right(m, sql, strlen(sql)))
        m->unread = true;
}

static void refuse(struct pg_machine *m, const char *end)
{
    int len = 0;
    while (end && sql_continues_name((unsigned char)end[len]))
        len++;
    if (end)
        error_set(&m->error, ERROR_USAGE, "the transaction must not be ended inside of it: %.*s was not sent",
                  len, end);
    else
        error_set(&m->error, ERROR_USAGE, ENDED ": nothing more can be run in it");
    error_set_field(&m->error, ERROR_HINT, HOW);
    m->error.outcome = OUTCOME_NOT_SENT;
}

bool pg_machine_guard_allows(struct pg_machine *m, const char *sql)
{
    if (m->guard == PG_UNGUARDED)
        return true;
    pg_machine_guard_read(m, sql);
    const char *end = m->guard == PG_ENDED || m->unread ? NULL : sql_transaction_end(sql);
    if (!end && m->guard != PG_ENDED)
        return true;
    refuse(m, end);
    return false;
}

/* Only the first statement can find the transaction failed: a later one runs only after a ROLLBACK TO, which
 * repairs the transaction, or after a statement that ended it. */
void pg_machine_guard_commit(struct pg_machine *m, const char *sql)
{
    const char *first = m->in_failed ? sql_first_word(sql) : "";
    if (!*first)
        return;
    m->in_failed = false;
    m->hopeless = first == sql_transaction_end(sql) && !ascii_begins(first, "rollback", 8) &&
                  !ascii_begins(first, "abort", 5);
    m->more = m->batch.active || sql_is_several(sql);
}

void pg_machine_guard_commit_settle(struct pg_machine *m)
{
    if (!m->rolled_back || error_is_set(&m->failure))
        return;
    error_set(
        &m->failure, ERROR_QUERY,
        "the transaction was rolled back by its COMMIT: a statement of it failed and its error was caught");
    error_set_field(&m->failure, ERROR_SQLSTATE, "25P02");
    error_set_field(
        &m->failure, ERROR_HINT,
        "Send ROLLBACK where the error is caught, or put a SAVEPOINT before the statement that may fail "
        "and ROLLBACK TO it.");
    m->failure.outcome = m->more ? OUTCOME_UNKNOWN : OUTCOME_FAILED;
}

void pg_machine_guard_tag(struct pg_machine *m, const char *tag)
{
    if (tag[0] == 'C' && strcmp(tag, "COMMIT") == 0)
        m->committed = true;
    else if (tag[0] == 'P' && strcmp(tag, "PREPARE TRANSACTION") == 0)
        m->committed = true;
    else if (tag[0] == 'R' && strcmp(tag, "ROLLBACK") == 0)
        m->rolled_back = true;
}

/* True when the group in flight has ended the transaction. ROLLBACK TO has the tag ROLLBACK, too: only the
 * scanner can tell them apart, so after a text that it cannot read, a ROLLBACK counts as the end. */
static bool has_ended(const struct pg_machine *m)
{
    if (m->state == PG_BROKEN)
        return false;
    return m->committed || (m->rolled_back && m->unread) || PQtransactionStatus(m->conn) == PQTRANS_IDLE;
}

void pg_machine_guard_settle(struct pg_machine *m)
{
    if (m->guard != PG_GUARDED || !has_ended(m))
        return;
    struct error e = {0};
    m->guard = PG_ENDED;
    error_set(&e, ERROR_USAGE, ENDED ", by a %s", m->committed ? "COMMIT" : "ROLLBACK");
    if (error_is_set(&m->failure))
        error_set_field(&e, ERROR_DETAIL, m->failure.message);
    error_set_field(&e, ERROR_HINT, HOW);
    e.outcome = m->committed ? OUTCOME_UNKNOWN : OUTCOME_FAILED;
    error_clear(&m->failure);
    error_move(&m->failure, &e);
}
