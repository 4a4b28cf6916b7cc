#include "bind/pg/on_connect.h"

#include "base/deadline.h"

#include <string.h>

struct pg_lease *pg_connect_event(lua_State *L, struct pg_link **owner)
{
    luaL_checkstack(L, 4, "on_connect");
    struct pg_lease *holder = pg_lease_new(L, false);
    struct pg_link *link = *owner;
    lua_rawgeti(L, LUA_REGISTRYINDEX, link->engine->on_connect);
    lua_pushvalue(L, -2);
    holder->engine = link->engine;
    holder->link = link;
    link->needs_on_connect = false;
    *owner = NULL;
    return holder;
}

/* Says why the connection cannot be used after on_connect; NULL = it can. */
static const char *not_fit(const struct pg_lease *lease)
{
    if (!lease->link)
        return "on_connect failed: it must not release its connection";
    if (lease->link->user || lease->link->m.state != PG_IDLE)
        return "on_connect failed: it left a statement unfinished";
    if (pg_machine_in_transaction(&lease->link->m))
        return "on_connect failed: it left a transaction open";
    return NULL;
}

/* Adds on_connect to the context of an error object at the top; pushes a message for any other error. */
static void add_context(lua_State *L)
{
    if (lua_istable(L, -1) && luaL_getmetafield(L, -1, "__name") == LUA_TSTRING) {
        bool cancelled = false;
        lua_pop(L, 1);
        if (lua_getfield(L, -1, "kind") == LUA_TSTRING)
            cancelled = strcmp(lua_tostring(L, -1), "cancelled") == 0;
        lua_pop(L, 1);
        if (cancelled)
            return;
        bool has_context = lua_getfield(L, -1, "context") == LUA_TSTRING;
        lua_pushfstring(L, "%s%son_connect of the engine", has_context ? lua_tostring(L, -1) : "",
                        has_context ? "\n" : "");
        lua_setfield(L, -3, "context");
        lua_pop(L, 1);
        return;
    }
    lua_pushfstring(L, "on_connect failed: %s", luaL_tolstring(L, -1, NULL));
}

struct pg_link *pg_connected(lua_State *L, struct pg_lease *lease, int status)
{
    struct pg_link *link = lease->link;
    bool ok = status == LUA_OK || status == LUA_YIELD;
    const char *why = ok ? not_fit(lease) : NULL;
    lease->link = NULL;
    if (link)
        link->m.discarded = false;
    if (ok && !why)
        return link;
    if (link)
        pool_discard(link->engine->pool, link->slot, mono_now());
    if (why)
        lua_pushstring(L, why);
    else
        add_context(L);
    return NULL;
}
