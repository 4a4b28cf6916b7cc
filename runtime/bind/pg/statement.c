/* The life of a statement's block: taken, cleaned, reused. */
#include "bind/pg/statement.h"
#include "bind/base/error.h"

#include "base/deadline.h"
#include "bind/pg/mux.h"
#include "bind/pg/statement_log.h"

#include <string.h>

#define STATEMENT_CLASS "dbrun.pg.statement"

/* ---- the statement ---- */

/* Removes the statement from the mux. */
static void leave_mux(struct pg_statement *st)
{
    struct pg_shared *s = st->shared;
    if (s->wait)
        pg_mux_remove(st->engine->mux, s);
    if (s->link) /* the mux gave it a connection, but its task was never resumed */
        pool_discard(st->engine->pool, s->link->slot, mono_now());
    pg_shared_free(st->engine->mux, s);
    st->shared = NULL;
}

void pg_statement_clean(struct pg_statement *st)
{
    struct pg_engine *e = st->engine;
    if (st->shared)
        leave_mux(st);
    if (e && st->stage == STAGE_ACQUIRED && st->waiter.result == POOL_WAITING)
        pool_cancel(e->pool, &st->waiter, false, mono_now());
    else if (e && st->stage == STAGE_ACQUIRED && st->waiter.result == POOL_GRANTED && st->waiter.slot)
        pool_discard(e->pool, st->waiter.slot,
                     mono_now()); /* the pool granted it, but its task was never resumed */
    if (e && st->link && !st->lease)
        pool_discard(e->pool, st->link->slot, mono_now());
    if (st->span.serial)
        trace_drop(e->rt->trace, &st->span);
    PQclear(st->result);
    if (st->old)
        PQclear(st->old);
    if (st->growing.how)
        buf_free(&st->growing.copy);
    error_clear(&st->error);
    error_clear(&st->waiter.error);
    memset(st, 0, sizeof *st);
    if (e)
        pg_engine_unref(e);
}

static int statement_gc(lua_State *L)
{
    pg_statement_clean(luaL_checkudata(L, 1, STATEMENT_CLASS));
    return 0;
}

void pg_statement_classes(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", statement_gc}, {NULL, NULL}};
    bind_class(L, rt, STATEMENT_CLASS, meta, NULL);
    lua_pop(L, 1);
}

/* Makes another block when the task's block is in use: a finaliser may query while a result becomes Lua
 * values. */
struct pg_statement *pg_statement_take(lua_State *L, struct runtime *rt)
{
    struct pg_statement *st = task_scratch(rt->sched);
    if (st && st->stage == STAGE_IDLE) {
        task_push_scratch(L, rt->sched);
        return st;
    }
    st = lua_newuserdatauv(L, sizeof *st, 0);
    memset(st, 0, sizeof *st);
    luaL_setmetatable(L, STATEMENT_CLASS);
    lua_pushvalue(L, -1);
    task_set_scratch(L, rt->sched, st);
    return st;
}

void pg_statement_push_meta(lua_State *L, struct pg_statement *st)
{
    const struct pg_cached *entry = st->entry;
    size_t len;
    if (entry && entry->prepared && entry->ref) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, entry->ref);
        return;
    }
    pg_result_meta(L, &st->engine->decoder, st->result);
    if (!entry || pg_statement_is_lost(st))
        return;
    const char *sql = lua_tolstring(L, 2, &len);
    struct pg_cached *kept = pg_cache_find(st->link->m.cache, sql, len);
    if (kept != entry || !kept->prepared || kept->ref)
        return;
    lua_pushvalue(L, -1);
    kept->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

int pg_statement_raise(lua_State *L, struct pg_statement *st)
{
    struct runtime *rt = st->engine->rt;
    struct error e = {0};
    if (st->began)
        pg_log_statement(L, st);
    error_move(&e, &st->error);
    pg_statement_clean(st);
    return bind_error_raise(L, rt, &e);
}

int pg_statement_raise_cancelled(lua_State *L, struct pg_statement *st, enum error_outcome outcome)
{
    struct sched *s = st->engine->rt->sched;
    if (st->began)
        pg_log_cancelled(L, st, outcome);
    pg_statement_clean(st);
    return task_raise_cancelled_with(L, s, outcome);
}
