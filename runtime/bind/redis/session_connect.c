/* How a session gets its connection, and what happens to its commands when the connection is lost. */
#include "bind/redis/session.h"

#include "base/deadline.h"

#include <stdio.h>
#include <string.h>

#define FIRST_PAUSE   0.02
#define LONGEST_PAUSE 1.0
/* How long a connection is kept for what undoes a command on it, and how many connections are kept. */
#define UNDO_TIME 5.0
enum { MOST_KEPT = 2 };

static void give_back(struct redis_link *link)
{
    link->next = NULL;
    redis_link_release(link);
}

/* ---- losing a connection ---- */

/* Queues a sent command again, if this is allowed. */
static bool queue_again(struct redis_session *s, struct session_call *c)
{
    struct redis_queue *q = redis_session_queue(s);
    size_t from = q->out.len;
    if (!c->copy || c->undo || c->call.dropped || !s->shared || s->closed)
        return false;
    if (c->call.background && c->tries-- == 0)
        return false;
    if (!buf_add(&q->out, c->copy, c->call.size)) {
        q->out.oom = false;
        return false;
    }
    resp_reply_clear(&c->call.reply);
    redis_queue_push(q, &c->call, from, c->expect);
    c->received = s->link ? redisconn_received(s->link->conn) : UINT64_MAX;
    return true;
}

/* For the sent commands: queues repeatable ones again, and fails the others with an unknown outcome. A
 * command whose reply broke the protocol is not repeated, because it would get the same reply. */
static void settle_sent(struct redis_session *s, struct redis_link *link, const struct error *why)
{
    struct redis_call *call;
    bool culprit = why->kind == ERROR_PROTOCOL;
    for (; (call = redisconn_pop_sent(link->conn)); culprit = false)
        if (culprit || !queue_again(s, (struct session_call *)call))
            redis_session_fail_call((struct session_call *)call, why, OUTCOME_UNKNOWN);
}

static void take_unsent(struct redis_session *s, struct redis_link *link, const struct error *why)
{
    struct redis_call *call;
    if (redisconn_move_unsent(link->conn, redis_session_queue(s)))
        return;
    while ((call = redis_queue_pop(redisconn_queue(link->conn))))
        redis_session_fail_call((struct session_call *)call, why, OUTCOME_NOT_SENT);
}

/* Called when the queue has been replaced: there may be room now for waiting tasks. */
static void go_on(struct redis_session *s)
{
    if (s->room.head)
        redis_session_admit(s);
    if (s->backlog.head)
        redis_session_connect(s);
}

static void lost(struct redis_link *link)
{
    struct redis_session *s = link->data;
    struct error why = {0};
    error_copy(&why, redisconn_error(link->conn));
    s->link = NULL;
    s->losses++;
    s->lost_at = mono_now();
    settle_sent(s, link, &why);
    why.retryable = true; /* unsent commands can use another connection */
    take_unsent(s, link, &why);
    give_back(link);
    if (s->subscription)
        s->subscription->on_lost(s->subscription, &why);
    if (!s->shared && !s->trouble.message)
        error_copy(&s->trouble, &why);
    if (!s->shared || s->pool->guard.leaving)
        redis_session_fail_backlog(s, &why);
    else
        go_on(s);
    error_clear(&why);
}

void redis_session_leave(struct redis_session *s)
{
    s->demoted = false;
    redis_session_judge(s);
    redis_pool_invalidate(s->pool);
}

/* Moves a shared session to a new connection: sent commands are still answered on the old one. */
static void outdated(struct redis_link *link)
{
    struct redis_session *s = link->data;
    s->lost_at = mono_now();
    redis_session_retire(s);
    redis_session_sweep(s);
}

static bool is_idle(const struct redis_session *s)
{
    return s->shared && s->link && s->live == 0 && redisconn_is_drained(s->link->conn);
}

static void yield(struct redis_session *s)
{
    struct redis_link *link = s->link;
    s->link = NULL;
    give_back(link);
}

static void progress(struct redis_link *link)
{
    struct redis_session *s = link->data;
    if (s->unusual) {
        if (s->demoted) {
            redis_session_leave(s);
            return;
        }
        redis_session_admit(s);
    }
    if (s->live == 0 && pool_wants_back(s->pool->pool) && is_idle(s))
        yield(s);
}

static void describe(const struct redis_link *link, struct pool_holder *h)
{
    const struct redis_session *s = link->data;
    if (!s->shared && script_place_text(&s->place, h->who, sizeof h->who))
        return;
    h->how = "by";
    snprintf(h->who, sizeof h->who,
             s->shared ? "the shared connection of a client" : "a dedicated connection");
}

static const struct redis_link_user shared_user = {progress, lost, outdated, describe};
static const struct redis_link_user dedicated_user = {progress, lost, NULL, describe};

/* ---- retired connections ---- */

/* Takes over the unfinished commands of a retired connection. */
static void take_over(struct redis_session *s, struct redis_link *link, const struct error *why)
{
    settle_sent(s, link, why);
    take_unsent(s, link, why);
    if (s->link)
        sched_defer(s->rt->sched, &s->flush);
}

