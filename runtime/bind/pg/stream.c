/*
 * Rows one by one: `for row in engine:rows(...) do`. The stream keeps the connection until the last row; it
 * reads the socket only while the loop waits for a row, so a slow consumer slows the server down instead of
 * filling the memory. Leaving the loop early cancels the statement.
 */
#include "bind/pg/stream.h"
#include "base/deadline.h"
#include "bind/base/args.h"
#include "bind/base/error.h"
#include "bind/pg/lease.h"
#include "bind/pg/notices.h"
#include "bind/pg/result.h"
#include "bind/pg/traced.h"
#include "pg/errors.h"

#include <assert.h>

#define STREAM_CLASS "dbrun.pg.stream"
#define BOX_CLASS    "dbrun.pg.row"

/* The stack while a row is read: 1 = the stream, 2 = the box. */
enum { BOX = 2 };

/* When a loop is left early in a transaction: seconds to read the rest of the rows before the statement is
 * cancelled. */
#define LEFT_GRACE 5.0

struct pg_stream *pg_stream_new(lua_State *L)
{
    struct pg_stream *s = lua_newuserdatauv(L, sizeof *s, PG_STREAM_VALUES);
    *s = (struct pg_stream){.link = NULL};
    luaL_setmetatable(L, STREAM_CLASS);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, PG_STREAM_LEASE);
    return s;
}

/* ---- the box ---- */

struct pg_row_box *pg_row_box_push(lua_State *L)
{
    lua_getiuservalue(L, 1, PG_STREAM_BOX);
    struct pg_row_box *box = lua_touserdata(L, -1);
    if (box && !box->engine)
        return box;
    lua_pop(L, 1); /* in use: a finaliser reads the next row while one is made, or making a row has failed */
    box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct pg_row_box){.engine = NULL};
    luaL_setmetatable(L, BOX_CLASS);
    return box;
}

static void box_clear(struct pg_row_box *box)
{
    struct pg_engine *e = box->engine;
    PQclear(box->row);
    box->row = NULL;
    buf_clear(&box->buf);
    box->engine = NULL;
    if (e)
        pg_engine_unref(e);
}

void pg_row_box_begin(struct pg_row_box *box, struct pg_engine *e)
{
    assert(!box->engine); /* pg_row_box_push pushed it empty, and only one task reads at a time */
    box->engine = e;
    pg_engine_ref(e);
}

void pg_row_box_done(lua_State *L, int index)
{
    struct pg_row_box *box = lua_touserdata(L, index);
    box_clear(box);
    if (box->kept)
        return;
    box->kept = true;
    lua_pushvalue(L, index);
    lua_setiuservalue(L, 1, PG_STREAM_BOX);
}

static int box_gc(lua_State *L)
{
    struct pg_row_box *box = bind_self(L, BOX_CLASS);
    box_clear(box);
    buf_free(&box->buf);
    return 0;
}

/* ---- the link ---- */

/* Ends the stream's use of its link. */
static void detach(struct pg_stream *s)
{
    if (!s->link)
        return;
    s->link->stream = NULL;
    pg_link_set_user(s->link, NULL);
    s->link = NULL;
}

/* Stops reading until the consumer asks for more, so that the server cannot send more than the consumer
 * takes. */
static void stepped(struct pg_link *link, unsigned step)
{
    link->stream_step = step;
    link->stream->woken = link->waiter != NULL;
    io_watch_want(link->io, 0);
    wait_wake(link->waiter);
    link->waiter = NULL;
}

static void taken_away(struct pg_link *link)
{
    struct pg_stream *s = link->stream;
    s->lost = true;
    pg_stream_stop(s);
}

/* Called when the link is freed or returns to its pool. */
static void on_detach(struct pg_link *link)
{
    detach(link->stream);
}

static const struct pg_link_user stream_user = {
    .name = "stream", .stepped = stepped, .taken_away = taken_away, .detach = on_detach};

void pg_stream_attach(struct pg_stream *s, struct pg_link *link, bool own)
{
    s->link = link;
    s->own = own;
    link->stream = s;
    pg_link_set_user(link, &stream_user);
    if (link->io)
        io_watch_want(link->io, link->m.flushing && PQsocket(link->m.conn) >= 0 ? IO_READ | IO_WRITE : 0);
}

