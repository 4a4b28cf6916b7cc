/* How a line comes to its connection, and what happens to its commands when the connection goes. */
#include "bind/redis/session.h"

#include "base/deadline.h"

#include <stdio.h>
#include <string.h>

#define FIRST_PAUSE   0.02
#define LONGEST_PAUSE 0.5

static void give_back(struct redis_link *link)
{
    link->next = NULL;
    redis_link_release(link);
}

/* ---- losing a connection ---- */

/* Commands that were sent: repeated when they may be, else of unknown outcome. */
static void settle_sent(struct redis_line *l, struct redis_link *link, const struct error *why)
{
    struct redis_call *call;
    while ((call = redisconn_pop_sent(link->conn))) {
        struct line_call *c = (struct line_call *)call;
        struct redis_queue *q = &l->backlog;
        size_t from = q->out.len;
        bool again = c->copy && !call->dropped && l->shared && !l->closed;
        if (again && buf_add(&q->out, c->copy, call->size)) {
            resp_reply_clear(&call->reply);
            redis_queue_push(q, call, from, c->expect);
            continue;
        }
        if (again)
            q->out.oom = false;
        redis_line_fail_call(c, why, OUTCOME_UNKNOWN);
    }
}

static void take_unsent(struct redis_line *l, struct redis_link *link, const struct error *why)
{
    struct redis_queue *q = redisconn_queue(link->conn);
    struct redis_call *call;
    if (redis_queue_move(&l->backlog, q))
        return;
    while ((call = redis_queue_pop(q)))
        redis_line_fail_call((struct line_call *)call, why, OUTCOME_NOT_SENT);
}

static void lost(struct redis_link *link)
{
    struct redis_line *l = link->data;
    struct error why = {0};
    error_copy(&why, redisconn_error(link->conn));
    l->link = NULL;
    l->losses++;
    l->lost_at = mono_now();
    settle_sent(l, link, &why);
    take_unsent(l, link, &why);
    give_back(link);
    if (l->subscription)
        l->subscription->on_lost(l->subscription, &why);
    if (!l->shared)
        redis_line_fail_backlog(l, &why);
    else if (l->backlog.head)
        redis_line_connect(l);
    error_clear(&why);
}

void redis_line_leave(struct redis_line *l)
{
    l->demoted = false;
    pool_invalidate(l->pool->pool, mono_now());
    if (l->shared && l->link) {
        l->lost_at = mono_now();
        redis_line_retire(l);
        redis_line_sweep(l);
    }
}

static void progress(struct redis_link *link)
{
    struct redis_line *l = link->data;
    if (l->demoted) {
        redis_line_leave(l);
        return;
    }
    if (l->live == 0 && l->shared)
        redis_line_yield(l);
}

static void describe(const struct redis_link *link, struct pool_holder *h)
{
    const struct redis_line *l = link->data;
    if (!l->shared && script_place_text(&l->place, h->who, sizeof h->who))
        return;
    h->how = "by";
    snprintf(h->who, sizeof h->who,
             l->shared ? "the shared connection of a client" : "a dedicated connection");
}

static const struct redis_link_user line_user = {progress, lost, describe};

void redis_line_yield(struct redis_line *l)
{
    struct pool_stats st;
    if (!l->link || l->live > 0 || !redisconn_is_drained(l->link->conn))
        return;
    pool_stats(l->pool->pool, &st);
    if (st.waiting <= st.opening || st.open < st.size)
        return; /* nobody is waiting for this one */
    struct redis_link *link = l->link;
    l->link = NULL;
    give_back(link);
}

/* ---- connections that do not answer ---- */

static void retired_lost(struct redis_link *link)
{
    struct redis_line *l = link->data;
    struct error why = {0};
    struct redis_link **at = &l->retired;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    error_copy(&why, redisconn_error(link->conn));
    settle_sent(l, link, &why);
    give_back(link);
    if (l->backlog.head)
        redis_line_connect(l);
    error_clear(&why);
}

static void retired_progress(struct redis_link *link)
{
    redis_line_sweep(link->data);
}

static const struct redis_link_user retired_user = {retired_progress, retired_lost, describe};

void redis_line_sweep(struct redis_line *l)
{
    struct redis_link **at = &l->retired;
    while (*at) {
        struct redis_link *link = *at;
        if (redisconn_is_awaited(link->conn)) {
            at = &link->next;
            continue;
        }
        struct redis_call *call;
        *at = link->next;
        while ((call = redisconn_pop_sent(link->conn)))
            redis_line_give((struct line_call *)call);
        give_back(link);
    }
}

void redis_line_retire(struct redis_line *l)
{
    struct redis_link *link = l->link;
    struct error why = {0};
    error_set(&why, ERROR_CONNECT, "redis at %s: not enough memory", l->pool->target->label);
    l->link = NULL;
    take_unsent(l, link, &why);
    link->spoilt = true;
    link->user = &retired_user;
    link->next = l->retired;
    l->retired = link;
    if (l->backlog.head)
        redis_line_connect(l);
    error_clear(&why);
}

/* ---- taking a connection ---- */

