#include "pg/machine.h"

#include "pg/errors.h"
#include "pg/types.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { MOST_PARAMS = 65535 }; /* Bind carries their number in 16 bits */

bool pg_machine_init(struct pg_machine *m, PGconn *conn, uint32_t cache_limit,
                     void (*forget)(void *data, int ref), void *data)
{
    *m = (struct pg_machine){.conn = conn, .state = PG_IDLE};
    m->cache = pg_cache_new(cache_limit, forget, data);
    return m->cache != NULL;
}

void pg_machine_close(struct pg_machine *m)
{
    pg_machine_batch_clear(m);
    PQclear(m->result);
    m->result = NULL;
    error_clear(&m->error);
    pg_cache_free(m->cache);
    m->cache = NULL;
    if (m->conn)
        PQfinish(m->conn);
    m->conn = NULL;
    m->state = PG_CLOSED;
}

int pg_machine_fd(const struct pg_machine *m)
{
    return PQsocket(m->conn);
}

/* ---- beginning ---- */

/* Why libpq would not send. */
static bool not_sent(struct pg_machine *m)
{
    if (m->state == PG_BROKEN || PQstatus(m->conn) == CONNECTION_BAD) {
        m->state = PG_BROKEN;
        error_set(&m->error, ERROR_CONNECT,
                  "the connection to the server was lost before the statement was sent");
        m->error.retryable = true;
    } else {
        const char *text = PQerrorMessage(m->conn);
        error_set(&m->error, ERROR_QUERY, "%.*s", (int)strcspn(text, "\n"), text);
    }
    m->error.outcome = OUTCOME_NOT_SENT;
    return false;
}

static bool begin(struct pg_machine *m)
{
    if (m->state != PG_IDLE && m->state != PG_BROKEN) { /* what it is busy with stays as it is */
        error_set(&m->error, ERROR_USAGE, "this connection is busy with another statement");
        m->error.outcome = OUTCOME_NOT_SENT;
        return false;
    }
    PQclear(m->result);
    m->result = NULL;
    pg_machine_batch_clear(m); /* one whose results nobody could take is not the next one's */
    error_clear(&m->error);
    m->entry = NULL;
    m->skip = 0;
    m->preparing = m->pipelined = m->flushing = m->discard = m->streaming = m->forgotten = false;
    m->refused = m->cancelling = false;
    if (m->state == PG_BROKEN)
        return not_sent(m);
    m->in_transaction = pg_machine_in_transaction(m);
    return true;
}

bool pg_machine_enter_pipeline(struct pg_machine *m)
{
    /* libpq forgets the single-row mode of a statement when the next one begins, but not when that is the
     * first of a pipeline: its rows would come one by one, and be missed. A statement without a name
     * begins, too, and is refused before anything is sent. */
    if (m->row_mode)
        PQsendPrepare(m->conn, NULL, NULL, 0, NULL);
    m->row_mode = false;
    return PQenterPipelineMode(m->conn);
}

static bool sent(struct pg_machine *m)
{
    m->state = PG_BUSY;
    int rc = PQflush(m->conn);
    m->flushing = rc != 0; /* an error shows itself in the first step */
    return true;
}

static int result_format(const struct pg_machine *m, const struct pg_cached *e)
{
    return e->binary && !m->text_only;
}

/* ---- what to prepare ---- */

const char *pg_first_word(const char *s)
{
    for (;;) {
        s += strspn(s, " \t\r\n\f\v(");
        if (s[0] == '-' && s[1] == '-') {
            s += strcspn(s, "\r\n");
        } else if (s[0] == '/' && s[1] == '*') {
            int depth = 0;
            do {
                if (s[0] == '/' && s[1] == '*') {
                    depth++;
                    s += 2;
                } else if (s[0] == '*' && s[1] == '/') {
                    depth--;
                    s += 2;
                } else {
                    s++;
                }
            } while (depth > 0 && *s);
        } else {
            return s;
        }
    }
}

