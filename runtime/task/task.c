/* A task's life: made, resumed, ended, joined; and the table of functions that scripts see. */
#include "base/deadline.h"
#include "task/impl.h"
#include "task/where.h"

#include <lauxlib.h>
#include <string.h>

/* ---- the body, inside the coroutine ---- */

static bool is_cancelled_error(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_pushliteral(L, "kind");
    lua_rawget(L, -2);
    const char *kind = lua_tostring(L, -1);
    bool is = kind && strcmp(kind, "cancelled") == 0;
    lua_pop(L, 1);
    return is;
}

/* Message handler: notes where the error came from, while the stack that raised it still stands. Not
 * for a cancellation: it is most often the echo of the error that is to be told. */
static int note_traceback(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    if (is_cancelled_error(L))
        return 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_error);
    bool again = lua_rawequal(L, -1, 1); /* raised anew on its way up: the first place counts */
    lua_pop(L, 1);
    if (again)
        return 1;
    luaL_traceback(L, L, NULL, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->last_traceback);
    lua_pushvalue(L, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, s->last_error);
    return 1;
}

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct task *t = (struct task *)ctx;
    t->ok = status == LUA_OK || status == LUA_YIELD;
    return lua_gettop(L) - 1; /* all but the message handler */
}

/* Stack: task (light userdata), function, arguments. Runs under pcall, since a coroutine that dies of
 * an error would not close its variables. */
static int task_body(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, t->sched);
    lua_pushcclosure(L, note_traceback, 1);
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

static lua_State *new_thread(lua_State *L, struct sched *s)
{
    if (s->free_count == 0)
        return lua_newthread(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->free_threads);
    lua_rawgeti(L, -1, s->free_count);
    lua_pushboolean(L, 0);
    lua_rawseti(L, -3, s->free_count);
    lua_remove(L, -2);
    s->free_count--;
    return lua_tothread(L, -1);
}

struct task *task_new(lua_State *L, struct sched *s, struct group *group, int group_index, int nargs)
{
    int fn = lua_gettop(L) - nargs;
    if (group_index)
        group_index = lua_absindex(L, group_index);
    struct task *t = lua_newuserdatauv(L, sizeof *t, TASK_UVS);
    memset(t, 0, sizeof *t);
    t->sched = s;
    t->state = TASK_DONE;
    t->ref = LUA_NOREF;
    luaL_setmetatable(L, TASK_CLASS);
    lua_State *co = new_thread(L, s);
    coroutine_mark(co, s);
    lua_setiuservalue(L, -2, TASK_UV_THREAD);
    if (group_index) {
        lua_pushvalue(L, group_index);
        lua_setiuservalue(L, -2, TASK_UV_GROUP);
    }
    if (!lua_checkstack(co, nargs + 4))
        luaL_error(L, "too many arguments");
    lua_pushvalue(L, -1);
    t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    /* Nothing raises from here on. */
    lua_insert(L, fn);
    lua_pushcfunction(co, task_body);
    lua_pushlightuserdata(co, t);
    lua_xmove(L, co, nargs + 1);
    t->co = co;
    t->nargs = nargs + 2;
    t->id = ++s->next_id;
    t->wait.task = t;
    group_add(group, t);
    scope_enter(t, co, &t->own, SCOPE_TASK);
    sched_make_ready(s, t);
    if (group->cancelled)
        scope_fire(&t->own, "the group was cancelled");
    return t;
}

/* ---- running ---- */

/* A coroutine that returned nothing is used again. */
static void recycle_thread(struct sched *s, struct task *t)
{
    lua_State *L = s->L;
    if (!t->ok || t->nargs > 0 || s->free_count >= THREADS_KEPT || lua_status(t->co) != LUA_OK)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->free_threads);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
    lua_getiuservalue(L, -1, TASK_UV_THREAD);
    lua_rawseti(L, -3, ++s->free_count);
    lua_pushnil(L);
    lua_setiuservalue(L, -2, TASK_UV_THREAD);
    lua_pop(L, 2);
    lua_settop(t->co, 0);
    t->co = NULL;
}

static void task_ended(struct sched *s, struct task *t)
{
    lua_State *L = s->L;
    lua_checkstack(L, 8);
    t->state = TASK_DONE;
    t->quiet = !t->ok && t->own.delivered && is_cancelled_error(t->co) &&
               !(t == s->root_task && s->interrupt_reason);
    bool heard = t->joiners.head != NULL;
    struct wait *w;
    while ((w = wait_queue_pop(&t->joiners)))
        wait_wake(w);
    group_owner_ended(t);
    group_task_ended(t->group, t, !t->ok && !t->quiet && !heard);
    recycle_thread(s, t);
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
    s->current = before;
    s->running = running;
    if (status == LUA_YIELD && s->parking) {
        s->parking = false;
        return;
    }
    if (status == LUA_YIELD) { /* a C library yielded on its own account */
        lua_resetthread(t->co);
        lua_pushliteral(t->co, "attempt to yield from outside a coroutine");
        t->ok = false;
        nres = 1;
    } else if (status != LUA_OK) { /* out of memory before the pcall, or in its message handler */
        t->ok = false;
        nres = 1;
    }
    t->nargs = nres;
    task_ended(s, t);
}

