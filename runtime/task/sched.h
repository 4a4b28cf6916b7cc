/*
 * The scheduler: tasks (coroutines) that park and are woken. One scheduler per Lua universe.
 *
 * Who owns what: the scheduler owns its loop, its tasks' C side and the timers. A task's userdata is
 * anchored in the registry while the task lives. A resource (a pool, a connection, a child process)
 * only ever holds a `struct wait *`, and only between wait_begin and the wait's end.
 *
 * How to park a task (runtime/README.md follows a statement through these steps):
 *   1. task_check_park(L) first: it raises where the caller cannot yield.
 *   2. w = wait_begin(sched, deadline, abandon, data); hand `w` to the resource.
 *   3. return wait_park(L, w, ctx, k).
 *   4. The resource calls wait_wake(w): from anywhere, a uv callback included. It runs no Lua; it marks the
 *      task runnable. From then on the resource must not use `w`.
 *   5. When the deadline passes or the task is cancelled first, the scheduler calls abandon(w): the resource
 *      forgets `w` at once (and can continue its cleanup by itself).
 *   6. k runs inside the resumed task. It calls wait_end(sched), which returns how the wait ended, and for
 *      WAIT_CANCELLED frees what it holds and returns task_raise_cancelled(L).
 * A wait settles exactly once: a wake that came before the cancel wins, and the cancel is then
 * delivered at the next suspension point.
 */
#ifndef DBRUN_TASK_SCHED_H
#define DBRUN_TASK_SCHED_H

#include "base/error.h"
#include "trace/trace.h"

#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct sched;
struct task;

enum wait_status { WAIT_NONE, WAIT_PENDING, WAIT_DONE, WAIT_TIMEOUT, WAIT_CANCELLED };

/* A timer: fn runs on the loop and must not run Lua. Each wait has one; resources have their own (for the
 * grace of a drain, a retry). */
struct sched_timer {
    void (*fn)(struct sched_timer *t);
    void *data;
    uint64_t deadline;
    uint32_t index; /* of its entry (timers.c); 0: none. Must be 0 when the timer's memory is freed */
    bool running;
};

struct wait {
    struct task *task;
    void (*abandon)(struct wait *w);
    void *data;        /* for the resource */
    struct wait *next; /* for a FIFO the resource keeps (wait_queue) */
    struct wait *prev;
    struct sched_timer timer;      /* its deadline; it does not run for DEADLINE_NEVER */
    struct trace_span span;        /* with a trace: set by the code that records the wait */
    const struct trace_text *told; /* what the end of the wait records (task/traced.h); NULL: nothing */
    enum wait_status status;
};

/* ---- life of a scheduler ---- */

/* Makes the scheduler and its loop, anchored in the registry of L; raises "not enough memory". */
struct sched *sched_new(lua_State *L);
uv_loop_t *sched_loop(struct sched *s);
/* The main thread of the Lua state. */
lua_State *sched_main(const struct sched *s);
/* The Lua state that runs now, on which a hook must be set to stop it; changes at each resume. Safe to read
 * in a signal handler. */
lua_State *sched_running(const struct sched *s);
/* Calls `fn` with both Lua states when one resumes the other, which then runs. NULL: no more. */
void sched_on_resume(struct sched *s, void (*fn)(lua_State *L));
/* Closes the remaining handles and timers and runs the loop until it is empty. The scheduler's __gc also
 * calls this. */
void sched_close(struct sched *s);

/* Runs the function and `nargs` arguments on top of L's stack as the root task, and the loop until the root
 * group has ended. The function is the first of the task's coroutine. It must call scripts by lua_pcallk,
 * because a coroutine that ends by an error does not close its variables. Returns a lua status (LUA_OK,
 * LUA_ERRRUN, ...); the results, or the error value (its traceback already attached), are on L's stack in
 * their place. */
int sched_run(lua_State *L, struct sched *s, int nargs);
/* Ends the program from inside a task or a finaliser, also where nothing can yield. The running task and the
 * root task stop where they are, for good; the other tasks are cancelled and awaited; then the variables of
 * the first two are closed from outside, without an error. No pcall catches this. After 1 s the others are
 * cancelled again at each of their waits; those that have not ended after 2 s are left behind, and `left`
 * gets a line that names one of them. Returns as sched_run does, with an error of the others on the main
 * thread. Afterwards the process must end, because the caller's frames are gone. */
int sched_end(struct sched *s, const char *reason, void (*left)(void *data, const char *text), void *data);
/* For a hook: true when the time of sched_end is over and one of its tasks still runs. */
bool sched_end_is_late(const struct sched *s);
/* Leaves all tasks behind, the running one included, and does the rest of sched_end. */
int sched_end_late(struct sched *s);
/* Pushes the message handler for such a lua_pcallk: it keeps the traceback, which sched_run attaches. */
void sched_push_handler(lua_State *L, struct sched *s);
/* What that handler does, for handlers that do more. Stack: only the error. */
int sched_note_error(lua_State *L, struct sched *s);
/* Pushes the traceback that the current task keeps; false unless it belongs to the error at this index. */
bool sched_push_traceback(lua_State *L, struct sched *s, int index);
/* Cancels all tasks, those of inner groups included, with an error of kind `cancelled` that says `reason`
 * (static text); code inside a shield goes on. Can be called from a uv callback or a Lua hook. */
void sched_interrupt(struct sched *s, const char *reason);
bool sched_interrupted(const struct sched *s);
/* A stretch: a part of the current task that can be cancelled alone (a statement at the prompt).
 * stretch_enter pushes its userdata; stretch_cancel can be called from a uv callback, and works again after
 * the stretch has caught a cancellation (a second Ctrl-C). */
