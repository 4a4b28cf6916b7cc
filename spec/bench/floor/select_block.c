/*
 * The floor of P3: a prepared point select on one connection, blocking in PQexecPrepared.
 * Usage: select_block CONNINFO SECONDS
 */
#include "floor_pg.h"

enum { WARM_UP = 500 };

static uint64_t random_state = 88172645463325252u;

/* True when the balance was the account's own number. */
static int select_one(PGconn *conn)
{
    char text[12];
    const char *values[1] = {text};
    int account = floor_account(&random_state);
    snprintf(text, sizeof text, "%d", account);
    PGresult *res = PQexecPrepared(conn, "s", 1, values, NULL, NULL, 0);
    int right = PQntuples(res) == 1 && atoi(PQgetvalue(res, 0, 0)) == account;
    PQclear(res);
    return right;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CONNINFO SECONDS\n", argv[0]);
        return 2;
    }
    PGconn *conn = floor_connect(argv[1]);
    uint64_t done = 0, wrong = 0;
    for (int i = 0; i < WARM_UP; i++)
        wrong += !select_one(conn);
    struct floor_clock start = floor_start();
    double deadline = start.wall + atof(argv[2]);
    while (floor_seconds() < deadline) {
        for (int i = 0; i < 16; i++)
            wrong += !select_one(conn);
        done += 16;
    }
    floor_report(start, done, wrong);
    PQfinish(conn);
    return 0;
}
