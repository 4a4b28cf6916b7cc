#include "bind/pg/lease_methods.h"

#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/certificates.h"
#include "bind/base/error.h"
#include "bind/pg/batch.h"
#include "bind/pg/copy.h"
#include "bind/pg/lease.h"
#include "bind/pg/listen.h"
#include "bind/pg/param_types.h"
#include "bind/pg/query.h"
#include "bind/pg/stream.h"

#include <string.h>

#define PARAMETERS_CLASS "dbrun.pg.parameters"

static int drained_k(lua_State *L, int status, lua_KContext ctx)
{
    pg_lease_waited(L, (struct pg_link *)ctx, status, "the cancelled statement did not end");
    return 0;
}

/* drained(): waits until an abandoned statement has ended */
static int lease_drained(lua_State *L)
{
    struct pg_link *link = pg_lease_link(L);
    if (!pg_link_is_draining(link))
        return 0;
    return pg_link_wait_drained(L, link, (lua_KContext)link, drained_k);
}

/* deadline(seconds | nil): limits the time of all statements of this lease of the sync engine */
static int lease_deadline(lua_State *L)
{
    struct pg_link *link = pg_lease_check(L)->link;
    link->deadline = DEADLINE_NEVER;
    if (lua_isnoneornil(L, 2))
        return 0;
    bind_check_type(L, PG_LEASE_CLASS, 2, "the time", LUA_TNUMBER);
    link->deadline_after = lua_tonumber(L, 2);
    link->deadline = deadline_in(link->deadline_after);
    return 0;
}

static int lease_query(lua_State *L)
{
    return pg_query(L, pg_lease_check(L), RESULT_WHOLE);
}

static int lease_one(lua_State *L)
{
    return pg_query(L, pg_lease_check(L), RESULT_ONE);
}

static int lease_value(lua_State *L)
{
    return pg_query(L, pg_lease_check(L), RESULT_VALUE);
}

static int lease_columns(lua_State *L)
{
    return pg_query(L, pg_lease_check(L), RESULT_COLUMNS);
}

/* describe(sql) -> {{name=, type=, oid=}, ...}: the columns of the statement's result; does not run it */
static int lease_describe(lua_State *L)
{
    return pg_describe(L, pg_lease_check(L));
}

/* is_stale(sql, sqlstate, datatype?) -> boolean | nothing: true when it failed because its types have changed
 * since this connection prepared it. Its cache entry is then renewed. */
static int lease_is_stale(lua_State *L)
{
    return pg_is_stale(L, pg_lease_check(L));
}

static int lease_rows(lua_State *L)
{
    return pg_rows(L, pg_lease_check(L));
}

static int lease_exec(lua_State *L)
{
    return pg_script(L, pg_lease_check(L));
}

static int give_back(lua_State *L, struct pg_lease *lease)
{
    struct pg_link *link = lease->link;
    if (link->telling)
        pg_lease_check_free(L, lease);
    if (link->stream)
        pg_stream_check_codec(L, link->stream);
    lease->link = NULL;
    if (link->waiter || link->stream)
        pg_link_take_away(link);
    pg_link_release(link);
    return 0;
}

/* release(): returns the connection to the pool; a second call is an error. */
static int lease_release(lua_State *L)
{
    return give_back(L, pg_lease_check(L));
}

/* The end of a <close> block: the script may have released it already. */
static int lease_close(lua_State *L)
{
    struct pg_lease *lease = bind_self(L, PG_LEASE_CLASS);
    return lease->link ? give_back(L, lease) : 0;
}

static int lease_gc(lua_State *L)
{
    struct pg_lease *lease = bind_self(L, PG_LEASE_CLASS);
    struct pg_link *link = lease->link;
    if (lease->checkout && bind_is_collected(L)) /* the task was never resumed */
        pg_lease_end_checkout(lease);
    if (!link || link->telling) /* on_notice called __gc explicitly */
        return 0;
    char where[SCRIPT_WHERE] = "?";
    lease->link = NULL;
    script_place_text(&link->place, where, sizeof where);
    if (link->waiter || link->stream) /* the script called __gc explicitly */
        pg_link_take_away(link);
    log_write(lease->engine->rt->log, LOG_LEVEL_WARN,
              "postgres: a connection acquired at %s was never released, and is closed now by the garbage "
              "collector (use `local c <close> = engine:acquire()`)",
              where);
    pool_discard(lease->engine->pool, link->slot, mono_now());
    return 0;
}

/* invalidate(): closes the connection when it is released. */
static int lease_invalidate(lua_State *L)
{
    pg_lease_check(L)->link->slot->invalid = true;
    return 0;
}

/* cancel(): cancels the statement that another task runs on this lease; it ends with SQLSTATE 57014. */
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

/* certificates() -> remaining validity in seconds of the server's and of the client's certificate; nil:
 * none */
