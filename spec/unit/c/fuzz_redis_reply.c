/*
 * For libFuzzer (make fuzz): hostile replies, from the socket through hiredis' reader and the tape to Lua
 * values of every shape.
 *
 * The same bytes arrive in one piece, byte by byte and in pieces of changing size: the replies and their
 * values must be the same, wherever a read ended. Lua has little memory, so that every "not enough memory"
 * on the way is met, too.
 */

#include "bind/base/error.h"
#include "bind/core.h"
#include "bind/redis/reply.h"
#include "redis/conn.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CALLS = 4, LONGEST = 16 * 1024, LUA_MEMORY = 8 * 1024 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The results of the calls. */
struct outcome {
    struct redis_call calls[CALLS];
    unsigned answered;
    unsigned pushed;
    bool failed;
};

static void on_done(struct redis_call *c, void *data)
{
    struct outcome *o = data;
    (void)c;
    o->answered++;
}

static void on_push(struct resp_reply *r, void *data)
{
    struct outcome *o = data;
    (void)r;
    o->pushed++;
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* ---- from the socket to the tape ---- */

static struct redisconn *connect_to_self(int *peer)
{
    struct error e = {0};
    int fds[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct redis_target *t = redis_target_new();
    must(t && redis_target_set(t, REDIS_PATH, "/fuzz") && redis_target_seal(t));
    struct redisconn *c = redisconn_new(fds[0], t, &e);
    redis_target_unref(t);
    must(c != NULL);
    *peer = fds[1];
    return c;
}

static void ask(struct redisconn *c, struct redis_call *call, uint32_t expect)
{
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    struct redis_queue *q = redisconn_queue(c);
    size_t from = q->out.len;
    resp_reply_init(&call->reply);
    for (uint32_t i = 0; i < expect; i++)
        must(buf_add(&q->out, ping, sizeof ping - 1));
    redis_queue_push(q, call, from, expect);
}

/* Feeds the bytes in pieces of `piece` bytes (0 = all; more than 15: of changing size). */
static void feed(struct outcome *o, const uint8_t *data, size_t size, size_t piece, bool stream)
{
    struct redisconn_events events = {on_done, stream ? on_push : NULL};
    int peer;
    struct redisconn *c = connect_to_self(&peer);
    memset(o, 0, sizeof *o);
    redisconn_listen(c, &events, o);
    for (uint32_t i = 0; i < CALLS; i++)
        ask(c, &o->calls[i], i == CALLS - 1 ? 2 : 1); /* the last one is a pipeline of two */
    unsigned got = redisconn_step(c, 0);
    for (size_t at = 0; at < size && !(got & REDISCONN_BROKEN);) {
        size_t n = piece == 0 ? size : piece < 16 ? piece : 1 + (at * 2654435761u + piece) % 23;
        n = n < size - at ? n : size - at;
        must(write(peer, data + at, n) == (ssize_t)n);
        at += n;
        got = redisconn_step(c, REDIS_IO_READ);
    }
    close(peer);
    if (!(got & REDISCONN_BROKEN))
        got = redisconn_step(c, REDIS_IO_READ);
    must(got & REDISCONN_BROKEN);
    must(redisconn_error(c)->message != NULL);
    o->failed = redisconn_error(c)->kind == ERROR_PROTOCOL;
    while (redisconn_pop_sent(c))
        ;
    redisconn_free(c);
}

static void clear(struct outcome *o)
{
    for (int i = 0; i < CALLS; i++)
        resp_reply_clear(&o->calls[i].reply);
}

static void must_be_same(const struct outcome *a, const struct outcome *b)
{
    must(a->answered == b->answered && a->pushed == b->pushed && a->failed == b->failed);
    for (unsigned i = 0; i < a->answered && i < CALLS; i++) {
        struct resp_cursor x = resp_cursor(&a->calls[i].reply);
        struct resp_cursor y = resp_cursor(&b->calls[i].reply);
        struct resp_item p;
        struct resp_item q;
        while (resp_next(&x, &p)) {
            must(resp_next(&y, &q) && p.type == q.type && p.integer == q.integer && p.size == q.size);
            must(!p.text || memcmp(p.text, q.text, p.size) == 0);
        }
        must(!resp_next(&y, &q));
    }
}

/* ---- from the tape to Lua values ---- */

static size_t lua_used;
static size_t lua_limit;

static void *limited(void *ud, void *p, size_t old, size_t size)
{
    (void)ud;
    old = p ? old : 0;
    if (size == 0) {
        free(p);
        lua_used -= old;
        return NULL;
    }
    if (size > old && lua_used + (size - old) > lua_limit)
        return NULL;
    void *q = realloc(p, size);
    if (q)
        lua_used += size - old;
    return q;
}

/* (runtime, reply, shape) */
static int convert(lua_State *L)
{
    struct runtime *rt = lua_touserdata(L, 1);
    const struct resp_reply *r = lua_touserdata(L, 2);
    struct resp_cursor c = resp_cursor(r);
    redis_reply_push(L, rt, &c, (redis_shape_id)lua_tointeger(L, 3));
    return 1;
}

/* One state for all inputs; error replies are made with `rt`. */
static lua_State *state(struct runtime **rt)
{
    static lua_State *L;
    static struct runtime *runtime;
    if (!L) {
        lua_limit = SIZE_MAX;
        L = lua_newstate(limited, NULL);
        must(L != NULL);
        luaL_openlibs(L);
        bind_core(L);
        lua_setglobal(L, "core");
        runtime = bind_open(L);
    }
    *rt = runtime;
    return L;
}

static void to_lua(const struct resp_reply *reply, size_t memory)
{
    struct runtime *rt;
    lua_State *L = state(&rt);
    for (int shape = SHAPE_PLAIN; shape < (int)redis_shape_count; shape++) {
        lua_limit = SIZE_MAX;
        must(lua_checkstack(L, 5));
        lua_pushcfunction(L, convert);
        lua_pushlightuserdata(L, rt);
        lua_pushlightuserdata(L, (void *)reply);
        lua_pushinteger(L, shape);
        lua_limit = lua_used + memory;
        int status = lua_pcall(L, 3, 1, 0);
        must(status == LUA_OK || status == LUA_ERRMEM || status == LUA_ERRRUN);
        lua_settop(L, 0);
    }
    lua_limit = SIZE_MAX;
    lua_gc(L, LUA_GCCOLLECT, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole;
    struct outcome pieces;
    if (size < 2 || size > LONGEST)
        return 0;
    bool stream = data[0] & 1;
    size_t piece = 16u + data[1];
    /* Sometimes little memory, so that it runs out in the middle. */
    size_t memory = data[0] & 2 ? (size_t)data[1] * 64 : LUA_MEMORY;
    data += 2;
    size -= 2;
    feed(&whole, data, size, 0, stream);
    for (int i = 0; i < CALLS; i++)
        if ((unsigned)i < whole.answered)
            to_lua(&whole.calls[i].reply, memory);
    static const size_t sizes[] = {1, 7};
    for (size_t i = 0; i < 3; i++) {
        feed(&pieces, data, size, i < 2 ? sizes[i] : piece, stream);
        must_be_same(&whole, &pieces);
        clear(&pieces);
    }
    clear(&whole);
    return 0;
}
