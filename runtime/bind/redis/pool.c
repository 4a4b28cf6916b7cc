#include "bind/redis/pool.h"

#include "base/deadline.h"
#include "connect/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The most connects to one server at once, so that a server that comes back after a failure is not
 * flooded. */
enum { MOST_OPENING = 4 };

/* ---- links ---- */

static void link_free(struct redis_link *l)
{
    sched_timer_stop(l->pool->rt->sched, &l->ping_timer);
    io_watch_close(l->watch);
    redisconn_free(l->conn);
    resp_reply_clear(&l->ping.reply);
    free(l);
}

static void link_failed(struct redis_link *l)
{
    uint64_t now = mono_now();
    io_watch_close(l->watch);
    l->watch = NULL;
    l->spoilt = true;
    if (l->user)
        l->user->failed(l);
    else if (l->slot->state == SLOT_PINGING)
        pool_pinged(l->slot, false, now);
    else
        pool_died(l->slot, now);
}

/* The only function that steps a connection on the loop. Can free the link. */
static void link_step(struct redis_link *l, unsigned ready)
{
    if (l->held)
        return;
    unsigned got = redisconn_step(l->conn, ready);
    if (got & REDISCONN_BROKEN) {
        link_failed(l);
        return;
    }
    unsigned want = got & (REDIS_IO_READ | REDIS_IO_WRITE);
    io_watch_want(l->watch, l->paused ? want & ~REDIS_IO_READ : want);
    if (l->ponged) {
        l->ponged = false;
        sched_timer_stop(l->pool->rt->sched, &l->ping_timer);
        redisconn_listen(l->conn, NULL, NULL);
        pool_pinged(l->slot, true, mono_now());
        return;
    }
    if (l->user)
        l->user->progress(l);
}

static void link_ready(void *data, unsigned events)
{
    link_step(data, events);
}

void redis_link_push(struct redis_link *l)
{
    link_step(l, 0);
}

void redis_link_look(struct redis_link *l)
{
    if (redisconn_is_drained(l->conn) && !redisconn_is_idle(l->conn))
        link_step(l, REDIS_IO_READ);
}

void redis_link_resume(struct redis_link *l)
{
    l->held = false;
    link_step(l, REDIS_IO_READ);
}

void redis_link_hold(struct redis_link *l)
{
    l->held = true;
    io_watch_want(l->watch, 0);
}

void redis_link_break(struct redis_link *l, const struct error *why)
{
    redisconn_give_up(l->conn, why);
    link_failed(l);
}

void redis_link_release(struct redis_link *l)
{
    l->user = NULL;
    l->data = NULL;
    l->spoilt = l->spoilt || l->held;
    l->marked_at = 0;
    redisconn_listen(l->conn, NULL, NULL);
    pool_release(l->slot->pool, l->slot, mono_now());
}

/* ---- connecting ---- */

static void *connect_to_server(void *target, uint64_t deadline, const struct connecting *c, struct error *e)
{
    (void)c;
    return redis_connect(target, deadline, NULL, e);
}

static void close_conn(void *conn)
{
    redisconn_free(conn);
}

static void *wrap(struct pool_slot *slot, void *conn)
{
    struct redis_pool *p = pool_data(slot->pool);
    struct redis_link *l = calloc(1, sizeof *l);
    if (l)
        l->watch = io_watch_open(sched_loop(p->rt->sched), redisconn_fd(conn), link_ready, l);
    if (!l || !l->watch) {
        redisconn_free(conn);
        free(l);
        return NULL;
    }
    l->conn = conn;
    l->pool = p;
    l->slot = slot;
    l->serial = ++p->rt->redis_links;
    resp_reply_init(&l->ping.reply);
    io_watch_want(l->watch, REDIS_IO_READ);
    return l;
}

static void hold(void *target)
{
    redis_target_ref(target);
}

static void let_go(void *target)
{
    redis_target_unref(target);
}

static const char *describe(const void *target)
{
    return ((const struct redis_target *)target)->label;
}

static const struct connector_ops connector_ops = {.server = "Redis",
                                                   .variable = "REDIS_URL (or REDIS_HOST)",
                                                   .trace_pid = TRACE_REDIS_SERVER,
                                                   .hold = hold,
                                                   .let_go = let_go,
                                                   .describe = describe,
                                                   .connect = connect_to_server,
                                                   .wrap = wrap,
                                                   .close = close_conn};

/* ---- the operations of the generic pool ---- */

static void op_open(struct pool_slot *slot)
{
    struct redis_pool *p = pool_data(slot->pool);
    connector_open(&p->connector, slot);
}

static void op_close(struct pool_slot *slot)
{
    link_free(slot->conn);
    slot->conn = NULL;
    pool_closed(slot, mono_now());
}

static enum pool_check op_check(struct pool_slot *slot, uint64_t idle_ns)
{
    struct redis_link *l = slot->conn;
    struct redis_pool *p = l->pool;
    if (!redisconn_is_idle(l->conn))
        return POOL_CHECK_DEAD;
    return idle_ns >= p->ping_idle ? POOL_CHECK_PING : POOL_CHECK_OK;
}

static void pinged(struct redis_call *c, void *data)
{
    /* link_step informs the pool after the machine's step, because the pool may close the connection. */
    struct redis_link *l = data;
    resp_reply_clear(&c->reply);
    l->ponged = true;
}

static const struct redisconn_events ping_events = {pinged, NULL};

static void ping_expired(struct sched_timer *t)
{
    struct redis_link *l = t->data;
    link_failed(l);
}

