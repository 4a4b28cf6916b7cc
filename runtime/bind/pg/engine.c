#include "bind/pg/engine.h"

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
        bind_fail(L, bind_runtime(L), ERROR_USAGE, "this engine has been closed");
    return box->e;
}
