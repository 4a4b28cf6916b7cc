/*
 * The requests to a PostgreSQL server, and its replies as long as it keeps to the protocol: for each group
 * the words of its replies (pg_script.h), up to its sync, with the group's number as the value of each row.
 */
#ifndef DBRUN_TEST_PG_ASKED_H
#define DBRUN_TEST_PG_ASKED_H

#include "pg_script.h"

enum { PG_ASKED_WORDS = 512 };

struct pg_asked {
    unsigned number;
    char words[PG_ASKED_WORDS];
    size_t at; /* the part that was sent */
    bool shared;
    bool error;  /* it has failed, or will fail */
    bool served; /* all of its replies were sent */
    bool gone;   /* its owner has abandoned it */
    bool told;   /* its owner has its result */
};

/* Adds words. "%u" is the number, once; at '^' the server waits for the end of a COPY FROM STDIN. */
void pg_asked_add(struct pg_asked *a, const char *words);
/* Adds the next message to `out`; with `fail` an error, and the sync next, in place of the remaining
 * messages. The SQLSTATE of the error is 'N' and the number. */
void pg_asked_say(struct pg_asked *a, struct buf *out, bool fail, bool in_copy);
/* Aborts when a row has the number of another group. Rows that a faulty server invents have no number. */
void pg_asked_check_rows(const struct pg_asked *a, const PGresult *r);
/* Aborts when this cannot be the group's result. `honest`: the server has kept to the protocol so far. */
void pg_asked_check_end(const struct pg_asked *a, const struct pg_machine *m, const PGresult *r,
                        const struct error *e, bool honest);
/* Aborts with the message `what`, unless `ok`. */
void pg_must(bool ok, const char *what);

#endif
