/*
 * Plays a scenario on a PostgreSQL machine and a scripted peer, and tells what happened. A scenario is words:
 * what begins with '<' is a message from the server (pg_script.h), the others are what the machine's user
 * does. Messages that follow each other come as the way says; whenever something has come the machine is
 * stepped.
 *
 *     see learn          a statement runs once, or is prepared; nothing is told of that
 *     query stream describe simple once copy        begin a group that is alone
 *     batch:3 counts:3   a whole batch of so many statements; open add same close_batch: its parts
 *     share:A abandon:A  a shared group of the owner A
 *     discard cancel break close detach             what else can be done
 *     put:text put end fail get look refused        of a COPY
 *     eof gone           the peer closes the connection; gone: the machine is not stepped
 *     unseen             the messages before it came, and the machine is not stepped
 *     little             the socket takes little from now on; swallow: the peer reads all of it
 *     big                the next parameter, SQL without one, or what is put, does not fit into the socket
 *     many typed         the next statement has too many parameters; one of a type
 *     sql:select_2 cache:1 text catalog             for the statements that come; of the connection
 *     may room clean busy inside entries            asks the machine
 *     step go            a step although nothing is known of the socket; what the loop does
 *
 * What is told, in order: "A=..." how a shared group ended, "=..." how what was alone ended, "row=..." a row
 * that came by itself, "no ..." what was refused, and at last the state. A result is its values in
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
    const char *end; /* what is told */
};

/* Stays valid until the next call. Whatever the machine still has at the end is closed with it. */
const char *pg_play(struct pg_script *s, enum pg_play_way way, const char *scenario);
/* Checks each scenario in every way. */
void pg_play_all(struct pg_script *s, const struct pg_scenario *list, size_t n);
/* Frees what the last call left. */
void pg_play_end(void);

#endif
