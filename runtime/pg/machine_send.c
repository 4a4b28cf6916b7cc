/* Sends statements on a connection on which nothing else is in flight. */
#include "pg/machine_impl.h"
#include "pg/named.h"
#include "pg/scan.h"

#include <string.h>
#include <sys/socket.h>

enum { MOST_PARAMS = 65535 }; /* the protocol's Bind message has 16 bits for their number */

/* ---- beginning ---- */

bool pg_machine_begin(struct pg_machine *m)
{
    if (m->state != PG_IDLE && m->state != PG_BROKEN) { /* leave the statement in flight alone */
        error_set(&m->error, ERROR_USAGE, "this connection is busy with another statement");
        m->error.outcome = OUTCOME_NOT_SENT;
        return false;
    }
    pg_machine_renew(m);
    if (m->state == PG_BROKEN)
        return pg_machine_not_sent(m, false);
    if (m->guard == PG_ENDED)
        return pg_machine_guard_allows(m, "");
    m->in_transaction = pg_machine_in_transaction(m);
    m->in_failed = m->in_transaction && PQtransactionStatus(m->conn) == PQTRANS_INERROR;
    return true;
}

/* Called when the group that is alone was sent, with this number of statements. */
static bool sent(struct pg_machine *m, enum pg_state state, size_t statements)
{
    if (m->state != state)
        pg_machine_set_state(m, state);
    pg_machine_push(m, statements, NULL);
    m->flushing = PQflush(m->conn) != 0; /* the first step reports an error */
    return true;
}

/* Binary when the last result's columns can be read in binary. Only for a prepared statement that has
 * answered does the server guarantee that the columns are unchanged. Other statements ask for binary only if
 * they can be run again, should the columns differ. */
static int result_format(struct pg_machine *m, const struct pg_cached *e, const struct pg_params *p)
{
    if (!e || !e->binary || m->text_only || p->as_text)
        return 0;
    if (e->prepared && e->described)
        return 1;
    m->guessed = e->repeatable && !p->text && !m->in_transaction;
    return m->guessed;
}

bool pg_machine_close_name(struct pg_machine *m, const char *name)
{
    char sql[64] = "DEALLOCATE ";
    strcat(sql, name);
    m->ahead++;
    return PQsendQueryParams(m->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
}

/* PREPARE, the statement and one sync in a single round trip. */
static bool prepare_and_query(struct pg_machine *m, struct pg_cached *e, const char *evicted,
                              const struct pg_params *p)
{
    if (!pg_machine_enter_pipeline(m))
        return pg_machine_not_sent(m, false);
    bool ok = true;
    if (evicted[0])
        ok = pg_machine_close_name(m, evicted);
    ok = ok && PQsendPrepare(m->conn, e->name, e->sql, p->n, p->types);
    m->ahead++;
    m->preparing = true;
    ok = ok &&
         PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats,
                             result_format(m, e, p)) &&
         PQpipelineSync(m->conn);
    return ok ? sent(m, PG_PIPE, 1) : pg_machine_not_sent(m, true);
}

static bool too_many(struct pg_machine *m, int n)
{
    error_set(&m->error, ERROR_USAGE, "a statement with %d parameters: PostgreSQL takes at most %d", n,
              MOST_PARAMS);
    error_set_field(&m->error, ERROR_HINT, "Pass an array (= any($1)), or use execute_many or copy_in.");
    m->error.outcome = OUTCOME_NOT_SENT;
    return false;
}

/* The :names were found without knowing whether the session reads a backslash in '...' as an escape. */
bool pg_machine_knows_parameters(struct pg_machine *m, const char *sql, size_t len, int n)
{
    if (n == 0 || pg_machine_is_scanned_right(m, sql, len) || pg_named_is_sure(sql, len, n))
        return true;
    error_set(&m->error, ERROR_USAGE,
              "the parameters of this SQL depend on a backslash in a string: this session has "
              "standard_conforming_strings = off");
    error_set_field(&m->error, ERROR_HINT,
                    "Write the string as E'...', in which a backslash escapes everywhere.");
    m->error.outcome = OUTCOME_NOT_SENT;
    return false;
}

