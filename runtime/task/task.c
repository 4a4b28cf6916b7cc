/* A task's life: creation, resume, end; and functions for C about the current task. */
#include "task/impl.h"
#include "task/where.h"

#include <lauxlib.h>
#include <string.h>

/* ---- the body, inside the coroutine ---- */

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct task *t = (struct task *)ctx;
    t->ok = status == LUA_OK || status == LUA_YIELD;
    return lua_gettop(L) - 1; /* everything above the message handler */
}

/* Stack: task (light userdata), function, arguments. Runs under pcall, because a coroutine that ends by an
 * error does not close its variables. */
static int task_body(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    sched_push_handler(L, t->sched);
    lua_replace(L, 1);
    if (t->own.fired) { /* cancelled before it began */
        t->own.delivered = true;
        t->cancel_kind = SCOPE_TASK;
        t->cancel_reason = t->own.reason;
        struct error e = {0};
        error_set(&e, ERROR_CANCELLED, "%s", t->own.reason);
        t->sched->push_error(L, t->sched->push_error_data, &e);
        error_clear(&e);
        return 1;
    }
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, (lua_KContext)t, body_k);
    return body_k(L, status, (lua_KContext)t);
}

/* ---- making ---- */

/* `body` is the coroutine's first function: task_body, which calls the function on L; NULL makes the function
 * on L itself the first. */
static struct task *make(lua_State *L, struct sched *s, struct group *group, int group_index, int nargs,
                         lua_CFunction body)
{
    int fn = lua_gettop(L) - nargs;
    bool open = group->owner != NULL;
    if (group_index)
        group_index = lua_absindex(L, group_index);
    struct task *t = lua_newuserdatauv(L, sizeof *t, TASK_UVS);
    memset(t, 0, sizeof *t);
    t->sched = s;
    t->state = TASK_DONE;
    t->ref = LUA_NOREF;
    luaL_setmetatable(L, TASK_CLASS);
    lua_State *co = lua_newthread(L);
    coroutine_mark(co, s);
    lua_setiuservalue(L, -2, TASK_UV_THREAD);
    if (group_index) {
        lua_pushvalue(L, group_index);
        lua_setiuservalue(L, -2, TASK_UV_GROUP);
    }
    if (!lua_checkstack(co, nargs + 4))
        luaL_error(L, "too many arguments");
    if (open && !group->owner) /* closed by a finaliser meanwhile; nothing below allocates */
        sched_usage(L, s, "group:spawn: this group has been closed");
    lua_pushvalue(L, -1);
    t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    /* Nothing raises from here on. */
    lua_insert(L, fn);
    if (body) {
        lua_pushcfunction(co, body);
        lua_pushlightuserdata(co, t);
        t->nargs = nargs + 2;
    } else {
        t->nargs = nargs;
        t->ok = true; /* unless it raises */
    }
    lua_xmove(L, co, nargs + 1);
    t->co = co;
    t->id = ++s->next_id;
    t->wait.task = t;
    group_add(group, t);
    scope_enter(t, co, &t->own, SCOPE_TASK);
    sched_make_ready(s, t);
    if (group->cancelled)
        scope_fire(&t->own, "the group was cancelled");
    return t;
}

struct task *task_new(lua_State *L, struct sched *s, struct group *group, int group_index, int nargs)
{
    return make(L, s, group, group_index, nargs, task_body);
}

struct task *task_new_root(lua_State *L, struct sched *s, int nargs)
{
    return make(L, s, &s->root, 0, nargs, NULL);
}

/* ---- running ---- */

static void task_ended(struct sched *s, struct task *t)
{
    lua_State *L = s->L;
    lua_checkstack(L, 8);
    t->state = TASK_DONE;
    sched_timer_stop(s, &t->wait.timer);
    if (t->lane)
        traced_task_ended(s, t);
    s->deadlocks = 0;
    t->quiet = !t->ok && t->own.delivered && traceback_is_cancelled(t->co) &&
               !(t == s->root_task && s->interrupt_reason);
    if (!t->ok)
        failure_end(t);
    bool heard = t->joiners.head != NULL;
    wait_queue_wake(&t->joiners);
    group_owner_ended(t);
    group_task_ended(t->group, t, !t->ok && !t->quiet && !heard);
    coroutine_mark_dead(t->co, s);
    int ref = t->ref;
    t->ref = LUA_NOREF;
    if (t != s->root_task || t->nargs == 0 || !t->ok)
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
    else
        t->ref = ref;
}

