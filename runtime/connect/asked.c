#include "connect/asked.h"

#include "connect/pg.h"

#include <stdio.h>
#include <string.h>

enum { NAME, PRESENT, ASKED, PROCESS };

static void refuse(struct error *err, const PGconn *conn, const PGresult *r, int row, const char *target)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", PQbackendPID(conn));
    bool pooler = strcmp(PQgetvalue(r, row, PROCESS), pid) != 0;
    error_set(err, ERROR_CONFIG, "%s %s does not keep %s = %s, which was asked for: it is %s",
              pooler ? "the pooler in front of the server at" : "PostgreSQL at", target,
              PQgetvalue(r, row, NAME), PQgetvalue(r, row, ASKED),
              PQgetisnull(r, row, PRESENT) ? "not set" : PQgetvalue(r, row, PRESENT));
    error_set_field(
        err, ERROR_HINT,
        "A pooler drops the settings of a connection (PgBouncer: ignore_startup_parameters = options). "
        "Set them on the server (ALTER ROLE ... SET, ALTER DATABASE ... SET) or connect past the pooler.");
    err->outcome = OUTCOME_NOT_SENT;
}

/* True when the second statement may succeed. Not after a time limit of the server: it would also end the
 * second statement. */
static bool may_ask_otherwise(const struct error *err)
{
    const char *state = error_is_set(err) ? err->field[ERROR_SQLSTATE] : NULL;
    return state && strcmp(state, "57014") != 0;
}

bool connect_pg_asked(PGconn *conn, char *const sql[2], const char *target, uint64_t deadline,
                      struct error *err)
{
    if (!sql[0])
        return true;
    PGresult *r = connect_pg_ask(conn, sql[0], deadline, err);
    if (!r && may_ask_otherwise(err)) {
        error_clear(err);
        r = connect_pg_ask(conn, sql[1], deadline, err);
    }
    if (!r)
        return false;
    int rows = PQntuples(r);
    for (int i = 0; i < rows && !error_is_set(err); i++)
        if (PQgetisnull(r, i, PRESENT) || strcmp(PQgetvalue(r, i, PRESENT), PQgetvalue(r, i, ASKED)) != 0)
            refuse(err, conn, r, i, target);
    if (rows == 0 && !error_is_set(err))
        error_set(err, ERROR_PROTOCOL, "PostgreSQL at %s does not report its settings", target);
    PQclear(r);
    return !error_is_set(err);
}
