/*
 * Opens a connection and prepares the point select of P1 to P3 as "s".
 */
#ifndef DBRUN_BENCH_FLOOR_PG_H
#define DBRUN_BENCH_FLOOR_PG_H

#include "floor.h"

#include <libpq-fe.h>

/* Prints the error and ends the program. `conn`: the connection that failed, or NULL. */
static inline void floor_die(const char *what, PGconn *conn)
{
    fprintf(stderr, "%s: %s\n", what, conn ? PQerrorMessage(conn) : "failed");
    exit(1);
}

static inline PGconn *floor_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK)
        floor_die("connect", conn);
    PGresult *res = PQprepare(conn, "s", SELECT_SQL, 1, NULL);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        floor_die("prepare", conn);
    PQclear(res);
    return conn;
}

#endif
