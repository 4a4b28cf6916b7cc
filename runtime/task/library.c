/* core.task: its functions, the methods of tasks, and task_open. */
#include "base/deadline.h"
#include "task/impl.h"
#include "task/traced.h"

#include <lauxlib.h>

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
    arg_function(L, 1, "task.spawn");
    int nargs = lua_gettop(L) - 1;
    int group = push_current_group(L, s);
    if (group) {
        lua_insert(L, 1);
        group = 1;
    }
    task_new(L, s, s->current->group, group, nargs);
    return 1;
}

/* daemon(fn, ...): a task that does not keep the program alive (a signal handler). */
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
    if (wait_end(s) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    int n = t->nargs;
    luaL_checkstack(L, n, "too many results");
    lua_checkstack(t->co, n);
    for (int i = n; i > 0; i--)
        lua_pushvalue(t->co, -n);
    if (n)
        lua_xmove(t->co, L, n);
    if (t->ok)
        return n;
    failure_receive(L, s);
    return lua_error(L);
}

static int task_join(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct task *t = arg_self(L, TASK_CLASS, "task:join");
    if (t == s->current)
        return sched_usage(L, s, "task:join: a task cannot wait for itself");
    lua_settop(L, 1);
    if (t->state == TASK_DONE) {
        s->current->wait.status = WAIT_DONE;
        return join_k(L, LUA_OK, (lua_KContext)t);
    }
    task_check_park(L, s);
    struct wait *w = wait_begin(s, DEADLINE_NEVER, abandon_join, t);
    wait_told(L, s, w, TRACE_WAIT, "tasks");
    wait_queue_push(&t->joiners, w);
    return wait_park(L, w, (lua_KContext)t, join_k);
}

static int task_cancel(lua_State *L)
{
    struct task *t = arg_self(L, TASK_CLASS, "task:cancel");
    scope_fire(&t->own, "the task was cancelled");
    return 0;
}

static int task_status(lua_State *L)
{
    struct task *t = arg_self(L, TASK_CLASS, "task:status");
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
    if (wait_end(s) == WAIT_CANCELLED)
        return task_raise_cancelled(L, s);
    return 0;
}

static int task_sleep(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    lua_Number seconds = arg_seconds(L, 1, "task.sleep");
    task_check_park(L, s);
    /* An endless sleep counts as a timer: no deadlock. */
    uint64_t deadline = deadline_min(deadline_in(seconds), DEADLINE_NEVER - 1);
    struct wait *w = wait_begin(s, deadline, abandon_sleep, NULL);
    wait_told(L, s, w, TRACE_SLEEP, "sleep");
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

/* traceback(err) -> string|nil: the traceback of the last error that this task raised, if it is `err`. */
static int task_traceback(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    luaL_checkany(L, 1);
    return sched_push_traceback(L, s, 1);
}

/* told_to_end() -> boolean: true when a time limit or a cancellation around the running code was delivered.
 * For loops that retry after errors, because such an error can look like a connection error. */
static int task_told_to_end(lua_State *L)
{
    lua_pushboolean(L, scope_was_delivered(sched_upvalue(L)->current));
    return 1;
}

/* ---- the table ---- */

static void new_class(lua_State *L, struct sched *s, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

/* The methods of a class as a field of the table on top, so that Lua can add to them. */
static void set_methods(lua_State *L, const char *class, const char *field)
{
    luaL_getmetatable(L, class);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -3, field);
    lua_pop(L, 1);
}

int task_open(lua_State *L, struct sched *s)
{
    static const luaL_Reg methods[] = {
        {"join", task_join}, {"cancel", task_cancel}, {"status", task_status}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"spawn", task_spawn},
                                         {"daemon", task_daemon},
                                         {"group", group_new},
                                         {"sleep", task_sleep},
                                         {"timeout", scoped_timeout},
                                         {"transaction", scoped_transaction},
                                         {"shield", scoped_shield},
                                         {"now", task_now},
                                         {"id", task_id_current},
                                         {"traceback", task_traceback},
                                         {"condition", cond_new},
                                         {"signal", signal_new},
                                         {"told_to_end", task_told_to_end},
                                         {NULL, NULL}};
    new_class(L, s, TASK_CLASS, methods);
    group_classes(L, s);
    sync_classes(L, s);
    failure_class(L);
    scoped_class(L);
    coroutine_patch(L, s);
    lua_newtable(L);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, functions, 1);
    set_methods(L, TASK_CLASS, "task_methods");
    set_methods(L, GROUP_CLASS, "group_methods");
    return 1;
}
