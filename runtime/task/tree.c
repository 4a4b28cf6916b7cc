/* Walks over all tasks below a group: its own, those of groups that these tasks have open or are closing, and
 * those of orphaned groups. */
#include "task/impl.h"

/* Lists of groups replace a recursion, whose stack would be as deep as the groups are nested. */
struct walk {
    struct group *found; /* groups whose tasks have still to be searched for further groups */
    struct group **end;  /* of `found` */
    struct group *seen;  /* the last group first */
    uint32_t number;
    bool from_outside; /* skips what is inside a shield, and marks the groups as cancelled */
};

static void find_group(struct walk *w, struct group *g)
{
    if (g->walked == w->number)
        return;
    g->walked = w->number;
    g->walk_next = NULL;
    *w->end = g;
    w->end = &g->walk_next;
}

/* The scopes outside the outermost shield. */
static struct scope *outside_shields(struct scope *first)
{
    struct scope *outside = first;
    for (struct scope *sc = first; sc; sc = sc->outer)
        if (sc->kind == SCOPE_SHIELD)
            outside = sc->outer;
    return outside;
}

/* The groups that the task has open, and the one that it closes or waits for. */
static void find_groups_of(struct walk *w, const struct task *t)
{
    struct scope *first = w->from_outside ? outside_shields(t->scope) : t->scope;
    struct group *ending = group_waited_for(t);
    if (ending && first == t->scope)
        find_group(w, ending);
    for (struct scope *sc = first; sc; sc = sc->outer)
        if (sc->kind == SCOPE_GROUP)
            find_group(w, group_of(sc));
}

static void find_below(struct walk *w)
{
    while (w->found) {
        struct group *g = w->found;
        for (struct task *t = g->tasks; t; t = t->next)
            find_groups_of(w, t);
        for (struct group *below = g->orphans; below; below = below->next)
            find_group(w, below);
        w->found = g->walk_next;
        g->walk_next = w->seen;
        w->seen = g;
    }
    w->end = &w->found;
}

static bool is_shielded_aside(const struct scope *sc)
{
    if (sc->task && outside_shields(sc->task->scope) != sc->task->scope)
        return true;
    return outside_shields(sc->outer) != sc->outer; /* also of another coroutine: near enough */
}

/* For the root group, also visits the groups of suspended coroutines and of the main thread. */
static void walk(struct group *top, bool from_outside, void (*visit)(struct task *t, const char *reason),
                 const char *reason)
{
    struct sched *s = top->sched;
    struct walk w = {.number = ++s->walks, .from_outside = from_outside, .end = &w.found};
    find_group(&w, top);
    find_below(&w);
    if (top == &s->root) {
        find_groups_of(&w, &s->main_task);
        for (struct scope *sc = s->aside; sc; sc = sc->outer)
            if (sc->kind == SCOPE_GROUP && !(from_outside && is_shielded_aside(sc)))
                find_group(&w, group_of(sc));
        find_below(&w);
    }
    /* Inner groups first: a task that is cancelled while it waits for its group cancels this group. */
    for (struct group *g = w.seen; g; g = g->walk_next) {
        if (from_outside)
            g->cancelled = true;
        for (struct task *t = g->tasks; t; t = t->next)
            visit(t, reason);
    }
}

static void fire(struct task *t, const char *reason)
{
    scope_fire(&t->own, reason);
}

void tree_cancel(struct group *top, const char *reason)
{
    walk(top, true, fire, reason);
}

static void fire_again(struct task *t, const char *reason)
{
    t->own.fired = t->own.delivered = false;
    scope_fire(&t->own, reason);
}

void tree_cancel_again(struct group *top, const char *reason)
{
    walk(top, true, fire_again, reason);
}

static void end_wait(struct task *t, const char *reason)
{
    t->own.fired = t->own.delivered = true;
    t->own.reason = reason;
    t->cancel_kind = SCOPE_TASK;
    t->cancel_reason = reason;
    if (t->state == TASK_PARKED && t->wait.status == WAIT_PENDING)
        wait_cancel(&t->wait);
}

void tree_end_waits(struct group *top, const char *reason)
{
    walk(top, false, end_wait, reason);
}

static void tell_stuck(struct task *t, const char *reason)
{
    (void)reason;
    task_tell_stuck(t);
}

void tree_tell_stuck(struct group *top)
{
    walk(top, false, tell_stuck, NULL);
}

/* ---- leaving tasks behind ---- */

static void leave_task(struct task *t, struct tree_left *left)
{
    if (!t->daemon) {
        left->count++;
        if (!left->where[0] && (task_where(t, left->where, sizeof left->where) || left->count == 1))
            left->id = t->id;
    }
    task_halt(t->sched, t);
}

void tree_leave(struct group *top, struct tree_left *left)
{
    struct group *g = top;
    for (;;) {
        struct group *above = g == top ? NULL : g->parent;
        while (g->tasks)
            leave_task(g->tasks, left);
        if (g->orphans)
            g = g->orphans; /* a group leaves the list with its last task */
        else if (g == top)
            return;
        else
            g = above->orphans ? above : top; /* the groups above may have ended with it */
    }
}
