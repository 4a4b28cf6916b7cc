/*
 * The connection of a listener: a machine on which nothing runs but LISTEN, UNLISTEN and an empty statement
 * to see whether the server is there; in between its socket is read for notifications. Like the machine it
 * never waits: step it when the socket is ready for what it asked for.
 *
 *        HEARING ---- pg_listener_exec ----------------------> OWING ---- the statement's end ----> HEARING
 *        HEARING, OWING ---- lost, pg_listener_lose ---------> LOST    (l->lost is set, for good)
 *
 * HEARING with l->full reads nothing, so memory stays bounded and the server keeps what is not read; OWING
 * reads in any case, since the answer comes behind the notifications.
 *
 * Who owns what: the listener owns its machine; a notification is the sink's once it was handed over.
 */
#ifndef DBRUN_PG_LISTENER_H
#define DBRUN_PG_LISTENER_H

#include "pg/machine.h"

struct pg_listener {
    struct pg_machine m;
    /* Takes a notification (PQfreemem it), in the order they came; false when memory is out, and then it is
     * still the listener's. It may set `full`, and must do nothing else with the listener. */
    bool (*sink)(void *data, PGnotify *n);
    void *data;
    bool full;         /* the embedder's: enough is waiting to be taken */
    char *last_words;  /* what the server said unasked before it closed the connection */
    struct error lost; /* set: the connection is of no use any more */
};

/* Takes over an established connection on which nothing is in flight. The listener must not be moved
 * afterwards. False when memory is out; the connection is then still the caller's. */
bool pg_listener_init(struct pg_listener *l, PGconn *conn, bool (*sink)(void *data, PGnotify *n), void *data);
void pg_listener_close(struct pg_listener *l);

/* Sends one statement. False: it was not sent, l->m.error says why (or l->lost). Else step until
 * pg_listener_is_busy says no: then l->m.error has its error, if there was one. */
bool pg_listener_exec(struct pg_listener *l, const char *sql);
/* Is an answer of the server outstanding? */
bool pg_listener_is_busy(const struct pg_listener *l);

/* Makes the progress that is possible now. `ready`: what the socket is ready for. Gives what to wait for. */
unsigned pg_listener_step(struct pg_listener *l, unsigned ready);
/* What to wait for (PG_WANT_READ, PG_WANT_WRITE); 0 while it is full, and once it is lost. */
unsigned pg_listener_want(const struct pg_listener *l);
/* Gives the connection up. The first reason is the one that counts. */
void pg_listener_lose(struct pg_listener *l, const char *why);

#endif
