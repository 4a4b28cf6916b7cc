/* The end of a program: interruption, deadlock, and what it waits for before it exits. */
#include "base/deadline.h"
#include "task/impl.h"

#include <lauxlib.h>
#include <stdio.h>

/* How often in a row tasks get the error of a deadlock and may wait for something else. */
enum { DEADLOCKS_IN_A_ROW = 1000 };

void sched_interrupt(struct sched *s, const char *reason)
{
    if (s->interrupt_reason)
        return;
    s->interrupt_reason = reason;
    tree_cancel(&s->root, reason);
}

/* The error of a program whose tasks went on waiting. */
static void fail_stuck(struct sched *s, const char *reason, const struct tree_left *left)
{
    struct error e = {0};
    if (s->root.error != LUA_NOREF)
        return;
    error_set(&e, ERROR_CANCELLED, "%s (task %u%s%s waits again after each such error)", reason, left->id,
              left->where[0] ? " at " : "", left->where);
    s->push_error(s->L, s->push_error_data, &e);
    error_clear(&e);
    s->root.error = luaL_ref(s->L, LUA_REGISTRYINDEX);
}

/* In a stock lua5.4 the main thread's wait ends, and the script goes on. Only a wait for a group begins
 * again, until the group's tasks have ended. */
static void break_deadlock_of_main(struct sched *s)
{
    struct task *main = &s->main_task;
    struct group *g = group_waited_for(main);
    struct tree_left left = {0};
    if (g && s->deadlocks <= DEADLOCKS_IN_A_ROW)
        tree_tell_stuck(g);
    task_tell_stuck(main);
    if (!g || s->deadlocks > DEADLOCKS_IN_A_ROW)
        s->deadlocks = 0;
    if (g && s->deadlocks == 0)
        tree_leave(g, &left);
}

void sched_break_deadlock(struct sched *s)
{
    struct tree_left left = {0};
    s->deadlocks++;
    if (s->main_task.state == TASK_PARKED) {
        break_deadlock_of_main(s);
    } else if (s->deadlocks > DEADLOCKS_IN_A_ROW) {
        tree_leave(&s->root, &left);
        fail_stuck(s, s->interrupt_reason ? s->interrupt_reason : STUCK_REASON, &left);
    } else if (s->interrupt_reason) {
        tree_end_waits(&s->root, s->interrupt_reason);
    } else {
        tree_tell_stuck(&s->root);
    }
}

bool sched_interrupted(const struct sched *s)
{
    return s->interrupt_reason != NULL;
}

int sched_raise_interrupted(lua_State *L, struct sched *s)
{
    struct task *t = s->current;
    t->own.fired = true;
    t->own.delivered = true;
    t->cancel_kind = SCOPE_TASK;
    t->cancel_reason = s->interrupt_reason;
    return task_raise_cancelled(L, s);
}

void task_interrupt(lua_State *L, struct sched *s)
{
    const struct task *t = s->current;
    for (const struct scope *sc = t->scope; sc; sc = sc->outer)
        if (sc->kind == SCOPE_SHIELD)
            return;
    if (t == &s->main_task || t->own.fired) /* otherwise its group is inside a shield */
        sched_raise_interrupted(L, s);
}

static void finish_timer(struct sched_timer *t)
{
    bool *over = t->data;
    *over = true;
}

void sched_finish_background(struct sched *s)
{
    bool over = false;
    struct sched_timer limit = {.fn = finish_timer, .data = &over};
    sched_timer_start(s, &limit, mono_now() + 1500 * NS_PER_MS);
    for (;;) {
        sched_run_ready(s);
        if (over || !(s->background > 0 || s->root.tasks))
            break;
        sched_poll(s);
    }
    sched_timer_stop(s, &limit);
}

bool sched_take_error(lua_State *L, struct sched *s)
{
    if (s->root.error == LUA_NOREF)
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->root.error);
    luaL_unref(L, LUA_REGISTRYINDEX, s->root.error);
    s->root.error = LUA_NOREF;
    traceback_attach(L, s);
    return true;
}

/* ---- sched_end ---- */

