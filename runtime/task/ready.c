/* The queue of tasks to resume, and the work deferred until all of them have run. */
#include "task/impl.h"

void sched_make_ready(struct sched *s, struct task *t)
{
    t->state = TASK_READY;
    t->ready_next = NULL;
    if (s->ready_tail)
        s->ready_tail->ready_next = t;
    else
        s->ready_head = t;
    s->ready_tail = t;
}

static bool take_out(struct task **at, struct task *t)
{
    while (*at && *at != t)
        at = &(*at)->ready_next;
    if (!*at)
        return false;
    *at = t->ready_next;
    return true;
}

void sched_forget_ready(struct sched *s, struct task *t)
{
    if (take_out(&s->turn, t) || !take_out(&s->ready_head, t))
        return;
    s->ready_tail = s->ready_head;
    while (s->ready_tail && s->ready_tail->ready_next)
        s->ready_tail = s->ready_tail->ready_next;
}

void sched_defer(struct sched *s, struct deferred *d)
{
    if (d->queued)
        return;
    d->queued = true;
    d->next = s->deferred;
    s->deferred = d;
}

void sched_undefer(struct sched *s, struct deferred *d)
{
    if (!d->queued)
        return;
    struct deferred **at = &s->deferred;
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    d->queued = false;
}
