#include "pg/convoy.h"

#include "pg/errors.h"

#include <string.h>

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
    c->told = false;
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

static void tell(struct pg_convoy *c, PGresult *r, struct error *e)
{
    void *tag = c->tags[c->at];
    if (c->told) { /* a second result of one statement: there is none, but a server may lie */
        PQclear(r);
        return;
    }
    c->told = true;
    c->done(c->data, tag, r, e);
}

/* The server's own words about the end, when it said some. Once libpq has dropped a connection it has also
 * forgotten what the replies in its buffer belong to, and gives them as other than they are: none of them
 * counts any more but an error. */
static void last_words(struct pg_machine *m, struct error *e)
{
    PGresult *r;
    while ((r = PQgetResult(m->conn))) {
        if (PQresultStatus(r) == PGRES_FATAL_ERROR && !error_is_set(e) &&
            PQresultErrorField(r, PG_DIAG_SQLSTATE))
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

/* Everything that has not been answered shares the fate of the connection. */
static unsigned lost(struct pg_convoy *c)
{
    struct error e = {0};
    c->m->state = PG_BROKEN;
    last_words(c->m, &e);
    for (; c->at < c->n; c->at++, c->told = false) {
        struct error copy = {0};
        error_copy(&copy, &e);
        tell(c, NULL, &copy);
        error_clear(&copy);
    }
    error_clear(&e);
    return PG_DONE;
}

void pg_convoy_give_up(struct pg_convoy *c)
{
    lost(c);
}

static void take(struct pg_convoy *c, PGresult *r)
{
    struct error e = {0};
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        tell(c, r, NULL);
        return;
    case PGRES_PIPELINE_SYNC:
        c->at++;
        c->told = false;
        break;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
        pg_error_from_result(&e, r, NULL);
        tell(c, NULL, &e);
        error_clear(&e);
        break;
    default:
        break;
    }
    PQclear(r);
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
        if (r)
            take(c, r);
    }
    m->state = PQexitPipelineMode(m->conn) ? PG_IDLE : PG_BROKEN;
    return PG_DONE;
}
