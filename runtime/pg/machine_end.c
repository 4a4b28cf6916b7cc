/* The end of a group, which is settled, and the end of a connection, which settles all that is in flight. */
#include "pg/errors.h"
#include "pg/machine_impl.h"

#include <sys/socket.h>

/* ---- settling ---- */

/* At the sync of the group that is alone: the caller can now take its result or error. */
static void settle_alone(struct pg_machine *m)
{
    if (m->mending) { /* the result and the error of the previous group stay */
        error_clear(&m->failure);
        return;
    }
    if (m->batch.active)
        pg_machine_batch_settle(m);
    pg_machine_raise_epochs(m);
    if (m->forgotten) {
        m->entry = NULL;
        pg_cache_clear(m->cache);
    }
    if (m->hopeless)
        pg_machine_guard_commit_settle(m);
    if (m->guard == PG_GUARDED)
        pg_machine_guard_settle(m);
    if (error_is_set(&m->failure)) {
        error_move(&m->error, &m->failure);
        PQclear(m->result);
        m->result = NULL;
    } else if (m->error.kind != ERROR_NONE) { /* of another statement, refused while this one ran */
        error_clear(&m->error);
    }
}

/* Informs the owner last, when the machine has finished with the group. */
static void settle_shared(struct pg_machine *m, void *owner)
{
    PGresult *r = m->result;
    struct error e = {0};
    m->result = NULL;
    error_move(&e, &m->failure);
    if (error_is_set(&e) || !owner) {
        PQclear(r);
        r = NULL;
    }
    if (owner)
        m->settled(m->data, owner, r, error_is_set(&e) ? &e : NULL);
    error_clear(&e);
}

void pg_machine_settle(struct pg_machine *m)
{
    m->unmended = m->mending && m->failed;
    void *owner = pg_machine_pop(m);
    if (m->shared)
        settle_shared(m, owner);
    else
        settle_alone(m);
}

/* ---- the end of a connection ---- */

/* After this, what the kernel has received can still be read, but libpq waits neither for more nor for room
 * to send. */
static void hang_up(const struct pg_machine *m)
{
    if (PQsocket(m->conn) >= 0)
        shutdown(PQsocket(m->conn), SHUT_RDWR);
}

bool pg_machine_throw_copy_away(struct pg_machine *m)
{
    char *row;
    int n;
    while ((n = pg_machine_copy_get(m, &row)) > 0)
        PQfreemem(row);
    return n < 0;
}

static bool is_copy(const PGresult *r)
{
    ExecStatusType status = PQresultStatus(r);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

PGresult *pg_machine_next_result(struct pg_machine *m)
{
    return PQgetResult(m->conn);
}

/* True when this error says why the connection ended, and not only why one of several groups failed. */
static bool is_for_all(const struct pg_machine *m, const PGresult *r)
{
    return pg_error_ends_session(r) || (m->owed == 1 && PQresultErrorField(r, PG_DIAG_SQLSTATE));
}

/* Sets `e` to the error with which the server ended the connection, or to libpq's reason if the server sent
 * none. Once libpq has dropped a connection, it no longer knows which statement the replies in its buffer
 * belong to and returns them with wrong types: so only errors count here. Two NULLs in a row mean that no
 * reply is left. */
static void last_words(struct pg_machine *m, struct error *e)
{
    if (m->state == PG_COPY_IN) /* libpq returns no other reply before the COPY has ended */
        pg_machine_copy_end(m, "the connection was lost");
    while (m->state == PG_COPY_OUT && !pg_machine_throw_copy_away(m) && PQconsumeInput(m->conn))
        ;
    for (int nulls = 0; nulls < 2;) {
        PGresult *r = pg_machine_next_result(m);
        nulls = r ? 0 : nulls + 1;
        if (!r)
            continue;
        if (is_copy(r)) /* libpq would return it again and again */
            nulls = 2;
        if (PQresultStatus(r) == PGRES_FATAL_ERROR && !error_is_set(e) && is_for_all(m, r))
            pg_error_from_result(e, r, NULL);
        PQclear(r);
    }
    if (!error_is_set(e))
        pg_error_from_loss(e, m->conn);
}

void pg_machine_note_end(struct pg_machine *m, const PGresult *r)
{
    if (m->owed == 0 && pg_error_ends_session(r) && !error_is_set(&m->end.words))
        pg_error_from_result(&m->end.words, r, NULL);
}

void pg_machine_break_with(struct pg_machine *m, struct error *words)
{
    hang_up(m);
    pg_machine_set_state(m, PG_BROKEN);
    while (m->owed > 0) {
        if (!m->failed) {
            error_copy(&m->failure, words);
            m->failure.outcome = OUTCOME_UNKNOWN;
        }
        pg_machine_settle(m);
    }
    error_clear(words);
}

void pg_machine_break(struct pg_machine *m)
{
    struct error words = {0};
    if (m->state == PG_BROKEN || m->state == PG_CLOSED)
        return;
    hang_up(m);
    /* The failure of the head may already be the reason why the server ended the session. */
    if (m->failed && m->owed > 0 && m->failure.kind == ERROR_CONNECT)
        error_copy(&words, &m->failure);
    else
        last_words(m, &words);
    pg_machine_break_with(m, &words);
}
