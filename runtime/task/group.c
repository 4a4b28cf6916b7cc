/* Groups: tasks that end together, and the error of the first that failed. */
#include "task/impl.h"

#include <lauxlib.h>

void group_init(struct group *g, struct sched *s)
{
    *g = (struct group){.sched = s, .error = LUA_NOREF};
}

void group_add(struct group *g, struct task *t)
{
    t->group = g;
    t->prev = NULL;
    t->next = g->tasks;
    if (g->tasks)
        g->tasks->prev = t;
    g->tasks = t;
    if (!t->daemon)
        g->live++;
}

void group_cancel(struct group *g, const char *reason)
{
    g->cancelled = true;
    for (struct task *t = g->tasks; t; t = t->next)
        scope_fire(&t->own, reason);
}

/* Takes the error on top of L. */
static void group_fail(lua_State *L, struct group *g)
{
    if (g->error != LUA_NOREF) {
        lua_pop(L, 1);
        return;
    }
    g->error = luaL_ref(L, LUA_REGISTRYINDEX);
    group_cancel(g, "cancelled because another task of its group failed");
    if (g->owner && !g->waiter)
        scope_fire(&g->scope, "cancelled because a task of the group failed");
}

static void group_check_end(struct group *g)
{
    if (g->live > 0)
        return;
    wait_wake(g->waiter);
    g->waiter = NULL;
    if (g->counted) {
        g->counted = false;
        g->parent->live--;
        group_check_end(g->parent);
    }
}

void group_task_ended(struct group *g, struct task *t, bool failed)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        g->tasks = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->next = t->prev = NULL;
    if (failed) {
        /* A group that nobody can wait for any more hands its error up. */
        struct group *to = g;
        while (!to->owner && to->parent)
            to = to->parent;
        lua_pushvalue(t->co, -1);
        lua_xmove(t->co, g->sched->L, 1);
        if (to != g)
            group_cancel(g, "cancelled because another task of its group failed");
        group_fail(g->sched->L, to);
    }
    if (!t->daemon) {
        g->live--;
        group_check_end(g);
    }
}

void group_owner_ended(struct task *owner)
{
    while (owner->scope) {
        struct scope *sc = owner->scope;
        scope_leave(sc);
        if (sc->kind != SCOPE_GROUP)
            continue;
        struct group *g = (struct group *)((char *)sc - offsetof(struct group, scope));
        g->owner = NULL;
        g->parent = owner->group;
        if (g->live > 0) {
            g->counted = true;
            g->parent->live++;
        }
    }
}

/* ---- library ---- */

static struct group *group_check(lua_State *L)
{
    return luaL_checkudata(L, 1, GROUP_CLASS);
}

int group_new(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct task *t = s->current;
    lua_settop(L, 0);
    struct group *g = lua_newuserdatauv(L, sizeof *g, 1);
    group_init(g, s);
    luaL_setmetatable(L, GROUP_CLASS);
    if (t->ref != LUA_NOREF) { /* its group's userdata must outlive this one */
        lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
        lua_getiuservalue(L, -1, TASK_UV_GROUP);
        lua_setiuservalue(L, 1, 1);
        lua_settop(L, 1);
    }
    g->owner = t;
    g->parent = t->group;
    scope_enter(t, &g->scope, SCOPE_GROUP);
    return 1;
}

static int group_spawn(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = group_check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (!g->owner)
        return sched_usage(L, s, "group:spawn: this group has been closed");
    task_new(L, s, g, 1, lua_gettop(L) - 2);
    return 1;
}

static int group_cancel_method(lua_State *L)
{
    struct group *g = group_check(L);
    group_cancel(g, "the group was cancelled");
    g->cancelled = false; /* it can be used again: only the tasks of now are ended */
    return 0;
}

static void abandon_wait(struct wait *w)
{
    struct group *g = w->data;
    g->waiter = NULL;
    group_cancel(g, "cancelled because the owner of its group was");
}

enum { END_WAIT, END_CLOSE, END_CLOSE_ERROR };

/* Waits until the last task has ended; nothing shortens that, since nothing outlives its group: a
 * cancellation of the owner is passed on to the tasks and raised when they are gone. Stack: 1 = group,
 * 2 = whether the owner was cancelled meanwhile. */
static int group_end_k(lua_State *L, int status, lua_KContext how)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = lua_touserdata(L, 1);
    if (status == LUA_YIELD && wait_end(&s->current->wait) == WAIT_CANCELLED) {
        lua_pushboolean(L, 1);
        lua_replace(L, 2);
    }
    if (g->live > 0) {
        g->waiter = wait_begin(s, UINT64_MAX, abandon_wait, g);
        return wait_park(L, g->waiter, how, group_end_k);
    }
    g->cancelled = false;
    g->scope.fired = g->scope.delivered = false;
    if (how != END_WAIT)
        g->owner = NULL;
    if (g->error != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, g->error);
        luaL_unref(L, LUA_REGISTRYINDEX, g->error);
        g->error = LUA_NOREF;
        if (how != END_CLOSE_ERROR)
            return lua_error(L);
    }
    if (lua_toboolean(L, 2))
        return task_raise_cancelled(L, s);
    return 0;
}

static int group_wait(lua_State *L)
{
    struct sched *s = sched_upvalue(L);
    struct group *g = group_check(L);
    if (g->owner != s->current)
        return sched_usage(L, s, "group:wait: only the task that made the group can wait for it");
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    if (g->error != LUA_NOREF)
        g->scope.delivered = true; /* the failure itself is raised, not its echo */
    if (g->live > 0)
        task_check_park(L, s);
    return group_end_k(L, LUA_OK, END_WAIT);
}

/* __close(group, error): the block ends. By an error: the tasks are cancelled, and the error goes on
 * by itself, unless it is only the echo of a task's failure: then that failure is raised. */
static int group_close(lua_State *L)
{
    struct group *g = group_check(L);
    if (!g->owner)
        return 0;
    bool by_error = !lua_isnoneornil(L, 2);
    bool echo = g->scope.delivered;
    scope_leave(&g->scope);
    if (by_error)
        group_cancel(g, "cancelled because the block of its group raised an error");
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    return group_end_k(L, LUA_OK, by_error && !echo ? END_CLOSE_ERROR : END_CLOSE);
}

static int group_gc(lua_State *L)
{
    struct group *g = lua_touserdata(L, 1);
    scope_leave(&g->scope);
    if (g->error != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, g->error);
    g->error = LUA_NOREF;
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