void pg_stream_attach_ready(struct pg_stream *s, struct pg_link *link, bool own)
{
    pg_stream_attach(s, link, own);
    s->first = pg_machine_is_busy(&link->m) ? PG_ROW : PG_DONE;
}

/* What the step before the stream was attached returned; without one, makes a step that does not wait. */
static unsigned first_step(struct pg_stream *s)
{
    unsigned step = s->first;
    s->first = 0;
    return step ? step : pg_machine_step(&s->link->m, 0);
}

int pg_stream_push_iterator(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushvalue(L, index);
    return 4;
}

void pg_stream_finish(struct pg_stream *s)
{
    struct pg_link *link = s->link;
    detach(s);
    if (link->traced)
        pg_traced_work_over(link, NULL);
    if (link->io)
        pg_link_rest(link);
    if (s->own)
        pg_link_release(link);
}

/* Sync engine: reads the rest for at most `grace` seconds, then cancels for at most `cancel` seconds, or for
 * command_timeout if that is shorter. */
static void drain_blocking(struct pg_link *link, double grace, double cancel)
{
    double timeout = link->engine->command_timeout;
    unsigned step;
    if (grace > 0) {
        uint64_t deadline = deadline_min(deadline_in(grace), link->deadline);
        if (pg_link_step_blocking(link, &step, deadline) == IO_READY)
            return;
        pg_link_warn_cancelled(link);
    }
    pg_link_cancel_blocking(link, timeout > 0 && timeout < cancel ? timeout : cancel);
}

static void stop(struct pg_stream *s, double grace, double cancel)
{
    struct pg_link *link = s->link;
    if (!link)
        return;
    detach(s);
    if (link->traced)
        pg_traced_work_over(link, NULL);
    if (link->waiter) { /* this task ends the stream while another one waits for its next row */
        s->lost = true;
        wait_wake(link->waiter);
        link->waiter = NULL;
    }
    pg_machine_discard(&link->m);
    bool over = pg_machine_step(&link->m, 0) == PG_DONE;
    if (link->io)
        pg_link_rest(link);
    if (!over && link->engine->sync)
        drain_blocking(link, grace, cancel);
    else if (!over)
        pg_link_abandon(link, grace);
    if (s->own)
        pg_link_release(link);
}

void pg_stream_stop(struct pg_stream *s)
{
    stop(s, 0, PG_DRAIN_LIMIT);
}

void pg_stream_leave(struct pg_stream *s, bool failed)
{
    if (s->link && s->link->telling)
        return; /* on_notice, called by end_of_rows, closes the stream; end_of_rows then finishes it */
    bool goes_on = s->link && !s->own && !failed && s->link->m.in_transaction;
    stop(s, goes_on ? LEFT_GRACE : 0, PG_DRAIN_LIMIT);
}

void pg_stream_check_codec(lua_State *L, const struct pg_stream *s)
{
    if (s->link && s->link->engine->decoder.in_codec)
        bind_fail(L, bind_runtime(L), ERROR_USAGE,
                  "a codec cannot continue or end the iteration whose value it decodes");
}

static int stream_close(lua_State *L)
{
    struct pg_stream *s = bind_self(L, STREAM_CLASS);
    pg_stream_check_codec(L, s);
    pg_stream_leave(s, !lua_isnoneornil(L, 2));
    return 0;
}

void pg_stream_collected(struct pg_stream *s)
{
    struct pg_link *link = s->link;
    if (!link || link->telling) /* on_notice called __gc explicitly */
        return;
    if (!link->engine->sync) {
        pg_stream_stop(s);
        return;
    }
    detach(s);
    pg_machine_break(&link->m);
    if (s->own)
        pool_discard(link->engine->pool, link->slot, mono_now());
}

static int stream_gc(lua_State *L)
{
    struct pg_stream *s = bind_self(L, STREAM_CLASS);
    pg_stream_collected(s);
    return 0;
}

/* Makes and keeps what all rows share: names, metatable, plan. */
static void begin_rows(lua_State *L, const struct pg_decoder *d, const PGresult *r, unsigned form)
{
    int n = PQnfields(r);
    lua_createtable(L, n, 0);
    for (int c = 0; c < n; c++) {
        lua_pushstring(L, PQfname(r, c));
        lua_rawseti(L, -2, c + 1);
    }
    lua_setiuservalue(L, 1, PG_STREAM_NAMES);
    pg_result_meta(L, d, r);
    lua_setiuservalue(L, 1, PG_STREAM_META);
    pg_row_plan_push(L, d, r, form);
    lua_setiuservalue(L, 1, PG_STREAM_PLAN);
}

