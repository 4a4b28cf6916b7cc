/*
 * The structs of task, scope, group and scheduler; only for the files of this folder.
 *
 *   task states:   READY --resume--> RUNNING --park--> PARKED --wake/abandon--> READY
 *                                       \--body returned or raised--> DONE
 *
 * A scope is a part of a task's run that can be cancelled as a whole: the task itself (t:cancel), a group's
 * block (a child failed), a timeout. Scopes of a task form a stack, the innermost first. The cancellation of
 * a scope is delivered once, at the suspension point where the task is or at its next one; a shield inside
 * the scope delays it. While a coroutine that the script made is suspended, the scopes that it entered are
 * set aside: a time limit inside a generator does not apply to code that runs between two of the generator's
 * values.
 */
#ifndef DBRUN_TASK_IMPL_H
#define DBRUN_TASK_IMPL_H

#include "task/sched.h"

#include <stddef.h>

#define TASK_CLASS  "dbrun.task"
#define GROUP_CLASS "dbrun.group"

#define STUCK_REASON                                                                                         \
    "deadlock: every task waits, and no socket, timer or child process is left that could wake one"

enum scope_kind { SCOPE_TASK, SCOPE_GROUP, SCOPE_TIMEOUT, SCOPE_SHIELD };

struct scope {
    struct scope *outer;
    struct sched *sched;
    struct task *task; /* set aside: the task that entered it; NULL once it was left or that task ended */
    lua_State *co;     /* the coroutine that entered it */
    /* Called when the scope moves to the stack of task t; can be NULL. */
    void (*moved)(struct scope *sc, struct task *t);
    const char *reason; /* SCOPE_TIMEOUT: whose limit it is */
    double seconds;     /* SCOPE_TIMEOUT */
    enum scope_kind kind;
    bool aside; /* on the scheduler's list `aside` and not on a task's stack */
    bool fired;
    bool delivered;
};

enum task_state { TASK_READY, TASK_RUNNING, TASK_PARKED, TASK_DONE };

struct task {
    struct sched *sched;
    struct group *group;
    struct task *next; /* in its group */
    struct task *prev;
    struct task *ready_next;
    lua_State *co;
    lua_KFunction k; /* continuation of a parked task */
    lua_KContext kctx;
    struct wait wait;
    struct scope own;
    struct scope *scope;       /* innermost */
    struct wait_queue joiners; /* waits of tasks in t:join() */
    void *scratch;
    const char *cancel_reason; /* of the last cancellation delivered */
    double cancel_seconds;
    int ref;   /* registry reference to the userdata while it lives */
    int nargs; /* arguments on co's stack before the first resume; results after the end */
    uint32_t id;
    uint32_t lane; /* its row of the trace; 0: none yet */
    enum scope_kind cancel_kind;
    enum task_state state;
    bool ok;       /* DONE: returned rather than raised */
    bool quiet;    /* DONE: its own cancellation ended it */
    bool daemon;   /* does not keep its group alive */
    bool received; /* the failure that it keeps is of another task */
};

/* User values of a task's userdata. */
enum { TASK_UV_THREAD = 1, TASK_UV_GROUP, TASK_UV_SCRATCH, TASK_UV_FAILURE, TASK_UVS = TASK_UV_FAILURE };

struct group {
    struct sched *sched;
    struct task *owner;    /* the task whose scope stack holds `scope`, or the last task that closes it; NULL
                              once that task ended */
    struct group *parent;  /* the group that counts this group when it was never closed */
    struct group *orphans; /* groups below this one that were never closed and still run */
    struct group *next;    /* in the parent's orphans */
    struct group *cancel_next; /* in the scheduler's list of groups to cancel */
    const char *cancel_reason; /* while it is in that list */
    struct group *walk_next;   /* in a list of a walk over all tasks (tree.c) */
    struct task *tasks;
    struct scope scope;
    struct wait_queue waiters; /* waits of tasks in g:wait() or at the end of a block */
    uint32_t live;             /* tasks that keep it alive, and orphans */
    uint32_t opened_by;        /* number of the task that may call g:wait() */
    uint32_t walked;           /* number of the last walk over all tasks that visited this group (tree.c) */
    uint32_t untold;           /* tasks woken at the group's end that have not raised `told` yet */
    int error;                 /* registry reference of the first failure; LUA_NOREF = none */
    int told;                  /* the failure that the woken tasks raise; LUA_NOREF = none */
    bool cancelled;
    bool counted; /* it is in its parent's orphans and counts in the parent's `live` */
};

