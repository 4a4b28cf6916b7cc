/*
 * dbrun.core: one sub-table (or function) per binding. Each is opened when it is first asked for, so that
 * starting costs only what the script uses.
 */
#include "bind/base/error.h"
#include "bind/base/runtime.h"
#include "bind/data/digest.h"
#include "bind/data/json.h"
#include "bind/data/sqlparse.h"
#include "bind/os/clock.h"
#include "bind/os/fs.h"
#include "bind/os/log.h"
#include "bind/os/process.h"
#include "bind/os/tty.h"
#include "bind/pg/module.h"
#include "bind/redis/module.h"

#include <string.h>

static int open_task(lua_State *L, struct runtime *rt)
{
    return task_open(L, rt->sched);
}

static const struct part {
    const char *name;
    int (*open)(lua_State *L, struct runtime *rt);
} parts[] = {
    {"error", bind_error_open}, {"log", bind_log_open},           {"task", open_task},
    {"json", bind_json_open},   {"process", bind_process_open},   {"fs", bind_fs_open},
    {"tty", bind_tty_open},     {"sqlsplit", bind_sqlsplit_open}, {"pg", bind_pg_open},
    {"redis", bind_redis_open}, {"clock", bind_clock_open},       {"digest", bind_digest_open},
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
    lua_pushlightuserdata(L, NULL); /* SQL NULL and JSON null, where nil cannot stand */
    lua_setfield(L, -2, "null");
    bind_lib(L, rt, meta);
    lua_setmetatable(L, -2);
    /* The error class must exist before anything can fail, and coroutines be transparent before a
     * task can park in one. */
    lua_getfield(L, -1, "error");
    lua_getfield(L, -2, "task");
    lua_pop(L, 2);
    return 1;
}
