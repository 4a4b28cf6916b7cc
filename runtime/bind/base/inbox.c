#include "bind/base/inbox.h"

#include "bind/base/error.h"
#include "task/traced.h"

enum { FULL_AT = 8 * 1024 * 1024, ROOM_AT = FULL_AT / 2 };

static void wake(struct inbox *in)
{
    struct wait *w = in->wait;
    in->wait = NULL;
    wait_wake(w);
}

/* ---- putting ---- */

void inbox_put(struct inbox *in, struct inbox_item *i, size_t weight)
{
    *i = (struct inbox_item){NULL, weight};
    if (in->tail)
        in->tail->next = i;
    else
        in->head = i;
    in->tail = i;
    in->bytes += weight;
    if (in->bytes >= FULL_AT)
        in->full = true;
    wake(in);
}

void inbox_lose(struct inbox *in, const struct error *why)
{
    if (!error_is_set(&in->lost)) {
        error_copy(&in->lost, why);
        in->lost.outcome = OUTCOME_NONE;
        in->lost.retryable = true;
    }
    wake(in);
}

/* Removes the oldest item from the list, which must not be empty. */
static struct inbox_item *unlink_first(struct inbox *in)
{
    struct inbox_item *i = in->head;
    in->head = i->next;
    if (!in->head)
        in->tail = NULL;
    in->bytes -= i->weight;
    if (in->bytes <= ROOM_AT)
        in->full = false;
    return i;
}

void inbox_close(struct inbox *in)
{
    while (in->head)
        in->free(unlink_first(in));
    wake(in);
}

void inbox_free(struct inbox *in)
{
    in->wait = NULL;
    inbox_close(in);
    while (in->taken) /* making Lua values of these has raised "not enough memory" */
        inbox_taken(in, in->taken);
    error_clear(&in->lost);
}

/* ---- taking ---- */

bool inbox_has(const struct inbox *in)
{
    return in->head != NULL;
}

struct inbox_item *inbox_take(struct inbox *in)
{
    struct inbox_item *i = unlink_first(in);
    i->next = in->taken;
    in->taken = i;
    return i;
}

void inbox_taken(struct inbox *in, struct inbox_item *i)
{
    struct inbox_item **at = &in->taken;
    while (*at != i)
        at = &(*at)->next;
    *at = i->next;
    in->free(i);
}

static void abandon(struct wait *w)
{
    struct inbox *in = w->data;
    in->wait = NULL;
}

int inbox_wait(lua_State *L, struct runtime *rt, struct inbox *in, uint64_t deadline, lua_KContext ctx,
               lua_KFunction k)
{
    in->taking = true;
    in->wait = wait_begin(rt->sched, deadline, abandon, in);
    wait_told(L, rt->sched, in->wait, TRACE_WAIT, "message");
    return wait_park(L, in->wait, ctx, k);
}

void inbox_waited(lua_State *L, struct runtime *rt, struct inbox *in)
{
    in->taking = false;
    if (wait_end(rt->sched) == WAIT_CANCELLED)
        task_raise_cancelled(L, rt->sched);
}

int inbox_raise_lost(lua_State *L, struct runtime *rt, const struct inbox *in)
{
    struct error e = {0};
    error_copy(&e, &in->lost);
    return bind_error_raise(L, rt, &e);
}
