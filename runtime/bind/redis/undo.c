/*
 * A command whose effect must not stay when its task gives up (a lock that is taken) has a second one that
 * undoes it. That one follows on the same connection, so that the server runs it behind the first also when
 * both lie in its socket's buffer for a while, or the connection is closed.
 */
#include "bind/redis/session.h"

#include "base/deadline.h"

#include <stdlib.h>
#include <string.h>

enum { TRIES = 3 };

static bool post(struct redis_session *s, struct redis_queue *q, const char *bytes, size_t size,
                 uint32_t expect)
{
    struct session_call *c = redis_session_take(s);
    char *copy = malloc(size);
    size_t from = q->out.len;
    if (!c || !copy || !buf_add(&q->out, bytes, size)) {
        q->out.oom = false;
        free(copy);
        if (c)
            redis_session_give(c);
        return false;
    }
    memcpy(copy, bytes, size);
    redis_queue_push(q, &c->call, from, expect);
    c->wait = NULL;
    c->expect = expect;
    c->deadline = DEADLINE_NEVER;
    c->received = UINT64_MAX;
    c->copy = copy;
    c->tries = TRIES;
    c->blocks = false;
    c->call.background = true;
    s->commands += expect;
    redis_pool_used(s->pool);
    sched_background(s->rt->sched, 1);
    return true;
}

/* Sends at once, and not at the end of the turn: the task may close the client next. On a link that is held,
 * because its server may not be the primary any more, nothing but this is sent, which does no harm on any
 * server. */
static bool post_on(struct redis_session *s, struct redis_link *link, const char *bytes, size_t size,
                    uint32_t expect)
{
    struct redis_queue *q = redisconn_queue(link->conn);
    bool alone = redis_queue_pending(q) == 0;
    if (!post(s, q, bytes, size, expect))
        return false;
    if (!link->held)
        redis_link_push(link);
    else if (alone && !redisconn_has_news(link->conn))
        redisconn_step(link->conn, 0);
    return true;
}

bool redis_undo_post(struct redis_session *s, const char *bytes, size_t size, uint32_t expect)
{
    if (s->closed || !(s->link || s->shared))
        return false;
    if (s->link)
        return post_on(s, s->link, bytes, size, expect);
    if (!post(s, &s->backlog, bytes, size, expect))
        return false;
    redis_session_connect(s);
    return true;
}

bool redis_undo_keep(struct session_call *c, const char *bytes, size_t size, uint32_t expect)
{
    c->copy = malloc(size);
    if (!c->copy)
        return false;
    memcpy(c->copy, bytes, size);
    c->undo = size;
    c->replies = expect;
    return true;
}

/* The link that a call was sent on, at least in part. NULL: none. */
static struct redis_link *link_of(const struct redis_session *s, const struct redis_call *call)
{
    if (call->state != REDIS_CALL_SENT)
        return s->link; /* a part of it */
    if (s->link && redisconn_has_sent(s->link->conn, call))
        return s->link;
    struct redis_link *r = s->retired;
    while (r && !redisconn_has_sent(r->conn, call))
        r = r->next;
    return r;
}

void redis_undo_call(struct redis_session *s, const struct session_call *c)
{
    struct redis_link *link = link_of(s, &c->call);
    /* Behind a part of a command it would be taken for the rest of that. */
    if (!link || link == s->link || redisconn_is_cut(link->conn))
        redis_undo_post(s, c->copy, c->undo, c->replies);
    else
        post_on(s, link, c->copy, c->undo, c->replies);
}

/* Sends what undoes a call, or once more a call that does so. */
static bool post_again(struct redis_session *s, struct redis_queue *q, const struct session_call *c)
{
    if (c->call.background)
        return post(s, q, c->copy, c->call.size, c->expect);
    return c->undo && c->wait && post(s, q, c->copy, c->undo, c->replies);
}

bool redis_undo_close(struct redis_session *s, const struct error *why)
{
    struct redis_link *link = s->link;
    struct redis_queue *q = redisconn_queue(link->conn);
    struct redis_call *call;
    struct redis_call *first = NULL;
    uint32_t before = 0; /* replies that come before that to the first one */
    while ((call = redisconn_pop_sent(link->conn))) {
        struct session_call *c = (struct session_call *)call;
        link->spoilt = true; /* its reply will still come */
        before += call->expect;
        if (!q->cut && post_again(s, q, c) && !first)
            first = q->tail;
        redis_session_fail_call(c, why, OUTCOME_UNKNOWN);
    }
    if (!first)
        return false;
    first->expect += before;
    link->held = false; /* no task waits for what its server says */
    redis_link_push(link);
    return s->link != NULL;
}
