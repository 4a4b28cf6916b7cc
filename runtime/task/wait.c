/* Parking and waking, and the scopes that cancel. */
#include "base/deadline.h"
#include "task/impl.h"

#include <lauxlib.h>
#include <stdarg.h>

/* ---- FIFO of waits ---- */

void wait_queue_push(struct wait_queue *q, struct wait *w)
{
    w->next = NULL;
    w->prev = q->tail;
    if (q->tail)
        q->tail->next = w;
    else
        q->head = w;
    q->tail = w;
}

void wait_queue_remove(struct wait_queue *q, struct wait *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        q->head = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->tail = w->prev;
    w->next = w->prev = NULL;
}

struct wait *wait_queue_pop(struct wait_queue *q)
{
    struct wait *w = q->head;
    if (w)
        wait_queue_remove(q, w);
    return w;
}

void wait_queue_wake(struct wait_queue *q)
{
    for (struct wait *w; (w = wait_queue_pop(q));)
        wait_wake(w);
}

/* ---- waits ---- */

static void settle(struct wait *w, enum wait_status status)
{
    struct task *t = w->task;
    w->status = status;
    sched_timer_rest(t->sched, &w->timer);
    if (t->state == TASK_PARKED && t != &t->sched->main_task)
        sched_make_ready(t->sched, t);
}

void wait_cancel(struct wait *w)
{
    w->abandon(w);
    settle(w, WAIT_CANCELLED);
}

static void expired(struct sched_timer *timer)
{
    struct wait *w = timer->data;
    w->abandon(w);
    settle(w, WAIT_TIMEOUT);
}

struct wait *wait_begin(struct sched *s, uint64_t deadline, void (*abandon)(struct wait *w), void *data)
{
    struct task *t = s->current;
    struct wait *w = &t->wait;
    w->task = t;
    w->abandon = abandon;
    w->data = data;
    w->next = w->prev = NULL;
    w->told = NULL;
    w->status = WAIT_PENDING;
    w->timer.fn = expired;
    w->timer.data = w;
    w->timer.deadline = deadline;
    if (deadline != DEADLINE_NEVER) /* most statements have no limit */
        sched_timer_start(s, &w->timer, deadline);
    return w;
}

void wait_set_deadline(struct wait *w, uint64_t deadline)
{
    if (!w || w->status != WAIT_PENDING)
        return;
    sched_timer_start(w->task->sched, &w->timer, deadline);
}

void wait_wake(struct wait *w)
{
    if (w && w->status == WAIT_PENDING)
        settle(w, WAIT_DONE);
}

enum wait_status wait_end(struct sched *s)
{
    struct wait *w = &s->current->wait;
    enum wait_status status = w->status;
    w->status = WAIT_NONE;
    if (w->told)
        traced_wait_ended(s, w);
    return status;
}

static int parked_k(lua_State *L, int status, lua_KContext ctx)
{
    struct task *t = (struct task *)ctx;
    if (t->wait.status == WAIT_PENDING) {
        /* C code resumed a coroutine that a task is parked in. */
        t->wait.abandon(&t->wait);
        t->wait.status = WAIT_NONE;
        if (t->wait.told)
            traced_wait_ended(t->sched, &t->wait);
        sched_timer_rest(t->sched, &t->wait.timer);
        return sched_usage(L, t->sched, "a coroutine that waits was resumed from outside the scheduler");
    }
    return t->k(L, status, t->kctx);
}

/* The outermost scope inside the innermost shield that fired and was not delivered yet. */
static struct scope *scope_due(const struct task *t)
{
    struct scope *due = NULL;
    for (struct scope *sc = t->scope; sc && sc->kind != SCOPE_SHIELD; sc = sc->outer)
        if (sc->fired && !sc->delivered)
            due = sc;
    return due;
}

bool scope_was_delivered(const struct task *t)
{
    for (const struct scope *sc = t->scope; sc && sc->kind != SCOPE_SHIELD; sc = sc->outer)
        if (sc->delivered)
            return true;
    return false;
}

static void remember(struct task *t, struct scope *sc)
{
    sc->delivered = true;
    t->cancel_kind = sc->kind;
    t->cancel_reason = sc->reason;
    t->cancel_seconds = sc->seconds;
}

int wait_park(lua_State *L, struct wait *w, lua_KContext ctx, lua_KFunction k)
{
    struct task *t = w->task;
    struct sched *s = t->sched;
    /* A scope may have fired between the end of the previous wait and its continuation: without this check
     * an operation with several waits would wait once more. */
    struct scope *due = w->status == WAIT_PENDING ? scope_due(t) : NULL;
    if (due) {
        remember(t, due);
        wait_cancel(w);
        return k(L, LUA_YIELD, ctx);
    }
    if (t == &s->main_task)
        s->turn_until(s, w);
    if (w->status != WAIT_PENDING)
        return k(L, LUA_YIELD, ctx);
    t->k = k;
    t->kctx = ctx;
    t->state = TASK_PARKED;
    s->parking = true;
    return lua_yieldk(L, 0, (lua_KContext)t, parked_k);
}

bool task_can_park(lua_State *L, const struct sched *s)
{
    return s->current == &s->main_task || (lua_isyieldable(L) && !s->blocked);
}

