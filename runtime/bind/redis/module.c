/* core.redis: clients and dedicated connections, their methods, and the functions that make them. */
#include "bind/redis/module.h"

#include "base/deadline.h"
#include "base/text.h"
#include "bind/base/args.h"
#include "bind/base/certificates.h"
#include "bind/base/error.h"
#include "bind/base/fields.h"
#include "bind/redis/feed.h"
#include "bind/redis/guard.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply.h"
#include "bind/redis/words.h"
#include "bind/redis/writes.h"
#include "redis/hash_slot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- clients and connections ---- */

/* client_new(pool, {timeout=, idempotent=, typed=}) -> client */
static int client_new(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    struct redis_handle *h = redis_push_handle(L, REDIS_CLIENT_CLASS);
    h->timeout = field_seconds(L, 2, "timeout", HUGE_VAL);
    h->repeat = field_boolean(L, 2, "idempotent", false);
    h->typed = field_boolean(L, 2, "typed", false);
    h->session = redis_session_new(bind_runtime(L), redis_check_pool(L, 1), true);
    if (!h->session)
        return luaL_error(L, "not enough memory");
    return 1;
}

/* client_with(client, {timeout=, idempotent=, typed=}) -> the same client with other settings */
static int client_with(lua_State *L)
{
    const struct redis_handle *from = bind_self(L, REDIS_CLIENT_CLASS);
    bind_check_type(L, REDIS_CLIENT_CLASS, 2, "the options", LUA_TTABLE);
    struct redis_handle *h = redis_push_handle(L, REDIS_CLIENT_CLASS);
    h->timeout = field_seconds(L, 2, "timeout", from->timeout);
    h->repeat = field_boolean(L, 2, "idempotent", from->repeat);
    h->typed = field_boolean(L, 2, "typed", from->typed);
    h->until = from->until;
    h->session = redis_session_ref(redis_check_handle(L, 1)->session);
    return 1;
}

static struct redis_handle *any_handle(lua_State *L)
{
    struct redis_handle *h = luaL_testudata(L, 1, REDIS_CONN_CLASS);
    return h ? h : bind_self(L, REDIS_CLIENT_CLASS);
}

static int handle__gc(lua_State *L)
{
    struct redis_handle *h = any_handle(L);
    struct redis_session *s = h->session;
    if (s && !bind_is_collected(L)) { /* a waiting task still uses the session */
        redis_session_close(s);
        return 0;
    }
    if (s && !s->shared && s->link && !s->closed) {
        char where[SCRIPT_WHERE] = "?";
        script_place_text(&s->place, where, sizeof where);
        log_write(s->rt->log, LOG_LEVEL_WARN,
                  "redis at %s: a connection was never closed; it was taken at %s", s->pool->target->label,
                  where);
        s->link->spoilt = true;
    }
    h->session = NULL;
    redis_session_unref(s);
    return 0;
}

/* Keeps the session until the handle is collected, because waiting tasks still use it. */
static int client_close(lua_State *L)
{
    struct redis_handle *h = bind_self(L, REDIS_CLIENT_CLASS);
    if (h->session)
        redis_session_close(h->session);
    return 0;
}

static int conn_close(lua_State *L)
{
    struct redis_handle *h = bind_self(L, REDIS_CONN_CLASS);
    if (h->session)
        redis_session_close(h->session);
    return 0;
}

/* Closes the connection instead of returning it to the pool. */
static int conn_discard(lua_State *L)
{
    struct redis_handle *h = bind_self(L, REDIS_CONN_CLASS);
    if (h->session && h->session->link)
        h->session->link->spoilt = true;
    return conn_close(L);
}

/* lost() -> true when the connection was lost */
static int conn_lost(lua_State *L)
{
    const struct redis_handle *h = bind_self(L, REDIS_CONN_CLASS);
    lua_pushboolean(L, h->session && !h->session->closed && !h->session->link);
    return 1;
}

/* certificates() -> remaining validity in seconds of the server's and of the client's certificate; nil:
 * none */
static int conn_certificates(lua_State *L)
{
    bind_self(L, REDIS_CONN_CLASS);
    return bind_push_certificates(L, redisconn_certificates(redis_check_handle(L, 1)->session->link->conn));
}

static int client_stats(lua_State *L)
{
    redis_push_stats(L, redis_check_handle(L, 1)->session->pool);
    struct redis_session *s = redis_check_handle(L, 1)->session;
    field_set_count(L, "queued_bytes", redis_queue_pending(redis_session_queue(s)));
    field_set_count(L, "commands", s->commands);
    field_set_count(L, "in_flight", s->live);
    field_set_count(L, "connects", s->connects);
    field_set_count(L, "losses", s->losses);
    return 1;
}

static int client_closed(lua_State *L)
{
    struct redis_handle *h = bind_self(L, REDIS_CLIENT_CLASS);
    lua_pushboolean(L, !h->session || h->session->closed);
    return 1;
}

