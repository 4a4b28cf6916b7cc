#include "bind/core.h"

/*
 * dbrun.core: one sub-table (or function) per binding. Each is opened at its first use, so that a start costs
 * only what the script uses.
 */
#include "bind/base/error.h"
#include "bind/data/digest.h"
#include "bind/data/json.h"
#include "bind/data/rows.h"
#include "bind/data/sql.h"
#include "bind/data/text.h"
#include "bind/os/clock.h"
#include "bind/os/fs.h"
#include "bind/os/log.h"
#include "bind/os/process.h"
#include "bind/os/tty.h"
#include "bind/pg/module.h"
#include "bind/redis/module.h"
#include "bind/versions.h"

#include <string.h>
#include <unistd.h>

/* ---- the runtime ---- */

/* Runs after all other finalisers: everything that refers to the runtime was made later, and Lua finalises in
 * reverse order. */
static int runtime_gc(lua_State *L)
{
    struct runtime *rt = lua_touserdata(L, 1);
    bind_pg_shutdown(rt);
    if (rt->workers)
        workers_close(rt->workers);
    if (rt->sched)
        sched_close(rt->sched);
    if (rt->trace)
        trace_mask(rt->trace, NULL);
    secrets_free(rt->secrets);
    rt->workers = NULL;
    rt->secrets = NULL;
    return 0;
}

struct runtime *bind_open(lua_State *L)
{
    struct runtime *rt = bind_find(L);
    if (rt)
        return rt;
    /* The block outlives its finaliser, so the log can still use what it points to. */
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
    bind_keep(L);

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    rt->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    rt->secrets = secrets_new();
    if (!rt->secrets)
        luaL_error(L, "not enough memory");
    rt->log->secrets = rt->secrets;
    bind_error_of_tasks(rt);
    rt->workers = workers_new(sched_loop(rt->sched));
    if (!rt->workers)
        luaL_error(L, "not enough memory");
    return rt;
}

/* ---- dbrun.core ---- */

static int open_task(lua_State *L, struct runtime *rt)
{
    return task_open(L, rt->sched);
}

static const struct part {
    const char *name;
    int (*open)(lua_State *L, struct runtime *rt);
} parts[] = {
    {"error", bind_error_open},
    {"log", bind_log_open},
    {"task", open_task},
    {"json", bind_json_open},
    {"process", bind_process_open},
    {"fs", bind_fs_open},
    {"versions", bind_versions_open},
    {"tty", bind_tty_open},
    {"sql", bind_sql_open},
    {"pg", bind_pg_open},
    {"redis", bind_redis_open},
    {"clock", bind_clock_open},
    {"digest", bind_digest_open},
    {"text", bind_text_open},
    {"rows", bind_rows_open},
};

/* __index(core, name): opens the part and keeps it. */
static int open_part(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(name, parts[i].name) != 0)
            continue;
        parts[i].open(L, bind_runtime(L));
        lua_pushvalue(L, -1);
        lua_setfield(L, 1, name);
        return 1;
    }
    return 0;
}

int bind_core(lua_State *L)
{
    struct runtime *rt = bind_open(L);
    static const luaL_Reg meta[] = {{"__index", open_part}, {NULL, NULL}};
    lua_newtable(L);
    lua_newtable(L);
    lua_setfield(L, -2, "options");
    lua_pushlightuserdata(L, NULL); /* SQL NULL and JSON null, where nil is not possible */
    lua_setfield(L, -2, "null");
    bind_lib(L, rt, meta);
    lua_setmetatable(L, -2);
    /* The error class must exist before anything can fail, and coroutines must be transparent before a task
     * can park in one. */
    lua_getfield(L, -1, "error");
    lua_getfield(L, -2, "task");
    lua_pop(L, 2);
    return 1;
}
