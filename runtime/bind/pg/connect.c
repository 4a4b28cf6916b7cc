/* The connector's operations for PostgreSQL. */
#include "bind/pg/connect.h"
#include "base/deadline.h"
#include "bind/pg/link.h"
#include "connect/asked.h"
#include "connect/pg.h"

#include <string.h>
#include <time.h>

/* True when the server starts, stops or recovers (57P03). Connecting is then retried until the deadline. */
static bool is_starting(const struct error *e)
{
    const char *state = error_is_set(e) ? e->field[ERROR_SQLSTATE] : NULL;
    return state && strcmp(state, "57P03") == 0;
}

static PGconn *try_once(struct pg_conninfo *info, uint64_t deadline, struct error *e)
{
    error_clear(e);
    PGconn *conn = connect_pg_again((const char *const *)info->keywords, (const char *const *)info->values,
                                    info->target, deadline, NULL, &info->plain, e);
    if (conn && !connect_pg_asked(conn, info->asked, info->target, deadline, e)) {
        PQfinish(conn);
        return NULL;
    }
    return conn;
}

static void *connect_pg_server(void *target, uint64_t deadline, const struct connecting *c, struct error *e)
{
    uint64_t pause = 20 * NS_PER_MS;
    PGconn *conn = try_once(target, deadline, e);
    while (!conn && is_starting(e) && mono_now() + pause < deadline && connecting_is_wanted(c)) {
        struct timespec ts = {.tv_nsec = (long)pause};
        nanosleep(&ts, NULL);
        pause = pause < 200 * NS_PER_MS ? pause * 3 / 2 : pause;
        conn = try_once(target, deadline, e);
    }
    const struct pg_conninfo *info = target;
    if (!conn && info->advice && e->kind == ERROR_CONNECT && !e->field[ERROR_SQLSTATE])
        error_set_field(e, ERROR_HINT, info->advice);
    return conn;
}

static void *wrap(struct pool_slot *slot, void *conn)
{
    return pg_link_new(pool_data(slot->pool), slot, conn);
}

static void close_pg(void *conn)
{
    PQfinish(conn);
}

static void hold(void *target)
{
    pg_conninfo_ref(target);
}

static void let_go(void *target)
{
    pg_conninfo_unref(target);
}

static const char *describe(const void *target)
{
    return ((const struct pg_conninfo *)target)->target;
}

const struct connector_ops pg_connector_ops = {.server = "PostgreSQL",
                                               .variable = "DATABASE_URL (or POSTGRES_HOST)",
                                               .trace_pid = TRACE_CONNECTIONS,
                                               .hold = hold,
                                               .let_go = let_go,
                                               .describe = describe,
                                               .connect = connect_pg_server,
                                               .wrap = wrap,
                                               .close = close_pg};

void pg_connect_slot(struct pool_slot *slot)
{
    struct pg_engine *e = pool_data(slot->pool);
    connector_open(&e->connector, slot);
}
