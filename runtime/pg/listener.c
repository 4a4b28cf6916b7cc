#include "pg/listener.h"

#include "pg/errors.h"

#include <stdlib.h>
#include <string.h>

/* ---- the end of the connection ---- */

static void set_lost(struct pg_listener *l, struct error *e)
{
    e->retryable = true;
    e->outcome = OUTCOME_NONE;
    error_move(&l->lost, e);
}

void pg_listener_lose(struct pg_listener *l, const char *why)
{
    struct error e = {0};
    if (error_is_set(&l->lost))
        return;
    pg_error_lost(&e, "the listening connection", why);
    set_lost(l, &e);
    pg_machine_break(&l->m);
}

/* The error of the statement in flight may say more than libpq's once the connection is closed. */
static const char *reason(const struct pg_listener *l)
{
    const struct error *e = &l->m.error;
    if (l->last_words)
        return l->last_words;
    if (error_is_set(e) &&
        (e->kind == ERROR_PROTOCOL || (e->kind == ERROR_CONNECT && e->field[ERROR_SQLSTATE])))
        return e->message;
    const char *text = PQerrorMessage(l->m.conn);
    return *text ? text : "the server closed it";
}

static void lose_to_server(struct pg_listener *l)
{
    pg_listener_lose(l, reason(l));
}

/* libpq reports a FATAL error as a notice when no statement is in flight. */
static void on_notice(void *data, const PGresult *r)
{
    struct pg_listener *l = data;
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    if (!severity || !message || strcmp(severity, "FATAL") != 0)
        return;
    free(l->last_words);
    l->last_words = strdup(message);
}

/* ---- life ---- */

bool pg_listener_init(struct pg_listener *l, PGconn *conn, bool (*sink)(void *data, PGnotify *n), void *data)
{
    *l = (struct pg_listener){.sink = sink, .data = data};
    if (!pg_machine_init(&l->m, conn, 0, NULL, NULL)) {
        l->m = (struct pg_machine){0};
        return false;
    }
    PQsetNoticeReceiver(conn, on_notice, l);
    return true;
}

void pg_listener_close(struct pg_listener *l)
{
    pg_machine_close(&l->m);
    free(l->last_words);
    l->last_words = NULL;
    error_clear(&l->lost);
}

/* ---- statements ---- */

bool pg_listener_is_busy(const struct pg_listener *l)
{
    return pg_machine_is_busy(&l->m);
}

bool pg_listener_exec(struct pg_listener *l, const char *sql)
{
    if (error_is_set(&l->lost))
        return false;
    bool sent = pg_machine_simple(&l->m, sql);
    if (l->m.state == PG_BROKEN || PQsocket(l->m.conn) < 0) /* libpq may have closed it while sending */
        pg_listener_step(l, 0);
    return sent && !error_is_set(&l->lost);
}

/* ---- stepping ---- */

unsigned pg_listener_want(const struct pg_listener *l)
{
    if (error_is_set(&l->lost))
        return 0;
    if (!pg_listener_is_busy(l))
        return l->full ? 0 : PG_WANT_READ;
    return PG_WANT_READ | (l->m.flushing ? PG_WANT_WRITE : 0);
}

/* Passes all notifications to the sink; false when out of memory. PQnotifies also makes libpq parse the other
 * messages that have come. */
static bool take_notifications(struct pg_listener *l)
{
    PGnotify *n;
    while ((n = PQnotifies(l->m.conn))) {
        if (l->sink(l->data, n))
            continue;
        PQfreemem(n);
        return false;
    }
    return true;
}

unsigned pg_listener_step(struct pg_listener *l, unsigned ready)
{
    bool gone = false;
    if (error_is_set(&l->lost))
        return 0;
    if (pg_listener_is_busy(l))
        pg_machine_step(&l->m, ready);
    else if (ready & PG_WANT_READ)
        gone = !PQconsumeInput(l->m.conn);
    if (!take_notifications(l))
        pg_listener_lose(l, "not enough memory for a notification");
    else if (gone || l->m.state == PG_BROKEN || PQstatus(l->m.conn) == CONNECTION_BAD)
        lose_to_server(l);
    return pg_listener_want(l);
}
