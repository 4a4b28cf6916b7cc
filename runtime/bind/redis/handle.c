#include "bind/redis/handle.h"

#include "base/number.h"
#include "bind/base/args.h"
#include "bind/base/error.h"

bool redis_is_handle(lua_State *L, int idx)
{
    return luaL_testudata(L, idx, REDIS_CLIENT_CLASS) || luaL_testudata(L, idx, REDIS_CONN_CLASS);
}

int redis_wrong_self(lua_State *L, const char *class, const struct redis_command *cmd)
{
    char name[64]; /* as scripts write it: "hgetall" */
    size_t n = 0;
    while (cmd->name[n] && n < sizeof name - 1) {
        name[n] = ascii_lower(cmd->name[n]);
        n++;
    }
    name[n] = '\0';
    return bind_wrong_self(L, class, name);
}

struct redis_handle *redis_check_handle(lua_State *L, int idx)
{
    if (!redis_is_handle(L, idx))
        bind_wrong_self(L, REDIS_CLIENT_CLASS, NULL);
    struct redis_handle *h = lua_touserdata(L, idx);
    struct runtime *rt = bind_runtime(L);
    if (!h->session || h->session->closed)
        bind_fail(L, rt, ERROR_USAGE, "redis: this %s is closed",
                  luaL_testudata(L, idx, REDIS_CONN_CLASS) ? "connection" : "client");
    if (!h->session->shared && !h->session->link) {
        struct error e = {0};
        error_set(&e, ERROR_CONNECT, "redis at %s: this connection was lost",
                  h->session->pool->target->label);
        e.outcome = OUTCOME_NOT_SENT;
        bind_error_raise(L, rt, &e);
    }
    return h;
}
