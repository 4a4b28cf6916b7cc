/* Fills the Lua state before the script runs. Modules are loaded only on require. */
#include "bind/core.h"
#include "config.h"
#include "host/children.h"
#include "host/embedded.h"
#include "host/host.h"
#include "host/load.h"
#include "host/read.h"
#include "host/script.h"
#include "host/words.h"
#include "task/where.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>

static char registry_key; /* its address is the key of the host */

struct host *state_host(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
    struct host *h = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return h;
}

/* ---- modules ---- */

static int load_embedded(lua_State *L, const char *name)
{
    const struct embedded_module *m = embedded_find(name);
    if (m == NULL)
        return 0;
    if (embedded_load(L, m, name) != LUA_OK)
        return lua_error(L);
    lua_pushliteral(L, ":embedded:");
    return 2;
}

/* Loads DIR/dbrun/config.lua or DIR/dbrun/init.lua. */
static int load_from_folder(lua_State *L, const char *folder, const char *name)
{
    luaL_gsub(L, name, ".", "/");
    lua_pushfstring(L, "%s/%s.lua", folder, lua_tostring(L, -1));
    if (luaL_loadfile(L, lua_tostring(L, -1)) == LUA_ERRFILE) {
        lua_pop(L, 2);
        lua_pushfstring(L, "%s/%s/init.lua", folder, lua_tostring(L, -1));
        if (luaL_loadfile(L, lua_tostring(L, -1)) == LUA_ERRFILE)
            return 0;
    }
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "error loading module '%s':\n\t%s", name, lua_tostring(L, -1));
    script_own_folder(L, lua_pushfstring(L, "%s/dbrun/", folder));
    lua_pop(L, 1);
    lua_insert(L, -2);
    return 2;
}

/* Leaves the name of the module that was probably meant, for the error of require; returns the number of
 * results. */
static int tell_nearest(lua_State *L, const char *name)
{
    int top = lua_gettop(L);
    if (strcmp(name, "dbrun.mistyped") == 0 || load_embedded(L, "dbrun.mistyped") == 0)
        return 0;
    lua_pop(L, 1);
    if (lua_pcall(L, 0, 1, 0) == LUA_OK) {
        lua_getfield(L, -1, "module");
        lua_pushstring(L, name);
        lua_createtable(L, (int)embedded_count, 0);
        for (size_t i = 0; i < embedded_count; i++) {
            lua_pushstring(L, embedded_modules[i].name);
            lua_seti(L, -2, (lua_Integer)i + 1);
        }
        if (lua_pcall(L, 2, 1, 0) == LUA_OK && lua_isstring(L, -1))
            return 1;
    }
    lua_settop(L, top);
    return 0;
}

/* Searched before package.path, because an installed rock can have another version than the binary. */
static int search_own(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strncmp(name, "dbrun", 5) != 0 || (name[5] != '.' && name[5] != '\0'))
        return 0;
    const char *folder = getenv("DBRUN_LUA_DIR");
    if (folder != NULL && *folder != '\0')
        return load_from_folder(L, folder, name);
    int found = load_embedded(L, name);
    return found > 0 ? found : tell_nearest(L, name);
}

/* Searched last: embedded third-party modules (argparse) are used only when they are not installed. */
static int search_others(lua_State *L)
{
    return load_embedded(L, luaL_checkstring(L, 1));
}

static void add_searchers(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_Integer n = luaL_len(L, -1);
    for (lua_Integer i = n; i >= 2; i--) { /* the first one is package.preload's */
        lua_geti(L, -1, i);
        lua_seti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_own);
    lua_seti(L, -2, 2);
    lua_pushcfunction(L, search_others);
    lua_seti(L, -2, n + 2);
    lua_pop(L, 2);
}

/* ---- what the script sees ---- */

static void push_arg(lua_State *L, const struct host *h)
{
    int script = h->options.script == h->argc ? 0 : h->options.script;
    lua_createtable(L, h->argc - script, script + 1);
    for (int i = 0; i < h->argc; i++) {
        lua_pushstring(L, i == script && h->script[0] != '\0' ? h->script : h->argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

static void set_string(lua_State *L, const char *key, const char *value)
{
    if (value == NULL)
        return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

static void set_seconds(lua_State *L, const char *name, double seconds)
{
    if (seconds > 0) {
        lua_pushnumber(L, seconds);
        lua_setfield(L, -2, name);
    }
}

/* Fills core.options, on top of the stack. */
static void fill_options(lua_State *L, const struct options *o)
{
    char program[PATH_MAX];
    set_string(L, "env_file", o->env_file);
    set_string(L, "target", o->target);
    lua_pushboolean(L, o->no_dotenv);
    lua_setfield(L, -2, "no_env");
    lua_pushboolean(L, o->stack);
    lua_setfield(L, -2, "stack");
    lua_pushboolean(L, o->read_only);
    lua_setfield(L, -2, "read_only");
    set_seconds(L, "timeout", o->timeout);
    set_seconds(L, "statement_timeout", o->statement_timeout);
    set_seconds(L, "lock_timeout", o->lock_timeout);
    set_string(L, "log", o->log);
    set_string(L, "log_format", o->log_format);
    lua_newtable(L);
    lua_setfield(L, -2, "overlay");
    if (script_program(program, sizeof program))
        set_string(L, "program", program);
    set_string(L, "version", DBRUN_VERSION);
}

/* core.embedded(name): a text inside the binary, or nil; without a name, the list of all names. */
static int core_embedded(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, NULL);
    const struct embedded_text *text = name != NULL ? embedded_find_text(name) : NULL;
    if (text != NULL)
        lua_pushlstring(L, (const char *)text->text, text->size);
    if (name != NULL)
        return text != NULL;
    lua_createtable(L, (int)embedded_text_count, 0);
    for (size_t i = 0; i < embedded_text_count; i++) {
        lua_pushstring(L, embedded_texts[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static void open_core(lua_State *L, struct host *h)
{
    h->rt = bind_open(L);
    run_trace_attach(h);
    h->rt->redis_writes = h->options.read_only ? REDIS_WRITES_REFUSED : REDIS_WRITES_SENT;
    h->rt->log->parameters = h->options.log_parameters;
    if (h->options.log != NULL)
        h->rt->log->level = h->options.log_level;
    if (h->options.log_format != NULL)
        h->rt->log->json = strcmp(h->options.log_format, "json") == 0;
    luaL_requiref(L, "dbrun.core", bind_core, 0);
    lua_getfield(L, -1, "options");
    fill_options(L, &h->options);
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, status_set, 1);
    lua_setfield(L, -3, "status");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_embedded);
    lua_setfield(L, -2, "embedded");
    words_install(L);
    children_install(L, h->rt);
    exit_install(L, h);
    lua_pop(L, 1);
}

void state_fill(lua_State *L, struct host *h)
{
    luaL_checkversion(L);
    exit_begin(L, h);
    lua_pushlightuserdata(L, h);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
    if (h->options.no_env) { /* makes the libraries ignore the environment */
        lua_pushboolean(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    }
    luaL_openlibs(L);
    push_arg(L, h);
    add_searchers(L);
    open_core(L, h);
    read_install(L, h->rt);
    load_install(L, h->rt);
    lua_gc(L, LUA_GCGEN, 0, 0);
}
