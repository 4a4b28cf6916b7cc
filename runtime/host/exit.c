/* The end of the program: the exit status, the end of the Lua state, os.exit. */
#include "bind/base/runtime.h"
#include "host/host.h"
#include "host/signals.h"

#include <lualib.h>
#include <stdlib.h>

/* Stack: whether the program succeeded, and the error if not. */
static int exit_status(lua_State *L, struct host *h)
{
    bool ok = lua_toboolean(L, -2);
    bool expected = ok || report_is_kind(L, -1, "cancelled"); /* it follows from what stopped the program */
    const char *reason = signals_reason();
    if (reason != NULL) {
        if (!expected)
            report_error(L, h);
        report_line(h->progname, h->rt, reason);
        return signals_received() != 0 ? 128 + signals_received() : STATUS_FAILED;
    }
    if (signals_pipe_broke() && !ok)
        return STATUS_FAILED; /* finish_flush says why */
    if (h->exit_asked) {
        if (!expected)
            report_error(L, h);
        return h->exit_status;
    }
    return ok ? h->script_status : report_error(L, h);
}

#if defined(__SANITIZE_ADDRESS__)
#define KEEP_MEMORY 0 /* LeakSanitizer reports what is not freed */
#else
#define KEEP_MEMORY 1
#endif

/* lua_CFunction under pcall: rolls a dry run back and prints its summary, in a new task, because the script's
 * tasks have ended. False: something may have been kept. */
static int finish_dry_run(lua_State *L)
{
    struct host *h = lua_touserdata(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    if (lua_getfield(L, -1, "dbrun.dry") != LUA_TTABLE)
        return 0;
    lua_getfield(L, -1, "finish");
    if (sched_run(L, h->rt->sched, 0) == LUA_OK)
        return 1;
    report_error(L, h);
    lua_pushboolean(L, false);
    return 1;
}

/* Called when the tasks are over, unless os.exit has already printed the summary before it ended them
 * (PHASE_ENDING). */
static int end_dry_run(lua_State *L, struct host *h, int status)
{
    if (h->phase != PHASE_RUNNING)
        return status;
    signals_spare(); /* the signal that stopped the script must not stop this */
    lua_settop(L, 0);
    lua_pushcfunction(L, finish_dry_run);
    lua_pushlightuserdata(L, h);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        report_error(L, h);
    else if (!lua_isboolean(L, -1) || lua_toboolean(L, -1))
        return status;
    return status == STATUS_OK ? STATUS_FAILED : status;
}

/* The __gc of the state's first object, which lua_close calls last. Ends the process: only freeing each
 * object is left, which takes a third of a second for a million objects. */
static int skip_freeing(lua_State *L)
{
    struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    if (h->phase != PHASE_CLOSING || !bind_is_collected(L))
        return 0;
    h->rt = NULL;
    finish_process(finish_flush(h, h->end_status));
}

void exit_begin(lua_State *L, struct host *h)
{
    if (!KEEP_MEMORY)
        return;
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, skip_freeing, 1);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_ref(L, LUA_REGISTRYINDEX);
}

int exit_close(lua_State *L, struct host *h)
{
    int status = end_dry_run(L, h, exit_status(L, h));
    signals_stop();
    h->phase = PHASE_CLOSING;
    h->end_status = status;
    lua_close(L);
    h->rt = NULL;
    return status;
}

static void left_behind(void *data, const char *text)
{
    struct host *h = data;
    report_line(h->progname, h->rt, text);
}

/* Called when the tasks have ended: `status` is what sched_end returned. */
static int after_end(struct host *h, int status)
{
    lua_State *L = sched_main(h->rt->sched);
    bool ok = status == LUA_OK;
    if (ok)
        lua_pushnil(L);
    lua_pushboolean(L, ok);
    lua_insert(L, -2);
    return exit_close(L, h);
}

/* Hook in a task that runs without waiting while the program ends. */
static void end_late(void *data)
{
    struct host *h = data;
    struct sched *s = h->rt->sched;
    if (sched_end_is_late(s))
        finish_process(finish_flush(h, after_end(h, sched_end_late(s))));
}

/* os.exit(code, true) while tasks run. Never returns to the caller's frames on the C stack, as in lua, which
 * also closes the state inside os.exit. */
static int end_program(struct host *h)
{
    h->phase = PHASE_ENDING;
    signals_hook_after(2, end_late, h);
    return after_end(h, sched_end(h->rt->sched, "os.exit was called", left_behind, h));
}

/*
 * os.exit([code [, close]]). Without `close` the process ends here, as in lua. With it, the other tasks are
 * cancelled and end, variables are closed, finalisers run, and the process ends with `code`. A second call
 * meanwhile ends the process at once; when a finaliser calls it at the end, the other finalisers still run,
 * as in lua.
 */
static int os_exit(lua_State *L)
{
    struct host *h = lua_touserdata(L, lua_upvalueindex(1));
    int status;
    if (lua_isboolean(L, 1))
        status = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        status = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    bool closes = lua_toboolean(L, 2);
    h->exit_asked = true;
    h->exit_status = status;
    if (closes && h->phase == PHASE_RUNNING)
        status = end_program(h);
    else if (closes && h->phase == PHASE_CLOSING) {
        h->end_status = status;
        lua_close(L);
    }
    finish_process(finish_flush(h, status));
}

static const char cover_key;

static int not_ended(lua_State *L, int status, lua_KContext ctx)
{
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

/* os.exit as scripts see it: a dry run ends in a Lua function, which waits for its servers and calls the real
 * os.exit. Also affects a script that stored os.exit in a variable before the dry run began. */
static int exit_or_cover(lua_State *L)
{
    luaL_checkstack(L, 1, NULL);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &cover_key) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        return os_exit(L);
    }
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, 0, 0, not_ended);
    return 0;
}

/* core.cover_exit(fn) -> the real os.exit: from now on os.exit is fn. */
static int core_cover_exit(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushlightuserdata(L, lua_touserdata(L, lua_upvalueindex(1)));
    lua_pushcclosure(L, os_exit, 1);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cover_key);
    return 1;
}

void exit_install(lua_State *L, struct host *h)
{
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, core_cover_exit, 1);
    lua_setfield(L, -2, "cover_exit");
    lua_getglobal(L, "os");
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, exit_or_cover, 1);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}
