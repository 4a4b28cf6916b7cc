/*
 * Waits of tasks in the trace (--trace). The scheduler has a trace, or NULL; a task has a lane of it from its
 * first event to its end.
 */
#ifndef DBRUN_TASK_TRACED_H
#define DBRUN_TASK_TRACED_H

#include "task/sched.h"

/* Begins a span at `start` in the lane of the current task. There must be a trace. */
struct trace_span task_span(struct sched *s, uint64_t start);
/* Names the wait that has just begun for its event in the trace. Does nothing without a trace. */
void wait_told(lua_State *L, struct sched *s, struct wait *w, enum trace_cat cat, const char *name);

#endif
