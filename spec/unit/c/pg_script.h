/*
 * The server's end of a PostgreSQL connection, for the tests of the machine: it sends and reads only what a
 * test asks for. libpq connects to it over a unix socket, in the same thread.
 *
 * Messages are written as words; in a word '_' stands for a blank:
 *
 *     1 2 3 n     ParseComplete, BindComplete, CloseComplete, NoData
 *     s I c       PortalSuspended, EmptyQueryResponse, CopyDone
 *     t           ParameterDescription of one int4
 *     T T:n Town  RowDescription of one text column, of n int8 columns, of one column of a user-defined type
 *     D D:5       a row of one column: NULL, "5"
 *     C:SELECT_1  CommandComplete
 *     E:22012     an ERROR; F:57P01 a FATAL; P:... a PANIC; E alone: an ERROR without SQLSTATE
 *     Z Z:T       ReadyForQuery, idle or (T, E) in a transaction
 *     G H W       CopyInResponse, CopyOutResponse, CopyBothResponse
 *     d:bytes     CopyData
 *     N S A       a notice, a ParameterStatus, a notification
 *     !5a00       these bytes
 */
#ifndef DBRUN_TEST_PG_SCRIPT_H
#define DBRUN_TEST_PG_SCRIPT_H

#include "base/buf.h"
#include "pg/machine.h"

struct pg_script {
    char dir[64];
    int listener;
    int fd; /* our end of the newest connection; -1 = closed */
};

/* Aborts when it cannot make the folder or the socket. */
void pg_script_open(struct pg_script *s);
void pg_script_close(struct pg_script *s);
/* Makes a connection, logged in and in the non-blocking mode that the machine needs. Aborts when libpq
 * refuses it. Closes our end of an earlier connection. */
PGconn *pg_script_connect(struct pg_script *s);
/* Closes our end: the machine sees the end of the connection after the bytes that were sent. */
void pg_script_hang_up(struct pg_script *s);
/* Reads and throws away what the machine has sent; returns the number of bytes. */
size_t pg_script_swallow(const struct pg_script *s);
void pg_script_send(const struct pg_script *s, const char *bytes, size_t len);
/* Adds the message of a word. False: the word is unknown. */
bool pg_script_add(struct buf *out, const char *word);

/* "!query/failed/22012": kind, outcome, SQLSTATE if there is one. */
void pg_script_describe_error(struct buf *out, const struct error *e);
/* The values of the first column in parentheses, the command's tag, "empty", or "nothing". */
void pg_script_describe_result(struct buf *out, PGresult *r);

/* While this is set, poll(2) aborts instead of waiting, also in libpq: the machine must never wait. */
extern bool pg_script_never_wait;

/* The part of `want` for which the machine's socket is ready, as an event loop would report it; all of it
 * when libpq has closed the socket. 0 for a machine that is broken or closed. */
unsigned pg_script_readiness(const struct pg_machine *m, unsigned want);

/* Checks a machine's invariants between its calls. Returns NULL, or the one that does not hold. */
const char *pg_script_check(const struct pg_machine *m);

#endif