struct scope_box;
struct scope_box *stretch_enter(lua_State *L, struct sched *s);
void stretch_leave(struct scope_box *b);
void stretch_cancel(struct scope_box *b);
/* True when the cancellation has been delivered to it. */
bool stretch_was_cancelled(const struct scope_box *b);
/* Raises the interruption at once, for a hook that stops Lua code that never yields. */
int sched_raise_interrupted(lua_State *L, struct sched *s);
/* As above, in the running task, unless it or its group is inside a shield. */
void task_interrupt(lua_State *L, struct sched *s);

/* For the prompt: when a task of the root group fails, calls `fn(L, data)` with the error (its traceback
 * attached) on top of L, and the program goes on. With fn NULL, and when the root task itself fails, the
 * program ends. */
void sched_on_failure(struct sched *s, void (*fn)(lua_State *L, void *data), void *data);

/* Counts background work that no task waits for (a cancel request, the rollback of a returned connection): +1
 * when it begins, -1 when it ends. The end of the program waits for it at most 1.5 s. */
void sched_background(struct sched *s, int change);

/* Records the program's waits in this trace; NULL: in none. */
void sched_set_trace(struct sched *s, struct trace *trace);
/* How errors become Lua values; set by the binding, which knows the error object. */
void sched_set_errors(struct sched *s, void (*push)(lua_State *L, void *data, const struct error *e),
                      void *data);

struct deferred {
    struct deferred *next;
    void (*fn)(void *data);
    void *data;
    bool queued;
};
/* Calls `fn(data)` once, before the loop polls next, for example to write at once what several tasks issued
 * in one turn. `d` must live until then or sched_undefer. */
void sched_defer(struct sched *s, struct deferred *d);
void sched_undefer(struct sched *s, struct deferred *d);

/* Also gives a running timer another deadline. DEADLINE_NEVER stops the timer. */
void sched_timer_start(struct sched *s, struct sched_timer *t, uint64_t deadline);
void sched_timer_stop(struct sched *s, struct sched_timer *t);
/* As sched_timer_stop, but keeps the entry: cheaper for a timer that soon starts again. Call sched_timer_stop
 * before its memory is freed. */
void sched_timer_rest(struct sched *s, struct sched_timer *t);

/* ---- waiting ---- */

/* Raises an error that names the sync engine when the caller cannot yield (sort comparators, gsub
 * callbacks, __tostring, require loaders, __gc), and delivers a cancellation that is due. */
void task_check_park(lua_State *L, struct sched *s);
/* Raises a cancellation of the current task that has not been delivered yet: for a hook, because the task may
 * never wait. */
void task_deliver(lua_State *L, struct sched *s);
/* True when the running code can park. */
bool task_can_park(lua_State *L, const struct sched *s);
/* The current task's wait, made ready. Each task has exactly one: it does one thing at a time. */
struct wait *wait_begin(struct sched *s, uint64_t deadline, void (*abandon)(struct wait *w), void *data);
/* Suspends the task until the wait ends, then continues in k(L, LUA_YIELD, ctx). A wait that has
 * already been woken continues at once. In the main thread of a stock lua5.4 it runs the loop. */
int wait_park(lua_State *L, struct wait *w, lua_KContext ctx, lua_KFunction k);
/* Replaces the deadline of a wait. NULL is harmless. */
void wait_set_deadline(struct wait *w, uint64_t deadline);
/* Idempotent; NULL is harmless. */
void wait_wake(struct wait *w);
/* How the current task's wait ended: WAIT_DONE, WAIT_TIMEOUT or WAIT_CANCELLED. For its continuation. */
enum wait_status wait_end(struct sched *s);
/* Raises the error of the cancellation that ended the current task's last wait. */
int task_raise_cancelled(lua_State *L, struct sched *s);
/* As above, with the outcome of the work that the task waited for. */
int task_raise_cancelled_with(lua_State *L, struct sched *s, enum error_outcome outcome);
/* Sets `e` to that error, for a caller that adds to it. */
void task_cancelled_error(struct sched *s, struct error *e);

/* FIFO of waits, for resources that keep several. */
struct wait_queue {
    struct wait *head;
    struct wait *tail;
};
void wait_queue_push(struct wait_queue *q, struct wait *w);
void wait_queue_remove(struct wait_queue *q, struct wait *w);
struct wait *wait_queue_pop(struct wait_queue *q);
/* Removes all waits from the queue and wakes them. */
void wait_queue_wake(struct wait_queue *q);

/* ---- about the current task ---- */

/* NULL outside tasks (main thread of a stock lua5.4). */
struct task *task_current(struct sched *s);
/* The script line where a parked task waits, "file:line"; false when there is none. */
bool task_where(const struct task *t, char *out, size_t size);
/* The small number of a task, for logs and traces: 1 for the root task, 0 outside tasks. */
uint32_t task_id(const struct task *t);
/* Identifies the current task as the owner of a pool slot; NULL outside tasks. Not the task's address but its
 * number, because a slot can outlive its task, and another task can get the same address. */
const void *task_owner(struct sched *s);
/* One userdata per task, kept between statements: the memory of the statement in flight. Its address does not
 * change. task_set_scratch takes the userdata of block `p` from the top of the stack. */
void *task_scratch(struct sched *s);
void task_push_scratch(lua_State *L, struct sched *s);
void task_set_scratch(lua_State *L, struct sched *s, void *p);

/* ---- library ---- */

/* Pushes the C part of dbrun.task and replaces coroutine.wrap/resume/... with versions through which a task
 * can park. Each function has the scheduler as its upvalue. */
int task_open(lua_State *L, struct sched *s);

#endif