static const uint64_t UNDISTURBED = 1 * NS_PER_S; /* for cleanup in the cancelled tasks */
static const uint64_t AGAIN = 20 * NS_PER_MS;
static const uint64_t END_LIMIT = 2 * NS_PER_S;

static void cancel_again(struct sched_timer *t)
{
    struct sched *s = t->data;
    tree_cancel_again(&s->root, s->interrupt_reason);
    sched_timer_start(s, t, mono_now() + AGAIN);
}

static void begin_limit(struct sched *s)
{
    struct ending *e = &s->ending;
    e->until = mono_now() + END_LIMIT;
    e->again.fn = cancel_again;
    e->again.data = s;
    sched_timer_start(s, &e->again, mono_now() + UNDISTURBED);
    s->own_timers = 1;
}

static void end_limit(struct sched *s)
{
    sched_timer_stop(s, &s->ending.again);
    s->own_timers = 0;
}

static void leave_others(struct sched *s)
{
    struct tree_left left = {0};
    char others[40] = "";
    char text[sizeof left.where + 160];
    tree_leave(&s->root, &left);
    if (left.count == 0)
        return;
    if (left.count > 1)
        snprintf(others, sizeof others, " (so were %u more)", left.count - 1);
    snprintf(text, sizeof text, "os.exit: task %u%s%s goes on after its cancellation, and was left behind%s",
             left.id, left.where[0] ? " at " : "", left.where, others);
    s->ending.left(s->ending.data, text);
}

/* Waits for the tasks that were cancelled. */
static void end_others(struct sched *s)
{
    begin_limit(s);
    while (s->root.live > 0) {
        sched_run_ready(s);
        if (s->root.live == 0)
            break;
        bool stuck = sched_is_stuck(s);
        s->deadlocks += stuck;
        if (mono_now() >= s->ending.until || s->deadlocks > DEADLOCKS_IN_A_ROW)
            leave_others(s);
        else if (stuck)
            tree_end_waits(&s->root, s->interrupt_reason);
        else
            sched_poll(s);
    }
    end_limit(s);
}

static void close_halted(struct sched *s)
{
    struct task *caller = s->ending.caller;
    struct task *root = s->ending.root;
    if (caller != &s->main_task)
        task_close(s, caller);
    if (root && root != caller)
        task_close(s, root);
}

/* Continues from the step that was reached. */
static int end_steps(struct sched *s)
{
    enum end_step *step = &s->ending.step;
    if (*step == STEP_TASKS) {
        end_others(s);
        *step = STEP_CLOSE;
    }
    if (*step == STEP_CLOSE) {
        close_halted(s);
        *step = STEP_STARTED;
    }
    if (*step == STEP_STARTED) { /* work that the variables of the halted tasks started or left */
        end_others(s);
        *step = STEP_BACKGROUND;
    }
    s->root_task = NULL;
    sched_finish_background(s);
    lua_checkstack(s->L, 16);
    return sched_take_error(s->L, s) ? LUA_ERRRUN : LUA_OK;
}

static void leave_running(struct sched *s)
{
    s->current = &s->main_task;
    s->running = s->L;
    s->blocked = 0;
}

int sched_end(struct sched *s, const char *reason, void (*left)(void *data, const char *text), void *data)
{
    struct task *caller = s->current;
    struct task *root = s->root_task;
    s->ending =
        (struct ending){.caller = caller, .root = root, .left = left, .data = data, .step = STEP_TASKS};
    leave_running(s);
    if (caller != &s->main_task)
        task_halt(s, caller);
    if (root && root != caller)
        task_halt(s, root);
    if (!s->interrupt_reason)
        s->interrupt_reason = reason;
    sched_on_failure(s, NULL, NULL);
    tree_cancel(&s->root, s->interrupt_reason);
    return end_steps(s);
}

bool sched_end_is_late(const struct sched *s)
{
    const struct ending *e = &s->ending;
    bool waits = e->step == STEP_TASKS || e->step == STEP_STARTED;
    return waits && s->current != &s->main_task && mono_now() >= e->until;
}

int sched_end_late(struct sched *s)
{
    leave_running(s);
    leave_others(s);
    end_limit(s);
    s->ending.step++;
    return end_steps(s);
}