/* ---- library ---- */

struct task *task_check(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, TASK_CLASS);
}

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

struct wait *task_wait(struct sched *s)
{
    return &s->current->wait;
}

bool task_where(const struct task *t, char *out, size_t size)
{
    return t && t->co && script_where(t->co, 0, out, size);
}

/* Pushes the userdata of the current task's group; 0 when it is the root group. */
static int push_current_group(lua_State *L, struct sched *s)
{
    if (s->current->group == &s->root)
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->current->ref);
    lua_getiuservalue(L, -1, TASK_UV_GROUP);
    lua_remove(L, -2);
    return lua_gettop(L);
}

static int task_spawn(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int nargs = lua_gettop(L) - 1;
    int group = push_current_group(L, s);
    if (group) {
        lua_insert(L, 1);
        group = 1;
    }
    task_new(L, s, s->current->group, group, nargs);
    return 1;
}

/* A task that does not keep the program alive: what answers signals. */
static int task_daemon(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct task *t = task_new(L, s, &s->root, 0, lua_gettop(L) - 1);
    t->daemon = true;
    s->root.live--;
    return 1;
}

static void abandon_join(struct wait *w)
{
    struct task *t = w->data;
    wait_queue_remove(&t->joiners, w);
}

static int join_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    struct sched *s = sched_upvalue(L);
    struct task *t = (struct task *)ctx;
    if (wait_end(&s->current->wait) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    int n = t->nargs;
    luaL_checkstack(L, n, "too many results");
    if (t->co)
        lua_checkstack(t->co, n);
    for (int i = n; i > 0; i--)
        lua_pushvalue(t->co, -n);
    if (n)
        lua_xmove(t->co, L, n);
    return t->ok ? n : lua_error(L);
}

int task_join(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct task *t = task_check(L, 1);
    if (t == s->current)
        return sched_usage(L, s, "task:join: a task cannot wait for itself");
    lua_settop(L, 1);
    if (t->state == TASK_DONE) {
        s->current->wait.status = WAIT_DONE;
        return join_k(L, LUA_OK, (lua_KContext)t);
    }
    task_check_park(L, s);
    struct wait *w = wait_begin(s, DEADLINE_NEVER, abandon_join, t);
    wait_queue_push(&t->joiners, w);
    return wait_park(L, w, (lua_KContext)t, join_k);
}

static int task_cancel(lua_State *L)
{
    struct task *t = task_check(L, 1);
    scope_fire(&t->own, "the task was cancelled");
    return 0;
}

void task_cancel_again(lua_State *L, int index)
{
    struct task *t = task_check(L, index);
    if (t->own.delivered)
        t->own.fired = t->own.delivered = false;
    scope_fire(&t->own, "the task was cancelled");
}

static int task_status(lua_State *L)
{
    struct task *t = task_check(L, 1);
    static const char *const names[] = {"ready", "running", "waiting"};
    if (t->state != TASK_DONE)
        lua_pushstring(L, names[t->state]);
    else
        lua_pushstring(L, t->ok ? "done" : t->quiet ? "cancelled" : "failed");
    return 1;
}

static void abandon_sleep(struct wait *w)
{
    (void)w;
}

static int sleep_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    struct sched *s = sched_upvalue(L);
    if (wait_end(&s->current->wait) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    return 0;
}

static int task_sleep(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_Number seconds = luaL_checknumber(L, 1);
    if (seconds != seconds || seconds < 0)
        return sched_usage(L, s, "task.sleep: expected a number of seconds that is not negative");
    task_check_park(L, s);
    /* For ever is a time too: a program that only answers signals is not stuck. */
    uint64_t deadline = deadline_min(deadline_in(seconds), DEADLINE_NEVER - 1);
    struct wait *w = wait_begin(s, deadline, abandon_sleep, NULL);
    return wait_park(L, w, 0, sleep_k);
}

static int task_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mono_now() / (lua_Number)NS_PER_S);
    return 1;
}

static int task_id_current(lua_State *L)
{
    lua_pushinteger(L, task_id(task_current(sched_upvalue(L))));
    return 1;
}

/* traceback(err) -> string|nil: where the error that a task raised last came from. */
static int task_traceback(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    luaL_checkany(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_error);
    if (!lua_rawequal(L, -1, 1))
        return 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->last_traceback);
    return 1;
}

/* ---- assembling ---- */

static void new_class(lua_State *L, struct sched *s, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int task_open(lua_State *L, struct sched *s)
{
    static const luaL_Reg methods[] = {
        {"join", task_join}, {"cancel", task_cancel}, {"status", task_status}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"spawn", task_spawn},   {"daemon", task_daemon},     {"group", group_new},
        {"sleep", task_sleep},   {"timeout", scoped_timeout}, {"shield", scoped_shield},
        {"now", task_now},       {"id", task_id_current},     {"traceback", task_traceback},
        {"condition", cond_new}, {"signal", signal_new},      {NULL, NULL}};
    new_class(L, s, TASK_CLASS, methods);
    group_classes(L, s);
    sync_classes(L, s);
    scoped_class(L);
    coroutine_patch(L, s);
    lua_newtable(L);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
