#include "bind/redis/feed.h"

#include "base/deadline.h"
#include "bind/base/error.h"
#include "bind/redis/args.h"
#include "bind/redis/handle.h"
#include "bind/redis/reply.h"

#include <math.h>
#include <stdlib.h>

enum { FULL_AT = 8 * 1024 * 1024, ROOM_AT = FULL_AT / 2 };

struct item {
    struct item *next;
    struct resp_reply reply;
};

struct redis_feed {
    struct redis_subscription base; /* first: the line hands it back */
    struct redis_line *line;
    struct item *head;
    struct item *tail;
    size_t bytes;       /* in the list */
    struct item *taken; /* being made into Lua values right now */
    struct wait *wait;
    struct error lost;
};

static void free_item(struct item *i)
{
    if (!i)
        return;
    resp_reply_clear(&i->reply);
    free(i);
}

static void free_items(struct redis_feed *f)
{
    while (f->head) {
        struct item *i = f->head;
        f->head = i->next;
        free_item(i);
    }
    f->tail = NULL;
    f->bytes = 0;
}

static struct redis_feed *feed_of(const struct redis_line *l)
{
    return (struct redis_feed *)l->subscription;
}

static void feed_free(struct redis_subscription *s)
{
    struct redis_feed *f = (struct redis_feed *)s;
    free_items(f);
    free_item(f->taken);
    error_clear(&f->lost);
    free(f);
}

static void wake(struct redis_feed *f)
{
    struct wait *w = f->wait;
    f->wait = NULL;
    wait_wake(w);
}

static void on_lost(struct redis_subscription *s, const struct error *why)
{
    struct redis_feed *f = (struct redis_feed *)s;
    if (!error_is_set(&f->lost)) {
        error_copy(&f->lost, why);
        f->lost.outcome = OUTCOME_NONE;
        f->lost.retryable = true;
    }
    wake(f);
}

static size_t weight(const struct item *i)
{
    return sizeof *i + (i->reply.data ? i->reply.cap : 0);
}

static void on_push(struct resp_reply *r, void *data)
{
    struct redis_line *l = data;
    struct redis_feed *f = feed_of(l);
    struct item *i = malloc(sizeof *i);
    if (!i) {
        struct error why = {0};
        error_set(&why, ERROR_CONNECT, "not enough memory for a message");
        on_lost(&f->base, &why);
        error_clear(&why);
        return;
    }
    i->next = NULL;
    resp_reply_init(&i->reply);
    resp_reply_move(&i->reply, r);
    if (f->tail)
        f->tail->next = i;
    else
        f->head = i;
    f->tail = i;
    f->bytes += weight(i);
    l->link->paused = f->bytes >= FULL_AT;
    wake(f);
}

/* Posted commands come back this way. */
static void on_done(struct redis_call *c, void *data)
{
    redis_line_events.on_done(c, data);
}

static const struct redisconn_events feed_events = {on_done, on_push};

static struct item *take(struct redis_feed *f)
{
    struct item *i = f->head;
    f->head = i->next;
    if (!f->head)
        f->tail = NULL;
    f->bytes -= weight(i);
    struct redis_link *link = f->line->link;
    if (link && link->paused && f->bytes <= ROOM_AT) {
        link->paused = false;
        sched_defer(f->line->rt->sched, &f->line->flush); /* looks at the socket again */
    }
    return i;
}

/* ---- methods ---- */

static struct redis_line *check_line(lua_State *L)
{
    struct redis_handle *h = luaL_checkudata(L, 1, REDIS_CONN_CLASS);
    if (!h->line || h->line->closed)
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "redis: this subscription is closed");
    return h->line;
}

int redis_feed__listen(lua_State *L)
{
    struct redis_line *l = redis_check_handle(L, 1)->line;
    luaL_checkudata(L, 1, REDIS_CONN_CLASS);
    if (l->subscription)
        return 0;
    struct redis_feed *f = calloc(1, sizeof *f);
    if (!f)
        return luaL_error(L, "not enough memory");
    f->base = (struct redis_subscription){.on_lost = on_lost, .free = feed_free};
    f->line = l;
    l->subscription = &f->base;
    l->link->spoilt = true; /* nobody else should get what is still to come */
    redisconn_listen(l->link->conn, &feed_events, l);
    return 0;
}

int redis_feed__post(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    struct redis_line *l = redis_check_handle(L, 1)->line;
    luaL_checktype(L, 2, LUA_TSTRING);
    const struct redis_command *cmd = redis_command_push(L, rt, 2);
    lua_replace(L, 2);
    struct redis_queue *q = redis_line_queue(l);
    struct redis_args_error wrong;
    size_t from = q->out.len;
    if (!redis_args_write(L, cmd, 3, &q->out, &wrong))
        return redis_args_raise(L, rt, cmd, &wrong);
    struct line_call *c = redis_line_take(l);
    if (!c) {
        q->out.len = from;
        return luaL_error(L, "not enough memory");
    }
    redis_line_post(l, c, from);
    return 0;
}

static void abandon(struct wait *w)
{
    struct redis_feed *f = w->data;
    f->wait = NULL;
}

static int raise_lost(lua_State *L, struct redis_feed *f)
{
    struct error e = {0};
    error_copy(&e, &f->lost);
    return bind_error_raise(L, f->line->rt, &e);
}

static int push_next(lua_State *L, struct redis_feed *f)
{
    free_item(f->taken); /* of a time when memory was out */
    f->taken = take(f);
    struct resp_cursor cur = resp_cursor(&f->taken->reply);
    redis_reply_push(L, f->line->rt, &cur, SHAPE_PLAIN);
    free_item(f->taken);
    f->taken = NULL;
    return 1;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct wait *w = (struct wait *)ctx;
    struct redis_handle *h = lua_touserdata(L, 1);
    struct redis_feed *f = feed_of(h->line);
    (void)status;
    switch (wait_end(w)) {
    case WAIT_CANCELLED:
        return task_raise_cancelled(L, h->line->rt->sched);
    case WAIT_TIMEOUT:
        lua_pushnil(L);
        return 1;
    default:
        if (f->head)
            return push_next(L, f);
        if (error_is_set(&f->lost))
            return raise_lost(L, f);
        return bind_fail(L, h->line->rt, ERROR_USAGE, "redis: this subscription is closed");
    }
}

int redis_feed__next(lua_State *L)
{
    struct redis_line *l = check_line(L);
    struct redis_feed *f = feed_of(l);
    double seconds = luaL_optnumber(L, 2, HUGE_VAL);
    if (!f || f->wait)
        return bind_fail(L, l->rt, ERROR_USAGE, "redis: %s",
                         f ? "two tasks cannot take messages of one subscription"
                           : "this connection did not subscribe");
    task_check_park(L, l->rt->sched);
    if (f->head)
        return push_next(L, f);
    if (error_is_set(&f->lost))
        return raise_lost(L, f);
    struct wait *w = wait_begin(l->rt->sched, deadline_in(seconds), abandon, f);
    f->wait = w;
    return wait_park(L, w, (lua_KContext)w, next_k);
}