/* Has it a plan? Utility statements gain nothing from being prepared: some refuse to run together with
 * the PREPARE (VACUUM), and what others give (FETCH, SHOW, EXECUTE) may change its types unnoticed. */
static bool has_plan(const char *sql)
{
    static const char *const words[] = {"select", "insert", "update", "delete",
                                        "with",   "values", "table",  "merge"};
    const char *word = pg_first_word(sql);
    size_t len = 0;
    while ((word[len] >= 'a' && word[len] <= 'z') || (word[len] >= 'A' && word[len] <= 'Z'))
        len++;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == len && strncasecmp(word, words[i], len) == 0)
            return true;
    return false;
}

uint64_t pg_params_fingerprint(const struct pg_params *p)
{
    uint64_t h = (uint64_t)p->n;
    for (int i = 0; i < p->n; i++)
        h = (h ^ (p->types ? p->types[i] : 0)) * UINT64_C(1099511628211);
    return h;
}

/* The cache's entry for this statement, NULL when it is to run without. */
static struct pg_cached *entry_for(struct pg_machine *m, const char *sql, size_t len,
                                   const struct pg_params *p, char evicted[40])
{
    evicted[0] = '\0';
    if (p->once || !has_plan(sql))
        return NULL;
    uint64_t types = pg_params_fingerprint(p);
    struct pg_cached *e = pg_cache_get(m->cache, sql, len, evicted);
    if (!e)
        return NULL;
    if (e->prepared && e->types != types)
        return NULL; /* the prepared one has other parameter types */
    if (e->types != types)
        e->seen = false;
    e->types = types;
    return e;
}

/* PREPARE, the statement and one sync in a single round trip. */
static bool prepare_and_query(struct pg_machine *m, struct pg_cached *e, const char *evicted,
                              const struct pg_params *p)
{
    if (!pg_machine_enter_pipeline(m))
        return not_sent(m);
    m->pipelined = true;
    bool ok = true;
    if (evicted[0]) {
        char sql[64] = "DEALLOCATE ";
        strcat(sql, evicted);
        ok = PQsendQueryParams(m->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
        m->skip++;
    }
    ok = ok && PQsendPrepare(m->conn, e->name, e->sql, p->n, p->types);
    m->skip++;
    m->preparing = true;
    ok = ok && PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats, 0) &&
         PQpipelineSync(m->conn);
    if (!ok) {
        /* Half a pipeline cannot be taken back: this connection is of no use any more. */
        not_sent(m);
        m->state = PG_BROKEN;
        return false;
    }
    return sent(m);
}

bool pg_machine_query(struct pg_machine *m, const char *sql, size_t len, const struct pg_params *p)
{
    char evicted[40];
    if (!begin(m))
        return false;
    if (p->n > MOST_PARAMS) {
        error_set(&m->error, ERROR_USAGE, "%d parameters: PostgreSQL takes at most %d", p->n, MOST_PARAMS);
        error_set_field(&m->error, ERROR_HINT, "Pass an array (= any($1)), or use execute_many or copy_in.");
        m->error.outcome = OUTCOME_NOT_SENT;
        return false;
    }
    struct pg_cached *e = entry_for(m, sql, len, p, evicted);
    m->entry = e;
    if (e && e->prepared) {
        if (!PQsendQueryPrepared(m->conn, e->name, p->n, p->values, p->lengths, p->formats,
                                 result_format(m, e)))
            return not_sent(m);
        return sent(m);
    }
    /* In a failed transaction nothing can be prepared. */
    if (e && e->seen && PQtransactionStatus(m->conn) != PQTRANS_INERROR)
        return prepare_and_query(m, e, evicted, p);
    if (evicted[0])
        pg_cache_defer_close(m->cache, evicted);
    if (!PQsendQueryParams(m->conn, sql, p->n, p->types, p->values, p->lengths, p->formats, 0))
        return not_sent(m);
    return sent(m);
}

