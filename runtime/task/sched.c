/* The scheduler: ready queue, turns of the loop, the root task's run, the end. */
#include "base/deadline.h"
#include "task/impl.h"

#include <lauxlib.h>
#include <string.h>

enum { ROUNDS_BEFORE_POLL = 16 };

static char registry_key; /* its address is the key; it holds nothing */

/* ---- turns ---- */

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
    while (s->turn) {
        struct task *t = s->turn;
        s->turn = t->ready_next;
        task_resume(s, t);
    }
}

/* Resumes all ready tasks, and those that become ready meanwhile, up to a limit: tasks that wake each
 * other must not keep the loop from its sockets. */
static void run_ready(struct sched *s)
{
    run_turn(s); /* sched_end, called by a task: the turn that it has left */
    for (int round = 0; s->ready_head && round < ROUNDS_BEFORE_POLL; round++) {
        s->turn = s->ready_head;
        s->ready_head = s->ready_tail = NULL;
        run_turn(s);
    }
}

static void poll_loop(struct sched *s)
{
    run_deferred(s);
    timers_arm(s);
    /* These tasks may have ended the wait of a stock lua5.4's main thread. */
    bool settled = s->main_task.wait.status > WAIT_PENDING;
    uv_run(&s->loop, s->ready_head || settled ? UV_RUN_NOWAIT : UV_RUN_ONCE);
}

/* Deadlock: every task waits, and there is no socket, timer or child that could wake one. */
static bool is_stuck(struct sched *s)
{
    return !s->ready_head && !s->deferred && s->timers.n == 0 && s->background == 0 &&
           !uv_loop_alive(&s->loop);
}

void sched_background(struct sched *s, int change)
{
    s->background += change;
}

/* A stock lua5.4 has no root task: its main thread runs the loop until its wait has ended. */
static void turn_until(struct sched *s, struct wait *w)
{
    struct task *t = &s->main_task;
    t->state = TASK_PARKED; /* a time limit, or a failed task of a group, may end the wait */
    while (w->status == WAIT_PENDING) {
        if (!is_stuck(s)) {
            run_ready(s);
            poll_loop(s);
            continue;
        }
        t->cancel_kind = SCOPE_TASK;
        t->cancel_reason = STUCK_REASON;
        wait_cancel(w);
    }
    t->state = TASK_RUNNING;
}

/* ---- life ---- */

static int sched_gc(lua_State *L)
{
    sched_close(lua_touserdata(L, 1));
    return 0;
}

struct sched *sched_new(lua_State *L)
{
    struct sched *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    s->closed = true; /* nothing to close yet */
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, sched_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    s->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    s->running = s->L;
    lua_pushboolean(L, 0);
    s->last_error = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushboolean(L, 0);
    s->last_traceback = luaL_ref(L, LUA_REGISTRYINDEX);
    group_init(&s->root, s);
    s->main_task.sched = s;
    s->main_task.group = &s->root;
    s->main_task.co = s->L;
    s->main_task.ref = LUA_NOREF;
    s->main_task.state = TASK_RUNNING;
    s->current = &s->main_task;
    s->turn_until = turn_until;
    int rc = uv_loop_init(&s->loop);
    if (rc != 0)
        luaL_error(L, "cannot make an event loop: %s", uv_strerror(rc));
    s->closed = false;
    timers_init(s);
    return s;
}

