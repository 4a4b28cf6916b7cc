/* Groups: tasks that end together, and the error of the first that failed. */
#include "base/deadline.h"
#include "task/impl.h"

#include <lauxlib.h>

void group_init(struct group *g, struct sched *s)
{
    *g = (struct group){.sched = s, .error = LUA_NOREF, .told = LUA_NOREF};
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

static void cancel_tasks(struct group *g)
{
    g->cancelled = true;
    for (struct task *t = g->tasks; t; t = t->next)
        scope_fire(&t->own, g->cancel_reason);
    for (struct group *below = g->orphans; below; below = below->next)
        group_cancel(below, g->cancel_reason);
}

/* A task that is cancelled while it waits for a group cancels this group, whose tasks can wait for further
 * groups. A list replaces a recursion, whose stack would be as deep as the groups are nested. */
void group_cancel(struct group *g, const char *reason)
{
    struct sched *s = g->sched;
    bool first = s->cancel_head == NULL;
    if (g == s->cancel_tail || g->cancel_next) /* already in the list */
        return;
    g->cancel_reason = reason;
    if (first)
        s->cancel_head = g;
    else
        s->cancel_tail->cancel_next = g;
    s->cancel_tail = g;
    while (first && s->cancel_head) {
        struct group *next = s->cancel_head;
        cancel_tasks(next);
        s->cancel_head = next->cancel_next;
        next->cancel_next = NULL;
    }
    if (first)
        s->cancel_tail = NULL;
}

static void abandon_wait(struct wait *w)
{
    struct group *g = w->data;
    wait_queue_remove(&g->waiters, w);
    group_cancel(g, "cancelled because the owner of its group was cancelled");
}

struct wait *group_wait_begin(struct group *g, struct sched *s)
{
    struct wait *w = wait_begin(s, DEADLINE_NEVER, abandon_wait, g);
    wait_queue_push(&g->waiters, w);
    return w;
}

struct group *group_waited_for(const struct task *t)
{
    return t->wait.status != WAIT_NONE && t->wait.abandon == abandon_wait ? t->wait.data : NULL;
}

static void abandon_wait_alone(struct wait *w)
{
    struct group *g = w->data;
    wait_queue_remove(&g->waiters, w);
}

void task_tell_stuck(struct task *t)
{
    bool for_group = group_waited_for(t) != NULL;
    if (t->state != TASK_PARKED || t->wait.status != WAIT_PENDING)
        return;
    t->cancel_kind = SCOPE_TASK;
    t->cancel_reason = STUCK_REASON;
    if (for_group)
        t->wait.abandon = abandon_wait_alone;
    wait_cancel(&t->wait);
    if (for_group)
        t->wait.abandon = abandon_wait; /* group_waited_for recognises the wait by this function */
}

/* Takes the failure on top of L. */
static void group_fail(lua_State *L, struct group *g)
{
    if (g->error != LUA_NOREF || (g == &g->sched->root && sched_report_failure(L, g->sched))) {
        lua_pop(L, 1);
        return;
    }
    g->error = luaL_ref(L, LUA_REGISTRYINDEX);
    group_cancel(g, "cancelled because another task of its group failed");
    if (g->owner && !g->waiters.head)
        scope_fire(&g->scope, "cancelled because a task of the group failed");
}

/* Removes the group from the list of the group that counts it. */
static void group_uncount(struct group *g)
{
    struct group **at = &g->parent->orphans;
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    g->counted = false;
}

static void group_count(struct group *g, struct group *parent)
{
    g->parent = parent;
    g->counted = true;
    g->next = parent->orphans;
    parent->orphans = g;
    parent->live++;
}

/* Wakes all tasks that wait for the group's end. Each of them raises the group's error. */
static void wake_waiters(struct group *g)
{
    struct wait *w;
    if (g->waiters.head && g->told == LUA_NOREF) {
        g->told = g->error;
        g->error = LUA_NOREF;
    }
    while ((w = wait_queue_pop(&g->waiters))) {
        if (g->told != LUA_NOREF)
            g->untold++;
        wait_wake(w);
    }
}

static void group_check_end(struct group *g)
{
    while (g->live == 0) {
        struct group *parent = g->parent;
        wake_waiters(g);
        if (!g->counted)
            return;
        group_uncount(g);
        g->parent = &g->sched->root; /* the parent may be freed from here on */
        parent->live--;
        g = parent;
    }
}

struct group *group_heir(struct group *g)
{
    while (!g->owner && g->parent)
        g = g->parent;
    return g;
}

bool group_is_inside(const struct group *in, const struct group *g)
{
    if (in == g->parent) /* the task that made it closes it: no search, however deep it is */
        return false;
    while (in && in != g)
        in = in->parent;
    return in != NULL;
}

struct group *group_around(struct group *g)
{
    struct group *around = g->owner->group;
    for (struct scope *sc = g->owner->scope; sc; sc = sc->outer) {
        if (sc->kind != SCOPE_GROUP || sc == &g->scope)
            continue;
        around = group_of(sc);
        break;
    }
    return group_is_inside(around, g) ? &g->sched->root
                                      : around; /* a task of the group itself may close it */
}

void group_collected(struct group *g)
{
    struct group *heir = &g->sched->root;
    if (g->orphans && g->parent)
        heir = group_heir(g->parent);
    while (g->orphans) {
        struct group *below = g->orphans;
        group_uncount(below);
        group_count(below, heir);
    }
    if (g->counted) {
        group_uncount(g);
        g->parent->live--; /* the heir may be another group above */
        group_check_end(g->parent);
    }
    g->owner = NULL;
    g->parent = &g->sched->root; /* for a group that is collected later */
}

void group_orphan(struct group *g, struct group *parent)
{
    lua_State *L = g->sched->L;
    scope_leave(&g->scope);
    g->owner = NULL;
    g->parent = parent;
    if (g->live > 0) {
        group_count(g, parent);
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
        g->parent = &g->sched->root; /* the parent may be freed from here on */
}

void group_leave(struct group *g, struct task *t)
{
    if (g->waiters.head)
        g->owner = g->waiters.head->task;
    else
        group_orphan(g, t->group);
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

static void set_owner(struct scope *sc, struct task *owner)
{
    group_of(sc)->owner = owner;
    group_of(sc)->opened_by = owner->id;
}

void group_enter(lua_State *L, struct group *g, struct task *t)
{
    g->owner = t;
    g->opened_by = t->id;
    g->parent = t->group;
    scope_enter(t, L, &g->scope, SCOPE_GROUP);
    g->scope.moved = set_owner;
}
