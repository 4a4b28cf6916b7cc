/* Handles what the server sends: one switch over every kind of result. */
#include "base/number.h"
#include "pg/concurrent.h"
#include "pg/errors.h"
#include "pg/machine_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- the end of a connection ---- */

static unsigned lost(struct pg_machine *m)
{
    pg_machine_break(m);
    return PG_DONE;
}

/* The server violates the protocol, or the machine and libpq disagree about which reply is next: later
 * replies cannot be trusted. `what` names the reply. */
static unsigned out_of_step(struct pg_machine *m, const char *what)
{
    struct error e = {0};
    error_set(&e, ERROR_PROTOCOL, "unexpected reply from the server: %s; the connection is closed", what);
    pg_machine_break_with(m, &e);
    return PG_DONE;
}

/* ---- errors ---- */

/* True when the server ended the session after it had answered the statements. It may have committed them. */
static bool may_have_committed(struct pg_machine *m, const PGresult *r)
{
    return pg_error_ends_session(r) && m->answered > 0 &&
           (m->simple || m->answered == pg_machine_head(m)->statements);
}

/* True for an error in a statement's text, found before it runs: the error has a position, or is of the class
 * of syntax and access and from no function. Other errors can come from what ran, for example from a deferred
 * constraint. */
static bool is_of_text(const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    return PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION) ||
           (state && strncmp(state, "42", 2) == 0 && !PQresultErrorField(r, PG_DIAG_CONTEXT));
}

/* True for an error of a statement with CONCURRENTLY that did not begin. */
static bool is_refusal(const struct pg_machine *m, const PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    return m->effect & PG_CONCURRENT && state && pg_concurrent_is_refusal(state) &&
           !PQresultErrorField(r, PG_DIAG_CONTEXT);
}

/* True when a statement that can commit ran in whole or in part. */
static bool has_run_what_commits(struct pg_machine *m, const PGresult *r)
{
    if (m->may_commit == 0 || m->in_transaction || m->answered + 1 < m->may_commit)
        return false;
    return m->answered >= m->may_commit || !(is_of_text(r) || is_refusal(m, r));
}

/* Called when libpq cannot read a message: it no longer knows which statement the next reply belongs to. */
static void take_nonsense(struct pg_machine *m, const PGresult *r)
{
    struct error e = {0};
    pg_error_from_nonsense(&e, r);
    pg_machine_break_with(m, &e);
}

/* An error after the answers of all statements comes from the COMMIT at the sync. (A text of the simple
 * protocol may have more statements than answers so far.) */
static void tell_commit(struct pg_machine *m)
{
    size_t n = pg_machine_head(m)->statements;
    if (!m->simple && !m->in_transaction && n > 0 && m->answered == n)
        pg_error_of_commit(&m->failure, n);
}

static void take_error(struct pg_machine *m, PGresult *r)
{
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (!state && !PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY)) { /* an error that libpq made */
        take_nonsense(m, r);
    } else if (!m->failed) {
        m->failed = true;
        pg_error_from_result(&m->failure, r, NULL);
        tell_commit(m);
        if (m->cancelling && state && strcmp(state, "57014") == 0)
            m->failure.kind = ERROR_CANCELLED; /* also when the message is not in English */
        if (m->committed || may_have_committed(m, r) || has_run_what_commits(m, r))
            m->failure.outcome = OUTCOME_UNKNOWN;
    } else if (m->unwanted) {
        m->failure.outcome = may_have_committed(m, r) ? OUTCOME_UNKNOWN : OUTCOME_FAILED;
    }
    PQclear(r);
}

/* ---- answers: NULL, or the name of an unexpected reply ---- */

static void keep(struct pg_machine *m, PGresult *r)
{
    PQclear(m->result);
    m->result = r;
}

static void keep_in_batch(struct pg_machine *m, PGresult *r)
{
    struct pg_batch *b = &m->batch;
    b->affected += number_int(PQcmdTuples(r));
    if (m->discard) { /* the list keeps the `n` results that it has */
        PQclear(r);
        return;
    }
    if (b->count_only) {
        PQclear(r);
    } else if (b->n < b->cap) {
        b->list[b->n] = r;
    } else {
        size_t cap = b->cap ? b->cap * 2 : 16;
        PGresult **list = realloc(b->list, cap * sizeof(*list));
        if (!list) {
            error_set(&m->failure, ERROR_QUERY, "not enough memory for the results");
            m->failure.outcome = OUTCOME_UNKNOWN;
            m->discard = true;
            PQclear(r);
            return;
        }
        b->list = list;
        b->cap = cap;
        b->list[b->n] = r;
    }
    b->n++;
}

static void note_entry(struct pg_machine *m, const PGresult *r)
{
    struct pg_cached *e = m->entry;
    if (!e)
        return;
    e->seen = true;
    if (!e->prepared || e->described)
        return;
    e->described = true;
    e->binary = PQnfields(r) > 0 && pg_types_all_binary(m->catalog, r);
    e->own_types = !pg_types_all_builtin(r);
}