/* The signals that scripts can wait for; when the last handle is closed, the program's own handler is
 * restored. */
enum { SIGNALS = 9 };

struct signal_user {
    unsigned listeners;
    struct sigaction before;
};

struct timer_entry {
    uint64_t key; /* when timers_run looks at the timer */
    struct sched_timer *timer;
};

struct timer_heap {
    struct timer_entry *list; /* 1-based: list[0] is not used */
    uint32_t n;
    uint32_t running; /* how many of the n run; the others rest */
    uint32_t cap;
};

/* The step that sched_end has reached. */
enum end_step { STEP_NONE, STEP_TASKS, STEP_CLOSE, STEP_STARTED, STEP_BACKGROUND };

struct ending {
    struct task *caller; /* halted; closed when the others have ended */
    struct task *root;
    void (*left)(void *data, const char *text);
    void *data;
    struct sched_timer again; /* cancels the tasks again */
    uint64_t until;           /* tasks that have not ended by then are left behind */
    enum end_step step;
};

struct sched {
    lua_State *L; /* the main thread */
    lua_State *volatile running;
    struct task *current;  /* never NULL: main_task when no task runs */
    struct task main_task; /* represents the main thread of a stock lua5.4 */
    struct task *ready_head;
    struct task *ready_tail;
    struct task *turn; /* ready tasks that this turn still has to resume */
    struct group root;
    struct task *root_task;    /* the script, NULL once it ended */
    struct group *cancel_head; /* groups whose tasks are being cancelled */
    struct group *cancel_tail;
    struct scope *aside; /* scopes of suspended coroutines; for each coroutine the innermost first */
    struct trace *trace; /* NULL: none */
    struct deferred *deferred;
    struct timer_heap timers;
    struct ending ending;
    struct signal_user signals[SIGNALS];
    uv_loop_t loop;
    uv_timer_t uv_timer;
    uint64_t uv_timer_at;
    void (*turn_until)(struct sched *s, struct wait *w); /* the main thread's wait_park (sched.c) */
    void (*push_error)(lua_State *L, void *data, const struct error *e);
    void *push_error_data;
    void (*on_failure)(lua_State *L, void *data);
    void *on_failure_data;
    void (*on_resume)(lua_State *L);
    const char *interrupt_reason;
    int background;
    uint32_t next_id;
    uint32_t own_timers; /* timers that wake no task by themselves */
    uint32_t walks;      /* over all tasks */
    uint32_t deadlocks;  /* in a row: no event came and no task ended between them */
    uint32_t blocked;    /* number of C calls that cannot yield between the running coroutine and its task */
    bool parking;        /* the current yield parks the task */
    bool closed;
    char dead; /* its address marks the coroutines of ended tasks */
};

/* ---- timers.c ---- */
void timers_run(struct sched *s);
void timers_arm(struct sched *s);
bool timers_init(struct sched *s);
void timers_free(struct sched *s);

static inline struct group *group_of(struct scope *sc)
{
    return (struct group *)((char *)sc - offsetof(struct group, scope));
}

/* ---- ready.c ---- */
void sched_make_ready(struct sched *s, struct task *t);
/* Removes the task from the lists of tasks to resume, if it is in one. */
void sched_forget_ready(struct sched *s, struct task *t);

/* ---- turn.c ---- */
/* Resumes all ready tasks, and tasks that become ready meanwhile, up to a limit: tasks that wake each other
 * must not keep the loop from its sockets. */
