/*
 * What a PostgreSQL server was asked, and what it answers as long as it is honest: for each group the words
 * of its replies (pg_script.h), up to its sync, with the group's own number as the value of each row.
 */
#ifndef DBRUN_TEST_PG_ASKED_H
#define DBRUN_TEST_PG_ASKED_H

#include "pg_script.h"

enum { PG_ASKED_WORDS = 512 };

struct pg_asked {
    unsigned number;
    char words[PG_ASKED_WORDS];
    size_t at; /* what of it was said */
    bool shared;
    bool error;  /* it has failed, or will */
    bool served; /* all of it was said */
    bool gone;   /* nobody waits for it any more */
    bool told;   /* its owner knows how it ended */
};

/* More words. "%u" is the number, once; '^' stands for the end of a COPY FROM STDIN, which is waited for. */
void pg_asked_add(struct pg_asked *a, const char *words);
/* Adds the next message to `out`; with `fail` an error and, later, the sync instead of what was still to
 * come. The SQLSTATE of the error is 'N' and the number. */
void pg_asked_say(struct pg_asked *a, struct buf *out, bool fail, bool in_copy);
/* Aborts when a row has the number of another group. What a dishonest server makes up has none. */
void pg_asked_check_rows(const struct pg_asked *a, const PGresult *r);
/* Aborts when this cannot be the end of it. `honest`: the server is, still. */
void pg_asked_check_end(const struct pg_asked *a, const struct pg_machine *m, const PGresult *r,
                        const struct error *e, bool honest);
/* Aborts with what is not so. */
void pg_must(bool ok, const char *what);

#endif
