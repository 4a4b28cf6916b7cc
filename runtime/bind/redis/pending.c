/* The calls of a session: how they are allocated, and how they end. */
#include "bind/redis/session.h"

#include <stdlib.h>
#include <string.h>

enum { CALLS_PER_CHUNK = 64 };

struct session_chunk {
    struct session_chunk *next;
    struct session_call calls[CALLS_PER_CHUNK];
};

/* ---- calls ---- */

static bool add_chunk(struct redis_session *s)
{
    struct session_chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return false;
    chunk->next = s->chunks;
    s->chunks = chunk;
    for (int i = 0; i < CALLS_PER_CHUNK; i++) {
        struct session_call *c = &chunk->calls[i];
        c->session = s;
        resp_reply_init(&c->call.reply);
        c->next_free = s->free_calls;
        s->free_calls = c;
    }
    return true;
}

struct session_call *redis_session_take(struct redis_session *s)
{
    if (!s->free_calls && !add_chunk(s))
        return NULL;
    struct session_call *c = s->free_calls;
    s->free_calls = c->next_free;
    return c;
}

static void clear_call(struct session_call *c)
{
    resp_reply_clear(&c->call.reply);
    free(c->copy);
    c->copy = NULL;
    c->undo = 0;
    if (c->call.background)
        sched_background(c->session->rt->sched, -1);
    c->call.background = false;
    if (c->error) {
        error_clear(c->error);
        free(c->error);
        c->error = NULL;
    }
    c->failed = false;
    c->blocks = false;
}

void redis_session_give(struct session_call *c)
{
    /* The usual call has nothing to free. */
    if (c->call.reply.data || c->copy || c->failed || c->blocks)
        clear_call(c);
    c->call.reply.len = 0;
    c->wait = NULL;
    c->next_free = c->session->free_calls;
    c->session->free_calls = c;
}

void redis_session_free_calls(struct redis_session *s)
{
    while (s->chunks) {
        struct session_chunk *chunk = s->chunks;
        s->chunks = chunk->next;
        for (int i = 0; i < CALLS_PER_CHUNK; i++)
            clear_call(&chunk->calls[i]);
        free(chunk);
    }
}

/* ---- the queue of a call ---- */

struct redis_queue *redis_session_queue_of(struct redis_session *s, const struct redis_call *call)
{
    for (struct redis_link *r = s->retired; r; r = r->next)
        if (redis_queue_has(redisconn_queue(r->conn), call))
            return redisconn_queue(r->conn);
    return redis_session_queue(s);
}

bool redis_link_has(const struct redis_link *link, const struct redis_call *call)
{
    return redisconn_has_sent(link->conn, call) || redis_queue_has(redisconn_queue(link->conn), call);
}

static bool undoes_any(const struct redis_call *list)
{
    while (list && !list->background && !((const struct session_call *)list)->undo)
        list = list->next;
    return list;
}

bool redis_session_may_undo(struct redis_link *link)
{
    return undoes_any(redisconn_oldest(link->conn)) || undoes_any(redisconn_queue(link->conn)->head);
}

/* ---- how a call ends ---- */

static void finish(struct session_call *c)
{
    struct wait *w = c->wait;
    c->wait = NULL;
    c->session->live--;
    wait_wake(w);
}

/* True when a command was refused because the server has become a replica. */
static bool says_readonly(const struct redis_call *call)
{
    static const char word[] = "READONLY ";
    struct resp_cursor cur = resp_cursor(&call->reply);
    struct resp_item item;
    while (resp_next(&cur, &item))
        if (item.type == RESP_ERROR && item.size >= sizeof word - 1 &&
            memcmp(item.text, word, sizeof word - 1) == 0)
            return true;
    return false;
}

static void on_done(struct redis_call *call, void *data)
{
    struct session_call *c = (struct session_call *)call;
    const struct redis_link *link = data;
    if (link)
        c->answered = link->serial;
    /* What comes on a retired link says nothing about the server of the one in use. */
    if (c->session->pool->target->sentinels && link == c->session->link && says_readonly(call))
        c->session->demoted = c->session->unusual = true; /* progress in session_connect.c handles it */
    if (c->wait)
        finish(c);
    else
        redis_session_give(c); /* abandoned or posted */
}

const struct redisconn_events redis_session_events = {on_done, NULL};

void redis_session_fail_call(struct session_call *c, const struct error *why, enum error_outcome outcome)
{
    if (!c->wait) {
        redis_session_give(c);
        return;
    }
    resp_reply_clear(&c->call.reply);
    c->failed = true;
    c->error = calloc(1, sizeof *c->error);
    if (c->error) {
        error_copy(c->error, why);
        c->error->outcome = outcome;
    }
    finish(c);
}

void redis_session_fail_backlog(struct redis_session *s, const struct error *why)
{
    struct redis_call *call;
    while ((call = redis_queue_pop(&s->backlog)))
        redis_session_fail_call((struct session_call *)call, why, OUTCOME_NOT_SENT);
    struct wait *w;
    while ((w = wait_queue_pop(&s->room)))
        redis_session_fail_call(w->data, why, OUTCOME_NOT_SENT);
}