void sched_run_ready(struct sched *s);
/* Runs one turn of the loop; waits for an event when no task is ready. */
void sched_poll(struct sched *s);
/* True for a deadlock: every task waits, and no socket, timer or child process could wake one. */
bool sched_is_stuck(struct sched *s);

/* ---- tree.c ---- */
/* Each function takes the tasks of the group and, recursively, of all groups that these tasks have open,
 * close or wait for. */
/* Cancels the tasks from outside; skips tasks inside a shield. */
void tree_cancel(struct group *top, const char *reason);
/* As tree_cancel, and cancels tasks again that were cancelled before. */
void tree_cancel_again(struct group *top, const char *reason);
/* Ends the wait of each task by a cancellation, also inside a shield. */
void tree_end_waits(struct group *top, const char *reason);
/* After a deadlock: calls task_tell_stuck for each task. */
void tree_tell_stuck(struct group *top);
struct tree_left {
    unsigned count;  /* tasks left behind */
    uint32_t id;     /* of one of them, preferably one with a known line */
    char where[256]; /* its line; can be empty */
};
/* Halts the tasks for good. */
void tree_leave(struct group *top, struct tree_left *left);

/* ---- end.c ---- */
/* After a deadlock: ends the waits of all tasks by an error, also inside a shield, because no event can come.
 * After many such errors in a row the tasks are left behind, and the program fails. */
void sched_break_deadlock(struct sched *s);
/* Gives background work (rollbacks, cancel requests) a moment to end. */
void sched_finish_background(struct sched *s);
/* Moves the error of the root group, with its traceback, to the top of L. False when there is none. */
bool sched_take_error(lua_State *L, struct sched *s);

/* ---- traceback.c ---- */
/* True when the error on top of L is a cancellation. */
bool traceback_is_cancelled(lua_State *L);
void failure_class(lua_State *L);
/* Makes a failure of the error with which the task has ended, on top of its coroutine: the error with its
 * traceback. It stays the plain error when there is no traceback. */
void failure_end(const struct task *t);
/* Replaces the failure on top by its error. When the current task raises the error, its traceback stays. */
void failure_receive(lua_State *L, struct sched *s);
/* The same, and attaches the traceback: to an object as the field `traceback`, to a string at its end. */
void traceback_attach(lua_State *L, struct sched *s);
/* Passes the failure of a task of the root group, on top of L, to the function given to sched_on_failure.
 * False when there is no function or the program is interrupted. */
bool sched_report_failure(lua_State *L, struct sched *s);

/* ---- traced.c ---- */
/* Records the end of a wait whose `told` is set. */
void traced_wait_ended(struct sched *s, struct wait *w);
/* Frees the task's lane. */
void traced_task_ended(struct sched *s, struct task *t);

/* ---- wait.c ---- */
/* Ends a pending wait by the cancellation noted in its task. */
void wait_cancel(struct wait *w);
void scope_enter(struct task *t, lua_State *co, struct scope *sc, enum scope_kind kind);
void scope_leave(struct scope *sc);
/* Sets the scopes of `co` aside when it yields to the script. */
void scopes_put_aside(struct sched *s, lua_State *co);
/* Restores the scopes of `co` when it is resumed; they now apply to the task that runs it. */
void scopes_bring_back(struct sched *s, lua_State *co);
/* When `co` has ended: the scopes that it did not leave (a group that was never closed) pass to the task. */
void scopes_disown(struct sched *s, lua_State *co);
/* Cancels the scope: now if the task is parked in it, else at the task's next suspension point. */
void scope_fire(struct scope *sc, const char *reason);
/* Raises when a cancellation is due. */
void scope_deliver(lua_State *L, struct task *t);
/* True when a scope inside the innermost shield has delivered a cancellation to the task. */
bool scope_was_delivered(const struct task *t);

/* ---- coroutine.c ---- */
void coroutine_patch(lua_State *L, struct sched *s);
/* Marks a coroutine, so that scripts can neither resume nor close it. */
void coroutine_mark(lua_State *co, struct sched *s);
/* Marks the coroutine of an ended task: dead for scripts, although it keeps the task's results for
 * t:join(). */
