/*
 * The root task: does what the command line says, in lua's order; the first error ends the program.
 *
 * As in lua, exactly one C function is below every chunk on the stack: the first function of the root task's
 * coroutine, which calls each chunk by lua_pcallk with the handler that keeps tracebacks. Scripts use this
 * depth with debug.getinfo and debug.getlocal to find out whether they are the main chunk.
 */
#include "host/host.h"
#include "host/load.h"
#include "host/prompt.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum step {
    STEP_STACK,
    STEP_DRY_RUN,
    STEP_INIT,
    STEP_ACTIONS,
    STEP_SCRIPT,
    STEP_INTERACTIVE,
    STEP_PROMPT,
    STEP_END
};

/* Stack: the message handler; then what a step calls, or its result. */
enum { AT_HANDLER = 1 };

/* What a step returns: NO_CALL, or the number of arguments for a call of the function on the stack. */
enum { NO_CALL = -1 };

/* Takes the result of luaL_load* on the stack: the chunk to call, or an error, which as in lua is raised
 * without a traceback. */
static int loaded(lua_State *L, int status)
{
    return status == LUA_OK ? 0 : lua_error(L);
}

static int load_text(lua_State *L, const char *text, const char *name)
{
    return loaded(L, luaL_loadbuffer(L, text, strlen(text), name));
}

/* Calls dbrun.stack, which starts the servers and returns where they are. */
static int prepare_stack(lua_State *L, struct host *h)
{
    h->step = STEP_DRY_RUN;
    if (!h->options.stack)
        return NO_CALL;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "dbrun.stack");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "up");
    h->preparing = true;
    return 0;
}

/* Stores its result, which overrides every other source of configuration. */
static void take_stack(lua_State *L, struct host *h)
{
    h->rt->redis_links_own = h->rt->redis_links;
    luaL_checktype(L, -1, LUA_TTABLE);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "dbrun.core");
    lua_getfield(L, -1, "options");
    lua_getfield(L, -1, "overlay");
    lua_pushnil(L);
    while (lua_next(L, -6) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_settable(L, -4);
    }
}

/* Calls dbrun.dry, whose modules replace everything that would keep changes. */
static int prepare_dry_run(lua_State *L, struct host *h)
{
    h->step = STEP_INIT;
    if (!h->options.dry_run)
        return NO_CALL;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "dbrun.dry.start");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "start");
    return 0;
}

static int prepare_init(lua_State *L, struct host *h)
{
    h->step = STEP_ACTIONS;
    if (h->options.no_env)
        return NO_CALL;
    const char *name = "=LUA_INIT_5_4";
    const char *init = getenv(name + 1);
    if (init == NULL) {
        name = "=LUA_INIT";
        init = getenv(name + 1);
    }
    if (init == NULL)
        return NO_CALL;
    if (init[0] == '@')
        return loaded(L, luaL_loadfile(L, init + 1));
    return load_text(L, init, name);
}

/* -e, -l and -W. */
static int prepare_action(lua_State *L, struct host *h)
{
    const struct options *o = &h->options;
    if (h->action == o->action_count) {
        h->step = STEP_SCRIPT;
        return NO_CALL;
    }
    const struct option_action *a = &o->actions[h->action++];
    if (a->kind == 'e')
        return load_text(L, a->text, "=(command line)");
    if (a->kind == 'W') {
        lua_warning(L, "@on", 0);
        return NO_CALL;
    }
    const char *module = strchr(a->text, '=');
    lua_getglobal(L, "require");
    lua_pushstring(L, module == NULL ? a->text : module + 1);
    return 1;
}

/* -l NAME and -l NAME=MODULE: the module goes into the global NAME. */
static void take_action(lua_State *L, const struct option_action *a)
{
    if (a->kind != 'l')
        return;
    lua_pushlstring(L, a->text, strcspn(a->text, "="));
    lua_pushglobaltable(L);
    lua_insert(L, -2);
    lua_rotate(L, -3, -1);
    lua_settable(L, -3);
}