/* Pushes the rows' plan, their metatable, the list of their names, and the names. Returns a copy of the plan
 * for this row, because a finaliser may read the next row while this one is made. */
static struct pg_row_plan push_plan(lua_State *L, const struct pg_decoder *d, const PGresult *r,
                                    unsigned form)
{
    int n = PQnfields(r);
    luaL_checkstack(L, n + 12, "a result with too many columns");
    if (lua_getiuservalue(L, 1, PG_STREAM_PLAN) != LUA_TUSERDATA) {
        lua_pop(L, 1);
        begin_rows(L, d, r, form);
        lua_getiuservalue(L, 1, PG_STREAM_PLAN);
    }
    struct pg_row_plan plan = *(struct pg_row_plan *)lua_touserdata(L, -1);
    lua_getiuservalue(L, 1, PG_STREAM_META);
    plan.meta = lua_gettop(L);
    lua_getiuservalue(L, 1, PG_STREAM_NAMES);
    plan.keys = plan.meta + 2;
    for (int c = 0; c < n; c++)
        lua_rawgeti(L, plan.meta + 1, c + 1);
    plan.reading.result = r;
    return plan;
}

static int give_row(lua_State *L, struct pg_stream *s)
{
    struct pg_row_box *box = lua_touserdata(L, BOX);
    unsigned form = s->form;
    pg_row_box_begin(box, s->link->engine);
    if (s->link->traced)
        s->link->traced->rows++;
    box->row = pg_machine_take(&s->link->m);
    pg_notices_tell(L, s->link);
    /* from here on the link may be freed */
    struct pg_row_plan plan = push_plan(L, &box->engine->decoder, box->row, form);
    pg_result_push_row(L, &plan, 0);
    pg_row_box_done(L, BOX);
    return 1;
}

static int end_of_rows(lua_State *L, struct pg_stream *s)
{
    struct pg_link *link = s->link;
    struct runtime *rt = link->engine->rt;
    struct error e = {0};
    pg_notices_tell(L, link);
    error_move(&e, &link->m.error);
    if (error_is_set(&e))
        error_set_field(&e, ERROR_STATEMENT, link->statement);
    if (link->traced)
        pg_traced_work_over(link, &e);
    pg_stream_finish(s);
    return error_is_set(&e) ? bind_error_raise(L, rt, &e) : 0;
}

static int fail_late(lua_State *L, struct pg_stream *s, enum error_kind kind)
{
    struct pg_link *link = s->link;
    struct runtime *rt = link->engine->rt;
    double timeout = link->engine->command_timeout;
    double limit = mono_now() >= link->deadline ? link->deadline_after : 0;
    struct error e = {0};
    if (kind == ERROR_CANCELLED)
        error_set(&e, kind, "interrupted");
    else if (limit > 0)
        pg_error_late(&e, NULL, limit);
    else
        pg_error_late(&e, "the next row did not come", timeout);
    e.outcome = link->m.in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN;
    error_set_field(&e, ERROR_STATEMENT, link->statement);
    if (link->traced)
        pg_traced_work_over(link, &e);
    stop(s, 0, kind == ERROR_CANCELLED ? PG_DRAIN_LIMIT : pg_link_grace_after(limit > 0 ? limit : timeout));
    return bind_error_raise(L, rt, &e);
}

static void abandon_row(struct wait *w)
{
    struct pg_link *link = w->data;
    link->waiter = NULL;
}

bool pg_stream_resumed(lua_State *L, struct pg_stream *s)
{
    struct runtime *rt = bind_runtime(L);
    enum wait_status how = wait_end(rt->sched);
    s->woken = false;
    if (s->link && s->link->traced)
        pg_traced_goes_on(s->link);
    if (how == WAIT_CANCELLED) {
        bool in_transaction = s->link && s->link->m.in_transaction;
        pg_stream_stop(s);
        task_raise_cancelled_with(L, rt->sched, in_transaction ? OUTCOME_FAILED : OUTCOME_UNKNOWN);
    }
    if (!s->link && s->lost)
        pg_lease_lost(L, rt);
    if (s->link && how == WAIT_TIMEOUT)
        fail_late(L, s, ERROR_TIMEOUT);
    return s->link != NULL;
}