static int lease_certificates(lua_State *L)
{
    return bind_push_certificates(L,
                                  certificates_of(PQsslStruct(pg_lease_check(L)->link->m.conn, "OpenSSL")));
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

/* guard([on]) -> whether it was on, whether the transaction was ended inside. While it is on, the script's
 * statements must not end the open transaction. Allocates nothing, so that switching cannot fail. */
static int lease_guard(lua_State *L)
{
    struct pg_machine *m = &pg_lease_check(L)->link->m;
    lua_settop(L, 2);
    lua_pushboolean(L, m->guard != PG_UNGUARDED);
    lua_pushboolean(L, m->guard == PG_ENDED);
    if (!lua_isnoneornil(L, 2))
        pg_machine_guard(m, lua_toboolean(L, 2));
    return 2;
}

/* verbatim(on): while it is on, settings on which values depend (DateStyle) are not restored after a
 * statement that changed them; values in another style then cannot be read. The first statement afterwards
 * restores them. */
static int lease_verbatim(lua_State *L)
{
    struct pg_machine *m = &pg_lease_check(L)->link->m;
    m->verbatim = lua_toboolean(L, 2);
    return 0;
}

/* parameter(name) -> the value that the server reported (server_version, TimeZone, ...) | nil */
static int lease_parameter(lua_State *L)
{
    bind_check_type(L, PG_LEASE_CLASS, 2, "the name", LUA_TSTRING);
    lua_pushstring(L, PQparameterStatus(pg_lease_check(L)->link->m.conn, lua_tostring(L, 2)));
    return 1;
}

/* conn.parameters: the current values that the server reported */
static int push_parameters(lua_State *L)
{
    lua_newuserdatauv(L, 0, 1);
    luaL_setmetatable(L, PARAMETERS_CLASS);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* parameters.NAME */
static int parameters_index(lua_State *L)
{
    bind_self(L, PARAMETERS_CLASS);
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    lua_getiuservalue(L, 1, 1);
    lua_replace(L, 1);
    return lease_parameter(L);
}

/* pairs(parameters): the parameters that every server reports */
static int parameters_pairs(lua_State *L)
{
    static const char *const names[] = {"server_version",
                                        "server_encoding",
                                        "client_encoding",
                                        "application_name",
                                        "default_transaction_read_only",
                                        "in_hot_standby",
                                        "is_superuser",
                                        "session_authorization",
                                        "DateStyle",
                                        "IntervalStyle",
                                        "TimeZone",
                                        "integer_datetimes",
                                        "standard_conforming_strings"};
    bind_self(L, PARAMETERS_CLASS);
    lua_getiuservalue(L, 1, 1);
    lua_replace(L, 1);
    lua_getglobal(L, "next");
    lua_newtable(L);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lua_pushstring(L, PQparameterStatus(pg_lease_check(L)->link->m.conn, names[i]));
        lua_setfield(L, -2, names[i]);
    }
    return 2;
}

/* on_notice(fn | nil): sets the handler of the server's notices for this lease */
static int lease_on_notice(lua_State *L)
{
    struct pg_link *link = pg_lease_check(L)->link;
    if (!lua_isnoneornil(L, 2))
        bind_check_type(L, PG_LEASE_CLASS, 2, "the function", LUA_TFUNCTION);
    luaL_unref(L, LUA_REGISTRYINDEX, link->on_notice);
    link->on_notice = LUA_NOREF;
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        link->on_notice = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* conn.NAME: a method, or the parameters */
static int lease_index(lua_State *L)
{
    bind_self(L, PG_LEASE_CLASS);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "parameters") == 0)
        return push_parameters(L);
    lua_pushvalue(L, 2);
    lua_gettable(L, lua_upvalueindex(1)); /* the class answers for unknown names, with a suggestion */
    return 1;
}

/* values() -> the engine's table for parameter values, schema epoch */
static int lease_values(lua_State *L)
{
    struct pg_lease *lease = pg_lease_check(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lease->engine->values);
    lua_pushinteger(L, (lua_Integer)lease->engine->rt->schema_epoch);
    return 2;
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
                                       {"drained", lease_drained},
                                       {"deadline", lease_deadline},
                                       {"invalidate", lease_invalidate},
                                       {"cancel", lease_cancel},
                                       {"backend_pid", lease_backend_pid},
                                       {"certificates", lease_certificates},
                                       {"in_transaction", lease_in_transaction},
                                       {"guard", lease_guard},
                                       {"verbatim", lease_verbatim},
                                       {"parameter", lease_parameter},
                                       {"on_notice", lease_on_notice},
                                       {"is_sync", lease_is_sync},
                                       {"batch", pg_lease_batch},
                                       {"batch_many", pg_lease_batch_many},
                                       {"copy_begin", pg_copy_begin},
                                       {"copy_send", pg_copy_send},
                                       {"copy_end", pg_copy_end},
                                       {"copy_out_begin", pg_copy_out_begin},
                                       {"reads_binary", pg_copy_reads_binary},
                                       {"describe", lease_describe},
                                       {"parameter_types", pg_lease_parameter_types},
                                       {"load_types", pg_lease_load_types},
                                       {"epochs", pg_lease_epochs},
                                       {"values", lease_values},
                                       {"is_stale", lease_is_stale},
                                       {"listen_feed", pg_listen_feed},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", lease_close}, {"__gc", lease_gc}, {NULL, NULL}};
    static const luaL_Reg parameters[] = {
        {"__index", parameters_index}, {"__pairs", parameters_pairs}, {NULL, NULL}};
    bind_class(L, rt, PG_LEASE_CLASS, meta, methods);
    lua_pushvalue(L, -1);
    rt->pg_leases = luaL_ref(L, LUA_REGISTRYINDEX);
    bind_class_words(L, "a connection", "conn");
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, lease_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    bind_class(L, rt, PARAMETERS_CLASS, parameters, NULL);
    bind_class_words(L, "the parameters of a connection", "parameters");
    lua_pop(L, 1);
}
