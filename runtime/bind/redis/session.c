#include "bind/redis/session.h"

#include "base/deadline.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMPACT_AT = 64 * 1024,
    COMPACT_CALLS = 64,   /* while no connection exists that would compact at its next write */
    FLUSH_AT = 64 * 1024, /* with this many bytes queued, send now and not at the end of the turn */
};

#define LINGER 1.0

/* ---- abandoning ---- */

enum { MOST_RETIRED = 2 };

/* Each retired connection keeps its place in the pool until its last command is abandoned, and what undoes a
 * command is answered. */
static bool may_retire(const struct redis_session *s)
{
    int n = 0;
    for (const struct redis_link *l = s->retired; l; l = l->next)
        n += redisconn_is_awaited(l->conn) || redisconn_has_background(l->conn);
    return n < MOST_RETIRED;
}

/* Removes dropped commands when they are many or large, so that tasks that time out and retry do not fill the
 * memory. */
static void abandoned_unsent(struct redis_session *s, struct redis_queue *q)
{
    bool large = q->dropped_size >= COMPACT_AT && q->dropped_size >= redis_queue_pending(q) / 4;
    bool many = q->dropped >= COMPACT_CALLS && (!s->link || s->link->held);
    if (large || many)
        redis_queue_compact(q, redis_session_events.on_done, NULL);
    if (s->crowded)
        redis_session_admit(s);
}

/* True when the command was issued on this link, and the server has sent nothing from then to its deadline.
 */
static bool is_silent(const struct redis_session *s, const struct session_call *c)
{
    return s->link && s->shared && c->received == redisconn_received(s->link->conn) &&
           c->deadline <= mono_now() && !s->link->held && may_retire(s) && redis_link_has(s->link, &c->call);
}

/* Closes the connection of an abandoned command that blocks: the server would still run it, and the element
 * that it takes would be lost. */
static void end_blocking(struct redis_session *s)
{
    struct error why = {0};
    error_set(&why, ERROR_CONNECT,
              "redis at %s: the connection was closed, since a command that blocks was given up on it",
              s->pool->target->label);
    redis_link_break(s->link, &why);
    error_clear(&why);
}

void redis_session_abandon(struct wait *w)
{
    struct session_call *c = w->data;
    struct redis_session *s = c->session;
    struct redis_queue *q = s->retired ? redis_session_queue_of(s, &c->call) : redis_session_queue(s);
    bool not_sent = redis_queue_drop(q, &c->call);
    w->data = (void *)(intptr_t)(not_sent ? OUTCOME_NOT_SENT : OUTCOME_UNKNOWN);
    c->wait = NULL;
    s->live--;
    if (not_sent) {
        abandoned_unsent(s, q);
    } else {
        bool silent = is_silent(s, c);
        if (c->undo)
            redis_undo_call(s, c);
        if (silent && s->link) {
            if (!s->pool->guard.silent_since)
                s->pool->guard.silent_since = s->link->marked_at ? s->link->marked_at : mono_now();
            redis_session_retire(s);
        }
        if (c->blocks && !s->shared && s->link)
            end_blocking(s); /* frees the call */
    }
    if (s->retired)
        redis_session_sweep(s);
}

/* ---- issuing ---- */

static void flush(void *data)
{
    struct redis_session *s = data;
    if (s->link)
        redis_link_push(s->link);
}

static void crowd(struct redis_session *s)
{
    s->crowded = true;
    redis_session_judge(s);
}

void redis_session_issue(struct redis_session *s, const struct redis_request *r, struct wait *w)
{
    struct session_call *c = r->call;
    struct redis_queue *q = r->queue;
    redis_queue_push(q, &c->call, r->from, r->expect);
    c->wait = w;
    c->expect = r->expect;
    c->deadline = r->deadline;
    s->live++;
    s->commands += r->expect;
    redis_pool_used(s->pool);
    if (r->repeat && !c->undo) {
        c->copy = malloc(c->call.size);
        if (c->copy)
            memcpy(c->copy, q->out.data + r->from, c->call.size);
    }
    if (!s->link) {
        c->received = UINT64_MAX;
        if (redis_queue_pending(q) >= FLUSH_AT)
            crowd(s);
        redis_session_connect(s);
        return;
    }
    c->received = redisconn_received(s->link->conn);
    if (redis_queue_pending(q) >= FLUSH_AT) {
        crowd(s);
        redis_link_push(s->link);
    } else
        sched_defer(s->rt->sched, &s->flush);
}