static uint64_t deadline_of(const struct pg_link *link)
{
    double timeout = link->engine->command_timeout;
    return deadline_min(timeout > 0 ? deadline_in(timeout) : DEADLINE_NEVER, link->deadline);
}

/* One limit for the whole row, because a server might send it in small pieces for ever. */
static uint64_t limit_of_row(struct pg_stream *s)
{
    if (!s->until)
        s->until = deadline_of(s->link);
    return s->until;
}

int pg_stream_park(lua_State *L, struct pg_stream *s, unsigned want, lua_KFunction k)
{
    struct pg_link *link = s->link;
    link->waiter = wait_begin(link->engine->rt->sched, limit_of_row(s), abandon_row, link);
    io_watch_want(link->io, want);
    if (link->traced)
        pg_traced_parks(link);
    return wait_park(L, link->waiter, (lua_KContext)s, k);
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_stream *s = (struct pg_stream *)ctx;
    if (status == LUA_YIELD && !pg_stream_resumed(L, s))
        return 0;
    unsigned step = status == LUA_YIELD ? s->link->stream_step : first_step(s);
    if (step == PG_ROW)
        return give_row(L, s);
    if (step == PG_DONE)
        return end_of_rows(L, s);
    return pg_stream_park(L, s, step, next_k);
}

bool pg_stream_check_next(lua_State *L, struct pg_stream *s)
{
    struct runtime *rt = bind_runtime(L);
    pg_stream_check_codec(L, s);
    if (!s->link && s->lost)
        pg_lease_lost(L, rt);
    if (!s->link)
        return false;
    s->until = 0;
    if (s->link->engine->sync)
        return true;
    if (s->link->waiter || s->woken)
        bind_fail(L, rt, ERROR_USAGE, "another task is already waiting for the next row of this iterator");
    task_check_park(L, rt->sched);
    return true;
}

/* Raises when the wait timed out, or was interrupted. */
static void check_blocking(lua_State *L, struct pg_stream *s, enum io_status status)
{
    if (status == IO_INTERRUPTED)
        fail_late(L, s, ERROR_CANCELLED);
    if (status != IO_READY)
        fail_late(L, s, ERROR_TIMEOUT);
}

void pg_stream_poll_blocking(lua_State *L, struct pg_stream *s, unsigned want)
{
    struct pg_link *link = s->link;
    const struct io_interrupt *intr = &bind_runtime(L)->interrupt;
    uint64_t until = limit_of_row(s);
    unsigned ready = 0;
    check_blocking(L, s, mono_now() >= until ? IO_TIMEOUT : IO_READY);
    if (link->traced)
        pg_traced_parks(link);
    enum io_status status =
        io_poll(pg_machine_fd(&link->m), want, until, intr->fd >= 0 ? intr : NULL, &ready);
    if (link->traced)
        pg_traced_goes_on(link);
    check_blocking(L, s, status);
    pg_machine_step(&link->m, ready);
}

static unsigned next_step_blocking(lua_State *L, struct pg_stream *s)
{
    unsigned step;
    if (s->link->traced)
        pg_traced_parks(s->link);
    enum io_status status = pg_link_step_blocking(s->link, &step, deadline_of(s->link));
    if (s->link->traced)
        pg_traced_goes_on(s->link);
    check_blocking(L, s, status);
    return step;
}

/* iterator() -> row | nil */
static int stream_call(lua_State *L)
{
    struct pg_stream *s = bind_self(L, STREAM_CLASS);
    unsigned step;
    lua_settop(L, 1);
    pg_row_box_push(L);
    if (!pg_stream_check_next(L, s))
        return 0;
    if (!s->link->engine->sync)
        return next_k(L, LUA_OK, (lua_KContext)s);
    step = s->first;
    s->first = 0;
    if (!step)
        step = next_step_blocking(L, s);
    return step == PG_ROW ? give_row(L, s) : end_of_rows(L, s);
}

void pg_stream_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__close", stream_close}, {"__gc", stream_gc}, {"__call", stream_call}, {NULL, NULL}};
    static const luaL_Reg box_meta[] = {{"__gc", box_gc}, {NULL, NULL}};
    bind_class(L, rt, STREAM_CLASS, meta, NULL);
    bind_class(L, rt, BOX_CLASS, box_meta, NULL);
    lua_pop(L, 2);
}