static int prepare_script(lua_State *L, struct host *h)
{
    h->step = STEP_INTERACTIVE;
    if (h->options.script >= h->argc)
        return NO_CALL;
    const struct embedded_module *m = h->inside;
    if (m != NULL)
        loaded(L, embedded_load(L, m, m->name));
    else
        loaded(L, h->options.is_stdin ? load_stdin(L) : luaL_loadfile(L, h->script));
    h->returns_status = !h->options.interact; /* otherwise the program ends with the prompt */
    if (lua_getglobal(L, "arg") != LUA_TTABLE) {
        lua_pushliteral(L, "'arg' is not a table");
        return loaded(L, LUA_ERRRUN);
    }
    int n = (int)luaL_len(L, -1);
    luaL_checkstack(L, n + 3, "too many arguments to script");
    int table = lua_gettop(L);
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, table, i);
    lua_remove(L, table);
    return n;
}

/* The prompt at a terminal is written in Lua (dbrun.prompt). A dry run has no prompt. */
static int prepare_terminal(lua_State *L, struct host *h)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, h->options.dry_run ? "dbrun.dry.refuse" : "dbrun.prompt");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, h->options.dry_run ? "prompt" : "run");
    prompt_push(L, h);
    lua_pushstring(L, h->options.version ? NULL : LUA_RELEASE); /* -v has printed it */
    return 2;
}

static int prepare_interactive(lua_State *L, struct host *h)
{
    const struct options *o = &h->options;
    h->step = STEP_END;
    bool alone = o->script >= h->argc && !options_has_code(o);
    bool terminal = prompt_has_terminal();
    if (terminal && (o->interact || alone))
        return prepare_terminal(L, h);
    if (o->interact) {
        if (!o->version)
            printf("%s\n", LUA_COPYRIGHT);
        h->step = STEP_PROMPT;
        return NO_CALL;
    }
    h->returns_status = alone;
    return alone ? loaded(L, load_stdin(L)) : NO_CALL;
}

static int prepare(lua_State *L, struct host *h)
{
    switch ((enum step)h->step) {
    case STEP_STACK:
        return prepare_stack(L, h);
    case STEP_DRY_RUN:
        return prepare_dry_run(L, h);
    case STEP_INIT:
        return prepare_init(L, h);
    case STEP_ACTIONS:
        return prepare_action(L, h);
    case STEP_SCRIPT:
        return prepare_script(L, h);
    case STEP_INTERACTIVE:
        return prepare_interactive(L, h);
    case STEP_PROMPT:
    case STEP_END:
        break;
    }
    return NO_CALL;
}

/* Takes the result of the call that `prepare` set up: one value, or two if they are the exit status. */
static void take(lua_State *L, struct host *h)
{
    if (h->step == STEP_DRY_RUN) { /* the previous step has just run */
        h->preparing = false;
        take_stack(L, h);
    } else if (h->step == STEP_ACTIONS && h->action > 0)
        take_action(L, &h->options.actions[h->action - 1]);
    else if (h->returns_status)
        status_take(L, h, AT_HANDLER + 1);
    h->returns_status = false;
    lua_settop(L, AT_HANDLER);
}

static int run_k(lua_State *L, int status, lua_KContext ctx);

static int run(lua_State *L, struct host *h)
{
    while (h->step < STEP_PROMPT) {
        int nargs = prepare(L, h);
        if (nargs == NO_CALL) {
            lua_settop(L, AT_HANDLER);
            continue;
        }
        int status = lua_pcallk(L, nargs, h->returns_status ? 2 : 1, AT_HANDLER, (lua_KContext)h, run_k);
        if (status != LUA_OK)
            return lua_error(L);
        take(L, h);
    }
    return h->step == STEP_PROMPT ? repl_main(L, h) : 0;
}

static int run_k(lua_State *L, int status, lua_KContext ctx)
{
    struct host *h = (struct host *)ctx;
    if (status != LUA_YIELD)
        return lua_error(L);
    take(L, h);
    return run(L, h);
}

int program_main(lua_State *L)
{
    struct host *h = state_host(L);
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, report_handler, 1);
    return run(L, h);
}
