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

static struct group *group_of(struct scope *sc)
{
    return (struct group *)((char *)sc - offsetof(struct group, scope));
}

void group_cancel(struct group *g, const char *reason)
{
    g->cancelled = true;
    for (struct task *t = g->tasks; t; t = t->next)
        scope_fire(&t->own, reason);
    for (struct group *below = g->orphans; below; below = below->next)
        group_cancel(below, reason);
}

void group_rearm(struct group *g)
{
    for (struct task *t = g->tasks; t; t = t->next) {
        t->own.fired = t->own.delivered = false;
        for (struct scope *sc = t->scope; sc; sc = sc->outer)
            if (sc->kind == SCOPE_GROUP)
                group_rearm(group_of(sc));
    }
    for (struct group *below = g->orphans; below; below = below->next)
        group_rearm(below);
}

/* Takes the error on top of L. */
static void group_fail(lua_State *L, struct group *g)
{
    if (g->error != LUA_NOREF || (g == &g->sched->root && sched_tell_failure(L, g->sched))) {
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
        struct group **at = &g->parent->orphans;
        while (*at != g)
            at = &(*at)->next;
        *at = g->next;
        struct group *parent = g->parent;
        g->counted = false;
        g->parent = &g->sched->root; /* nothing keeps the other from here on */
        parent->live--;
        group_check_end(parent);
    }
}

/* The nearest group above that somebody will still end. */
static struct group *group_heir(struct group *g)
{
    while (!g->owner && g->parent)
        g = g->parent;
    return g;
}

/* Nobody will close it: what is left of it belongs to the group above, a failure too. */
static void group_orphan(struct group *g, struct group *parent)
{
    lua_State *L = g->sched->L;
    scope_leave(&g->scope);
    g->owner = NULL;
    g->parent = parent;
    if (g->live > 0) {
        g->counted = true;
        g->next = parent->orphans;
        parent->orphans = g;
        parent->live++;
        if (parent->cancelled)
            group_cancel(g, "the group above was cancelled");
    }
    if (g->error != LUA_NOREF) {
        lua_checkstack(L, 1);
        lua_rawgeti(L, LUA_REGISTRYINDEX, g->error);
        luaL_unref(L, LUA_REGISTRYINDEX, g->error);
        g->error = LUA_NOREF;
        group_fail(L, group_heir(g));
    }
    if (!g->counted)
        g->parent = &g->sched->root; /* nothing keeps the other */
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
        if (t == g->sched->root_task)
            sched_on_failure(g->sched, NULL, NULL);
        lua_pushvalue(t->co, -1);
        lua_xmove(t->co, g->sched->L, 1);
        group_fail(g->sched->L, group_heir(g));
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
        if (sc->kind == SCOPE_GROUP)
            group_orphan(group_of(sc), owner->group);
        else
            scope_leave(sc);
    }
    for (struct scope *sc = owner->sched->aside, *outer; sc; sc = outer) {
        outer = sc->outer;
        if (sc->task != owner)
            continue;
        sc->task = NULL;
        if (sc->kind == SCOPE_GROUP) /* its coroutine may never be resumed again */
            group_orphan(group_of(sc), owner->group);
    }
}

void group_set_owner(struct scope *sc, struct task *owner)
{
    group_of(sc)->owner = owner;
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
    scope_enter(t, L, &g->scope, SCOPE_GROUP);
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
    struct sched *s = sched_upvalue(L);
    struct group *g = group_check(L);
    if (!g->owner)
        return 0;
    bool by_error = !lua_isnoneornil(L, 2);
    bool echo = g->scope.delivered;
    scope_leave(&g->scope);
    if (by_error)
        group_cancel(g, "cancelled because the block of its group raised an error");
    if (g->live > 0 && !task_can_park(L, s)) {
        group_cancel(g, "cancelled because the block of its group ended where nothing can wait");
        group_orphan(g, g->owner->group);
        if (!by_error)
            task_check_park(L, s); /* raises what is wrong */
        return 0;
    }
    lua_settop(L, 1);
    lua_pushboolean(L, 0);
    return group_end_k(L, LUA_OK, by_error && !echo ? END_CLOSE_ERROR : END_CLOSE);
}

/* Collected although its owner goes on: only a failure that nobody has heard of is left of it. */
static int group_gc(lua_State *L)
{
    struct group *g = lua_touserdata(L, 1);
    struct group *heir = g->parent ? group_heir(g->parent) : NULL;
    scope_leave(&g->scope);
    if (g->error != LUA_NOREF && heir && heir->error == LUA_NOREF)
        heir->error = g->error;
    else if (g->error != LUA_NOREF)
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
