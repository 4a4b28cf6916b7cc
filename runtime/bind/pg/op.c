/* The op's life. */
#include "bind/pg/op.h"
#include "bind/base/error.h"

#include "base/deadline.h"
#include "bind/pg/mux.h"

#include <string.h>

#define OP_CLASS "dbrun.pg.op"

/* ---- the op ---- */

/* The statement is the mux's no more. */
static void leave_mux(struct pg_op *op)
{
    struct pg_shared *s = op->shared;
    if (s->wait)
        pg_mux_remove(op->engine->mux, s);
    if (s->link) /* given, but its task was never resumed */
        pool_discard(op->engine->pool, s->link->slot, mono_now());
    pg_shared_free(op->engine->mux, s);
    op->shared = NULL;
}

/* What a statement that was cut short (by an error in between) left behind. */
void pg_op_clean(struct pg_op *op)
{
    struct pg_engine *e = op->engine;
    if (op->shared)
        leave_mux(op);
    if (e && op->stage == STAGE_ACQUIRED && op->waiter.result == POOL_WAITING)
        pool_cancel(e->pool, &op->waiter, false, mono_now());
    else if (e && op->stage == STAGE_ACQUIRED && op->waiter.result == POOL_GRANTED && op->waiter.slot)
        pool_discard(e->pool, op->waiter.slot, mono_now()); /* granted, but its task was never resumed */
    if (e && op->link && !op->lease)
        pool_discard(e->pool, op->link->slot, mono_now());
    PQclear(op->result);
    error_clear(&op->error);
    error_clear(&op->waiter.error);
    memset(op, 0, sizeof *op);
    if (e)
        pg_engine_unref(e);
}

static int op_gc(lua_State *L)
{
    pg_op_clean(luaL_checkudata(L, 1, OP_CLASS));
    return 0;
}

void pg_op_classes(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", op_gc}, {NULL, NULL}};
    bind_class(L, rt, OP_CLASS, meta, NULL);
    lua_pop(L, 1);
}

/* One that is in use (a finaliser that queries while a result is being made) is left alone. */
struct pg_op *pg_op_take(lua_State *L, struct runtime *rt)
{
    struct pg_op *op = task_scratch(rt->sched);
    if (op && op->stage == STAGE_IDLE) {
        task_push_scratch(L, rt->sched);
        return op;
    }
    op = lua_newuserdatauv(L, sizeof *op, 0);
    memset(op, 0, sizeof *op);
    luaL_setmetatable(L, OP_CLASS);
    lua_pushvalue(L, -1);
    task_set_scratch(L, rt->sched, op);
    return op;
}

int pg_op_raise(lua_State *L, struct pg_op *op)
{
    struct runtime *rt = op->engine->rt;
    struct error e = {0};
    error_move(&e, &op->error);
    pg_op_clean(op);
    return bind_error_raise(L, rt, &e);
}

int pg_op_raise_cancelled(lua_State *L, struct pg_op *op)
{
    struct sched *s = op->engine->rt->sched;
    pg_op_clean(op);
    return task_raise_cancelled(L, s);
}