static void note_tag(struct pg_machine *m, PGresult *r)
{
    const char *tag = PQcmdStatus(r);
    if (tag[0] == 'S' || tag[0] == 'I' ||
        tag[0] == 'U') /* SELECT, INSERT, UPDATE, ...: the most common ones */
        return;
    pg_machine_guard_tag(m, tag);
    bool all = strcmp(tag, "DISCARD ALL") == 0;
    if (all || strcmp(tag, "DEALLOCATE ALL") == 0)
        m->forgotten = true;
    m->discarded = m->discarded || all;
}

/* The result of a DEALLOCATE or PREPARE that was sent before the statement. */
static void take_ahead(struct pg_machine *m)
{
    m->ahead--;
    if (m->ahead == 0 && m->preparing)
        m->entry->prepared = true;
}

/* A complete result. */
static const char *take_answer(struct pg_machine *m, PGresult *r)
{
    if (m->mending) {
        m->answered++;
        PQclear(r);
        return NULL;
    }
    /* In a batch the results of PREPAREs come between those of the statements; they have no command tag.
     * Descriptions, which follow each PREPARE of a describing batch, have none either. */
    bool is_parse = m->batch.active && PQresultStatus(r) == PGRES_COMMAND_OK && PQcmdStatus(r)[0] == '\0';
    if (m->batch.describing)
        is_parse = m->batch.parsed = !m->batch.parsed;
    if (m->ahead > 0 || is_parse) {
        if (m->ahead > 0)
            take_ahead(m);
        else
            m->batch.names.answered++;
        PQclear(r);
        return NULL;
    }
    if (m->answered == pg_machine_head(m)->statements && !m->simple && !m->unwanted) {
        PQclear(r);
        return "a second result for one statement";
    }
    m->answered++;
    note_tag(m, r);
    if (m->batch.active) {
        keep_in_batch(m, r);
        return NULL;
    }
    note_entry(m, r);
    keep(m, r);
    return NULL;
}

static const char *take_row(struct pg_machine *m, PGresult *r)
{
    if (!m->streaming || m->ahead > 0) {
        PQclear(r);
        return "a single row instead of a complete result";
    }
    note_entry(m, r);
    keep(m, r);
    return NULL;
}

/* Ends a COPY that the caller abandoned or did not expect: FROM STDIN is made to fail; the rows of TO STDOUT
 * are discarded until it ends or is cancelled. */
static void end_copy(struct pg_machine *m, bool in, const char *why)
{
    pg_machine_set_state(m, in ? PG_COPY_IN : PG_COPY_OUT);
    if (in)
        pg_machine_copy_end(m, why);
}

static const char *take_copy(struct pg_machine *m, bool in)
{
    if (m->batch.active &&
        !m->failed) { /* libpq cannot go on; the failure stays when the connection breaks */
        m->failed = true;
        error_set(&m->failure, ERROR_USAGE, PG_NO_COPY " of a pipeline");
        error_set_field(&m->failure, ERROR_HINT, PG_NO_COPY_HINT);
        m->failure.outcome = OUTCOME_UNKNOWN;
    }
    if (m->state != PG_PLAIN)
        return "the beginning of a COPY in a pipeline";
    if (m->discard) {
        end_copy(m, in, "the statement was cancelled");
    } else if (m->copy) {
        pg_machine_set_state(m, in ? PG_COPY_IN : PG_COPY_OUT);
    } else {
        m->unwanted = m->failed = true;
        error_set(&m->failure, ERROR_USAGE, PG_NO_COPY);
        error_set_field(&m->failure, ERROR_HINT, PG_NO_COPY_HINT);
        /* FROM STDIN always fails; TO STDOUT fails only when the cancel request arrives before its end. */
        m->failure.outcome = in ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
        end_copy(m, in, "COPY FROM STDIN cannot be run as a statement");
    }
    return NULL;
}

/* ---- ends ---- */

static const char *leave_pipeline(const struct pg_machine *m)
{
    if (!PQexitPipelineMode(m->conn))
        return "the end of a pipeline before all of its replies";
    if (m->shared && pg_machine_in_transaction(m))
        return "an open transaction on a shared connection, although no statement began one";
    return NULL;
}

/* True while the server's text is UTF-8. */
static bool is_readable(const struct pg_machine *m)
{
    return PQclientEncoding(m->conn) == m->encoding;
}

static const char *refuse_encoding(struct pg_machine *m)
{
    pg_machine_refuse_encoding(m);
    return "text in another client_encoding";
}

/* At the sync of the head. libpq knows only at the last sync whether a transaction is open; a group in a
 * transaction that was never ended must not be settled as committed. */
static const char *take_sync(struct pg_machine *m)
{
    bool all = m->answered == pg_machine_head(m)->statements && m->ahead == 0;
    if (!all && !m->failed)
        return "the end of a group of statements before all of their results";
    bool last = m->owed == 1;
    const char *wrong = last ? leave_pipeline(m) : NULL;
    if (wrong)
        return wrong;
    if (!is_readable(m))
        return refuse_encoding(m);
    pg_machine_settle(m);
    if (last) {
        m->shared = false;
        pg_machine_set_state(m, PG_IDLE);
    }
    return NULL;
}

