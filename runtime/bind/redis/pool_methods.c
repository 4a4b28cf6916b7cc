/* Handles of pools: reading their options, their methods and figures. */
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/base/fields.h"
#include "bind/base/pool_stats.h"
#include "bind/redis/handle.h"

#include <string.h>

/* Seconds that commands wait for the server after a connection was lost; their own deadlines still apply. A
 * failover takes until the sentinels have agreed. */
#define COMEBACK_TIME 5
#define FAILOVER_TIME 60

struct pool_handle {
    struct redis_pool *pool;
};

/* ---- pools ---- */

#define TARGET_CLASS "dbrun.redis.target"

/* Lua owns the target while its fields are set; then the pool takes its own reference. */
struct target_box {
    struct redis_target *target;
};

static int target_box__gc(lua_State *L)
{
    struct target_box *box = luaL_checkudata(L, 1, TARGET_CLASS);
    redis_target_unref(box->target);
    box->target = NULL;
    return 0;
}

static struct redis_target *push_target(lua_State *L)
{
    struct target_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    box->target = NULL;
    if (luaL_newmetatable(L, TARGET_CLASS)) {
        lua_pushcfunction(L, target_box__gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    box->target = redis_target_new();
    if (!box->target)
        luaL_error(L, "not enough memory");
    return box->target;
}

static void fill_texts(lua_State *L, int idx, struct redis_target *t)
{
    static const char *const names[REDIS_TEXTS] = {
        [REDIS_HOST] = "host",
        [REDIS_PATH] = "path",
        [REDIS_USERNAME] = "username",
        [REDIS_PASSWORD] = "password",
        [REDIS_CLIENT_NAME] = "client_name",
        [REDIS_LIB_NAME] = "lib_name",
        [REDIS_LIB_VERSION] = "lib_ver",
        [REDIS_CA_FILE] = "ca_file",
        [REDIS_CA_DIR] = "ca_dir",
        [REDIS_CERT_FILE] = "cert_file",
        [REDIS_KEY_FILE] = "key_file",
        [REDIS_SERVER_NAME] = "server_name",
        [REDIS_SERVICE] = "service",
        [REDIS_SENTINEL_USERNAME] = "sentinel_username",
        [REDIS_SENTINEL_PASSWORD] = "sentinel_password",
        [REDIS_ADVICE] = "advice",
    };
    for (int i = 0; i < REDIS_TEXTS; i++) {
        const char *text = field_text(L, idx, names[i]);
        if (text && !redis_target_set(t, (enum redis_text)i, text))
            luaL_error(L, "not enough memory");
    }
}

static void hide(lua_State *L, const char *password)
{
    struct runtime *rt = bind_runtime(L);
    if (password && !secrets_add(rt->secrets, password, strlen(password)))
        luaL_error(L, "not enough memory");
}

static uint16_t port_at(lua_State *L, int idx)
{
    int is_int;
    lua_Integer port = lua_tointegerx(L, idx, &is_int);
    if (!is_int || port < 1 || port > 65535)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: port must be an integer from 1 to 65535");
    return (uint16_t)port;
}

/* sentinels = {{host=, port=}, ...} */
static void fill_sentinels(lua_State *L, int idx, struct redis_target *t)
{
    if (lua_getfield(L, idx, "sentinels") == LUA_TTABLE) {
        lua_Unsigned n = lua_rawlen(L, -1);
        for (lua_Unsigned i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i);
            luaL_checktype(L, -1, LUA_TTABLE);
            lua_getfield(L, -1, "host");
            lua_getfield(L, -2, "port");
            if (!redis_target_add_sentinel(t, luaL_checkstring(L, -2), port_at(L, -1)))
                luaL_error(L, "not enough memory");
            lua_pop(L, 3);
        }
        if (!t->sentinels || !t->text[REDIS_SERVICE])
            bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: sentinels and service must be given together");
    }
    lua_pop(L, 1);
}

static void fill_target(lua_State *L, int idx, struct redis_target *t)
{
    struct runtime *rt = bind_runtime(L);
    int is_int;
    fill_texts(L, idx, t);
    hide(L, t->text[REDIS_PASSWORD]);
    hide(L, t->text[REDIS_SENTINEL_PASSWORD]);
    fill_sentinels(L, idx, t);
    if (lua_getfield(L, idx, "port") != LUA_TNIL)
        t->port = port_at(L, -1);
    lua_getfield(L, idx, "db");
    if (!lua_isnil(L, -1)) {
        lua_Integer db = lua_tointegerx(L, -1, &is_int);
        if (!is_int || db < 0 || db > INT32_MAX)
            bind_fail(L, rt, ERROR_USAGE, "redis: db must be an integer of at least 0");
        t->db = (int)db;
    }
    lua_pop(L, 2);
    t->tls = field_boolean(L, idx, "tls", false);
    t->tls13 = field_boolean(L, idx, "tls13", false);
    t->verify = field_boolean(L, idx, "verify", true);
    t->verify_hostname = field_boolean(L, idx, "verify_hostname", true);
    t->read_replica = field_boolean(L, idx, "read_replica", false);
    t->no_evict = field_boolean(L, idx, "no_evict", false);
    t->no_touch = field_boolean(L, idx, "no_touch", false);
    t->sentinel_tls = field_boolean(L, idx, "sentinel_tls", t->tls);
    if (!redis_target_seal(t))
        luaL_error(L, "not enough memory");
}

/* pool_new{host=, port=, path=, ..., max_connections=, timeout=, full_is_error=, ...} -> pool */
int redis_pool__new(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    int is_int;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct pool_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->pool = NULL;
    luaL_setmetatable(L, REDIS_POOL_CLASS);
    struct redis_target *t = push_target(L);
    fill_target(L, 1, t);
    struct redis_pool_options o = {
        .full_is_error = field_boolean(L, 1, "full_is_error", false),
        .timeout = field_seconds(L, 1, "timeout", 20),
        .connect_timeout = field_seconds(L, 1, "connect_timeout", 10),
        .ping_idle = field_seconds(L, 1, "ping_idle", 0.5),
        .comeback = field_seconds(L, 1, "comeback", t->sentinels ? FAILOVER_TIME : COMEBACK_TIME),
    };
    lua_getfield(L, 1, "max_connections");
    lua_Integer max = lua_isnil(L, -1) ? 50 : lua_tointegerx(L, -1, &is_int);
    if (max < 1 || max > 100000)
        return bind_fail(L, rt, ERROR_USAGE, "redis: max_connections must be an integer from 1 to 100000");
    o.max_connections = (uint32_t)max;
    lua_Integer most = field_integer(L, 1, "max_queued", 64 * 1024 * 1024);
    if (most < 64 * 1024)
        return bind_fail(L, rt, ERROR_USAGE, "redis: max_queued must be at least 65536 bytes");
    o.max_queued = (size_t)most;
    h->pool = redis_pool_new(rt, t, &o);
    if (!h->pool)
        return luaL_error(L, "not enough memory");
    lua_settop(L, 2);
    return 1;
}

int redis_pool__bare(lua_State *L)
{
    const struct redis_handle *from = redis_check_handle(L, 1);
    lua_Number timeout = from->timeout;
    bool typed = from->typed;
    struct pool_handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    h->pool = NULL;
    luaL_setmetatable(L, REDIS_POOL_CLASS);
    h->pool = redis_pool_new_bare(redis_check_handle(L, 1)->session->pool);
    if (!h->pool)
        return luaL_error(L, "not enough memory");
    lua_pushnumber(L, timeout);
    lua_pushboolean(L, typed);
    return 3;
}

struct redis_pool *redis_check_pool(lua_State *L, int idx)
{
    const struct pool_handle *h = luaL_testudata(L, idx, REDIS_POOL_CLASS);
    if (!h)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis.client: pool must be a pool of redis.pool, got %s",
                  bind_push_got(L, idx));
    if (!h->pool)
        bind_fail(L, bind_runtime(L), ERROR_POOL, "redis: the pool is closed");
    return h->pool;
}