void redis_line_attach(struct redis_line *l)
{
    struct redis_link *link = l->waiter.slot->conn;
    struct error why = {0};
    l->granted = false;
    l->link = link;
    l->connects++;
    l->retry_pause = FIRST_PAUSE;
    link->user = &line_user;
    link->data = l;
    redisconn_listen(link->conn, &redis_line_events, l);
    redis_queue_compact(&l->backlog, redis_line_events.on_done, l);
    if (!redis_queue_move(redisconn_queue(link->conn), &l->backlog)) {
        error_set(&why, ERROR_CONNECT, "redis at %s: not enough memory", l->pool->target->label);
        redis_line_fail_backlog(l, &why);
        error_clear(&why);
    }
    sched_defer(l->rt->sched, &l->flush);
}

static void retry(struct sched_timer *t)
{
    struct redis_line *l = t->data;
    l->retrying = false;
    if (l->backlog.head)
        redis_line_connect(l);
}

static void connect_failed(struct redis_line *l, const struct error *why)
{
    uint64_t now = mono_now();
    /* After a connection was lost, commands wait for the server to come back; later they fail at once,
     * as they do when it never was there. */
    bool wait = why->retryable && l->lost_at && now - l->lost_at < l->pool->comeback;
    if (!wait) {
        redis_line_fail_backlog(l, why);
        return;
    }
    l->retry_timer.fn = retry;
    l->retry_timer.data = l;
    l->retrying = true;
    sched_timer_start(l->rt->sched, &l->retry_timer, deadline_in(l->retry_pause));
    l->retry_pause = l->retry_pause * 2 < LONGEST_PAUSE ? l->retry_pause * 2 : LONGEST_PAUSE;
}

static void settle(struct redis_line *l, enum pool_settle result)
{
    struct error why = {0};
    switch (result) {
    case POOL_GRANTED:
        redis_line_attach(l);
        return;
    case POOL_WAITING:
        return;
    case POOL_FAILED:
        connect_failed(l, &l->waiter.error);
        error_clear(&l->waiter.error);
        return;
    default:
        redis_pool_explain(l->pool, result, &why);
        redis_line_fail_backlog(l, &why);
        error_clear(&why);
    }
}

static void settled(struct pool_waiter *w)
{
    struct redis_line *l = (struct redis_line *)((char *)w - offsetof(struct redis_line, waiter));
    l->acquiring = false;
    sched_timer_stop(l->rt->sched, &l->acquire_timer);
    if (l->shared) {
        settle(l, w->result);
    } else {
        struct wait *wait = l->acquire_wait;
        l->acquire_wait = NULL;
        l->granted = w->result == POOL_GRANTED;
        wait_wake(wait);
    }
}

static void acquire_expired(struct sched_timer *t)
{
    struct redis_line *l = t->data;
    struct error why = {0};
    redis_line_give_up(l, true);
    redis_pool_explain(l->pool, POOL_WAITING, &why);
    redis_line_fail_backlog(l, &why);
    error_clear(&why);
}

void redis_line_connect(struct redis_line *l)
{
    if (l->link || l->acquiring || l->retrying || l->closed)
        return;
    l->waiter.owner = NULL;
    l->waiter.nowait = l->pool->full_is_error;
    l->waiter.settled = settled;
    enum pool_settle result = pool_acquire(l->pool->pool, &l->waiter, mono_now());
    if (result != POOL_WAITING) {
        settle(l, result);
        return;
    }
    l->acquiring = true;
    l->acquire_timer.fn = acquire_expired;
    l->acquire_timer.data = l;
    uint64_t deadline = deadline_in(l->pool->timeout);
    if (deadline != DEADLINE_NEVER)
        sched_timer_start(l->rt->sched, &l->acquire_timer, deadline);
}

enum pool_settle redis_line_acquire(struct redis_line *l, struct wait *w, const void *owner)
{
    l->waiter.owner = owner;
    l->waiter.nowait = l->pool->full_is_error;
    l->waiter.settled = settled;
    enum pool_settle result = pool_acquire(l->pool->pool, &l->waiter, mono_now());
    if (result == POOL_WAITING) {
        l->acquiring = true;
        l->acquire_wait = w;
    }
    l->granted = result == POOL_GRANTED;
    return result;
}

void redis_line_give_up(struct redis_line *l, bool timed_out)
{
    l->acquire_wait = NULL;
    if (!l->acquiring)
        return;
    l->acquiring = false;
    sched_timer_stop(l->rt->sched, &l->acquire_timer);
    pool_cancel(l->pool->pool, &l->waiter, timed_out, mono_now());
}

void redis_line_detach(struct redis_line *l)
{
    redis_line_give_up(l, false);
    sched_timer_stop(l->rt->sched, &l->retry_timer);
    l->retrying = false;
    if (l->granted) {
        l->granted = false;
        redis_link_release(l->waiter.slot->conn);
    }
    error_clear(&l->waiter.error);
    if (l->link) {
        struct redis_link *link = l->link;
        l->link = NULL;
        give_back(link);
    }
    while (l->retired) {
        struct redis_link *link = l->retired;
        l->retired = link->next;
        give_back(link);
    }
}