/* In a pipeline NULL ends a statement, and can come after an error at the sync; outside a pipeline it stands
 * for the sync. */
static const char *take_null(struct pg_machine *m)
{
    if (m->state == PG_PIPE) {
        if (m->separated) /* libpq expects no reply any more */
            return "the end of the replies before the sync";
        m->separated = true;
        if (m->streaming && m->ahead == 0)
            PQsetSingleRowMode(m->conn);
        return NULL;
    }
    if (m->answered == 0 && !m->failed)
        return "the end of a statement before its result";
    if (!is_readable(m))
        return refuse_encoding(m);
    pg_machine_settle(m);
    pg_machine_set_state(m, PG_IDLE);
    return NULL;
}

/* ---- the switch ---- */

/* Applies the next result to the head of the queue. Returns NULL, or the name of an unexpected reply. */
static const char *take(struct pg_machine *m, PGresult *r, ExecStatusType status)
{
    if (!r)
        return take_null(m);
    m->separated = false;
    switch (status) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        return take_answer(m, r);
    case PGRES_SINGLE_TUPLE:
        return take_row(m, r);
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
        take_error(m, r);
        return NULL;
    case PGRES_PIPELINE_ABORTED:
        PQclear(r);
        return m->failed ? NULL : "a skipped statement, although no statement before it failed";
    case PGRES_PIPELINE_SYNC:
        PQclear(r);
        return take_sync(m);
    case PGRES_COPY_IN:
        PQclear(r);
        return take_copy(m, true);
    case PGRES_COPY_OUT:
        PQclear(r);
        return take_copy(m, false);
    case PGRES_COPY_BOTH:
    case PGRES_NONFATAL_ERROR:
        break;
    }
    PQclear(r);
    return "a reply of an unknown kind";
}

/* ---- stepping ---- */

/* libpq may close the connection while it parses or flushes. */
static bool is_lost(const struct pg_machine *m)
{
    return PQstatus(m->conn) == CONNECTION_BAD;
}

/* Handles the replies that have come, until libpq needs more bytes. */
static unsigned take_all(struct pg_machine *m)
{
    unsigned want = PG_WANT_READ | (m->flushing ? PG_WANT_WRITE : 0);
    while (m->owed > 0) {
        if (m->state == PG_COPY_IN)
            return m->flushing ? want : PG_DONE;
        if (m->state == PG_COPY_OUT && !m->discard && !m->unwanted)
            return PG_DONE;
        if (m->state == PG_COPY_OUT && !pg_machine_throw_copy_away(m))
            return want;
        if (PQisBusy(m->conn))
            return want;
        if (m->state == PG_PIPE && is_lost(m)) /* libpq may assign a reply to the wrong statement */
            return lost(m);
        PGresult *r = pg_machine_next_result(m);
        if (!r && is_lost(m))
            return lost(m);
        ExecStatusType status = PQresultStatus(r);
        const char *wrong = take(m, r, status);
        if (wrong)
            return out_of_step(m, wrong);
        if (status == PGRES_SINGLE_TUPLE && !m->discard)
            return PG_ROW;
        want |= m->flushing ? PG_WANT_WRITE : 0; /* take() may have queued the end of a COPY */
    }
    return PG_DONE;
}

static unsigned step(struct pg_machine *m, unsigned ready)
{
    if (m->state == PG_BROKEN)
        return PG_DONE;
    if (m->undecided && (ready & PG_WANT_READ))
        pg_machine_decide(m);
    bool gone = m->doomed || PQsocket(m->conn) < 0; /* libpq may have closed the socket while sending */
    if ((ready & PG_WANT_READ) && m->state == PG_COPY_IN)
        pg_machine_copy_look(m);
    /* PQflush reads, too. When PQconsumeInput or PQflush finds the connection dead, libpq loses the replies
     * that it has not returned yet: so the replies that have come are handled before each of these calls. */
    if (m->flushing && (ready & PG_WANT_READ) && !gone && m->owed > 0 && m->state != PG_COPY_OUT) {
        unsigned now = take_all(m);
        if (now & (PG_DONE | PG_ROW))
            return now;
    }
    if (ready & PG_WANT_READ)
        gone = !PQconsumeInput(m->conn) || gone;
    if (m->flushing && !gone) {
        unsigned now = ready & PG_WANT_READ ? take_all(m) : 0;
        if (now & (PG_DONE | PG_ROW))
            return now;
        int rc = PQflush(m->conn);
        gone = rc < 0;
        m->flushing = rc > 0;
    }
    return gone ? lost(m) : take_all(m);
}

unsigned pg_machine_step(struct pg_machine *m, unsigned ready)
{
    bool alone = !m->shared;
    unsigned now = step(m, ready);
    return alone && (now & PG_DONE) && !pg_machine_was_usual(m) ? pg_machine_mend(m) : now;
}

void pg_machine_discard(struct pg_machine *m)
{
    m->discard = true;
    if (m->state == PG_COPY_IN)
        pg_machine_copy_end(m, "the statement was cancelled");
}
