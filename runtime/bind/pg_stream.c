/*
 * Rows one by one: `for row in engine:rows(...) do`. The connection is the stream's until the last row;
 * the socket is read only while the loop waits for a row, so a slow consumer holds the server back
 * instead of filling memory. Leaving the loop early cancels the statement.
 */
#include "base/deadline.h"
#include "bind/pg_impl.h"

#define STREAM_CLASS "dbrun.pg.stream"

struct pg_stream {
    struct pg_link *link; /* NULL = at the end */
    PGresult *row;
    bool own;
    bool lost; /* the lease was released before the end */
};

struct pg_stream *pg_stream_new(lua_State *L)
{
    struct pg_stream *s = lua_newuserdatauv(L, sizeof *s, 2);
    *s = (struct pg_stream){NULL, NULL, false, false};
    luaL_setmetatable(L, STREAM_CLASS);
    lua_pushvalue(L, 1); /* a lease must not be collected while its rows are read */
    lua_setiuservalue(L, -2, 2);
    return s;
}

void pg_stream_attach(struct pg_stream *s, struct pg_link *link, bool own)
{
    s->link = link;
    s->own = own;
    link->stream = s;
    link->use = LINK_STREAM;
    if (link->io)
        drive_uv_want(link->io, link->m.flushing ? IO_READ | IO_WRITE : 0);
}

void pg_stream_detach(struct pg_stream *s)
{
    if (s->link)
        s->link->stream = NULL;
    s->link = NULL;
}

int pg_stream_push_iterator(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    luaL_getmetafield(L, index, "next");
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_pushvalue(L, index);
    return 4;
}

/* The connection goes back. */
static void finish(struct pg_stream *s)
{
    struct pg_link *link = s->link;
    pg_stream_detach(s);
    link->use = LINK_FREE;
    if (link->io)
        drive_uv_want(link->io, link->m.state == PG_BROKEN ? 0 : IO_READ);
    if (s->own)
        pool_release(link->engine->pool, link->slot, mono_now());
}

/* Not read to the end: what is left is thrown away, and cancelled when it has not arrived yet. */
static void stop(struct pg_stream *s)
{
    struct pg_link *link = s->link;
    if (!link)
        return;
    pg_stream_detach(s);
    link->use = LINK_FREE;
    pg_machine_discard(&link->m);
    bool over = pg_machine_step(&link->m, 0) == PG_DONE;
    if (link->io)
        drive_uv_want(link->io, link->m.state == PG_BROKEN ? 0 : IO_READ);
    if (!over && link->engine->sync)
        pg_link_cancel_blocking(link);
    else if (!over)
        pg_link_abandon(link);
    if (s->own)
        pool_release(link->engine->pool, link->slot, mono_now());
}

void pg_stream_lose(struct pg_stream *s)
{
    s->lost = true;
    stop(s);
}

static int stream_close(lua_State *L)
{
    struct pg_stream *s = luaL_checkudata(L, 1, STREAM_CLASS);
    PQclear(s->row);
    s->row = NULL;
    stop(s);
    return 0;
}

/* Collected without its block having ended: it must not block. */
static int stream_gc(lua_State *L)
{
    struct pg_stream *s = lua_touserdata(L, 1);
    struct pg_link *link = s->link;
    PQclear(s->row);
    s->row = NULL;
    if (!link)
        return 0;
    if (!link->engine->sync) {
        stop(s);
        return 0;
    }
    pg_stream_detach(s);
    link->m.state = PG_BROKEN;
    if (s->own)
        pool_discard(link->engine->pool, link->slot, mono_now());
    return 0;
}

/* Pushes the names of the columns; made at the first row, then kept. Returns the index of the first. */
static int push_keys(lua_State *L, const PGresult *r)
{
    int n = PQnfields(r);
    luaL_checkstack(L, n + 12, "a result with too many columns");
    if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_createtable(L, n, 0);
        for (int c = 0; c < n; c++) {
            lua_pushstring(L, PQfname(r, c));
            lua_rawseti(L, -2, c + 1);
        }
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, 1);
    }
    int table = lua_gettop(L);
    for (int c = 0; c < n; c++)
        lua_rawgeti(L, table, c + 1);
    return table + 1;
}

