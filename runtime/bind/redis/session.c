#include "bind/redis/session.h"

#include "base/deadline.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMPACT_BACKLOG_AT = 64,
    FLUSH_AT = 64 * 1024, /* bytes that are sent at once, and not only at the end of the turn */
};

/* ---- giving up ---- */

void redis_line_abandon(struct wait *w)
{
    struct line_call *c = w->data;
    struct redis_line *l = c->line;
    struct redis_queue *q = redis_line_queue(l);
    bool not_sent = redis_queue_drop(q, &c->call);
    w->data = (void *)(intptr_t)(not_sent ? OUTCOME_NOT_SENT : OUTCOME_UNKNOWN);
    c->wait = NULL;
    l->live--;
    if (not_sent) {
        if (!l->link && q->dropped >= COMPACT_BACKLOG_AT)
            redis_queue_compact(q, redis_line_events.on_done, l);
    } else if (l->link && l->shared && c->received == redisconn_received(l->link->conn) &&
               c->deadline <= mono_now()) {
        redis_line_retire(l);
    }
    if (l->retired)
        redis_line_sweep(l);
}

/* ---- issuing ---- */

struct redis_queue *redis_line_queue(struct redis_line *l)
{
    return l->link ? redisconn_queue(l->link->conn) : &l->backlog;
}

static void flush(void *data)
{
    struct redis_line *l = data;
    if (l->link)
        redis_link_push(l->link);
}

void redis_line_issue(struct redis_line *l, struct line_call *c, struct wait *w, size_t from, uint32_t expect,
                      uint64_t deadline, bool repeat)
{
    struct redis_queue *q = redis_line_queue(l);
    redis_queue_push(q, &c->call, from, expect);
    c->wait = w;
    c->expect = expect;
    c->deadline = deadline;
    l->live++;
    l->commands += expect;
    if (repeat) {
        c->copy = malloc(c->call.size);
        if (c->copy)
            memcpy(c->copy, q->out.data + from, c->call.size);
    }
    if (!l->link) {
        c->received = UINT64_MAX;
        redis_line_connect(l);
        return;
    }
    c->received = redisconn_received(l->link->conn);
    if (redis_queue_pending(q) >= FLUSH_AT)
        redis_link_push(l->link);
    else
        sched_defer(l->rt->sched, &l->flush);
}

void redis_line_post(struct redis_line *l, struct line_call *c, size_t from)
{
    redis_queue_push(redis_line_queue(l), &c->call, from, 0);
    c->wait = NULL;
    c->expect = 0;
    l->commands++;
    sched_defer(l->rt->sched, &l->flush);
}

/* ---- life ---- */

struct redis_line *redis_line_new(struct runtime *rt, struct redis_pool *pool, bool shared)
{
    struct redis_line *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->rt = rt;
    l->pool = redis_pool_ref(pool);
    l->shared = shared;
    l->refs = 1;
    l->flush.fn = flush;
    l->flush.data = l;
    return l;
}

struct redis_line *redis_line_ref(struct redis_line *l)
{
    l->refs++;
    return l;
}

void redis_line_close(struct redis_line *l)
{
    struct error why = {0};
    struct redis_call *call;
    if (l->closed)
        return;
    l->closed = true;
    error_set(&why, ERROR_POOL, "redis at %s: the %s was closed", l->pool->target->label,
              l->shared ? "client" : "connection");
    redis_line_fail_backlog(l, &why);
    if (l->link) {
        while ((call = redis_queue_pop(redisconn_queue(l->link->conn)))) {
            l->link->spoilt = true; /* half of it may have left */
            redis_line_fail_call((struct line_call *)call, &why, OUTCOME_NOT_SENT);
        }
        while ((call = redisconn_pop_sent(l->link->conn))) {
            l->link->spoilt = true; /* its reply is still to come */
            redis_line_fail_call((struct line_call *)call, &why, OUTCOME_UNKNOWN);
        }
    }
    for (struct redis_link *r = l->retired; r; r = r->next)
        while ((call = redisconn_pop_sent(r->conn)))
            redis_line_fail_call((struct line_call *)call, &why, OUTCOME_UNKNOWN);
    if (l->subscription)
        l->subscription->on_lost(l->subscription, &why);
    redis_line_detach(l);
    error_clear(&why);
}

void redis_line_unref(struct redis_line *l)
{
    if (!l || --l->refs > 0)
        return;
    /* Whoever waits holds a reference, so nobody waits, or the program ends and takes them along:
     * their waits must not be touched any more. */
    l->closed = true;
    if (l->link && !redisconn_is_drained(l->link->conn))
        l->link->spoilt = true;
    redis_line_detach(l);
    sched_undefer(l->rt->sched, &l->flush);
    redis_line_free_calls(l);
    if (l->subscription)
        l->subscription->free(l->subscription);
    redis_queue_free(&l->backlog);
    redis_pool_unref(l->pool);
    free(l);
}
