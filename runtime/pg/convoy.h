/*
 * Statements of several callers in one flight over one connection (libpq's pipeline mode): each is followed
 * by a sync of its own, so each is its own transaction and an error touches nobody else. Only statements that
 * are prepared on this connection travel so.
 *
 * The server commits at the sync: a result is kept until its sync has come. An error in between (a deferred
 * constraint) takes its place, and a connection that is lost in between leaves the outcome unknown.
 *
 * Who owns what: the machine lends its connection from pg_convoy_begin until the step says PG_DONE; results
 * and errors are handed over one by one to `done`, in the order of the statements.
 */
#ifndef DBRUN_PG_CONVOY_H
#define DBRUN_PG_CONVOY_H

#include "pg/machine.h"

enum { PG_CONVOY_MOST = 64 };

struct pg_convoy {
    struct pg_machine *m;
    /* The result is the callee's; of the error only the contents. NULL result = `e` is set. */
    void (*done)(void *data, void *tag, PGresult *r, struct error *e);
    void *data;
    int n;               /* statements sent */
    int at;              /* whose reply comes next */
    PGresult *result;    /* its result, until the sync */
    struct error failed; /* or its error */
    bool separated;      /* libpq's NULL was the last that came */
    void *tags[PG_CONVOY_MOST];
};

/* The entry of a statement that may travel on this connection, else NULL: prepared there, and of types that
 * nobody has to ask about. */
struct pg_cached *pg_convoy_accepts(struct pg_machine *m, const char *sql, size_t len,
                                    const struct pg_params *p);
/* The connection must be idle. False: m->error says why. */
bool pg_convoy_begin(struct pg_convoy *c, struct pg_machine *m);
bool pg_convoy_add(struct pg_convoy *c, const struct pg_cached *e, const struct pg_params *p, void *tag);
/* As pg_machine_step. At PG_DONE every statement has been answered and the machine is idle or broken. */
unsigned pg_convoy_step(struct pg_convoy *c, unsigned ready);
/* The connection is given up: what has not been answered is told as lost. */
void pg_convoy_give_up(struct pg_convoy *c);

#endif
