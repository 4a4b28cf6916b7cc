/* All tasks: those of a group, of the groups that they have open or close, and of the groups below that
 * nobody closed. */
#include "task/impl.h"

struct walk {
    void (*visit)(struct task *t, const char *reason);
    const char *reason;
    uint32_t number;
    bool from_outside; /* what is inside a shield is left out, and the groups count as cancelled */
};

static void walk_group(const struct walk *w, struct group *g);

/* The scopes outside of the outermost shield. */
static struct scope *outside_shields(struct scope *first)
{
    struct scope *outside = first;
    for (struct scope *sc = first; sc; sc = sc->outer)
        if (sc->kind == SCOPE_SHIELD)
            outside = sc->outer;
    return outside;
}

/* The groups that the task has open, and the one that it closes or waits for. */
static void walk_groups_of(const struct walk *w, const struct task *t)
{
    struct scope *first = w->from_outside ? outside_shields(t->scope) : t->scope;
    struct group *ending = group_waited_for(t);
    if (ending && first == t->scope)
        walk_group(w, ending);
    for (struct scope *sc = first; sc; sc = sc->outer)
        if (sc->kind == SCOPE_GROUP)
            walk_group(w, group_of(sc));
}

static void walk_group(const struct walk *w, struct group *g)
{
    if (g->walked == w->number)
        return;
    g->walked = w->number;
    if (w->from_outside)
        g->cancelled = true;
    for (struct task *t = g->tasks; t; t = t->next) {
        walk_groups_of(w, t); /* first: a task that is cancelled while it waits for its group cancels that */
        w->visit(t, w->reason);
    }
    for (struct group *below = g->orphans; below; below = below->next)
        walk_group(w, below);
}

static bool is_shielded_aside(const struct scope *sc)
{
    if (sc->task && outside_shields(sc->task->scope) != sc->task->scope)
        return true;
    return outside_shields(sc->outer) != sc->outer; /* of its coroutine; of another is near enough */
}

/* `top` = the root group: also the groups of suspended coroutines, and of the main thread. */
static void walk(struct group *top, bool from_outside, void (*visit)(struct task *t, const char *reason),
                 const char *reason)
{
    struct sched *s = top->sched;
    const struct walk w = {
        .visit = visit, .reason = reason, .number = ++s->walks, .from_outside = from_outside};
    walk_group(&w, top);
    if (top != &s->root)
        return;
    walk_groups_of(&w, &s->main_task);
    for (struct scope *sc = s->aside; sc; sc = sc->outer)
        if (sc->kind == SCOPE_GROUP && !(from_outside && is_shielded_aside(sc)))
            walk_group(&w, group_of(sc));
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
    while (top->tasks)
        leave_task(top->tasks, left);
    while (top->orphans)
        tree_leave(top->orphans, left); /* with its last task it leaves the list */
}