void task_resume(struct sched *s, struct task *t)
{
    struct task *before = s->current;
    lua_State *running = s->running;
    int nres = 0;
    s->current = t;
    s->running = t->co;
    int nargs = t->nargs;
    t->nargs = 0;
    t->state = TASK_RUNNING;
    int status = lua_resume(t->co, s->L, nargs, &nres);
    if (s->trace)
        trace_runs(s->trace);
    s->current = before;
    s->running = running;
    if (status == LUA_YIELD && s->parking) {
        s->parking = false;
        return;
    }
    if (status == LUA_YIELD) { /* a C library yielded without parking */
        lua_resetthread(t->co);
        lua_pushliteral(t->co, "attempt to yield from outside a coroutine");
        t->ok = false;
        nres = 1;
    } else if (status != LUA_OK) { /* the root task failed; or no memory before task_body's pcall */
        t->ok = false;
        nres = 1;
    }
    t->nargs = nres;
    task_ended(s, t);
}

/* ---- the end of the program ---- */

void task_halt(struct sched *s, struct task *t)
{
    if (t->state == TASK_DONE)
        return;
    struct group *ending = group_waited_for(t);
    if (t->wait.status == WAIT_PENDING)
        t->wait.abandon(&t->wait);
    sched_timer_stop(s, &t->wait.timer);
    t->wait.status = WAIT_NONE;
    sched_forget_ready(s, t);
    t->state = TASK_PARKED;
    group_owner_ended(t);
    if (ending && ending->owner == t) /* the block has ended and left its scope */
        group_leave(ending, t);
    group_task_ended(t->group, t, false);
}

void task_close(struct sched *s, struct task *t)
{
    if (t->state == TASK_DONE)
        return;
    if (t->lane)
        traced_task_ended(s, t);
    s->current = t;
    s->running = t->co;
    s->blocked = 1;
    t->state = TASK_RUNNING;
    if (lua_resetthread(t->co) != LUA_OK) {
        const char *text = lua_tostring(t->co, -1);
        lua_warning(s->L, "error in __close (", 1);
        lua_warning(s->L, text ? text : "error object is not a string", 1);
        lua_warning(s->L, ")", 0);
    }
    group_owner_ended(t); /* groups that the __close of these variables opened */
    t->state = TASK_DONE;
    sched_timer_stop(s, &t->wait.timer);
    coroutine_mark_dead(t->co, s);
    s->current = &s->main_task;
    s->running = s->L;
    s->blocked = 0;
}

/* ---- about the current task ---- */

struct task *task_current(struct sched *s)
{
    return s->current == &s->main_task ? NULL : s->current;
}

uint32_t task_id(const struct task *t)
{
    return t ? t->id : 0;
}

const void *task_owner(struct sched *s)
{
    return (const void *)(uintptr_t)task_id(task_current(s));
}

void *task_scratch(struct sched *s)
{
    return s->current->scratch;
}

void task_set_scratch(lua_State *L, struct sched *s, void *p)
{
    struct task *t = s->current;
    if (t->ref == LUA_NOREF) { /* the main thread of a stock lua5.4 */
        lua_rawsetp(L, LUA_REGISTRYINDEX, &t->scratch);
    } else {
        lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
        lua_insert(L, -2);
        lua_setiuservalue(L, -2, TASK_UV_SCRATCH);
        lua_pop(L, 1);
    }
    t->scratch = p;
}

void task_push_scratch(lua_State *L, struct sched *s)
{
    struct task *t = s->current;
    if (t->ref == LUA_NOREF) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &t->scratch);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
    lua_getiuservalue(L, -1, TASK_UV_SCRATCH);
    lua_remove(L, -2);
}

bool task_where(const struct task *t, char *out, size_t size)
{
    return t && t->co && script_where(t->co, 0, out, size);
}