bool pg_machine_describe(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    if (!begin(m))
        return false;
    if (!pg_machine_enter_pipeline(m))
        return not_sent(m);
    m->pipelined = true;
    m->skip = 1; /* what the parsing gives */
    if (PQsendPrepare(m->conn, "", sql, p->n, p->types) && PQsendDescribePrepared(m->conn, "") &&
        PQpipelineSync(m->conn))
        return sent(m);
    not_sent(m);
    m->state = PG_BROKEN;
    return false;
}

void pg_machine_stream(struct pg_machine *m)
{
    m->row_mode = true;
    /* In a pipeline the mode belongs to the result that comes next: set when the statement's own does. */
    m->streaming = m->pipelined || PQsetSingleRowMode(m->conn);
}

bool pg_machine_simple(struct pg_machine *m, const char *sql)
{
    if (!begin(m))
        return false;
    if (!PQsendQuery(m->conn, sql))
        return not_sent(m);
    return sent(m);
}

/* ---- batches ---- */

void pg_machine_batch_clear(struct pg_machine *m)
{
    for (size_t i = 0; m->batch.list && i < m->batch.n; i++)
        PQclear(m->batch.list[i]);
    free(m->batch.list);
    m->batch = (struct pg_batch){0};
}

bool pg_machine_batch_begin(struct pg_machine *m, bool count_only)
{
    if (!begin(m))
        return false;
    if (!pg_machine_enter_pipeline(m))
        return not_sent(m);
    m->state = PG_BUSY; /* also when the caller never comes to its end */
    m->pipelined = true;
    m->batch.active = true;
    m->batch.count_only = count_only;
    return true;
}

/* The unnamed statement is parsed when a text comes, and lasts until the next one. */
bool pg_machine_batch_add(struct pg_machine *m, const char *sql, const struct pg_params *p)
{
    if (sql && !PQsendPrepare(m->conn, "", sql, p->n, p->types))
        return not_sent(m);
    if (!PQsendQueryPrepared(m->conn, "", p->n, p->values, p->lengths, p->formats, 0))
        return not_sent(m);
    m->batch.added++;
    return true;
}

bool pg_machine_batch_end(struct pg_machine *m)
{
    if (!PQpipelineSync(m->conn)) {
        not_sent(m);
        m->state = PG_BROKEN;
        return false;
    }
    return sent(m);
}

/* A PREPARE gives a result too, without a command's tag. */
static void batch_take(struct pg_machine *m, PGresult *r)
{
    struct pg_batch *b = &m->batch;
    bool is_parse = PQresultStatus(r) == PGRES_COMMAND_OK && PQcmdStatus(r)[0] == '\0';
    if (is_parse || m->discard) {
        PQclear(r);
        return;
    }
    b->affected += strtoll(PQcmdTuples(r), NULL, 10);
    if (b->count_only) {
        b->n++;
        PQclear(r);
        return;
    }
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 16;
        PGresult **list = realloc(b->list, cap * sizeof(*list));
        if (!list) {
            error_set(&m->error, ERROR_QUERY, "not enough memory for the results");
            PQclear(r);
            return;
        }
        b->list = list;
        b->cap = cap;
    }
    b->list[b->n++] = r;
}

/* ---- stepping ---- */

static void take_error(struct pg_machine *m, const PGresult *r)
{
    bool has_state = PQresultErrorField(r, PG_DIAG_SQLSTATE) != NULL;
    if (error_is_set(&m->error) && (m->error.field[ERROR_SQLSTATE] || !has_state))
        return;
    pg_error_from_result(&m->error, r, NULL);
    const char *state = m->error.field ? m->error.field[ERROR_SQLSTATE] : NULL;
    if (m->cancelling && state && strcmp(state, "57014") == 0)
        m->error.kind = ERROR_CANCELLED; /* whatever its language calls it */
}

