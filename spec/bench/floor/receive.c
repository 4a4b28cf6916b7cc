/*
 * A floor of P4: libpq receives the rows one by one, in binary, and no values are made from them.
 * Usage: receive CONNINFO ROWS SQL
 */
#include "floor_pg.h"

#include <endian.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CONNINFO ROWS SQL\n", argv[0]);
        return 2;
    }
    PGconn *conn = PQconnectdb(argv[1]);
    if (PQstatus(conn) != CONNECTION_OK)
        floor_die("connect", conn);
    const char *values[1] = {argv[2]};
    uint64_t rows = strtoull(argv[2], NULL, 10), seen = 0, sum = 0;
    struct floor_clock start = floor_start();
    PQsendQueryParams(conn, argv[3], 1, NULL, values, NULL, NULL, 1);
    PQsetSingleRowMode(conn);
    for (PGresult *res; (res = PQgetResult(conn)) != NULL; PQclear(res)) {
        if (PQresultStatus(res) != PGRES_SINGLE_TUPLE)
            continue;
        uint64_t a;
        memcpy(&a, PQgetvalue(res, 0, 0), sizeof a);
        sum += be64toh(a);
        seen++;
    }
    floor_report(start, rows, seen == rows && sum == rows * (rows + 1) / 2 ? 0 : rows);
    PQfinish(conn);
    return 0;
}