static void retired_lost(struct redis_link *link)
{
    struct redis_session *s = link->data;
    struct error why = {0};
    struct redis_link **at = &s->retired;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    error_copy(&why, redisconn_error(link->conn));
    take_over(s, link, &why);
    give_back(link);
    if (s->pool->guard.leaving)
        redis_session_fail_backlog(s, &why);
    else if (s->backlog.head)
        redis_session_connect(s);
    error_clear(&why);
}

static void retired_progress(struct redis_link *link)
{
    redis_session_sweep(link->data);
}

static const struct redis_link_user retired_user = {retired_progress, retired_lost, NULL, describe};

static void sweep_due(struct sched_timer *t)
{
    redis_session_sweep(t->data);
}

/* True while a link must be kept for what undoes its commands. If it were closed, a server that wakes up
 * would run the command, fail to reply, and never read what undoes it; on another connection, the undo could
 * come before the command. */
static bool is_kept(struct redis_session *s, struct redis_link *link, uint64_t now, int *kept)
{
    if (!redisconn_has_background(link->conn) || ++*kept > MOST_KEPT)
        return false;
    if (link->until == 0) {
        link->until = deadline_in(UNDO_TIME);
        s->sweep_timer.fn = sweep_due;
        s->sweep_timer.data = s;
        sched_timer_start(s->rt->sched, &s->sweep_timer, link->until);
    }
    return link->until > now;
}

void redis_session_sweep(struct redis_session *s)
{
    struct redis_link **at = &s->retired;
    uint64_t now = mono_now();
    int kept = 0;
    while (*at) {
        struct redis_link *link = *at;
        if (redisconn_is_awaited(link->conn) || is_kept(s, link, now, &kept)) {
            at = &link->next;
            continue;
        }
        struct error why = {0}; /* only for background calls, so no task sees it */
        *at = link->next;
        redisconn_give_up(link->conn, &why); /* it completes no TLS record, so the record counts as unsent */
        take_over(s, link, &why);
        give_back(link);
        error_clear(&why);
    }
    if (s->backlog.head)
        redis_session_connect(s);
}

void redis_session_retire(struct redis_session *s)
{
    struct redis_link *link = s->link;
    struct error why = {0};
    error_set(&why, ERROR_CONNECT, "redis at %s: not enough memory", s->pool->target->label);
    why.retryable = true;
    s->link = NULL;
    if (!redis_session_may_undo(link) || !redisconn_move_rest(link->conn, redis_session_queue(s)))
        take_unsent(s, link, &why);
    link->spoilt = true;
    link->user = &retired_user;
    link->until = 0;
    link->next = s->retired;
    s->retired = link;
    go_on(s);
    error_clear(&why);
}

/* ---- taking a connection ---- */

void redis_session_make_way(struct redis_pool *p)
{
    for (struct redis_session *s = p->sessions; s; s = s->next)
        if (pool_wants_back(p->pool) && is_idle(s))
            yield(s);
}

static enum pool_settle acquire(struct redis_session *s, uint64_t now)
{
    enum pool_settle result = pool_acquire(s->pool->pool, &s->waiter, now);
    if (result != POOL_FULL) /* with POOL_FULL nothing waits, so no idle session has made way */
        return result;
    struct redis_session *idle = s->pool->sessions;
    while (idle && !is_idle(idle))
        idle = idle->next;
    if (!idle)
        return result;
    yield(idle);
    return pool_acquire(s->pool->pool, &s->waiter, now);
}

void redis_session_attach(struct redis_session *s)
{
    struct redis_link *link = s->waiter.slot->conn;
    struct error why = {0};
    s->granted = false;
    error_clear(&s->trouble);
    s->link = link;
    s->wanting_since = 0;
    s->connects++;
    s->retry_pause = FIRST_PAUSE;
    link->user = s->shared ? &shared_user : &dedicated_user;
    link->data = s;
    redisconn_listen(link->conn, &redis_session_events, link);
    redis_queue_compact(&s->backlog, redis_session_events.on_done, NULL);
    if (!redis_queue_move(redisconn_queue(link->conn), &s->backlog)) {
        error_set(&why, ERROR_CONNECT, "redis at %s: not enough memory", s->pool->target->label);
        redis_session_fail_backlog(s, &why);
        error_clear(&why);
    }
    sched_defer(s->rt->sched, &s->flush);
}

static void retry(struct sched_timer *t)
{
    struct redis_session *s = t->data;
    s->retrying = false;
    if (s->backlog.head)
        redis_session_connect(s);
}

/* True when the server runs a long script, which may never end: the next attempt would get the same reply. */
static bool is_busy(const struct error *why)
{
    const char *code = why->field ? why->field[ERROR_CODE] : NULL;
    return code && strcmp(code, "BUSY") == 0;
}

void redis_session_retry_now(struct redis_session *s)
{
    sched_timer_stop(s->rt->sched, &s->retry_timer);
    s->retrying = false;
    s->retry_pause = FIRST_PAUSE;
    if (s->backlog.head)
        redis_session_connect(s);
}

