/* The scheduler's timers: one binary heap of deadlines behind one uv_timer_t. */
#include "base/deadline.h"
#include "task/impl.h"

#include <limits.h>
#include <stdlib.h>

static void heap_put(struct timer_heap *h, uint32_t at, struct sched_timer *t)
{
    h->list[at] = t;
    t->index = at;
}

static void sift_up(struct timer_heap *h, uint32_t at, struct sched_timer *t)
{
    while (at > 1 && h->list[at / 2]->deadline > t->deadline) {
        heap_put(h, at, h->list[at / 2]);
        at /= 2;
    }
    heap_put(h, at, t);
}

static void sift_down(struct timer_heap *h, uint32_t at, struct sched_timer *t)
{
    for (;;) {
        uint32_t child = at * 2;
        if (child > h->n)
            break;
        if (child < h->n && h->list[child + 1]->deadline < h->list[child]->deadline)
            child++;
        if (h->list[child]->deadline >= t->deadline)
            break;
        heap_put(h, at, h->list[child]);
        at = child;
    }
    heap_put(h, at, t);
}

/* Makes room for one more. Starting a timer cannot fail, so without memory the program ends with a
 * message. */
static void heap_grow(struct timer_heap *h)
{
    if (h->n + 1 < h->cap)
        return;
    uint32_t cap = h->cap ? h->cap * 2 : 64;
    struct sched_timer **list = realloc(h->list, cap * sizeof *list);
    if (!list)
        abort();
    h->list = list;
    h->cap = cap;
}

void sched_timer_start(struct sched *s, struct sched_timer *t, uint64_t deadline)
{
    sched_timer_stop(s, t);
    t->deadline = deadline;
    if (deadline == DEADLINE_NEVER)
        return;
    struct timer_heap *h = &s->timers;
    heap_grow(h);
    h->n++;
    sift_up(h, h->n, t);
}

void sched_timer_stop(struct sched *s, struct sched_timer *t)
{
    if (!t->index)
        return;
    struct timer_heap *h = &s->timers;
    uint32_t at = t->index;
    t->index = 0;
    struct sched_timer *last = h->list[h->n--];
    if (last == t)
        return;
    if (at > 1 && h->list[at / 2]->deadline > last->deadline)
        sift_up(h, at, last);
    else
        sift_down(h, at, last);
}

void timers_run(struct sched *s)
{
    if (s->timers.n == 0)
        return;
    uint64_t now = mono_now();
    while (s->timers.n && s->timers.list[1]->deadline <= now) {
        struct sched_timer *t = s->timers.list[1];
        sched_timer_stop(s, t);
        t->fn(t);
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct sched *s = handle->data;
    s->uv_timer_at = DEADLINE_NEVER;
    timers_run(s);
    /* uv_run(ONCE) polls after it has run the timers, and without a timer that may take long: stop it, so
     * that the tasks woken just now run first. */
    uv_stop(&s->loop);
}

/* Sets the loop's timer only for an earlier deadline: waking too early is harmless, and cheaper than
 * setting it for every statement. */
void timers_arm(struct sched *s)
{
    if (s->timers.n == 0) {
        if (s->uv_timer_at != DEADLINE_NEVER) {
            uv_timer_stop(&s->uv_timer);
            s->uv_timer_at = DEADLINE_NEVER;
        }
        return;
    }
    uint64_t first = s->timers.list[1]->deadline;
    if (first >= s->uv_timer_at)
        return;
    uv_update_time(&s->loop);
    uv_timer_start(&s->uv_timer, on_timer, (uint64_t)deadline_poll_ms(first), 0);
    s->uv_timer_at = first;
}

bool timers_init(struct sched *s)
{
    s->uv_timer_at = DEADLINE_NEVER;
    s->uv_timer.data = s;
    return uv_timer_init(&s->loop, &s->uv_timer) == 0;
}

void timers_free(struct sched *s)
{
    free(s->timers.list);
    s->timers = (struct timer_heap){0};
}
