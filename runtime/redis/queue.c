#include "redis/queue.h"

#include <string.h>

/* Frees a buffer that has held something large, keeps one of usual size. */
enum { KEEP_CAPACITY = 256 * 1024, COMPACT_AT = 64 * 1024 };

static void forget_bytes(struct redis_queue *q)
{
    q->written = 0;
    q->taken = 0;
    q->start = 0;
    if (q->out.cap > KEEP_CAPACITY)
        buf_free(&q->out);
    else
        buf_clear(&q->out);
}

static void append(struct redis_queue *q, struct redis_call *c)
{
    if (q->tail)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
}

void redis_queue_push(struct redis_queue *q, struct redis_call *c, size_t from, uint32_t expect)
{
    c->next = NULL;
    c->size = q->out.len - from;
    c->expect = expect;
    c->state = REDIS_CALL_UNSENT;
    c->dropped = false;
    append(q, c);
}

/* True when a command's first byte was sent: the rest must then follow, or the stream is garbage. */
static bool is_leaving(const struct redis_queue *q, size_t at)
{
    return at < q->written + q->taken;
}

static bool has_left(const struct redis_queue *q, const struct redis_call *c)
{
    size_t at = q->start;
    for (const struct redis_call *i = q->head; i && is_leaving(q, at); i = i->next) {
        if (i == c)
            return true;
        at += i->size;
    }
    return false;
}

bool redis_queue_drop(struct redis_queue *q, struct redis_call *c)
{
    c->dropped = true;
    if (c->state != REDIS_CALL_UNSENT || has_left(q, c))
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
        if (c->dropped && !is_leaving(q, at)) {
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

/* Removes the calls that the server can run when it has the bytes up to `end`. */
static void sent_until(struct redis_queue *q, size_t end, redis_call_fn *sent, void *data)
{
    while (q->head) {
        struct redis_call *c = q->head;
        /* The server answers the first command of a call with several before it has the last. */
        bool out = c->expect > 1 ? q->start < end : q->start + c->size <= end;
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
}

void redis_queue_wrote(struct redis_queue *q, size_t n, redis_call_fn *sent, void *data)
{
    q->written += n;
    q->taken = 0;
    sent_until(q, q->written, sent, data);
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

void redis_queue_settle(struct redis_queue *q, redis_call_fn *sent, void *data)
{
    if (q->taken)
        sent_until(q, q->written + q->taken, sent, data);
}

/* Calls that were partly sent when they were dropped are not counted yet. On a new connection no part of them
 * is sent, so they can be removed. */
static void count_dropped(struct redis_queue *q)
{
    size_t at = q->start;
    for (const struct redis_call *c = q->head; c && is_leaving(q, at); c = c->next) {
        if (c->dropped) {
            q->dropped++;
            q->dropped_size += c->size;
        }
        at += c->size;
    }
}

bool redis_queue_move(struct redis_queue *to, struct redis_queue *from)
{
    if (!from->head)
        return true;
    size_t end = from->written + from->taken;
    bool cut = is_leaving(from, from->start);
    if (!buf_add(&to->out, from->out.data + from->start, from->out.len - from->start)) {
        to->out.oom = false;
        return false;
    }
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    count_dropped(from);
    to->dropped += from->dropped;
    to->dropped_size += from->dropped_size;
    from->head = NULL;
    from->tail = NULL;
    from->dropped = 0;
    from->dropped_size = 0;
    from->cut = from->cut || cut;
    if (from->start > from->written) /* the rest of a call that counts as sent has still to be sent */
        from->out.len = from->start > end ? from->start : end;
    else
        forget_bytes(from);
    return true;
}

bool redis_queue_move_rest(struct redis_queue *to, struct redis_queue *from)
{
    size_t at = from->start;
    size_t kept = from->start; /* the position for the bytes of the next call that stays */
    struct redis_call **link = &from->head;
    if (!buf_reserve(&to->out, from->out.len - from->start)) {
        to->out.oom = false;
        return false;
    }
    from->tail = NULL;
    while (*link) {
        struct redis_call *c = *link;
        char *bytes = from->out.data + at;
        if (is_leaving(from, at) || c->background) {
            if (kept != at)
                memmove(from->out.data + kept, bytes, c->size);
            kept += c->size;
            from->tail = c;
            link = &c->next;
        } else {
            *link = c->next;
            c->next = NULL;
            buf_add(&to->out, bytes, c->size);
            append(to, c);
        }
        at += c->size;
    }
    from->out.len = kept;
    if (redis_queue_pending(from) == 0)
        forget_bytes(from);
    /* A call that was partly sent when it was dropped is not counted. */
    to->dropped += from->dropped;
    to->dropped_size += from->dropped_size;
    from->dropped = 0;
    from->dropped_size = 0;
    return true;
}

bool redis_queue_has(const struct redis_queue *q, const struct redis_call *c)
{
    const struct redis_call *at = q->head;
    while (at && at != c)
        at = at->next;
    return at;
}

struct redis_call *redis_queue_pop(struct redis_queue *q)
{
    struct redis_call *c = q->head;
    if (!c)
        return NULL;
    /* Bytes in a TLS record are sent before all others. */
    q->cut = q->cut || q->taken > 0 || q->written != q->start;
    q->head = c->next;
    q->start += c->size;
    if (q->written < q->start) {
        size_t skipped = q->start - q->written;
        q->taken = q->taken > skipped ? q->taken - skipped : 0;
        q->written = q->start;
    }
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
