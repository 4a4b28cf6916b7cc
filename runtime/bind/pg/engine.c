#include "bind/pg/engine.h"

#include "bind/base/args.h"
#include "bind/base/error.h"

#include <stdlib.h>

void pg_engine_ref(struct pg_engine *e)
{
    e->refs++;
}

void pg_engine_unref(struct pg_engine *e)
{
    if (--e->refs > 0)
        return;
    if (e->prev)
        e->prev->next = e->next;
    else
        e->rt->engines = e->next;
    if (e->next)
        e->next->prev = e->prev;
    e->last(e);
    pool_free(e->pool);
    pg_catalog_free(e->catalog);
    pg_conninfo_unref(e->info);
    free(e);
}

struct pg_engine *pg_engine_check(lua_State *L)
{
    struct pg_engine_box *box = bind_self(L, PG_ENGINE_CLASS);
    if (!box->e)
        bind_refuse(L, bind_runtime(L), "this engine has been closed",
                    "Use it inside of its block, or before db.close(); db.engine opens another one.");
    return box->e;
}

/* ---- holding ---- */

#define HOLD_CLASS "dbrun.pg.hold"

struct pg_engine_hold *pg_engine_hold_push(lua_State *L)
{
    struct pg_engine_hold *hold = lua_newuserdatauv(L, sizeof *hold, 0);
    hold->e = NULL;
    luaL_setmetatable(L, HOLD_CLASS);
    return hold;
}

void pg_engine_hold_take(struct pg_engine_hold *hold, struct pg_engine *e)
{
    pg_engine_ref(e);
    hold->e = e;
}

void pg_engine_hold_drop(struct pg_engine_hold *hold)
{
    if (hold->e)
        pg_engine_unref(hold->e);
    hold->e = NULL;
}

static int hold_gc(lua_State *L)
{
    pg_engine_hold_drop(luaL_checkudata(L, 1, HOLD_CLASS));
    return 0;
}

void pg_engine_hold_class(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg meta[] = {{"__gc", hold_gc}, {NULL, NULL}};
    bind_class(L, rt, HOLD_CLASS, meta, NULL);
    lua_pop(L, 1);
}