static void connect_failed(struct redis_session *s, const struct error *why)
{
    uint64_t now = mono_now();
    /* For a while after a connection was lost, commands wait for the server to come back. Later, or if the
     * server was never reached, they fail at once. */
    bool wait = why->retryable && !is_busy(why) && s->lost_at && now - s->lost_at < s->pool->comeback;
    if (!wait) {
        s->wanting_since = 0;
        redis_session_fail_backlog(s, why);
        return;
    }
    error_clear(&s->trouble);
    error_copy(&s->trouble, why);
    s->retry_timer.fn = retry;
    s->retry_timer.data = s;
    s->retrying = true;
    /* Full jitter: clients that lost the same server do not come back together. */
    double spread = (double)(now % 1024) / 1024;
    if (s->retry_pause < FIRST_PAUSE)
        s->retry_pause = FIRST_PAUSE;
    double pause = FIRST_PAUSE + (s->retry_pause - FIRST_PAUSE) * spread;
    sched_timer_start(s->rt->sched, &s->retry_timer, deadline_in(pause));
    s->retry_pause = s->retry_pause * 2 < LONGEST_PAUSE ? s->retry_pause * 2 : LONGEST_PAUSE;
}

static void settle(struct redis_session *s, enum pool_settle result)
{
    struct error why = {0};
    switch (result) {
    case POOL_GRANTED:
        redis_session_attach(s);
        return;
    case POOL_WAITING:
        return;
    case POOL_FAILED:
        connect_failed(s, &s->waiter.error);
        error_clear(&s->waiter.error);
        return;
    default:
        s->wanting_since = 0;
        redis_pool_explain(s->pool, result, s->pool->timeout, &why);
        redis_session_fail_backlog(s, &why);
        error_clear(&why);
    }
}

static void settled(struct pool_waiter *w)
{
    struct redis_session *s = (struct redis_session *)((char *)w - offsetof(struct redis_session, waiter));
    s->acquiring = false;
    sched_timer_stop(s->rt->sched, &s->acquire_timer);
    if (s->shared) {
        settle(s, w->result);
    } else {
        struct wait *wait = s->acquire_wait;
        s->acquire_wait = NULL;
        s->granted = w->result == POOL_GRANTED;
        wait_wake(wait);
    }
}

static void acquire_expired(struct sched_timer *t)
{
    struct redis_session *s = t->data;
    struct error why = {0};
    redis_session_give_up(s, true);
    redis_pool_explain(s->pool, POOL_WAITING, s->pool->timeout, &why);
    redis_session_fail_backlog(s, &why);
    error_clear(&why);
}

void redis_session_connect(struct redis_session *s)
{
    if (s->link || s->acquiring || s->retrying || s->closed)
        return;
    uint64_t now = mono_now();
    if (!s->wanting_since)
        s->wanting_since = now;
    s->waiter.owner = NULL;
    s->waiter.nowait = s->pool->full_is_error;
    s->waiter.settled = settled;
    enum pool_settle result = acquire(s, now);
    if (result != POOL_WAITING) {
        settle(s, result);
        return;
    }
    s->acquiring = true;
    s->acquire_timer.fn = acquire_expired;
    s->acquire_timer.data = s;
    sched_timer_start(s->rt->sched, &s->acquire_timer, deadline_after(now, duration_ns(s->pool->timeout)));
    redis_session_make_way(s->pool);
}

enum pool_settle redis_session_acquire(struct redis_session *s, struct wait *w, const void *owner)
{
    uint64_t now = mono_now();
    s->waiter.owner = owner;
    s->waiter.nowait = s->pool->full_is_error;
    s->waiter.settled = settled;
    enum pool_settle result = acquire(s, now);
    if (result == POOL_WAITING) {
        s->acquiring = true;
        s->acquire_wait = w;
        s->wanting_since = now;
        redis_pool_used(s->pool);
    }
    s->granted = result == POOL_GRANTED;
    return result;
}

void redis_session_give_up(struct redis_session *s, bool timed_out)
{
    s->acquire_wait = NULL;
    if (!s->acquiring)
        return;
    s->acquiring = false;
    s->wanting_since = 0;
    sched_timer_stop(s->rt->sched, &s->acquire_timer);
    pool_cancel(s->pool->pool, &s->waiter, timed_out, mono_now());
}

void redis_session_detach(struct redis_session *s)
{
    redis_session_give_up(s, false);
    sched_timer_stop(s->rt->sched, &s->retry_timer);
    sched_timer_stop(s->rt->sched, &s->sweep_timer);
    s->retrying = false;
    s->wanting_since = 0;
    if (s->granted) {
        s->granted = false;
        redis_link_release(s->waiter.slot->conn);
    }
    error_clear(&s->waiter.error);
    error_clear(&s->trouble);
    if (s->link) {
        struct redis_link *link = s->link;
        s->link = NULL;
        give_back(link);
    }
    while (s->retired) {
        struct redis_link *link = s->retired;
        s->retired = link->next;
        give_back(link);
    }
}