void task_check_park(lua_State *L, struct sched *s)
{
    struct task *t = s->current;
    if (s->closed) /* a finaliser that runs after the scheduler's */
        sched_usage(L, s, "this function waits, and the program has ended");
    if (t != &s->main_task) {
        if (!task_can_park(L, s))
            sched_usage(
                L, s,
                "this function waits, and nothing can wait here (a sort comparator, a gsub "
                "callback, __tostring, __gc, coroutine.close or while a module loads): use the sync engine "
                "(db.sync), or call it outside");
        if (t->state != TASK_RUNNING)
            sched_usage(L, s, "this coroutine does not belong to the task that runs now");
    }
    scope_deliver(L, t);
}

/* ---- scopes ---- */

void scope_enter(struct task *t, lua_State *co, struct scope *sc, enum scope_kind kind)
{
    *sc = (struct scope){.sched = t->sched, .task = t, .co = co, .kind = kind, .outer = t->scope};
    t->scope = sc;
}

void scope_leave(struct scope *sc)
{
    if (!sc->task && !sc->aside)
        return;
    struct scope **at = sc->aside ? &sc->sched->aside : &sc->task->scope;
    while (*at && *at != sc)
        at = &(*at)->outer;
    if (*at)
        *at = sc->outer;
    sc->task = NULL;
    sc->aside = false;
}

/* Moves the scopes that `co` entered to the head of another list, in the same order. */
static struct scope *move_scopes(struct scope **from, struct scope **to, lua_State *co)
{
    struct scope *first = NULL;
    struct scope **last = &first;
    while (*from) {
        struct scope *sc = *from;
        if (sc->co != co) {
            from = &sc->outer;
            continue;
        }
        *from = sc->outer;
        *last = sc;
        last = &sc->outer;
    }
    *last = *to;
    if (first)
        *to = first;
    return first;
}

void scopes_put_aside(struct sched *s, lua_State *co)
{
    struct scope *sc = move_scopes(&s->current->scope, &s->aside, co);
    for (; sc && sc->co == co; sc = sc->outer)
        sc->aside = true;
}

void scopes_bring_back(struct sched *s, lua_State *co)
{
    struct scope *sc = s->aside ? move_scopes(&s->aside, &s->current->scope, co) : NULL;
    for (; sc && sc->aside; sc = sc->outer) {
        sc->aside = false;
        sc->task = s->current;
        if (sc->moved)
            sc->moved(sc, s->current);
    }
}

void scopes_disown(struct sched *s, lua_State *co)
{
    for (struct scope *sc = s->current->scope; sc; sc = sc->outer)
        if (sc->co == co)
            sc->co = NULL;
    for (struct scope *sc = s->aside; sc; sc = sc->outer)
        if (sc->co == co)
            sc->co = NULL;
}

static bool shielded(const struct scope *sc)
{
    for (const struct scope *in = sc->task->scope; in && in != sc; in = in->outer)
        if (in->kind == SCOPE_SHIELD)
            return true;
    return false;
}

void scope_fire(struct scope *sc, const char *reason)
{
    struct task *t = sc->task;
    if (sc->fired || (!t && !sc->aside))
        return;
    sc->fired = true;
    sc->reason = reason;
    if (sc->aside || t->state == TASK_DONE)
        return;
    struct wait *w = &t->wait;
    if (t->state != TASK_PARKED || w->status != WAIT_PENDING || shielded(sc))
        return;
    remember(t, sc);
    wait_cancel(w);
}

void scope_deliver(lua_State *L, struct task *t)
{
    struct scope *due = scope_due(t);
    if (!due)
        return;
    remember(t, due);
    task_raise_cancelled(L, t->sched);
}

void task_deliver(lua_State *L, struct sched *s)
{
    const struct scope *own = &s->current->own;
    if (own->fired && !own->delivered)
        scope_deliver(L, s->current);
}

int task_raise_cancelled(lua_State *L, struct sched *s)
{
    return task_raise_cancelled_with(L, s, OUTCOME_NONE);
}

void task_cancelled_error(struct sched *s, struct error *e)
{
    struct task *t = s->current;
    if (t->cancel_kind == SCOPE_TIMEOUT)
        error_set(e, ERROR_TIMEOUT, "the time limit of %g s has passed (%s)", t->cancel_seconds,
                  t->cancel_reason);
    else
        error_set(e, ERROR_CANCELLED, "%s", t->cancel_reason ? t->cancel_reason : "the task was cancelled");
}

int task_raise_cancelled_with(lua_State *L, struct sched *s, enum error_outcome outcome)
{
    struct error e = {0};
    task_cancelled_error(s, &e);
    e.outcome = outcome;
    s->push_error(L, s->push_error_data, &e);
    error_clear(&e);
    return lua_error(L);
}

int sched_usage(lua_State *L, struct sched *s, const char *fmt, ...)
{
    struct error e = {0};
    va_list ap;
    va_start(ap, fmt);
    error_setv(&e, ERROR_USAGE, fmt, ap);
    va_end(ap);
    s->push_error(L, s->push_error_data, &e);
    error_clear(&e);
    return lua_error(L);
}
