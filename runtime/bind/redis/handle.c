#include "bind/redis/handle.h"

#include "bind/base/error.h"

struct redis_handle *redis_check_handle(lua_State *L, int idx)
{
    struct redis_handle *h = luaL_testudata(L, idx, REDIS_CLIENT_CLASS);
    if (!h)
        h = luaL_testudata(L, idx, REDIS_CONN_CLASS);
    struct runtime *rt = bind_runtime(L);
    if (!h)
        bind_fail(L, rt, ERROR_USAGE, "redis: expected a client (call it as r:command(...)), got %s",
                  luaL_typename(L, idx));
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
