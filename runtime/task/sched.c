/* The scheduler: creating it, running the root task, closing it. */
#include "base/deadline.h"
#include "base/error.h"
#include "task/impl.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

static char registry_key; /* its address is the key; it holds nothing */

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
        sched_run_ready(s);
        if (w->status != WAIT_PENDING)
            break;
        if (sched_is_stuck(s))
            sched_break_deadlock(s);
        else
            sched_poll(s);
    }
    t->state = TASK_RUNNING;
}

/* ---- life ---- */

static int sched_gc(lua_State *L)
{
    sched_close(lua_touserdata(L, 1));
    return 0;
}

/* Looks whether file descriptors are left for the loop: libuv aborts the program when it cannot make the pipe
 * of its signals. Returns 0 or errno. */
static int spare_descriptors(void)
{
    int pipes[4][2];
    int made = 0;
    int err = 0;
    while (made < 4 && err == 0) {
        if (pipe2(pipes[made], O_CLOEXEC) == 0)
            made++;
        else
            err = errno;
    }
    while (made-- > 0) {
        close(pipes[made][0]);
        close(pipes[made][1]);
    }
    return err;
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
    group_init(&s->root, s);
    s->main_task.sched = s;
    s->main_task.group = &s->root;
    s->main_task.co = s->L;
    s->main_task.ref = LUA_NOREF;
    s->main_task.state = TASK_RUNNING;
    s->current = &s->main_task;
    s->turn_until = turn_until;
    int err = spare_descriptors();
    if (err == 0)
        err = -uv_loop_init(&s->loop);
    if (err != 0) {
        const char *hint = error_limit_hint(err);
        luaL_error(L, "cannot make an event loop: %s", hint ? hint : strerror(err));
    }
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
        /* The owner of this handle did not close it. Its block leaks, but the program is about to end. */
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

void sched_on_resume(struct sched *s, void (*fn)(lua_State *L))
{
    s->on_resume = fn;
}

void sched_set_errors(struct sched *s, void (*push)(lua_State *L, void *data, const struct error *e),
                      void *data)
{
    s->push_error = push;
    s->push_error_data = data;
}

/* ---- the program ---- */

int sched_run(lua_State *L, struct sched *s, int nargs)
{
    luaL_checkstack(L, 16, "too many arguments");
    int base = lua_gettop(L) - nargs - 1;
    struct task *t = task_new_root(L, s, nargs);
    s->root_task = t;
    while (s->root.live > 0) {
        sched_run_ready(s);
        if (s->root.live == 0)
            break;
        if (sched_is_stuck(s)) {
            sched_break_deadlock(s);
            continue;
        }
        sched_poll(s);
    }
    s->root_task = NULL;
    group_cancel(&s->root, "the program has ended");
    sched_finish_background(s);

    lua_settop(L, base + 1); /* the root task's userdata keeps its results alive */
    if (sched_take_error(L, s)) {
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
