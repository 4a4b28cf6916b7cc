/*
 * A command whose effect must not stay when its task stops waiting (taking a lock) has a second command that
 * undoes it. The undo follows on the same connection, so that the server runs it after the command even when
 * both have been in its socket's buffer for a while, or the connection was closed.
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

/* Sends at once, not at the end of the turn, because the task may close the client next. Also sends on a held
 * link, whose server may no longer be the primary, because an undo does no harm on any server. */
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

/* The link on which a call was sent, at least in part. NULL: none. */
static struct redis_link *link_of(const struct redis_session *s, const struct redis_call *call)
{
    struct redis_link *r = s->retired;
    while (r && !redis_link_has(r, call))
        r = r->next;
    return !r && s->link && redis_link_has(s->link, call) ? s->link : r;
}

void redis_undo_call(struct redis_session *s, const struct session_call *c)
{
    struct redis_link *link = link_of(s, &c->call);
    /* After a part of a command, the server would read it as the rest of that command. */
    if (!link || link == s->link || redisconn_is_cut(link->conn))
        redis_undo_post(s, c->copy, c->undo, c->replies);
    else
        post_on(s, link, c->copy, c->undo, c->replies);
}

/* ---- closing ---- */

/* True when something must and can be sent before the link is closed. */
static bool is_needed(const struct redis_link *link)
{
    if (redisconn_is_cut(link->conn))
        return false;
    for (const struct redis_call *c = redisconn_oldest(link->conn); c; c = c->next)
        if (c->background || (((const struct session_call *)c)->undo && !c->dropped))
            return true;
    for (const struct redis_call *c = redisconn_queue(link->conn)->head; c; c = c->next)
        if (c->background)
            return true;
    return false;
}

/* Abandons a call, which stays in its list, and fails its task's wait through another call. */
static bool part(struct redis_session *s, struct redis_queue *q, struct session_call *c,
                 const struct error *why)
{
    struct session_call *told = redis_session_take(s);
    if (!told)
        return false;
    bool not_sent = redis_queue_drop(q, &c->call);
    if (!not_sent && c->undo)
        post(s, q, c->copy, c->undo, c->replies);
    told->wait = c->wait;
    told->wait->data = told;
    c->wait = NULL;
    redis_session_fail_call(told, why, not_sent ? OUTCOME_NOT_SENT : OUTCOME_UNKNOWN);
    return true;
}

static bool part_all(struct redis_session *s, struct redis_queue *q, struct redis_call *list,
                     const struct error *why)
{
    for (struct redis_call *call = list; call; call = call->next) {
        struct session_call *c = (struct session_call *)call;
        if (c->wait && !part(s, q, c, why))
            return false;
    }
    return true;
}

static void fail_all(struct redis_link *link, const struct error *why)
{
    struct redis_call *call;
    while ((call = redis_queue_pop(redisconn_queue(link->conn)))) {
        link->spoilt = true; /* it may have been sent in part */
        redis_session_fail_call((struct session_call *)call, why, OUTCOME_NOT_SENT);
    }
    while ((call = redisconn_pop_sent(link->conn))) {
        link->spoilt = true; /* its reply will still come */
        redis_session_fail_call((struct session_call *)call, why, OUTCOME_UNKNOWN);
    }
}

bool redis_undo_close(struct redis_session *s, struct redis_link *link, const struct error *why)
{
    struct redis_queue *q = redisconn_queue(link->conn);
    if (is_needed(link) && part_all(s, q, redisconn_oldest(link->conn), why) &&
        part_all(s, q, q->head, why)) {
        redis_queue_compact(q, redis_session_events.on_done, link);
        return true;
    }
    fail_all(link, why);
    return false;
}
