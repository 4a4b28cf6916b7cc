/*
 * The other end of a PostgreSQL connection, for the tests of the machine: it sends exactly the bytes it is
 * told to, and reads nothing unless it is told to. libpq connects to it over a unix socket, in this same
 * thread.
 *
 * Messages are written as words; in a word '_' stands for a blank:
 *
 *     1 2 3 n s I c    ParseComplete, BindComplete, CloseComplete, NoData, PortalSuspended,
 * EmptyQueryResponse, CopyDone t                ParameterDescription of one int4 T  T:n  Town RowDescription
 * of one text column, of n int8 columns, of a type of the database's own D  D:5           a row of one
 * column: NULL, "5" C:SELECT_1       CommandComplete E:22012          an ERROR; F:57P01 a FATAL; P:... a
 * PANIC; E alone: an ERROR that has no SQLSTATE Z  Z:T           ReadyForQuery, idle or (T, E) in a
 * transaction G H W  d:bytes   CopyInResponse, CopyOutResponse, CopyBothResponse, CopyData N S A            a
 * notice, a parameter's status, a notification !5a00            these bytes
 */
#ifndef DBRUN_TEST_PG_SCRIPT_H
#define DBRUN_TEST_PG_SCRIPT_H

#include "base/buf.h"
#include "pg/machine.h"

struct pg_script {
    char dir[64];
    int listener;
    int fd; /* our end of the connection that was made last; -1 = closed */
};

/* Aborts when there is no folder or socket to be had. */
void pg_script_open(struct pg_script *s);
void pg_script_close(struct pg_script *s);
/* Makes a connection, logged in and in the non-blocking mode that the machine needs. Aborts when libpq does
 * not want it. Of an earlier connection our end is closed. */
PGconn *pg_script_connect(struct pg_script *s);
/* Closes our end: the machine sees the end of the connection behind what was sent. */
void pg_script_hang_up(struct pg_script *s);
/* Reads and throws away what the machine has sent; how many bytes that were. */
size_t pg_script_swallow(const struct pg_script *s);
void pg_script_send(const struct pg_script *s, const char *bytes, size_t len);
/* Adds the message of a word. False: there is no such word. */
bool pg_script_add(struct buf *out, const char *word);

/* "!query/failed/22012": kind, outcome, SQLSTATE if there is one. */
void pg_script_describe_error(struct buf *out, const struct error *e);
/* The values of the first column in parentheses, the command's tag, "empty", or "nothing". */
void pg_script_describe_result(struct buf *out, PGresult *r);

/* While this is set, poll(2) aborts where it would wait, also under libpq: the machine never does. */
extern bool pg_script_never_wait;

/* What the machine's socket is ready for, of what is wanted, as a loop tells it; all of that when libpq has
 * closed it. Nothing of a machine that is broken or closed. */
unsigned pg_script_readiness(const struct pg_machine *m, unsigned want);

/* What is true of a machine whenever nobody is inside of it. NULL, or what is not. */
const char *pg_script_check(const struct pg_machine *m);

#endif
