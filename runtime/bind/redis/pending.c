/* The calls of a line: where they come from, and how each ends. */
#include "bind/redis/session.h"

#include <stdlib.h>
#include <string.h>

enum { CALLS_PER_CHUNK = 64 };

struct line_chunk {
    struct line_chunk *next;
    struct line_call calls[CALLS_PER_CHUNK];
};

/* ---- calls ---- */

static bool add_chunk(struct redis_line *l)
{
    struct line_chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return false;
    chunk->next = l->chunks;
    l->chunks = chunk;
    for (int i = 0; i < CALLS_PER_CHUNK; i++) {
        struct line_call *c = &chunk->calls[i];
        c->line = l;
        resp_reply_init(&c->call.reply);
        c->next_free = l->free_calls;
        l->free_calls = c;
    }
    return true;
}

struct line_call *redis_line_take(struct redis_line *l)
{
    if (!l->free_calls && !add_chunk(l))
        return NULL;
    struct line_call *c = l->free_calls;
    l->free_calls = c->next_free;
    return c;
}

static void clear_call(struct line_call *c)
{
    resp_reply_clear(&c->call.reply);
    free(c->copy);
    c->copy = NULL;
    if (c->error) {
        error_clear(c->error);
        free(c->error);
        c->error = NULL;
    }
    c->failed = false;
}

void redis_line_give(struct line_call *c)
{
    /* The usual call has nothing to free. */
    if (c->call.reply.data || c->copy || c->failed)
        clear_call(c);
    c->call.reply.len = 0;
    c->wait = NULL;
    c->next_free = c->line->free_calls;
    c->line->free_calls = c;
}

void redis_line_free_calls(struct redis_line *l)
{
    while (l->chunks) {
        struct line_chunk *chunk = l->chunks;
        l->chunks = chunk->next;
        for (int i = 0; i < CALLS_PER_CHUNK; i++)
            clear_call(&chunk->calls[i]);
        free(chunk);
    }
}

/* ---- the ends of a call ---- */

static void finish(struct line_call *c)
{
    struct wait *w = c->wait;
    c->wait = NULL;
    c->line->live--;
    wait_wake(w);
}

/* Was a command refused because the server has become a replica? */
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
    struct line_call *c = (struct line_call *)call;
    (void)data;
    if (c->line->pool->target->sentinels && says_readonly(call))
        c->line->demoted = true; /* session_connect.c sees to it once the machine has unwound */
    if (c->wait)
        finish(c);
    else
        redis_line_give(c); /* nobody wants it any more, or ever did */
}

const struct redisconn_events redis_line_events = {on_done, NULL};

void redis_line_fail_call(struct line_call *c, const struct error *why, enum error_outcome outcome)
{
    if (!c->wait) {
        redis_line_give(c);
        return;
    }
    resp_reply_clear(&c->call.reply);
    c->failed = true;
    c->error = calloc(1, sizeof *c->error);
    if (c->error) {
        error_copy(c->error, why);
        c->error->outcome = outcome;
        c->error->retryable = why->retryable || outcome == OUTCOME_NOT_SENT;
    }
    finish(c);
}

void redis_line_fail_backlog(struct redis_line *l, const struct error *why)
{
    struct redis_call *call;
    while ((call = redis_queue_pop(&l->backlog)))
        redis_line_fail_call((struct line_call *)call, why, OUTCOME_NOT_SENT);
}