static int give_row(lua_State *L, struct pg_stream *s)
{
    PQclear(s->row);
    s->row = pg_machine_take(&s->link->m);
    int keys = push_keys(L, s->row);
    pg_result_push_row(L, &s->link->engine->decoder, s->row, keys);
    return 1;
}

static int end_of_rows(lua_State *L, struct pg_stream *s)
{
    struct pg_link *link = s->link;
    struct runtime *rt = link->engine->rt;
    struct error e = {0};
    bool copy = link->m.state == PG_COPY_IN || link->m.state == PG_COPY_OUT;
    error_move(&e, &link->m.error);
    if (copy) {
        error_set(&e, ERROR_USAGE, "rows: COPY gives no rows (use copy_in or copy_out)");
        link->m.state = PG_BROKEN;
    }
    if (error_is_set(&e))
        error_set_field(&e, ERROR_STATEMENT, link->statement);
    finish(s);
    return error_is_set(&e) ? bind_error_raise(L, rt, &e) : 0;
}

static int fail_late(lua_State *L, struct pg_stream *s, enum error_kind kind)
{
    struct runtime *rt = s->link->engine->rt;
    double timeout = s->link->engine->command_timeout;
    stop(s);
    if (kind == ERROR_CANCELLED)
        return bind_fail(L, rt, kind, "interrupted");
    return bind_fail(L, rt, kind, "the next row did not come within %f s (command_timeout)", timeout);
}

static void abandon_row(struct wait *w)
{
    struct pg_link *link = w->data;
    link->waiter = NULL;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
    struct pg_stream *s = (struct pg_stream *)ctx;
    struct pg_link *link = s->link;
    struct sched *sched = bind_runtime(L)->sched;
    unsigned step = 0;
    if (status == LUA_YIELD) {
        enum wait_status how = wait_end(task_wait(sched));
        if (how == WAIT_CANCELLED) {
            stop(s);
            return task_raise_cancelled(L, sched);
        }
        if (!link)
            return s->lost ? pg_lease_lost(L, bind_runtime(L)) : 0;
        if (how == WAIT_TIMEOUT)
            return fail_late(L, s, ERROR_TIMEOUT);
        step = link->stream_step;
    } else {
        step = pg_machine_step(&link->m, 0);
    }
    if (step == PG_ROW)
        return give_row(L, s);
    if (step == PG_DONE)
        return end_of_rows(L, s);
    double timeout = link->engine->command_timeout;
    link->waiter = wait_begin(sched, timeout > 0 ? deadline_in(timeout) : DEADLINE_NEVER, abandon_row, link);
    drive_uv_want(link->io, step);
    return wait_park(L, link->waiter, (lua_KContext)s, next_k);
}

/* The iterator: next(stream) -> row | nil */
static int stream_next(lua_State *L)
{
    struct pg_stream *s = luaL_checkudata(L, 1, STREAM_CLASS);
    struct pg_link *link = s->link;
    if (!link)
        return s->lost ? pg_lease_lost(L, bind_runtime(L)) : 0;
    lua_settop(L, 1);
    if (!link->engine->sync) {
        if (link->waiter)
            return bind_fail(L, bind_runtime(L), ERROR_USAGE, "rows: another task waits for the next row");
        task_check_park(L, bind_runtime(L)->sched);
        return next_k(L, LUA_OK, (lua_KContext)s);
    }
    double timeout = link->engine->command_timeout;
    unsigned step;
    switch (pg_link_step_blocking(link, &step, timeout > 0 ? deadline_in(timeout) : DEADLINE_NEVER)) {
    case DRIVE_READY:
        return step == PG_ROW ? give_row(L, s) : end_of_rows(L, s);
    case DRIVE_INTERRUPTED:
        return fail_late(L, s, ERROR_CANCELLED);
    default:
        return fail_late(L, s, ERROR_TIMEOUT);
    }
}

void pg_stream_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {
        {"__close", stream_close}, {"__gc", stream_gc}, {"next", stream_next}, {NULL, NULL}};
    bind_class(L, rt, STREAM_CLASS, meta, NULL);
    lua_pop(L, 1);
}