static int handle__tostring(lua_State *L)
{
    const struct redis_handle *h = any_handle(L);
    const char *what = luaL_testudata(L, 1, REDIS_CONN_CLASS) ? "connection" : "client";
    bool open = h->session && !h->session->closed;
    lua_pushfstring(L, "redis %s (%s)", what, open ? h->session->pool->target->label : "closed");
    return 1;
}

/* ---- commands ---- */

/* command("client" | "connection" | "pipeline", name) -> function */
static int command(lua_State *L)
{
    static const char *const kinds[] = {"client", "connection", "pipeline", NULL};
    static const char *const classes[] = {REDIS_CLIENT_CLASS, REDIS_CONN_CLASS, REDIS_BATCH_CLASS};
    struct runtime *rt = bind_runtime(L);
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    luaL_checktype(L, 2, LUA_TSTRING);
    redis_command_push(L, rt, 2);
    luaL_getmetatable(L, classes[kind]);
    if (kind == 2)
        redis_push_queue(L, rt, -2, -1);
    else
        redis_push_command(L, rt, -2, -1);
    return 1;
}

/* on_unknown(fn): fn(name) -> hint | nil, about a command that the server does not know */
static int on_unknown(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REDIS_HINT_FOR);
    return 0;
}

/* on_reading(fn): fn(client, name, argument) -> true when a command that is not in the table only reads */
static int on_reading(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REDIS_ONLY_READS);
    return 0;
}

/* judge_writes(fn): fn(handle, name, arguments, how, typed) -> send, answer, about each command from now on
 */
static int judge_writes(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, REDIS_JUDGE);
    if (rt->redis_writes == REDIS_WRITES_SENT)
        rt->redis_writes = REDIS_WRITES_JUDGED;
    return 0;
}

/* opened() -> true when a client of the script has opened a connection */
static int opened(lua_State *L)
{
    const struct runtime *rt = bind_runtime(L);
    lua_pushboolean(L, rt->redis_links > rt->redis_links_own);
    return 1;
}

/* class("client" | ...) -> the metatable */
static int class(lua_State *L)
{
    static const char *const kinds[] = {"pool", "client", "connection", "pipeline", NULL};
    static const char *const classes[] = {REDIS_POOL_CLASS, REDIS_CLIENT_CLASS, REDIS_CONN_CLASS,
                                          REDIS_BATCH_CLASS};
    luaL_getmetatable(L, classes[luaL_checkoption(L, 1, NULL, kinds)]);
    return 1;
}

/* ---- facts about commands ---- */

static void set_flag(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static bool has_option_keys(const struct redis_fact *f)
{
    for (const struct redis_option *o = f->options; o && o->word; o++)
        if (o->keys != OPTION_NO_KEYS)
            return true;
    return false;
}

/* True when the first argument is the only key. */
static bool has_one_key(const struct redis_fact *f)
{
    const struct redis_keys *k = f->keys;
    return k && !has_option_keys(f) && k[0].kind == KEYS_RANGE && k[0].first == 1 && k[0].last == 1 &&
           k[1].kind == KEYS_END;
}

/* fact("XINFO STREAM") -> what the table knows about the command | nil: see keys.lua */
static int fact(lua_State *L)
{
    static const char *const requests[] = {"one", "shards", "nodes", "split"};
    static const char *const responses[] = {"join", "all_succeeded", "one_succeeded", "sum",
                                            "min",  "and",           "union",         "any"};
    const struct redis_fact *f = redis_fact_find(luaL_checkstring(L, 1));
    if (!f)
        return 0;
    lua_createtable(L, 0, 7);
    set_flag(L, "subcommands", f->flags & COMMAND_HAS_SUB);
    set_flag(L, "reads", f->flags & COMMAND_REPLICA);
    set_flag(L, "single", has_one_key(f));
    set_flag(L, "blocks",
             f->flags & (COMMAND_BLOCK_FIRST | COMMAND_BLOCK_LAST | COMMAND_BLOCK_MS | COMMAND_BLOCK_WORD));
    set_flag(L, "keys", f->keys || has_option_keys(f));
    lua_pushstring(L, requests[f->request]);
    lua_setfield(L, -2, "request");
    lua_pushstring(L, responses[f->response]);
    lua_setfield(L, -2, "response");
    return 1;
}

/* may_write("SORT", ...) -> false when it is certain that the command, with these arguments, changes nothing
 */
static int may_write(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TSTRING);
    const struct redis_command *cmd = redis_command_push(L, bind_runtime(L), 1);
    lua_replace(L, 1);
    lua_pushboolean(L, !redis_command_only_reads(L, cmd, 2));
    return 1;
}