void coroutine_mark_dead(lua_State *co, struct sched *s);

/* ---- group.c ---- */
void group_init(struct group *g, struct sched *s);
void group_add(struct group *g, struct task *t);
/* Called when a task of the group has ended; if it failed, its error is on top of t->co. */
void group_task_ended(struct group *g, struct task *t, bool failed);
void group_cancel(struct group *g, const char *reason);
/* Begins a wait of the current task for the group's end. A cancellation of that task cancels the group's
 * tasks. */
struct wait *group_wait_begin(struct group *g, struct sched *s);
/* Ends the task's wait by a deadlock error, also inside a shield. This does not cancel the task: a task that
 * catches the error goes on, and it and its group, which it waits for again, can still be cancelled. */
void task_tell_stuck(struct task *t);
/* The group that the task waits for; NULL when it does not. */
struct group *group_waited_for(const struct task *t);
/* The nearest group that has an owner: `g` or one above it. */
struct group *group_heir(struct group *g);
/* The group around an open group: the innermost group that its owner has open, else the group that its owner
 * belongs to. */
struct group *group_around(struct group *g);
/* True when `in` is `g` or below it. */
bool group_is_inside(const struct group *in, const struct group *g);
/* Called before the group is freed: what it counts passes to the group above. */
void group_collected(struct group *g);
/* Called when the owner will not close the group: its tasks and its failure pass to `parent`. */
void group_orphan(struct group *g, struct group *parent);
/* Called when task t, which closes the group, is halted: another task that waits for the group becomes its
 * owner; without one the group becomes an orphan. */
void group_leave(struct group *g, struct task *t);
/* Called when a task has ended: the groups that it left open become orphans of the task's own group. */
void group_owner_ended(struct task *owner);
/* Enters the scope of a new group. Its owner is t, or later the task to whose stack the scope moves. */
void group_enter(lua_State *L, struct group *g, struct task *t);

/* ---- task.c ---- */
/* Makes a task of the function and `nargs` arguments on top of L's stack (they are popped) in
 * `group`, ready to run, and pushes its userdata. `group_index` = stack index of the group's
 * userdata, 0 for the root group. */
struct task *task_new(lua_State *L, struct sched *s, struct group *group, int group_index, int nargs);
/* As task_new, for the root task, whose coroutine has the function as its first. */
struct task *task_new_root(lua_State *L, struct sched *s, int nargs);
void task_resume(struct sched *s, struct task *t);
/* Stops the task where it is, for good: nothing resumes, awaits or counts it any more. Its groups pass to the
 * group around it. */
void task_halt(struct sched *s, struct task *t);
/* Closes the variables of a halted task from outside and without an error; their __close cannot wait. An
 * error in a __close becomes a warning, like an error in a finaliser. */
void task_close(struct sched *s, struct task *t);

/* ---- sync.c ---- */
int cond_new(lua_State *L);
int signal_new(lua_State *L);
void sync_classes(lua_State *L, struct sched *s);

/* ---- scoped.c ---- */
int scoped_timeout(lua_State *L);
int scoped_transaction(lua_State *L);
int scoped_shield(lua_State *L);
void scoped_class(lua_State *L);

/* ---- group_methods.c ---- */
void group_classes(lua_State *L, struct sched *s);
int group_new(lua_State *L);

/* Upvalue 1 of every function of this folder. */
static inline struct sched *sched_upvalue(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* ---- arguments.c: each raises a usage error unless the argument fits; `fn`: the name in scripts ---- */
void arg_function(lua_State *L, int arg, const char *fn);
/* Also accepts an object with __call. */
void arg_callable(lua_State *L, int arg, const char *fn);
lua_Number arg_seconds(lua_State *L, int arg, const char *fn);
/* The object on which a method was called: argument 1. */
void *arg_self(lua_State *L, const char *class, const char *method);

/* Raises a usage error. */
int sched_usage(lua_State *L, struct sched *s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
