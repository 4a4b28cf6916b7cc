#include "pg/convoy.h"

#include "pg/errors.h"

#include <string.h>
#include <sys/socket.h>

struct pg_cached *pg_convoy_accepts(struct pg_machine *m, const char *sql, size_t len,
                                    const struct pg_params *p)
{
    struct pg_cached *e = pg_cache_find(m->cache, sql, len);
    return e && e->prepared && e->described && !e->own_types && e->types == pg_params_fingerprint(p) ? e
                                                                                                     : NULL;
}

bool pg_convoy_begin(struct pg_convoy *c, struct pg_machine *m)
{
    c->m = m;
    c->n = c->at = 0;
    c->separated = false;
    if (m->state != PG_IDLE || !pg_machine_enter_pipeline(m)) {
        error_set(&m->error, ERROR_CONNECT, "the connection to the server was lost");
        m->error.outcome = OUTCOME_NOT_SENT;
        return false;
    }
    m->state = PG_BUSY;
    m->in_transaction = false;
    return true;
}

bool pg_convoy_add(struct pg_convoy *c, const struct pg_cached *e, const struct pg_params *p, void *tag)
{
    struct pg_machine *m = c->m;
    if (!PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats,
                             e->binary && !m->text_only) ||
        !PQpipelineSync(m->conn))
        return false;
    c->tags[c->n++] = tag;
    m->flushing = true; /* the step sends what the socket did not take */
    return true;
}

/* The statement at `at` is over. */
static void settle(struct pg_convoy *c)
{
    PGresult *r = c->result;
    struct error e = {0};
    c->result = NULL;
    error_move(&e, &c->failed);
    if (error_is_set(&e)) {
        PQclear(r);
        r = NULL;
    }
    void *tag = c->tags[c->at++];
    c->done(c->data, tag, r, error_is_set(&e) ? &e : NULL);
    error_clear(&e);
}

/* The server's own words about the end, when it said some. Once libpq has dropped a connection it has also
 * forgotten what the replies in its buffer belong to, and gives them as other than they are: none of them
 * counts any more but an error. */
static void last_words(struct pg_machine *m, struct error *e)
{
    PGresult *r;
    bool copy = false; /* libpq would begin it again and again */
    while (!copy && (r = PQgetResult(m->conn))) {
        ExecStatusType status = PQresultStatus(r);
        copy = status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
        if (status == PGRES_FATAL_ERROR && !error_is_set(e) && PQresultErrorField(r, PG_DIAG_SQLSTATE))
            pg_error_from_result(e, r, NULL);
        PQclear(r);
    }
    if (!error_is_set(e)) {
        const char *text = PQerrorMessage(m->conn);
        error_set(e, ERROR_CONNECT, "the connection to the server was lost: %.*s", (int)strcspn(text, "\n"),
                  text);
    }
    e->outcome = OUTCOME_UNKNOWN;
}

/* Everything whose sync has not come shares the fate of the connection; an error of its own stays. */
static unsigned lost(struct pg_convoy *c)
{
    struct error e = {0};
    c->m->state = PG_BROKEN;
    /* What the kernel has received can still be read; nothing waits for more, nor for room to send. */
    if (PQsocket(c->m->conn) >= 0)
        shutdown(PQsocket(c->m->conn), SHUT_RDWR);
    last_words(c->m, &e);
    while (c->at < c->n) {
        if (!error_is_set(&c->failed))
            error_copy(&c->failed, &e);
        settle(c);
    }
    error_clear(&e);
    return PG_DONE;
}

/* The server does not keep to the protocol, or libpq and we do not agree where we are. */
static unsigned confused(struct pg_convoy *c, const char *what)
{
    struct error e = {0};
    error_set(&e, ERROR_PROTOCOL, "the server sent %s, which does not belong there: the connection is closed",
              what);
    e.outcome = OUTCOME_UNKNOWN;
    if (!error_is_set(&c->failed))
        error_move(&c->failed, &e);
    error_clear(&e);
    return lost(c);
}

void pg_convoy_give_up(struct pg_convoy *c)
{
    lost(c);
}

/* NULL, or what the server sent that it must not. */
static const char *take(struct pg_convoy *c, PGresult *r)
{
    bool answered = c->result || error_is_set(&c->failed);
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        if (answered) {
            PQclear(r);
            return "a second result";
        }
        c->result = r;
        return NULL;
    case PGRES_PIPELINE_SYNC:
        PQclear(r);
        if (!answered)
            return "the end of a statement without its result";
        settle(c);
        return NULL;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
        if (!error_is_set(&c->failed))
            pg_error_from_result(&c->failed, r, NULL);
        PQclear(r);
        return NULL;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        PQclear(r);
        return "the beginning of a COPY";
    default:
        PQclear(r);
        return "a reply of an unknown kind";
    }
}

unsigned pg_convoy_step(struct pg_convoy *c, unsigned ready)
{
    struct pg_machine *m = c->m;
    /* libpq may have closed the socket while it sent. */
    bool broken = PQsocket(m->conn) < 0 || ((ready & PG_WANT_READ) && !PQconsumeInput(m->conn));
    if (m->flushing) {
        int rc = PQflush(m->conn);
        broken = broken || rc < 0;
        m->flushing = rc > 0;
    }
    if (broken)
        return lost(c);
    while (c->at < c->n) {
        bool busy = PQisBusy(m->conn);
        if (PQstatus(m->conn) == CONNECTION_BAD) /* flushing reads too, and parsing may give up */
            return lost(c);
        if (busy)
            return PG_WANT_READ | (m->flushing ? PG_WANT_WRITE : 0);
        PGresult *r = PQgetResult(m->conn);
        /* One NULL separates results. A second one says that libpq expects nothing more. */
        if (!r && c->separated)
            return confused(c, "no more replies");
        c->separated = r == NULL;
        const char *wrong = r ? take(c, r) : NULL;
        if (wrong)
            return confused(c, wrong);
    }
    m->state = PQexitPipelineMode(m->conn) ? PG_IDLE : PG_BROKEN;
    return PG_DONE;
}
