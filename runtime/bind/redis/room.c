/* The limit on the bytes that a session queues. A command that finds no room waits, before its bytes are
 * written anywhere, until the server has taken enough of the queue. */
#include "bind/redis/session.h"

enum { ALWAYS_ROOM = 64 * 1024 }; /* with fewer bytes queued, any command fits, however large */

static size_t queued(struct redis_session *s)
{
    const struct redis_queue *q = redis_session_queue(s);
    return redis_queue_pending(q) - q->dropped_size + s->promised;
}

static bool fits(struct redis_session *s, size_t size)
{
    size_t n = queued(s);
    size_t most = s->pool->max_queued;
    return n < ALWAYS_ROOM || (n < most && size <= most - n);
}

bool redis_session_has_room(struct redis_session *s, size_t size)
{
    return !s->room.head && s->promised == 0 && fits(s, size);
}

void redis_session_admit(struct redis_session *s)
{
    while (s->room.head) {
        struct session_call *c = s->room.head->data;
        if (!fits(s, c->call.size))
            break;
        struct wait *w = wait_queue_pop(&s->room);
        c->wait = NULL;
        s->live--;
        s->promised += c->call.size;
        wait_wake(w);
    }
    s->crowded = s->room.head || s->promised > 0 || queued(s) >= ALWAYS_ROOM;
    redis_session_judge(s);
}

void redis_session_settled_in(struct session_call *c)
{
    struct redis_session *s = c->session;
    s->promised -= c->call.size;
    redis_session_give(c);
}

void redis_session_wait_for_room(struct session_call *c, struct wait *w, size_t size)
{
    struct redis_session *s = c->session;
    c->call.size = size;
    c->wait = w;
    s->live++;
    wait_queue_push(&s->room, w);
    s->crowded = true;
    redis_session_judge(s);
}

void redis_session_leave_room(struct wait *w)
{
    struct session_call *c = w->data;
    struct redis_session *s = c->session;
    wait_queue_remove(&s->room, w);
    c->wait = NULL;
    s->live--;
    redis_session_give(c);
    redis_session_admit(s); /* the next command may be smaller */
}
