#include "pg/convoy.h"

#include "pg/errors.h"

#include <string.h>

struct pg_cached *pg_convoy_accepts(struct pg_machine *m, const char *sql, size_t len,
                                    const struct pg_params *p)
{
    struct pg_cached *e = pg_cache_find(m->cache, sql, len);
    return e && e->prepared && e->described && e->types == pg_params_fingerprint(p) ? e : NULL;
}

bool pg_convoy_begin(struct pg_convoy *c, struct pg_machine *m)
{
    c->m = m;
    c->n = c->at = 0;
    c->told = false;
    if (m->state != PG_IDLE || !PQenterPipelineMode(m->conn)) {
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

/* Everything that has not been answered shares the fate of the connection. */
static unsigned lost(struct pg_convoy *c)
{
    struct pg_machine *m = c->m;
    const char *text = PQerrorMessage(m->conn);
    m->state = PG_BROKEN;
    for (; c->at < c->n; c->at++, c->told = false) {
        struct error e = {0};
        error_set(&e, ERROR_CONNECT, "the connection to the server was lost: %.*s", (int)strcspn(text, "\n"),
                  text);
        e.outcome = OUTCOME_UNKNOWN;
        tell(c, NULL, &e);
        error_clear(&e);
    }
    return PG_DONE;
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
    bool broken = (ready & PG_WANT_READ) && !PQconsumeInput(m->conn);
    if (m->flushing) {
        int rc = PQflush(m->conn);
        broken = broken || rc < 0;
        m->flushing = rc > 0;
    }
    while (c->at < c->n) {
        if (!broken && PQisBusy(m->conn))
            return PG_WANT_READ | (m->flushing ? PG_WANT_WRITE : 0);
        PGresult *r = PQgetResult(m->conn);
        if (r)
            take(c, r);
        else if (PQstatus(m->conn) == CONNECTION_BAD)
            return lost(c);
    }
    m->state = PQexitPipelineMode(m->conn) ? PG_IDLE : PG_BROKEN;
    return PG_DONE;
}
