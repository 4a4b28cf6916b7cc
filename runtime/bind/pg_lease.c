/* What a script holds after engine:acquire(): one connection, until it is released. */
#include "base/deadline.h"
#include "bind/pg_impl.h"

#include <string.h>

struct pg_lease *pg_lease_new(lua_State *L)
{
    struct pg_lease *lease = lua_newuserdatauv(L, sizeof *lease, 0);
    *lease = (struct pg_lease){NULL, NULL};
    luaL_setmetatable(L, PG_LEASE_CLASS);
    return lease;
}

struct pg_lease *pg_lease_check(lua_State *L)
{
    struct pg_lease *lease = luaL_checkudata(L, 1, PG_LEASE_CLASS);
    if (!lease->link)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "this connection has been released");
    return lease;
}

static int lease_query(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_statement(L, lease->engine, lease, SHAPE_RESULT);
}

static int lease_one(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_statement(L, lease->engine, lease, SHAPE_ONE);
}

static int lease_value(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_statement(L, lease->engine, lease, SHAPE_VALUE);
}

static int lease_columns(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_statement(L, lease->engine, lease, SHAPE_COLUMNS);
}

static int lease_rows(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_rows(L, lease->engine, lease);
}

static int lease_exec(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    return pg_script(L, lease->engine, lease);
}

/* release(): gives the connection back; a second time is an error. */
static int lease_release(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    struct pg_link *link = lease->link;
    lease->link = NULL;
    pool_release(lease->engine->pool, link->slot, mono_now());
    return 0;
}

/* At the end of a block it may have been released by hand. */
static int lease_close(lua_State *L)
{
    struct pg_lease *lease = luaL_checkudata(L, 1, PG_LEASE_CLASS);
    return lease->link ? lease_release(L) : 0;
}

static int lease_gc(lua_State *L)
{
    struct pg_lease *lease = lua_touserdata(L, 1);
    struct pg_link *link = lease->link;
    if (!link)
        return 0;
    lease->link = NULL;
    log_write(
        lease->engine->rt->log, LOG_LEVEL_WARN,
        "postgres: a connection acquired at %s:%d was never released, only collected: it is closed (use "
        "`local c <close> = engine:acquire()`)",
        link->line ? link->source : "?", link->line);
    pool_discard(lease->engine->pool, link->slot, mono_now());
    return 0;
}

/* invalidate(): the connection is closed when it is released. */
static int lease_invalidate(lua_State *L)
{
    pg_lease_check(L)->link->slot->invalid = true;
    return 0;
}

/* cancel(): the statement that another task runs on it ends with SQLSTATE 57014. */
static int lease_cancel(lua_State *L)
{
    pg_link_request_cancel(pg_lease_check(L)->link);
    return 0;
}

static int lease_backend_pid(lua_State *L)
{
    lua_pushinteger(L, pg_lease_check(L)->link->pid);
    return 1;
}

/* in_transaction() -> false, or "open" or "failed" */
static int lease_in_transaction(lua_State *L)
{
    switch (PQtransactionStatus(pg_lease_check(L)->link->m.conn)) {
    case PQTRANS_INTRANS:
    case PQTRANS_ACTIVE:
        lua_pushliteral(L, "open");
        return 1;
    case PQTRANS_INERROR:
        lua_pushliteral(L, "failed");
        return 1;
    default:
        lua_pushboolean(L, 0);
        return 1;
    }
}

/* parameter(name) -> what the server reported (server_version, TimeZone, ...), nil when it did not */
static int lease_parameter(lua_State *L)
{
    const char *value = PQparameterStatus(pg_lease_check(L)->link->m.conn, luaL_checkstring(L, 2));
    lua_pushstring(L, value);
    return 1;
}

static int lease_is_sync(lua_State *L)
{
    lua_pushboolean(L, pg_lease_check(L)->engine->sync);
    return 1;
}

void pg_lease_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg methods[] = {{"query", lease_query},
                                       {"one", lease_one},
                                       {"value", lease_value},
                                       {"exec", lease_exec},
                                       {"rows", lease_rows},
                                       {"columns", lease_columns},
                                       {"release", lease_release},
                                       {"invalidate", lease_invalidate},
                                       {"cancel", lease_cancel},
                                       {"backend_pid", lease_backend_pid},
                                       {"in_transaction", lease_in_transaction},
                                       {"parameter", lease_parameter},
                                       {"is_sync", lease_is_sync},
                                       {"batch", pg_lease_batch},
                                       {"batch_many", pg_lease_batch_many},
                                       {"copy_begin", pg_copy_begin},
                                       {"copy_send", pg_copy_send},
                                       {"copy_end", pg_copy_end},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", lease_close}, {"__gc", lease_gc}, {NULL, NULL}};
    bind_class(L, rt, PG_LEASE_CLASS, meta, methods);
    lua_pop(L, 1);
}