static int pool__gc(lua_State *L)
{
    struct pool_handle *h = bind_self(L, REDIS_POOL_CLASS);
    struct redis_pool *p = h->pool;
    h->pool = NULL;
    redis_pool_unref(p);
    return 0;
}

static int pool_close_(lua_State *L)
{
    struct pool_handle *h = bind_self(L, REDIS_POOL_CLASS);
    if (h->pool)
        redis_pool_close(h->pool);
    return 0;
}

static int pool_invalidate_(lua_State *L)
{
    bind_self(L, REDIS_POOL_CLASS);
    redis_pool_invalidate(redis_check_pool(L, 1));
    return 0;
}

static int pool_closed_(lua_State *L)
{
    struct pool_handle *h = bind_self(L, REDIS_POOL_CLASS);
    lua_pushboolean(L, !h->pool || pool_is_closed(h->pool->pool));
    return 1;
}

static int pool__tostring(lua_State *L)
{
    struct pool_handle *h = bind_self(L, REDIS_POOL_CLASS);
    lua_pushfstring(L, "redis pool (%s)", h->pool ? h->pool->target->label : "closed");
    return 1;
}

/* The figures that every pool has, three of them also under older names, and the server's address. */
void redis_push_stats(lua_State *L, const struct redis_pool *p)
{
    static const char *const aliases[][2] = {
        {"max_connections", "size"}, {"waits", "wait_count"}, {"wait_time", "wait_sum"}};
    char label[512]; /* a copy: a finaliser of the script may close the pool while the table is made */
    snprintf(label, sizeof label, "%s", p->target->label);
    pool_push_stats(L, p->pool);
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        lua_getfield(L, -1, aliases[i][1]);
        lua_setfield(L, -2, aliases[i][0]);
    }
    lua_pushstring(L, label);
    lua_setfield(L, -2, "server");
}

static int pool_stats_(lua_State *L)
{
    bind_self(L, REDIS_POOL_CLASS);
    redis_push_stats(L, redis_check_pool(L, 1));
    return 1;
}

void redis_pool_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__gc", pool__gc}, {"__close", pool_close_}, {"__tostring", pool__tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"close", pool_close_},
                                       {"closed", pool_closed_},
                                       {"stats", pool_stats_},
                                       {"invalidate", pool_invalidate_},
                                       {NULL, NULL}};
    bind_class(L, rt, REDIS_POOL_CLASS, meta, methods);
    bind_class_words(L, "a pool", "pool");
    lua_pop(L, 1);
}
