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

int redis_raise_lost(lua_State *L, const struct redis_session *s)
{
    struct error e = {0};
    error_set(&e, ERROR_CONNECT, "redis at %s: this connection was lost", s->pool->target->label);
    error_set_field(&e, ERROR_DETAIL, s->trouble.message);
    error_set_field(&e, ERROR_HINT, "take another one: local c <close> = r:acquire()");
    e.outcome = OUTCOME_NOT_SENT;
    e.retryable = true;
    return bind_error_raise(L, s->rt, &e);
}

struct redis_handle *redis_push_handle(lua_State *L, const char *class)
{
    struct redis_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    *h = (struct redis_handle){.timeout = HUGE_VAL, .until = DEADLINE_NEVER};
    luaL_setmetatable(L, class);
    return h;
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
    if (!h->session->shared && !h->session->link)
        redis_raise_lost(L, h->session);
    return h;
}

int redis_handle__links(lua_State *L)
{
    if (!redis_is_handle(L, 1))
        bind_wrong_self(L, REDIS_CLIENT_CLASS, "links");
    const struct redis_session *s = ((const struct redis_handle *)lua_touserdata(L, 1))->session;
    lua_pushinteger(L, s && s->link ? (lua_Integer)s->link->serial : 0);
    lua_pushinteger(L, s ? (lua_Integer)s->answered : 0);
    lua_pushlightuserdata(L, s ? s->pool : NULL);
    lua_pushinteger(L, s && !s->closed ? s->pool->target->db : 0);
    return 4;
}

/* ---- deadlines ---- */

uint64_t redis_handle_deadline(const struct redis_handle *h, double block)
{
    if (block == 0)
        return DEADLINE_NEVER;
    uint64_t more = block > 0 ? duration_ns(block) : 0;
    return deadline_after(deadline_min(deadline_in(h->timeout), h->until), more);
}
