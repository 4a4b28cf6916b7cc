/*
 * The scheduler's timers: one binary heap of deadlines behind one uv_timer_t.
 *
 * Each heap entry stores its key, so that comparing two entries touches no timer. The key is the time at
 * which timers_run looks at the timer: its deadline or earlier. A timer that restarts with a later deadline,
 * or rests, leaves its entry in place, and timers_run corrects the entry when its key is due. So a task that
 * waits again and again with a limit moves nothing in the heap.
 */
#include "base/deadline.h"
#include "task/impl.h"

#include <limits.h>
#include <stdlib.h>

static void heap_put(struct timer_heap *h, uint32_t at, struct timer_entry e)
{
    h->list[at] = e;
    e.timer->index = at;
}

static void sift_up(struct timer_heap *h, uint32_t at, struct timer_entry e)
{
    while (at > 1 && h->list[at / 2].key > e.key) {
        heap_put(h, at, h->list[at / 2]);
        at /= 2;
    }
    heap_put(h, at, e);
}

static void sift_down(struct timer_heap *h, uint32_t at, struct timer_entry e)
{
    for (;;) {
        uint32_t child = at * 2;
        if (child > h->n)
            break;
        if (child < h->n && h->list[child + 1].key < h->list[child].key)
            child++;
        if (h->list[child].key >= e.key)
            break;
        heap_put(h, at, h->list[child]);
        at = child;
    }
    heap_put(h, at, e);
}

/* Makes room for one more. Starting a timer cannot fail, so without memory the program ends with a
 * message. */
static void heap_grow(struct timer_heap *h)
{
    if (h->n + 1 < h->cap)
        return;
    uint32_t cap = h->cap ? h->cap * 2 : 64;
    struct timer_entry *list = realloc(h->list, cap * sizeof *list);
    if (!list)
        abort();
    h->list = list;
    h->cap = cap;
}

static void heap_remove(struct timer_heap *h, struct sched_timer *t)
{
    uint32_t at = t->index;
    t->index = 0;
    struct timer_entry last = h->list[h->n--];
    if (last.timer == t)
        return;
    if (at > 1 && h->list[at / 2].key > last.key)
        sift_up(h, at, last);
    else
        sift_down(h, at, last);
}

void sched_timer_start(struct sched *s, struct sched_timer *t, uint64_t deadline)
{
    struct timer_heap *h = &s->timers;
    t->deadline = deadline;
    if (deadline == DEADLINE_NEVER) {
        sched_timer_stop(s, t);
        return;
    }
    h->running += !t->running;
    t->running = true;
    if (!t->index) {
        heap_grow(h);
        h->n++;
        sift_up(h, h->n, (struct timer_entry){deadline, t});
    } else if (deadline < h->list[t->index].key) {
        sift_up(h, t->index, (struct timer_entry){deadline, t});
    }
}

void sched_timer_rest(struct sched *s, struct sched_timer *t)
{
    s->timers.running -= t->running;
    t->running = false;
}

void sched_timer_stop(struct sched *s, struct sched_timer *t)
{
    sched_timer_rest(s, t);
    if (t->index)
        heap_remove(&s->timers, t);
}

void timers_run(struct sched *s)
{
    struct timer_heap *h = &s->timers;
    if (h->n == 0)
        return;
    uint64_t now = mono_now();
    while (h->n && h->list[1].key <= now) {
        struct sched_timer *t = h->list[1].timer;
        if (t->running && t->deadline > now) {
            sift_down(h, 1, (struct timer_entry){t->deadline, t});
            continue;
        }
        bool due = t->running;
        sched_timer_stop(s, t);
        if (due)
            t->fn(t);
    }
}

static void on_timer(uv_timer_t *handle)
{
    struct sched *s = handle->data;
    s->uv_timer_at = DEADLINE_NEVER;
    timers_run(s);
    /* uv_run(ONCE) polls after it has run the timers, and without a timer the poll may block for long: stop
     * it, so that the tasks just woken run first. */
    uv_stop(&s->loop);
}

/* Sets the loop's timer only for an earlier deadline: waking too early is harmless, and cheaper than
 * setting it for every statement. */
void timers_arm(struct sched *s)
{
    if (s->timers.running == 0) {
        if (s->uv_timer_at != DEADLINE_NEVER) {
            uv_timer_stop(&s->uv_timer);
            s->uv_timer_at = DEADLINE_NEVER;
        }
        return;
    }
    uint64_t first = s->timers.list[1].key;
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
    for (uint32_t i = 1; i <= s->timers.n; i++)
        s->timers.list[i].timer->index = 0; /* sched_timer_stop may still be called */
    free(s->timers.list);
    s->timers = (struct timer_heap){0};
}
