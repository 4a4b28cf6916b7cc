#include "redis/queue.h"

#include <string.h>

/* Frees a buffer that has held something large, keeps one of usual size. */
enum { KEEP_CAPACITY = 256 * 1024, COMPACT_AT = 64 * 1024 };

static void forget_bytes(struct redis_queue *q)
{
    q->written = 0;
    q->start = 0;
    if (q->out.cap > KEEP_CAPACITY)
        buf_free(&q->out);
    else
        buf_clear(&q->out);
}

void redis_queue_push(struct redis_queue *q, struct redis_call *c, size_t from, uint32_t expect)
{
    c->next = NULL;
    c->size = q->out.len - from;
    c->expect = expect;
    c->state = REDIS_CALL_UNSENT;
    c->dropped = false;
    if (q->tail)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
}

bool redis_queue_drop(struct redis_queue *q, struct redis_call *c)
{
    c->dropped = true;
    if (c->state != REDIS_CALL_UNSENT)
        return false;
    /* Once the first byte of a command is sent, the rest must follow, or the stream is garbage. */
    if (c == q->head && q->written > q->start)
        return false;
    q->dropped++;
    q->dropped_size += c->size;
    return true;
}

void redis_queue_compact(struct redis_queue *q, redis_call_fn *gone, void *data)
{
    if (q->dropped == 0)
        return;
    q->dropped = 0;
    q->dropped_size = 0;
    size_t at = q->start;
    size_t to = q->start;
    struct redis_call **link = &q->head;
    q->tail = NULL;
    while (*link) {
        struct redis_call *c = *link;
        size_t size = c->size;
        if (c->dropped && at >= q->written) {
            *link = c->next;
            c->next = NULL;
            c->state = REDIS_CALL_DONE;
            gone(c, data);
        } else {
            if (to != at)
                memmove(q->out.data + to, q->out.data + at, size);
            to += size;
            q->tail = c;
            link = &c->next;
        }
        at += size;
    }
    q->out.len = to;
    if (q->out.data)
        q->out.data[to] = '\0';
    if (to == q->written)
        forget_bytes(q);
}

void redis_queue_wrote(struct redis_queue *q, size_t n, redis_call_fn *sent, void *data)
{
    q->written += n;
    while (q->head) {
        struct redis_call *c = q->head;
        /* The server answers the first of several commands in a call before it has the last. */
        bool out = c->expect > 1 ? q->start < q->written : q->start + c->size <= q->written;
        if (!out)
            break;
        q->start += c->size;
        q->head = c->next;
        if (!q->head)
            q->tail = NULL;
        c->next = NULL;
        c->state = REDIS_CALL_SENT;
        sent(c, data);
    }
    if (q->written == q->out.len) {
        forget_bytes(q);
        return;
    }
    size_t done = q->start < q->written ? q->start : q->written;
    if (done >= COMPACT_AT && done >= q->out.len / 2) {
        buf_consume(&q->out, done);
        q->written -= done;
        q->start -= done;
    }
}

bool redis_queue_move(struct redis_queue *to, struct redis_queue *from)
{
    if (!from->head)
        return true;
    if (!buf_add(&to->out, from->out.data + from->start, from->out.len - from->start)) {
        to->out.oom = false;
        return false;
    }
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    /* A first call that was partly sent and then dropped is not counted in `dropped`: on the new connection
     * none of it is sent, so it can be taken out. */
    to->dropped += from->dropped;
    to->dropped_size += from->dropped_size;
    if (from->head->dropped && from->written > from->start) {
        to->dropped++;
        to->dropped_size += from->head->size;
    }
    from->head = NULL;
    from->tail = NULL;
    from->dropped = 0;
    from->dropped_size = 0;
    if (from->start > from->written)
        from->out.len = from->start; /* the rest of a call that counts as sent is still to be sent */
    else
        forget_bytes(from);
    return true;
}

struct redis_call *redis_queue_pop(struct redis_queue *q)
{
    struct redis_call *c = q->head;
    if (!c)
        return NULL;
    q->head = c->next;
    q->start += c->size;
    if (q->written < q->start)
        q->written = q->start;
    c->next = NULL;
    c->state = REDIS_CALL_DONE;
    if (!q->head) {
        q->tail = NULL;
        q->dropped = 0;
        q->dropped_size = 0;
        forget_bytes(q);
    }
    return c;
}

void redis_queue_free(struct redis_queue *q)
{
    buf_free(&q->out);
    *q = (struct redis_queue){0};
}
