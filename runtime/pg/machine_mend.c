/* Restores the settings on which values depend, after a group that changed them. */
#include "pg/machine_impl.h"
#include "pg/settings.h"

#include <string.h>

void pg_machine_note_format(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p)
{
    if (sql && pg_settings_named(sql, len, m->bare))
        m->effect |= PG_CHANGES_FORMAT;
    /* select set_config($1, ...) */
    for (int i = 0; (m->effect & PG_CHANGES_SESSION) && i < p->n; i++)
        if (p->values[i] && (!p->formats || p->formats[i] == 0) &&
            pg_settings_named(p->values[i], strlen(p->values[i]), false))
            m->effect |= PG_CHANGES_FORMAT;
}

/* Writes the statements to send; "" = nothing. In a transaction the change can be local to it or outlast it:
 * so the settings are restored for the transaction now, and again after it. */
static void find_wrong(struct pg_machine *m, char sql[PG_SETTINGS_SQL])
{
    PGTransactionStatusType t = PQtransactionStatus(m->conn);
    bool now = m->effect & PG_CHANGES_FORMAT;
    m->in_doubt |= now;
    sql[0] = '\0';
    if (t == PQTRANS_INERROR || m->verbatim)
        return;
    pg_settings_mend(m->conn, now || (m->in_doubt && t == PQTRANS_IDLE), t != PQTRANS_IDLE, sql);
    if (t == PQTRANS_IDLE)
        m->in_doubt = false;
}

static unsigned begin_mending(struct pg_machine *m, const char *sql)
{
    if (!PQsendQuery(m->conn, sql)) {
        pg_machine_set_state(m, PG_BROKEN);
        return PG_DONE;
    }
    m->mending = true;
    m->unwanted = false;
    pg_machine_set_state(m, PG_PLAIN);
    pg_machine_push(m, 1, NULL);
    m->flushing = PQflush(m->conn) != 0;
    return PG_WANT_READ | (m->flushing ? PG_WANT_WRITE : 0);
}

unsigned pg_machine_mend(struct pg_machine *m)
{
    char sql[PG_SETTINGS_SQL];
    if (m->state != PG_IDLE)
        return PG_DONE;
    if (m->mending) {
        m->mending = false;
        if (m->unmended)
            pg_machine_set_state(m, PG_BROKEN);
        return PG_DONE;
    }
    find_wrong(m, sql);
    return sql[0] ? begin_mending(m, sql) : PG_DONE;
}

void pg_machine_refuse_encoding(struct pg_machine *m)
{
    const char *encoding = PQparameterStatus(m->conn, "client_encoding");
    error_clear(&m->failure);
    error_set(
        &m->failure, ERROR_USAGE,
        "client_encoding was set to %s: dbrun reads and writes only UTF-8, and has closed the connection",
        encoding ? encoding : "another encoding");
    error_set_field(&m->failure, ERROR_HINT,
                    "Leave client_encoding alone. COPY takes an ENCODING of its own; convert_to() and "
                    "convert_from() convert single values.");
    /* A single SET has no other effect. */
    bool undone = m->in_transaction || pg_machine_in_transaction(m) ||
                  !(m->effect & ~(unsigned)(PG_CHANGES_SESSION | PG_CHANGES_FORMAT));
    m->failure.outcome = undone ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
    m->failed = true;
}
