/*
 * The connection of a listener: a machine that runs only LISTEN, UNLISTEN and an empty statement (to check
 * that the server answers); in between, the listener reads notifications from the socket. It never waits:
 * step it when the socket is ready for what pg_listener_want returned.
 *
 *        idle ---------- pg_listener_exec -----------> busy ---- the statement's end ----> idle
 *        idle, busy ---- lost, pg_listener_lose -----> lost    (l->lost is set, for good)
 *
 * "Busy" is what pg_listener_is_busy returns. While idle, a listener with l->full reads nothing: memory stays
 * bounded, and the server keeps the notifications. While busy it always reads, because the answer comes after
 * the notifications.
 *
 * Who owns what: the listener owns its machine; the sink owns the notifications that it accepted.
 */
#ifndef DBRUN_PG_LISTENER_H
#define DBRUN_PG_LISTENER_H

#include "pg/machine.h"

struct pg_listener {
    struct pg_machine m;
    /* Takes over a notification (free it with PQfreemem), in the order of arrival; false when out of memory,
     * and the listener still owns it. The sink may set `full` and must not use the listener otherwise. */
    bool (*sink)(void *data, PGnotify *n);
    void *data;
    bool full;         /* set by the embedder: read nothing more until it clears this */
    char *last_words;  /* the FATAL message that came while no statement was in flight */
    struct error lost; /* set once the connection is lost */
};

/* Takes over an established connection on which nothing is in flight. The listener must not be moved
 * afterwards. False when out of memory; the caller then still owns the connection. */
bool pg_listener_init(struct pg_listener *l, PGconn *conn, bool (*sink)(void *data, PGnotify *n), void *data);
void pg_listener_close(struct pg_listener *l);

/* Sends one statement. False: it was not sent, and l->m.error or l->lost says why. Otherwise step until
 * pg_listener_is_busy returns false; l->m.error is then set if the statement failed. */
bool pg_listener_exec(struct pg_listener *l, const char *sql);
/* True while a statement is in flight. */
bool pg_listener_is_busy(const struct pg_listener *l);

/* Sends and reads what is possible now. `ready`: what the socket is ready for. Returns what to wait for. */
unsigned pg_listener_step(struct pg_listener *l, unsigned ready);
/* What to wait for (PG_WANT_READ, PG_WANT_WRITE); 0 while l->full stops reading, and after the loss of the
 * connection. */
unsigned pg_listener_want(const struct pg_listener *l);
/* Abandons the connection. Only the reason of the first call counts. */
void pg_listener_lose(struct pg_listener *l, const char *why);

#endif
