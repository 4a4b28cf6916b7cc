/*
 * Plays a scenario on a PostgreSQL machine and a scripted peer, and reports what happened. A scenario is
 * words: one that begins with '<' is a message from the server (pg_script.h), the others are calls of the
 * machine's user. `way` says how consecutive messages arrive; the machine is stepped after each arrival.
 *
 *     see learn          a statement runs once, or is prepared; not reported
 *     query stream describe simple once copy        begin a group that is alone
 *     batch:3 counts:3   a whole batch of 3 statements; open add same close_batch: its parts
 *     share:A abandon:A  a shared group of the owner A
 *     discard cancel break close detach             the machine's other calls
 *     put:text put end fail get look refused        of a COPY
 *     eof gone           the peer closes the connection; gone: the machine is not stepped
 *     unseen             the messages before it have arrived, but the machine is not stepped
 *     little             the socket takes little from now on; swallow: the peer reads all of it
 *     big                the next parameter, SQL without parameters, or COPY data is too big for the socket
 *     many typed         the next statement has too many parameters; one parameter with a type
 *     sql:select_2 cache:1 text catalog             settings for later statements; of the connection
 *     may room clean busy inside entries            query the machine's state
 *     step go            a step without a ready socket; a turn of the event loop
 *
 * The report, in order: "A=..." the end of a shared group, "=..." the end of a group that was alone,
 * "row=..." a row of a stream, "no ..." a refusal, and at last the state. A result is its values in
 * parentheses, its command's tag, or "empty"; an error is !kind/outcome/SQLSTATE.
 */
#ifndef DBRUN_TEST_PG_PLAY_H
#define DBRUN_TEST_PG_PLAY_H

#include "pg_script.h"

enum pg_play_way {
    PG_PLAY_WHOLE,  /* all messages at once, and a loop that watches the socket */
    PG_PLAY_BYTES,  /* byte by byte */
    PG_PLAY_DRIVEN, /* all at once, and the loop of the blocking driver */
    PG_PLAY_WAYS
};

struct pg_scenario {
    const char *words;
    const char *end; /* the expected report */
};

/* Returns the report, which is valid until the next call. Closes the machine, whatever it still has. */
const char *pg_play(struct pg_script *s, enum pg_play_way way, const char *scenario);
/* Checks each scenario in every way. */
void pg_play_all(struct pg_script *s, const struct pg_scenario *list, size_t n);
/* Frees the last report. */
void pg_play_end(void);

#endif
