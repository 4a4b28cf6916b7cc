/* Groups as scripts use them: spawn, wait, cancel, and the end of their block. */
#include "task/impl.h"
#include "task/traced.h"

#include <lauxlib.h>

int group_new(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct task *t = s->current;
    if (!lua_isnoneornil(L, 1))
        return sched_usage(L, s, "task.group takes no argument (at most n tasks at a time: task.map)");
    lua_settop(L, 0);
    struct group *g = lua_newuserdatauv(L, sizeof *g, 1);
    group_init(g, s);
    luaL_setmetatable(L, GROUP_CLASS);
    if (t->ref != LUA_NOREF) { /* the userdata of the task's group must outlive the task's */
        lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
        lua_getiuservalue(L, -1, TASK_UV_GROUP);
        lua_setiuservalue(L, 1, 1);
        lua_settop(L, 1);
    }
    group_enter(L, g, t);
    return 1;
}

static int group_spawn(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = arg_self(L, GROUP_CLASS, "group:spawn");
    arg_function(L, 2, "group:spawn");
    if (!g->owner)
        return sched_usage(L, s, "group:spawn: this group has been closed");
    task_new(L, s, g, 1, lua_gettop(L) - 2);
    return 1;
}

static int group_cancel_method(lua_State *L)
{
    struct group *g = arg_self(L, GROUP_CLASS, "group:cancel");
    group_cancel(g, "the group was cancelled");
    g->cancelled = false; /* only the present tasks are cancelled; the group can be used again */
    return 0;
}

/* Pushes the error of a failure, for the current task to raise. */
static void push_ref(lua_State *L, int *ref, bool last)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);
    failure_receive(L, sched_upvalue(L));
    if (!last)
        return;
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = LUA_NOREF;
}

/* The task was woken because the group has ended: pushes the error that all tasks woken then raise. */
static void take_told(lua_State *L, struct group *g)
{
    if (g->told == LUA_NOREF)
        return;
    push_ref(L, &g->told, --g->untold == 0);
    lua_settop(L, 3); /* an earlier error wins */
}

enum { END_WAIT, END_CLOSE, END_CLOSE_ERROR };

/* Always waits until the last task has ended, because no task may outlive its group: a cancellation of the
 * waiting task cancels the group's tasks and is raised when they have ended. Stack: 1 = group, 2 = whether
 * the waiting task was cancelled meanwhile, 3 = the group's error, if there was one (it may be nil). */
static int group_end_k(lua_State *L, int status, lua_KContext how)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = lua_touserdata(L, 1);
    if (status == LUA_YIELD && wait_end(s) == WAIT_CANCELLED) {
        lua_pushboolean(L, 1);
        lua_replace(L, 2);
    } else if (status == LUA_YIELD) {
        take_told(L, g);
    }
    if (g->live > 0) {
        struct wait *w = group_wait_begin(g, s);
        wait_told(L, s, w, TRACE_WAIT, "tasks");
        return wait_park(L, w, how, group_end_k);
    }
    g->cancelled = false;
    g->scope.fired = g->scope.delivered = false;
    if (how != END_WAIT)
        g->owner = NULL;
    if (g->error != LUA_NOREF)
        push_ref(L, &g->error, true);
    else if (status == LUA_YIELD && g->told != LUA_NOREF) /* the group ended after this task was cancelled */
        push_ref(L, &g->told, false);
    lua_settop(L, lua_gettop(L) > 3 ? 3 : lua_gettop(L));
    if (lua_gettop(L) == 3 && how != END_CLOSE_ERROR)
        return lua_error(L);
    if (lua_toboolean(L, 2))
        return task_raise_cancelled(L, s);
    return 0;
}

static int group_wait(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = arg_self(L, GROUP_CLASS, "group:wait");
    if (!g->owner)
        return sched_usage(L, s, "group:wait: this group has been closed");
    if (g->opened_by != s->current->id)
        return sched_usage(L, s, "group:wait: only the task that made the group can wait for it");
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    if (g->error != LUA_NOREF)
        g->scope.delivered = true; /* raise the failure itself, not the cancellation that followed it */
    if (g->live > 0)
        task_check_park(L, s);
    return group_end_k(L, LUA_OK, END_WAIT);
}

/* The block ended where nothing can wait: the tasks are cancelled, and the group around this one waits for
 * them. This is correct when the coroutine of the block was closed from outside (by coroutine.close, or by
 * coroutine.wrap after an error inside); then there is no function below this one on the stack. Anywhere else
 * it is a usage error, because the tasks had no time to do their work. */
static int hand_over(lua_State *L, struct sched *s, struct group *g, bool by_error, bool echo)
{
    lua_Debug ar;
    int error = g->error;
    g->error = LUA_NOREF;
    group_cancel(g, "cancelled because the block of its group ended where nothing can wait");
    group_orphan(g, group_around(g));
    if (error != LUA_NOREF) {
        push_ref(L, &error, true);
        if (!by_error || echo)
            return lua_error(L);
    }
    if (!by_error && lua_getstack(L, 1, &ar))
        task_check_park(L, s); /* raises the usage error */
    return 0;
}

/* __close(group, error): the block ends. After an error the tasks are cancelled and Lua passes the error on;
 * if the error is only the cancellation that followed a task's failure, the failure is raised instead. */
static int group_close(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = luaL_checkudata(L, 1, GROUP_CLASS);
    if (!g->owner)
        return 0;
    bool by_error = !lua_isnoneornil(L, 2);
    bool echo = g->scope.delivered && g->opened_by == s->current->id;
    if (g->live > 0 && task_can_park(L, s) && group_is_inside(s->current->group, g)) {
        if (by_error) /* the error goes on, and fails the group */
            return 0;
        return sched_usage(L, s,
                           "a task of a group cannot close it, since the close waits for the task's end");
    }
    scope_leave(&g->scope);
    if (by_error)
        group_cancel(g, "cancelled because the block of its group raised an error");
    if (g->live > 0 && !task_can_park(L, s))
        return hand_over(L, s, g, by_error, echo);
    g->owner = s->current; /* the previous owner can end while this task waits */
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    return group_end_k(L, LUA_OK, by_error && !echo ? END_CLOSE_ERROR : END_CLOSE);
}

/* Collected without __close while its owner runs: an unreported failure passes to the group above. */
static int group_gc(lua_State *L)
{
    struct group *g = luaL_checkudata(L, 1, GROUP_CLASS);
    struct group *heir = g->parent && g->error != LUA_NOREF ? group_heir(g->parent) : NULL;
    scope_leave(&g->scope);
    if (g->error != LUA_NOREF && heir && heir->error == LUA_NOREF)
        heir->error = g->error;
    else if (g->error != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, g->error);
    g->error = LUA_NOREF;
    luaL_unref(L, LUA_REGISTRYINDEX, g->told);
    g->told = LUA_NOREF;
    group_collected(g);
    return 0;
}

void group_classes(lua_State *L, struct sched *s)
{
    static const luaL_Reg methods[] = {
        {"spawn", group_spawn}, {"wait", group_wait}, {"cancel", group_cancel_method}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", group_close}, {"__gc", group_gc}, {NULL, NULL}};
    luaL_newmetatable(L, GROUP_CLASS);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, meta, 1);
    luaL_newlibtable(L, methods);
    lua_pushlightuserdata(L, s);
    luaL_setfuncs(L, methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
