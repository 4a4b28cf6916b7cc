#include "bind/redis/feed.h"

#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/base/inbox.h"
#include "bind/redis/args.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct item {
    struct inbox_item base; /* first: free_item and the others cast it back */
    struct resp_reply reply;
};

struct redis_feed {
    struct redis_subscription base; /* first: feed_of and the others cast it back */
    struct redis_session *session;
    struct inbox inbox;
};

static void free_item(struct inbox_item *base)
{
    struct item *i = (struct item *)base;
    resp_reply_clear(&i->reply);
    free(i);
}

static struct redis_feed *feed_of(const struct redis_session *s)
{
    return (struct redis_feed *)s->subscription;
}

static void feed_free(struct redis_subscription *s)
{
    struct redis_feed *f = (struct redis_feed *)s;
    inbox_free(&f->inbox);
    free(f);
}

static void on_lost(struct redis_subscription *s, const struct error *why)
{
    inbox_lose(&((struct redis_feed *)s)->inbox, why);
}

static void on_push(struct resp_reply *r, void *data)
{
    struct redis_session *s = data;
    struct redis_feed *f = feed_of(s);
    struct item *i = malloc(sizeof *i);
    if (!i) {
        struct error why = {0};
        error_set(&why, ERROR_CONNECT, "the subscription ended: not enough memory for a message");
        on_lost(&f->base, &why);
        error_clear(&why);
        return;
    }
    resp_reply_init(&i->reply);
    resp_reply_move(&i->reply, r);
    inbox_put(&f->inbox, &i->base, sizeof *i + (i->reply.data ? i->reply.cap : 0));
    s->link->paused = f->inbox.full;
}

/* Called when a posted command has ended. */
static void on_done(struct redis_call *c, void *data)
{
    const struct redis_session *s = data;
    redis_session_events.on_done(c, s->link);
}

static const struct redisconn_events feed_events = {on_done, on_push};

/* ---- methods ---- */

static struct redis_session *check_session(lua_State *L)
{
    const struct redis_handle *h = bind_self(L, REDIS_CONN_CLASS);
    if (!h->session || h->session->closed)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: this subscription is closed");
    return h->session;
}

int redis_feed__listen(lua_State *L)
{
    struct redis_session *s = redis_check_handle(L, 1)->session;
    bind_self(L, REDIS_CONN_CLASS);
    if (s->subscription)
        return 0;
    struct redis_feed *f = calloc(1, sizeof *f);
    if (!f)
        return luaL_error(L, "not enough memory");
    f->base = (struct redis_subscription){.on_lost = on_lost, .free = feed_free};
    f->session = s;
    f->inbox.free = free_item;
    s->subscription = &f->base;
    s->link->spoilt = true; /* messages can still come: no other session may use the connection */
    redisconn_listen(s->link->conn, &feed_events, s);
    return 0;
}

/* True for [P|S][UN]SUBSCRIBE, and for the PING to a quiet server. Nothing else may be posted: --read-only
 * and a dry run do not see posted commands. */
static bool may_post(const struct redis_command *cmd)
{
    const char *at = strstr(cmd->name, "SUBSCRIBE");
    return at ? strcmp(at, "SUBSCRIBE") == 0 : strcmp(cmd->name, "PING") == 0;
}

int redis_feed__post(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    bind_check_type(L, REDIS_CONN_CLASS, 2, "the name of the command", LUA_TSTRING);
    const struct redis_command *cmd = redis_command_push(L, rt, 2);
    lua_replace(L, 2);
    if (!may_post(cmd))
        return redis_refuse(L, rt, cmd, 3, "conn:call(name, ...) runs a command on a dedicated connection");
    struct redis_session *s = redis_check_handle(L, 1)->session;
    struct redis_queue *q = redis_session_queue(s);
    struct redis_args_error wrong;
    size_t from = q->out.len;
    if (!redis_args_write(L, cmd, 3, &q->out, &wrong))
        return redis_args_raise(L, rt, cmd, &wrong);
    struct session_call *c = redis_session_take(s);
    if (!c) {
        q->out.len = from;
        return luaL_error(L, "not enough memory");
    }
    redis_session_post(s, c, from);
    return 0;
}

static int push_next(lua_State *L, struct redis_feed *f)
{
    struct redis_session *s = f->session;
    struct inbox_item *i = inbox_take(&f->inbox);
    struct resp_cursor cur = resp_cursor(&((struct item *)i)->reply);
    (void)redis_reply_push(L, s->rt, &cur, SHAPE_PLAIN); /* a message is a value or an error object */
    inbox_taken(&f->inbox, i);
    if (s->link && s->link->paused && !f->inbox.full) {
        s->link->paused = false;
        sched_defer(s->rt->sched, &s->flush); /* makes the link read again */
    }
    return 1;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct redis_feed *f = (struct redis_feed *)ctx;
    (void)status;
    inbox_waited(L, f->session->rt, &f->inbox);
    if (inbox_has(&f->inbox))
        return push_next(L, f);
    if (error_is_set(&f->inbox.lost))
        return inbox_raise_lost(L, f->session->rt, &f->inbox);
    lua_pushnil(L);
    return 1;
}

int redis_feed__next(lua_State *L)
{
    struct redis_session *s = check_session(L);
    struct redis_feed *f = feed_of(s);
    if (!lua_isnoneornil(L, 2))
        bind_check_type(L, REDIS_CONN_CLASS, 2, "the time", LUA_TNUMBER);
    double seconds = lua_isnoneornil(L, 2) ? HUGE_VAL : lua_tonumber(L, 2);
    if (!f || f->inbox.taking)
        return bind_fail(L, s->rt, ERROR_USAGE, "redis: %s",
                         f ? "another task is already waiting for a message of this subscription"
                           : "this connection has no subscription");
    task_check_park(L, s->rt->sched);
    if (inbox_has(&f->inbox))
        return push_next(L, f);
    if (error_is_set(&f->inbox.lost))
        return inbox_raise_lost(L, s->rt, &f->inbox);
    return inbox_wait(L, s->rt, &f->inbox, deadline_in(seconds), (lua_KContext)f, next_k);
}