/* commands() -> the names of all commands, without subcommands */
static int commands(lua_State *L)
{
    lua_Integer n = 0;
    lua_createtable(L, (int)redis_fact_count, 0);
    for (size_t i = 0; i < redis_fact_count; i++) {
        if (strchr(redis_facts[i].name, ' '))
            continue;
        lua_pushstring(L, redis_facts[i].name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* keys("GET", args, n) -> the keys among the n arguments */
static int keys(lua_State *L)
{
    const struct redis_fact *f = redis_fact_find(luaL_checkstring(L, 1));
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_argcheck(L, f, 1, "a command of the table");
    redis_words_push_keys(L, f, 2, luaL_checkinteger(L, 3));
    return 1;
}

/* ---- what extras.lua and lock.lua need ---- */

/* slot(key) -> 0 to 16383: the hash slot of the key in a cluster. A number is hashed as the text that is
 * sent. */
static int slot(lua_State *L)
{
    size_t len;
    struct buf b = {0};
    if (lua_type(L, 1) != LUA_TNUMBER) {
        const char *key = luaL_checklstring(L, 1, &len);
        lua_pushinteger(L, redis_hash_slot(key, len));
        return 1;
    }
    bool ok =
        lua_isinteger(L, 1) ? resp_add_int(&b, lua_tointeger(L, 1)) : resp_add_double(&b, lua_tonumber(L, 1));
    if (!ok)
        return luaL_error(L, "not enough memory");
    /* "$3\r\n1.5\r\n" */
    const char *text = memchr(b.data, '\n', b.len);
    lua_Integer at = redis_hash_slot(text + 1, b.len - 2 - (size_t)(text + 1 - b.data));
    buf_free(&b);
    lua_pushinteger(L, at);
    return 1;
}

/* counted(list, n) -> a list of the n elements with the length n, also when some of them are nil */
static int counted(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 0 && n <= INT32_MAX, 2, "a number of elements");
    lua_createtable(L, (int)n, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, -2, i);
    }
    redis_reply_count(L, (uint64_t)n);
    return 1;
}

/* float(text) -> the number that Redis printed as this text */
static int read_float(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    redis_reply_push_float(L, text, size);
    return 1;
}

/* random_token() -> 40 hexadecimal characters that cannot be guessed */
static int random_token(lua_State *L)
{
    unsigned char bytes[20];
    char text[2 * sizeof bytes];
    if (getentropy(bytes, sizeof bytes) != 0)
        return bind_fail(L, bind_runtime(L), ERROR_IO, "redis: the system gives no random numbers: %s",
                         strerror(errno));
    hex_write(text, bytes, sizeof bytes);
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static void client_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__gc", handle__gc}, {"__close", client_close}, {"__tostring", handle__tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"call", redis_call__any},
                                       {"acquire", redis_acquire__own},
                                       {"__acquire", redis_acquire__within},
                                       {"with", client_with},
                                       {"close", client_close},
                                       {"closed", client_closed},
                                       {"stats", client_stats},
                                       {"batch", redis_batch_new},
                                       {"links", redis_handle__links},
                                       {"__until", redis_acquire__until},
                                       {NULL, NULL}};
    bind_class(L, rt, REDIS_CLIENT_CLASS, meta, methods);
    bind_class_words(L, "a client", "r");
    lua_pop(L, 1);
}

static void conn_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__gc", handle__gc}, {"__close", conn_close}, {"__tostring", handle__tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"call", redis_call__any},
                                       {"raw", redis_call__raw},
                                       {"close", conn_close},
                                       {"listen", redis_feed__listen},
                                       {"post", redis_feed__post},
                                       {"next", redis_feed__next},
                                       {"discard", conn_discard},
                                       {"batch", redis_batch_new},
                                       {"lost", conn_lost},
                                       {"certificates", conn_certificates},
                                       {"links", redis_handle__links},
                                       {"__until", redis_acquire__until},
                                       {NULL, NULL}};
    bind_class(L, rt, REDIS_CONN_CLASS, meta, methods);
    bind_class_words(L, "a connection", "conn");
    lua_pop(L, 1);
}

int bind_redis_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"pool_new", redis_pool__new},
                                         {"pool_bare", redis_pool__bare},
                                         {"client_new", client_new},
                                         {"command", command},
                                         {"on_unknown", on_unknown},
                                         {"on_reading", on_reading},
                                         {"judge_writes", judge_writes},
                                         {"opened", opened},
                                         {"class", class},
                                         {"fact", fact},
                                         {"may_write", may_write},
                                         {"commands", commands},
                                         {"keys", keys},
                                         {"slot", slot},
                                         {"counted", counted},
                                         {"float", read_float},
                                         {"random_token", random_token},
                                         {"raw", redis_call__raw},
                                         {NULL, NULL}};
    redis_pool_class(L, rt);
    client_class(L, rt);
    conn_class(L, rt);
    redis_batch_class(L, rt);
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
    redis_guard_open(L, rt);
    lua_setfield(L, -2, "guard");
    return 1;
}
