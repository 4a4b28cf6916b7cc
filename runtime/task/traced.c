#include "task/traced.h"

#include "base/deadline.h"
#include "task/impl.h"
#include "task/where.h"

void sched_set_trace(struct sched *s, struct trace *trace)
{
    s->trace = trace;
}

struct trace_span task_span(struct sched *s, uint64_t start)
{
    struct task *t = s->current;
    if (t->lane == 0)
        t->lane = trace_lane_take(s->trace);
    return trace_begin(s->trace, t->lane, start);
}

void wait_told(lua_State *L, struct sched *s, struct wait *w, enum trace_cat cat, const char *name)
{
    struct script_place place = {.line = 0};
    if (!s->trace)
        return;
    script_place(L, 1, &place);
    struct trace_key key = {.cat = cat, .name = name, .file = place.file, .line = place.line};
    w->told = trace_keep(s->trace, &key);
    w->span = task_span(s, mono_now());
}

void traced_wait_ended(struct sched *s, struct wait *w)
{
    struct trace_event event = {.cat = w->told->cat,
                                .text = w->told,
                                .task = w->task->id,
                                .until = trace_resumed(s->trace, &w->span)};
    w->told = NULL;
    trace_end(s->trace, &w->span, &event);
}

void traced_task_ended(struct sched *s, struct task *t)
{
    trace_lane_give(s->trace, t->lane);
    t->lane = 0;
}
