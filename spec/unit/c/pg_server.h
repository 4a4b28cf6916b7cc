/*
 * A real PostgreSQL for the C tests: a separate cluster in a temporary folder, on a unix socket. It stops
 * when the test ends, for whatever reason.
 */
#ifndef DBRUN_TEST_PG_SERVER_H
#define DBRUN_TEST_PG_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct pg_server {
    char dir[64]; /* holds the data folder and the socket */
    pid_t pid;
};

/* False (after a line on stderr that says why) when it cannot be started. */
bool pg_server_start(struct pg_server *s);
void pg_server_stop(struct pg_server *s);

#endif
