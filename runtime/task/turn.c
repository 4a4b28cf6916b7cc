/* Turns of the loop: the ready tasks, the deferred work, the events. */
#include "task/impl.h"

enum { ROUNDS_BEFORE_POLL = 16 };

static void run_deferred(struct sched *s)
{
    while (s->deferred) {
        struct deferred *d = s->deferred;
        s->deferred = d->next;
        d->queued = false;
        d->fn(d->data);
    }
}

static void run_turn(struct sched *s)
{
    if (s->trace && s->turn)
        trace_runs(s->trace);
    while (s->turn) {
        struct task *t = s->turn;
        s->turn = t->ready_next;
        task_resume(s, t);
    }
    if (s->trace)
        trace_waits(s->trace);
}

void sched_run_ready(struct sched *s)
{
    run_turn(s); /* a task called sched_end and left this turn unfinished */
    for (int round = 0; s->ready_head && round < ROUNDS_BEFORE_POLL; round++) {
        s->turn = s->ready_head;
        s->ready_head = s->ready_tail = NULL;
        run_turn(s);
    }
}

void sched_poll(struct sched *s)
{
    run_deferred(s);
    timers_arm(s);
    if (!s->ready_head)
        s->deadlocks = 0;
    /* A task of this turn may have ended the wait of a stock lua5.4's main thread. */
    bool settled = s->main_task.wait.status > WAIT_PENDING;
    uv_run(&s->loop, s->ready_head || settled ? UV_RUN_NOWAIT : UV_RUN_ONCE);
}

bool sched_is_stuck(struct sched *s)
{
    return !s->ready_head && !s->deferred && s->timers.running == s->own_timers && s->background == 0 &&
           !uv_loop_alive(&s->loop);
}