bool pg_machine_query(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p)
{
    char evicted[40];
    if (!pg_machine_begin(m))
        return false;
    if (p->n > MOST_PARAMS)
        return too_many(m, p->n);
    struct pg_cached *e = pg_machine_entry_for(m, sql, len, p, evicted);
    m->entry = e;
    if (!e && !pg_machine_guard_allows(m, sql))
        return false;
    m->may_commit = m->effect & PG_MAY_COMMIT ? 1 : 0;
    pg_machine_guard_commit(m, sql);
    if ((!e || !e->prepared) && !pg_machine_knows_parameters(m, sql, len, p->n))
        return false;
    if (!e || !e->prepared || m->effect != PG_HAS_PLAN)
        pg_machine_note_format(m, sql, len, p);
    if (e && e->prepared) {
        if (!PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats,
                                 result_format(m, e, p)))
            return pg_machine_not_sent(m, false);
        return sent(m, PG_PLAIN, 1);
    }
    if (e)
        pg_machine_note_parse(m, e, p);
    /* In a failed transaction the server refuses PREPARE. */
    if (e && e->seen && PQtransactionStatus(m->conn) != PQTRANS_INERROR)
        return prepare_and_query(m, e, evicted, p);
    if (evicted[0])
        pg_cache_defer_close(m->cache, evicted);
    if (!PQsendQueryParams(m->conn, sql, p->n, p->types, p->values, p->lengths, p->formats,
                           result_format(m, e, p)))
        return pg_machine_not_sent(m, false);
    return sent(m, PG_PLAIN, 1);
}

bool pg_machine_describe(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    if (!pg_machine_begin(m))
        return false;
    if (p->n > MOST_PARAMS)
        return too_many(m, p->n);
    if (!pg_machine_knows_parameters(m, sql, strlen(sql), p->n))
        return false;
    if (!pg_machine_enter_pipeline(m))
        return pg_machine_not_sent(m, false);
    m->ahead = 1; /* the result of the PREPARE */
    if (PQsendPrepare(m->conn, "", sql, p->n, p->types) && PQsendDescribePrepared(m->conn, "") &&
        PQpipelineSync(m->conn))
        return sent(m, PG_PIPE, 1);
    return pg_machine_not_sent(m, true);
}

bool pg_machine_describe_prepared(struct pg_machine *m, const struct pg_cached *e)
{
    if (!pg_machine_begin(m))
        return false;
    if (!PQsendDescribePrepared(m->conn, e->name))
        return pg_machine_not_sent(m, false);
    return sent(m, PG_PLAIN, 1);
}

void pg_machine_stream(struct pg_machine *m)
{
    m->row_mode = true;
    /* In a pipeline libpq applies the mode to the next result: take_null sets it before the statement's. */
    m->streaming = m->state == PG_PIPE || PQsetSingleRowMode(m->conn);
}

void pg_machine_stream_large(struct pg_machine *m)
{
    m->undecided = true;
}

/* The last message of an answer: ReadyForQuery, whose length is 5, and the state of the transaction. */
static bool is_end(const char *p)
{
    return p[0] == 'Z' && p[1] == 0 && p[2] == 0 && p[3] == 0 && p[4] == 5 && p[5] && strchr("ITE", p[5]);
}

/* libpq accepts the mode only before it has seen a part of the result. But a server sends when it has 8 KiB
 * or the statement has ended: so the first bytes show whether the result is complete. */
void pg_machine_decide(struct pg_machine *m)
{
    enum { END = 6 };
    char first[8192];
    ssize_t n = recv(PQsocket(m->conn), first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return;
    m->undecided = false;
    bool readable = !PQsslInUse(m->conn) && !PQgssEncInUse(m->conn);
    bool whole = readable ? n >= END && is_end(first + n - END) : (size_t)n < sizeof first;
    if (!whole)
        pg_machine_stream(m);
}

static bool send_simple(struct pg_machine *m, const char *sql)
{
    if (!PQsendQuery(m->conn, sql))
        return pg_machine_not_sent(m, false);
    m->simple = true;
    return sent(m, PG_PLAIN, 1);
}

bool pg_machine_simple(struct pg_machine *m, const char *sql)
{
    if (!pg_machine_begin(m) || !pg_machine_guard_allows(m, sql))
        return false;
    pg_machine_guard_commit(m, sql);
    m->effect = pg_machine_effect_of(m, sql, strlen(sql));
    /* Several statements form a transaction block, in which the server lets no CALL or DO commit. */
    m->may_commit = m->effect & PG_MAY_COMMIT && !sql_is_several(sql) ? 1 : 0;
    pg_machine_note_format(m, sql, strlen(sql), &(struct pg_params){.n = 0});
    return send_simple(m, sql);
}

bool pg_machine_ping(struct pg_machine *m)
{
    return pg_machine_begin(m) && send_simple(m, "");
}

bool pg_machine_copy(struct pg_machine *m, const char *sql)
{
    if (!pg_machine_simple(m, sql))
        return false;
    m->copy = true;
    return true;
}
