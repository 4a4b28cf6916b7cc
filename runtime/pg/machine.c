/* Opening and closing the machine, its queue of groups, and queries about its state. */
#include "pg/errors.h"
#include "pg/machine_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool pg_machine_init(struct pg_machine *m, PGconn *conn, uint32_t cache_limit,
                     void (*forget)(void *data, int ref), void *data)
{
    *m = (struct pg_machine){.conn = conn, .state = PG_IDLE};
    pg_machine_begin_epochs(m);
    m->encoding = PQclientEncoding(conn);
    m->cache = pg_cache_new(cache_limit, forget, data);
    return m->cache != NULL;
}

void pg_machine_batch_clear(struct pg_machine *m)
{
    for (size_t i = 0; m->batch.list && i < m->batch.n; i++)
        PQclear(m->batch.list[i]);
    free(m->batch.list);
    free(m->batch.names.use);
    m->batch = (struct pg_batch){0};
}

static void release(struct pg_machine *m)
{
    pg_machine_batch_clear(m);
    PQclear(m->result);
    m->result = NULL;
    error_clear(&m->failure);
    error_clear(&m->error);
    error_clear(&m->end.words);
    pg_cache_free(m->cache);
    m->cache = NULL;
    m->entry = NULL;
    m->conn = NULL;
    m->owed = 0;
    pg_machine_set_state(m, PG_CLOSED);
}

void pg_machine_close(struct pg_machine *m)
{
    PGconn *conn = m->conn;
    release(m);
    if (conn)
        PQfinish(conn);
}

PGconn *pg_machine_detach(struct pg_machine *m)
{
    PGconn *conn = m->conn;
    release(m);
    return conn;
}

int pg_machine_fd(const struct pg_machine *m)
{
    return PQsocket(m->conn);
}

/* ---- the queue ---- */

/* Resets the fields of struct pg_machine that describe the head. */
static void new_head(struct pg_machine *m)
{
    m->failed = m->cancelling = false;
    m->answered = 0;
}

void pg_machine_push(struct pg_machine *m, size_t statements, void *owner)
{
    assert(m->owed < PG_MOST_GROUPS);
    m->group[(m->head + m->owed) % PG_MOST_GROUPS] =
        (struct pg_group){.owner = owner, .statements = statements};
    if (m->owed++ == 0)
        new_head(m);
}

void *pg_machine_pop(struct pg_machine *m)
{
    void *owner = pg_machine_head(m)->owner;
    m->head = (m->head + 1) % PG_MOST_GROUPS;
    m->owed--;
    new_head(m);
    return owner;
}

bool pg_machine_not_sent(struct pg_machine *m, bool half)
{
    /* Earlier statements of the batch may have reached the server, and may contain a COMMIT. */
    bool part = m->owed > 0 && pg_machine_head(m)->statements > 0;
    if (m->state == PG_BROKEN || PQstatus(m->conn) == CONNECTION_BAD) {
        pg_error_not_sent(&m->error, part, &m->end);
        half = true;
    } else {
        const char *text = PQerrorMessage(m->conn);
        error_set(&m->error, ERROR_QUERY, "%.*s", (int)strcspn(text, "\n"), text);
    }
    m->error.outcome = part ? OUTCOME_UNKNOWN : OUTCOME_NOT_SENT;
    if (half && m->state != PG_BROKEN) {
        m->owed = 0; /* only a batch can be in flight here; its caller gets m->error now */
        pg_machine_set_state(m, PG_BROKEN);
    }
    return false;
}

bool pg_machine_enter_pipeline(struct pg_machine *m)
{
    /* libpq clears the single-row mode when the next statement begins, but not when that statement is the
     * first of a pipeline: its rows would come one by one, and take_row would refuse them. PQsendPrepare
     * without a statement name clears the mode as well, and fails before it sends anything. */
    if (m->row_mode)
        PQsendPrepare(m->conn, NULL, NULL, 0, NULL);
    m->row_mode = false;
    return PQenterPipelineMode(m->conn);
}

/* ---- asking ---- */

bool pg_machine_is_scanned_right(const struct pg_machine *m, const char *sql, size_t len)
{
    if (!memchr(sql, '\\', len))
        return true;
    const char *conforming = PQparameterStatus(m->conn, "standard_conforming_strings");
    return conforming && strcmp(conforming, "on") == 0;
}

void pg_machine_given_back(struct pg_machine *m)
{
    m->guard = PG_UNGUARDED;
    m->verbatim = false;
}

bool pg_machine_is_clean(const struct pg_machine *m)
{
    return m->state == PG_IDLE && PQtransactionStatus(m->conn) == PQTRANS_IDLE;
}

bool pg_machine_is_busy(const struct pg_machine *m)
{
    return m->owed > 0;
}

static bool is_awaited(const struct pg_machine *m)
{
    if (!m->shared)
        return !m->discard && !m->unwanted;
    for (uint32_t i = 0; i < m->owed; i++)
        if (m->group[(m->head + i) % PG_MOST_GROUPS].owner)
            return true;
    return false;
}

bool pg_machine_may_cancel(const struct pg_machine *m)
{
    return m->owed > 0 && m->state != PG_BROKEN && !m->cancelling && !is_awaited(m);
}

void pg_machine_cancel_sent(struct pg_machine *m)
{
    m->cancelling = true;
}

PGresult *pg_machine_take(struct pg_machine *m)
{
    PGresult *r = m->result;
    m->result = NULL;
    return r;
}
