/* A task waits for its statement. */
#include "base/deadline.h"
#include "bind/pg/link.h"

static void wake(struct pg_link *link)
{
    pg_link_set_user(link, NULL);
    pg_link_wake(link);
}

/* Called when the statement has ended. Does not wake its task while a cancel request is under way, because
 * the request could cancel the task's next statement. */
static void settle(struct pg_link *link)
{
    if (!link->cancel || link->m.state == PG_BROKEN)
        wake(link);
}

static void stepped(struct pg_link *link, unsigned step)
{
    if (step != PG_ROW) {
        settle(link);
        return;
    }
    io_watch_want(link->io, 0); /* do not read more before the task has taken the row */
    wake(link);
}

static void going_on(struct pg_link *link)
{
    if (pg_link_has_unwanted_copy(link))
        pg_link_request_cancel(link);
}

/* True when the statement has not ended. Data of a COPY that is being cancelled can still arrive. */
static bool goes_on(const struct pg_link *link)
{
    const struct pg_machine *m = &link->m;
    return m->state == PG_PLAIN || m->state == PG_PIPE || (m->state == PG_COPY_OUT && m->unwanted);
}

static void cancel_answered(struct pg_link *link)
{
    if (!goes_on(link))
        settle(link);
}

static void taken_away(struct pg_link *link)
{
    pg_link_abandon(link, 0);
}

static const struct pg_link_user statement_user = {
    .name = "statement",
    .stepped = stepped,
    .going_on = going_on,
    .cancel_answered = cancel_answered,
    .taken_away = taken_away,
};

static void abandoned(struct wait *w)
{
    struct pg_link *link = w->data;
    link->waiter = NULL;
    pg_link_abandon(link, 0);
}

static void wait_blocking(struct pg_link *link, double timeout)
{
    enum io_status status = pg_link_run_blocking(link, deadline_min(link->until, link->deadline));
    if (status != IO_READY)
        pg_link_cut_short(link, status, link->until <= link->deadline ? timeout : 0);
}

static int park(lua_State *L, struct pg_link *link, lua_KContext ctx, lua_KFunction k)
{
    link->waiter = wait_begin(link->engine->rt->sched, link->until, abandoned, link);
    pg_link_set_user(link, &statement_user);
    pg_link_watch(link);
    return wait_park(L, link->waiter, ctx, k);
}

int pg_link_wait(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k)
{
    link->until = timeout > 0 ? deadline_in(timeout) : DEADLINE_NEVER;
    if (!link->engine->sync)
        return park(L, link, ctx, k);
    wait_blocking(link, timeout);
    return k(L, LUA_OK, ctx);
}

int pg_link_wait_more(lua_State *L, struct pg_link *link, double timeout, lua_KContext ctx, lua_KFunction k)
{
    if (link->engine->sync) {
        wait_blocking(link, timeout);
        return 0;
    }
    if (PQsocket(link->m.conn) >= 0)
        io_watch_want(link->io, IO_READ);
    return park(L, link, ctx, k);
}