void redis_session_post(struct redis_session *s, struct session_call *c, size_t from)
{
    redis_queue_push(redis_session_queue(s), &c->call, from, 0);
    c->wait = NULL;
    c->expect = 0;
    s->commands++;
    sched_defer(s->rt->sched, &s->flush);
}

/* ---- life ---- */

struct redis_session *redis_session_new(struct runtime *rt, struct redis_pool *pool, bool shared)
{
    struct redis_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->rt = rt;
    s->pool = redis_pool_ref(pool);
    s->shared = shared;
    s->refs = 1;
    s->flush.fn = flush;
    s->flush.data = s;
    s->next = pool->sessions;
    if (s->next)
        s->next->prev = s;
    pool->sessions = s;
    return s;
}

struct redis_session *redis_session_ref(struct redis_session *s)
{
    s->refs++;
    return s;
}

/* ---- lingering ---- */

/* Returns a lingering link to its pool. Can free the session. */
static void end_linger(struct redis_link *link)
{
    struct redis_session *s = link->data;
    struct redis_link **at = &s->lingering;
    struct redis_call *call;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    link->next = NULL;
    if (!s->lingering)
        sched_timer_stop(s->rt->sched, &s->retry_timer);
    while ((call = redisconn_pop_sent(link->conn)) || (call = redis_queue_pop(redisconn_queue(link->conn))))
        redis_session_give((struct session_call *)call);
    redis_link_release(link);
    redis_session_unref(s);
}

static void linger_progress(struct redis_link *link)
{
    if (redisconn_is_drained(link->conn))
        end_linger(link);
}

static void linger_expired(struct sched_timer *t)
{
    struct redis_session *s = redis_session_ref(t->data);
    while (s->lingering)
        end_linger(s->lingering);
    redis_session_unref(s);
}

static void linger_describe(const struct redis_link *link, struct pool_holder *h)
{
    (void)link;
    h->how = "by";
    snprintf(h->who, sizeof h->who, "a client that was closed");
}

static const struct redis_link_user linger_user = {linger_progress, end_linger, NULL, linger_describe};

/* Keeps a link of a closed session for a moment until its commands are answered: a server that cannot write a
 * reply, because the connection is closed, does not read the commands after it. */
static void linger(struct redis_session *s, struct redis_link *link)
{
    link->user = &linger_user;
    link->next = s->lingering;
    s->lingering = link;
    redis_session_ref(s);
    link->spoilt = true;
    link->held = false; /* no task waits for its replies */
    redis_link_push(link);
}

static void close_links(struct redis_session *s, const struct error *why)
{
    struct redis_link *link = s->link;
    if (link && redis_undo_close(s, link, why)) {
        s->link = NULL;
        linger(s, link);
    }
    struct redis_link **at = &s->retired;
    while ((link = *at)) {
        if (redis_undo_close(s, link, why)) {
            *at = link->next;
            linger(s, link);
        } else {
            at = &link->next;
        }
    }
}

void redis_session_close(struct redis_session *s)
{
    struct error why = {0};
    if (s->closed)
        return;
    s->closed = true;
    redis_session_judge(s);
    error_set(&why, ERROR_POOL, "redis at %s: the %s was closed", s->pool->target->label,
              s->shared ? "client" : "connection");
    redis_session_fail_backlog(s, &why);
    close_links(s, &why);
    if (s->subscription)
        s->subscription->on_lost(s->subscription, &why);
    redis_session_detach(s);
    if (s->lingering) {
        s->retry_timer.fn = linger_expired;
        s->retry_timer.data = s;
        sched_timer_start(s->rt->sched, &s->retry_timer, deadline_in(LINGER));
    }
    error_clear(&why);
}

void redis_session_unref(struct redis_session *s)
{
    if (!s || --s->refs > 0)
        return;
    /* A waiting task holds a reference. So either no task waits now, or the program ends without resuming its
     * tasks: no wait may be touched. */
    s->closed = true;
    redis_session_judge(s);
    if (s->link && !redisconn_is_drained(s->link->conn))
        s->link->spoilt = true;
    redis_session_detach(s);
    sched_undefer(s->rt->sched, &s->flush);
    redis_session_free_calls(s);
    if (s->subscription)
        s->subscription->free(s->subscription);
    redis_queue_free(&s->backlog);
    if (s->prev)
        s->prev->next = s->next;
    else
        s->pool->sessions = s->next;
    if (s->next)
        s->next->prev = s->prev;
    redis_pool_unref(s->pool);
    free(s);
}