static void close_handle(uv_handle_t *h, void *data)
{
    (void)data;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

void sched_close(struct sched *s)
{
    if (s->closed)
        return;
    s->closed = true;
    uv_close((uv_handle_t *)&s->uv_timer, NULL);
    uv_run(&s->loop, UV_RUN_NOWAIT);
    if (uv_loop_close(&s->loop) == UV_EBUSY) {
        /* A handle that its owner did not close. Its block leaks, but the program ends at once. */
        uv_walk(&s->loop, close_handle, NULL);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        uv_loop_close(&s->loop);
    }
    timers_free(s);
}

uv_loop_t *sched_loop(struct sched *s)
{
    return &s->loop;
}

lua_State *sched_main(const struct sched *s)
{
    return s->L;
}

lua_State *sched_running(const struct sched *s)
{
    return s->running;
}

void sched_set_errors(struct sched *s, void (*push)(lua_State *L, void *data, const struct error *e),
                      void *data)
{
    s->push_error = push;
    s->push_error_data = data;
}

/* ---- the program ---- */

void sched_interrupt(struct sched *s, const char *reason)
{
    if (s->interrupt_reason)
        return;
    s->interrupt_reason = reason;
    group_cancel(&s->root, reason);
}

/* Deadlock: every task waits for another. Cancels all, also those that caught an earlier cancellation and
 * waited again. */
static void break_deadlock(struct sched *s)
{
    const char *reason = s->interrupt_reason;
    if (!reason)
        reason = STUCK_REASON;
    group_rearm(&s->root);
    s->interrupt_reason = NULL;
    sched_interrupt(s, reason);
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

static void finish_timer(struct sched_timer *t)
{
    bool *over = t->data;
    *over = true;
}

/* Background work (rollbacks, cancel requests) gets a moment to end. */
static void finish_background(struct sched *s)
{
    bool over = false;
    struct sched_timer limit = {.fn = finish_timer, .data = &over};
    sched_timer_start(s, &limit, mono_now() + 1500 * NS_PER_MS);
    for (;;) {
        run_ready(s);
        if (over || !(s->background > 0 || s->root.tasks))
            break;
        poll_loop(s);
    }
    sched_timer_stop(s, &limit);
}

/* Moves the error of the root group to L's top, its traceback attached. False when there is none. */
static bool take_error(lua_State *L, struct sched *s)
{
    if (s->root.error == LUA_NOREF)
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->root.error);
    luaL_unref(L, LUA_REGISTRYINDEX, s->root.error);
    s->root.error = LUA_NOREF;
    traceback_attach(L, s);
    return true;
}

int sched_run(lua_State *L, struct sched *s, int nargs)
{
    luaL_checkstack(L, 16, "too many arguments");
    int base = lua_gettop(L) - nargs - 1;
    struct task *t = task_new_root(L, s, nargs);
    s->root_task = t;
    while (s->root.live > 0) {
        run_ready(s);
        if (s->root.live == 0)
            break;
        if (is_stuck(s)) {
            break_deadlock(s);
            continue;
        }
        poll_loop(s);
    }
    s->root_task = NULL;
    group_cancel(&s->root, "the program has ended");
    finish_background(s);

    lua_settop(L, base + 1); /* the root task's userdata keeps its results alive */
    if (take_error(L, s)) {
        lua_remove(L, base + 1);
        return LUA_ERRRUN;
    }
    int n = t->nargs;
    if (n > 0) {
        luaL_checkstack(L, n, "too many results");
        lua_xmove(t->co, L, n);
    }
    lua_remove(L, base + 1);
    return LUA_OK;
}

/* Waits for the tasks that were cancelled; when none of them can be woken, they are cancelled once more. */
static void end_others(struct sched *s)
{
    bool again = false;
    while (s->root.live > 0) {
        run_ready(s);
        if (s->root.live == 0)
            break;
        if (!is_stuck(s)) {
            poll_loop(s);
            continue;
        }
        if (again)
            break;
        again = true;
        group_rearm(&s->root);
        group_cancel(&s->root, s->interrupt_reason);
    }
}

int sched_end(struct sched *s, const char *reason)
{
    struct task *caller = s->current;
    struct task *root = s->root_task;
    s->current = &s->main_task;
    s->running = s->L;
    s->blocked = 0;
    if (caller != &s->main_task)
        task_halt(s, caller);
    if (root && root != caller)
        task_halt(s, root);
    if (!s->interrupt_reason)
        s->interrupt_reason = reason;
    sched_on_failure(s, NULL, NULL);
    group_cancel(&s->root, s->interrupt_reason);
    end_others(s);
    if (caller != &s->main_task)
        task_close(s, caller);
    if (root && root != caller)
        task_close(s, root);
    end_others(s); /* what these started or left */
    s->root_task = NULL;
    finish_background(s);
    lua_checkstack(s->L, 16);
    return take_error(s->L, s) ? LUA_ERRRUN : LUA_OK;
}
