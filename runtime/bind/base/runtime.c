#include "bind/base/runtime.h"

#include "bind/base/error.h"
#include "bind/pg/module.h"

#include <string.h>
#include <unistd.h>

static char registry_key; /* its address is the key; it holds nothing */

static void push_error(lua_State *L, void *data, const struct error *e)
{
    bind_error_push(L, data, e);
}

/* The last of the program's parts to go: everything that refers to it was made later, and Lua
 * finalises in the reverse order. */
static int runtime_gc(lua_State *L)
{
    struct runtime *rt = lua_touserdata(L, 1);
    bind_pg_shutdown(rt);
    if (rt->workers)
        workers_close(rt->workers);
    if (rt->sched)
        sched_close(rt->sched);
    secrets_free(rt->secrets);
    rt->workers = NULL;
    rt->secrets = NULL;
    return 0;
}

struct runtime *bind_open(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    struct runtime *rt = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (rt)
        return rt;
    /* The block outlives its finaliser, so the log may go on using what it points to. */
    rt = lua_newuserdatauv(L, sizeof *rt + sizeof(struct log), 0);
    memset(rt, 0, sizeof *rt + sizeof(struct log));
    rt->log = (struct log *)(rt + 1);
    rt->log->level = LOG_LEVEL_WARN;
    rt->log->fd = STDERR_FILENO;
    rt->interrupt.fd = -1;
    rt->sched = sched_new(L); /* before the metatable, so that it is finalised after the runtime */
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, runtime_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    rt->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    rt->secrets = secrets_new();
    if (!rt->secrets)
        luaL_error(L, "not enough memory");
    rt->log->secrets = rt->secrets;
    sched_set_errors(rt->sched, push_error, rt);
    rt->workers = workers_new(sched_loop(rt->sched));
    if (!rt->workers)
        luaL_error(L, "not enough memory");
    return rt;
}

void bind_lib(lua_State *L, struct runtime *rt, const luaL_Reg *fns)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, rt);
    luaL_setfuncs(L, fns, 1);
}

void bind_class(lua_State *L, struct runtime *rt, const char *tname, const luaL_Reg *meta,
                const luaL_Reg *methods)
{
    luaL_newmetatable(L, tname);
    if (meta) {
        lua_pushlightuserdata(L, rt);
        luaL_setfuncs(L, meta, 1);
    }
    if (methods) {
        bind_lib(L, rt, methods);
        lua_setfield(L, -2, "__index");
    }
}