static void op_ping(struct pool_slot *slot)
{
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    struct redis_link *l = slot->conn;
    struct redis_pool *p = l->pool;
    struct redis_queue *q = redisconn_queue(l->conn);
    size_t from = q->out.len;
    if (!buf_add(&q->out, ping, sizeof ping - 1)) {
        q->out.oom = false;
        pool_pinged(slot, false, mono_now());
        return;
    }
    redisconn_listen(l->conn, &ping_events, l);
    redis_queue_push(q, &l->ping, from, 1);
    l->ping_timer.fn = ping_expired;
    l->ping_timer.data = l;
    sched_timer_start(p->rt->sched, &l->ping_timer, deadline_in(p->connector.connect_timeout));
    link_step(l, 0);
}

static enum pool_verdict op_judge(struct pool_slot *slot)
{
    struct redis_link *l = slot->conn;
    return !l->spoilt && redisconn_is_drained(l->conn) ? POOL_REUSE : POOL_BROKEN;
}

/* Never called: op_judge never asks for a reset. */
static void op_reset(struct pool_slot *slot)
{
    pool_reset_done(slot, false, mono_now());
}

static const struct pool_ops pool_operations = {
    .open = op_open,
    .close = op_close,
    .check = op_check,
    .ping = op_ping,
    .judge = op_judge,
    .reset = op_reset,
    .drained = NULL,
};

/* ---- the guard's timer ---- */

#define GUARD_EVERY (100 * NS_PER_MS)

void redis_pool_watch(struct redis_pool *p, uint64_t at)
{
    p->guard.asleep = false;
    sched_timer_start(p->rt->sched, &p->guard.timer, at ? at : mono_now() + GUARD_EVERY);
}

/* ---- life ---- */

struct redis_pool *redis_pool_new(struct runtime *rt, struct redis_target *target,
                                  const struct redis_pool_options *o)
{
    struct redis_pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    struct pool_config config = {.size = o->max_connections,
                                 .opening = MOST_OPENING,
                                 .seed = mono_now() | 1,
                                 .ops = &pool_operations,
                                 .data = p};
    p->pool = pool_new(&config);
    if (!p->pool) {
        free(p);
        return NULL;
    }
    p->rt = rt;
    p->target = redis_target_ref(target);
    p->connector = (struct connector){
        .rt = rt, .ops = &connector_ops, .target = target, .connect_timeout = o->connect_timeout};
    p->refs = 1;
    p->full_is_error = o->full_is_error;
    p->timeout = o->timeout;
    p->ping_idle = duration_ns(o->ping_idle);
    p->comeback = duration_ns(o->comeback);
    p->max_queued = o->max_queued;
    return p;
}

struct redis_pool *redis_pool_new_bare(const struct redis_pool *p)
{
    const struct redis_pool_options o = {.max_connections = 1,
                                         .timeout = p->timeout,
                                         .connect_timeout = p->connector.connect_timeout,
                                         .max_queued = p->max_queued};
    struct redis_target *target = redis_target_bare(p->target);
    struct redis_pool *bare = target ? redis_pool_new(p->rt, target, &o) : NULL;
    redis_target_unref(target);
    return bare;
}

struct redis_pool *redis_pool_ref(struct redis_pool *p)
{
    p->refs++;
    return p;
}

static void find_pinging(struct pool_slot *slot, void *data)
{
    struct pool_slot **found = data;
    if (slot->state == SLOT_PINGING)
        *found = slot;
}

/* Closes connections during their pre-ping, because no task waits for them any more. */
static void close_pinging(struct redis_pool *p, uint64_t now)
{
    struct pool_slot *slot;
    do {
        slot = NULL;
        pool_each(p->pool, find_pinging, &slot);
        if (slot)
            pool_pinged(slot, false, now);
    } while (slot);
}

static void find_outdated(const struct pool_slot *slot, void *data)
{
    struct redis_link **found = data, *l = slot->conn;
    if (l->user && l->user->outdated)
        *found = l;
}

void redis_pool_invalidate(struct redis_pool *p)
{
    struct redis_link *l;
    pool_invalidate(p->pool, mono_now());
    do { /* one by one, because each changes the list */
        l = NULL;
        pool_each_leased(p->pool, find_outdated, &l);
        if (l)
            l->user->outdated(l);
    } while (l);
}

void redis_pool_close(struct redis_pool *p)
{
    uint64_t now = mono_now();
    if (pool_is_closed(p->pool))
        return;
    pool_close(p->pool, now);
    connector_forget(&p->connector);
    close_pinging(p, now);
}

void redis_pool_unref(struct redis_pool *p)
{
    if (!p || --p->refs > 0)
        return;
    redis_pool_close(p);
    if (p->guard.timer.fn)
        sched_timer_stop(p->rt->sched, &p->guard.timer);
    if (p->guard.watcher)
        p->guard.watcher->pool = NULL;
    pool_free(p->pool);
    redis_target_unref(p->target);
    free(p);
}

/* ---- the error of a task that got no connection ---- */

bool redis_pool_is_connecting(const struct redis_pool *p)
{
    struct pool_stats stats;
    pool_stats(p->pool, &stats);
    return stats.opening + stats.pinging > 0;
}

static void holder(const struct pool_slot *slot, struct pool_holder *h)
{
    const struct redis_link *l = slot->conn;
    if (l->user)
        l->user->describe(l, h);
}

void redis_pool_explain(struct redis_pool *p, enum pool_settle why, double waited, struct error *e)
{
    char prefix[320];
    snprintf(prefix, sizeof prefix, "redis at %s: ", p->target->label);
    const struct pool_words words = {.prefix = prefix,
                                     .closed = "the pool is closed",
                                     .size = "max_connections (REDIS_MAX_CONNECTIONS)",
                                     .timeout = "timeout",
                                     .full = ", or use on_full=\"wait\"",
                                     .waits = waited,
                                     .holder = holder};
    pool_error(p->pool, why, &words, e);
}