static void take_tuples(struct pg_machine *m, PGresult *r)
{
    if (m->batch.active) {
        batch_take(m, r);
        return;
    }
    if (m->skip > 0) {
        m->skip--;
        if (m->skip == 0 && m->preparing)
            m->entry->prepared = true;
        PQclear(r);
        return;
    }
    struct pg_cached *e = m->entry;
    if (e && e->prepared && !e->described) {
        e->described = true;
        e->binary = PQnfields(r) > 0 && pg_types_all_binary(m->catalog, r);
        e->own_types = !pg_types_all_builtin(r);
    }
    if (e)
        e->seen = true;
    const char *tag = PQcmdStatus(r);
    if (strcmp(tag, "DISCARD ALL") == 0 || strcmp(tag, "DEALLOCATE ALL") == 0)
        m->forgotten = true;
    if (m->catalog && (strncmp(tag, "ALTER ", 6) == 0 || strncmp(tag, "DROP ", 5) == 0))
        pg_catalog_expire(m->catalog);
    PQclear(m->result);
    m->result = r;
}

static bool is_copy(const PGresult *r)
{
    ExecStatusType status = PQresultStatus(r);
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Takes one result; true when the machine stops here (COPY). */
static bool take_result(struct pg_machine *m, PGresult *r)
{
    switch (PQresultStatus(r)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_SINGLE_TUPLE:
        take_tuples(m, r);
        return false;
    case PGRES_COPY_IN:
        PQclear(r);
        if (m->discard) {
            PQputCopyEnd(m->conn, "the statement was cancelled");
            m->flushing = PQflush(m->conn) != 0;
            return false;
        }
        m->state = PG_COPY_IN;
        return true;
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        PQclear(r);
        m->state = PG_COPY_OUT;
        return true;
    case PGRES_PIPELINE_SYNC:
        PQclear(r);
        PQexitPipelineMode(m->conn);
        m->pipelined = false;
        return false;
    case PGRES_BAD_RESPONSE:
    case PGRES_FATAL_ERROR:
        take_error(m, r);
        PQclear(r);
        return false;
    case PGRES_PIPELINE_ABORTED:
    case PGRES_NONFATAL_ERROR:
        PQclear(r);
        return false;
    }
    PQclear(r);
    return false;
}

/* What the kernel has received can still be read; nothing waits for more, nor for room to send. */
static void hang_up(const struct pg_machine *m)
{
    if (PQsocket(m->conn) >= 0)
        shutdown(PQsocket(m->conn), SHUT_RDWR);
}

/* Replies that do not belong where they came. */
static unsigned out_of_step(struct pg_machine *m, const char *what)
{
    hang_up(m);
    PQclear(m->result);
    m->result = NULL;
    m->state = PG_BROKEN;
    error_clear(&m->error);
    error_set(&m->error, ERROR_PROTOCOL,
              "the server sent %s, which does not belong there: the connection is closed", what);
    m->error.outcome = OUTCOME_UNKNOWN;
    return PG_DONE;
}

/* The connection is gone: what became of the statement? */
static unsigned broken(struct pg_machine *m)
{
    m->state = PG_BROKEN;
    if (!error_is_set(&m->error)) {
        const char *text = PQerrorMessage(m->conn);
        error_set(&m->error, ERROR_CONNECT, "the connection to the server was lost: %.*s",
                  (int)strcspn(text, "\n"), text);
    }
    if (m->error.outcome == OUTCOME_NONE)
        m->error.outcome = OUTCOME_UNKNOWN;
    return PG_DONE;
}

static unsigned finished(struct pg_machine *m)
{
    if (PQstatus(m->conn) == CONNECTION_BAD)
        return broken(m);
    m->state = PG_IDLE;
    if (m->forgotten) {
        m->entry = NULL;
        pg_cache_clear(m->cache);
    }
    if (error_is_set(&m->error)) {
        PQclear(m->result);
        m->result = NULL;
    }
    return PG_DONE;
}

/* COPY TO STDOUT that nobody reads. */
static unsigned discard_copy_out(struct pg_machine *m)
{
    char *row;
    int n;
    while ((n = PQgetCopyData(m->conn, &row, 1)) > 0)
        PQfreemem(row);
    if (n == 0)
        return PG_WANT_READ;
    m->state = PG_BUSY;
    return 0;
}

static bool batch_lacks_results(const struct pg_machine *m)
{
    return m->batch.active && !m->discard && !error_is_set(&m->error) && m->batch.n < m->batch.added;
}

unsigned pg_machine_step(struct pg_machine *m, unsigned ready)
{
    if (m->state == PG_BROKEN)
        return PG_DONE;
    bool lost = PQsocket(m->conn) < 0; /* libpq may have closed it while it sent */
    if ((ready & PG_WANT_READ) && m->state == PG_COPY_IN)
        pg_machine_copy_look(m);
    if (ready & PG_WANT_READ)
        lost = !PQconsumeInput(m->conn) || lost;
    if (m->flushing) {
        int rc = PQflush(m->conn);
        lost = lost || rc < 0;
        m->flushing = rc > 0;
    }
    unsigned want = PG_WANT_READ | (m->flushing ? PG_WANT_WRITE : 0);
    /* What the server said last (57P01, ...) comes only behind the end of a COPY. */
    if (m->state == PG_COPY_IN && lost)
        pg_machine_copy_end(m, "the connection was lost");
    if (m->state == PG_COPY_OUT && (m->discard || lost) && discard_copy_out(m) == PG_WANT_READ && !lost)
        return want;
    if (m->state == PG_COPY_IN && !lost)
        return m->flushing ? want : PG_DONE;
    if (m->state != PG_BUSY)
        return lost ? broken(m) : PG_DONE;
    if (lost)
        hang_up(m);
    for (bool separated = false;;) {
        if (!lost && PQisBusy(m->conn))
            return want;
        PGresult *r = PQgetResult(m->conn);
        if (r) {
            separated = false;
            if (m->pipelined && is_copy(r)) {
                PQclear(r);
                return out_of_step(m, "the beginning of a COPY");
            }
            if (PQresultStatus(r) == PGRES_PIPELINE_SYNC && batch_lacks_results(m)) {
                PQclear(r);
                return out_of_step(m, "the end of a pipeline without all of its results");
            }
            bool row = PQresultStatus(r) == PGRES_SINGLE_TUPLE;
            if (take_result(m, r))
                return m->discard ? pg_machine_step(m, 0) : PG_DONE;
            if (row && !m->discard)
                return PG_ROW;
            continue;
        }
        if (PQstatus(m->conn) == CONNECTION_BAD || !m->pipelined)
            return finished(m);
        /* One NULL separates results. A second one says that libpq expects nothing more. */
        if (separated)
            return out_of_step(m, "no more replies");
        separated = true;
        /* In a pipeline, NULL only separates the results of one statement from the next. */
        if (m->streaming && m->skip == 0)
            PQsetSingleRowMode(m->conn);
    }
}

void pg_machine_discard(struct pg_machine *m)
{
    m->discard = true;
    if (m->state == PG_COPY_IN)
        pg_machine_copy_end(m, "the statement was cancelled");
}

PGresult *pg_machine_take(struct pg_machine *m)
{
    PGresult *r = m->result;
    m->result = NULL;
    return r;
}

/* ---- asking ---- */

bool pg_machine_in_transaction(const struct pg_machine *m)
{
    PGTransactionStatusType t = PQtransactionStatus(m->conn);
    return t == PQTRANS_INTRANS || t == PQTRANS_INERROR;
}

bool pg_machine_is_clean(const struct pg_machine *m)
{
    return m->state == PG_IDLE && PQtransactionStatus(m->conn) == PQTRANS_IDLE;
}
