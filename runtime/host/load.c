#include "host/load.h"

#include "host/read.h"

#include <lualib.h>
#include <string.h>

/* Lua's own functions. They have no upvalues, so ours can call them directly. */
static struct {
    lua_CFunction dofile, loadfile, debug;
} stock;

/* The beginning of the program in the text of a file, as for luaL_loadfilex: after a byte order mark, and at
 * the end of a first line that begins with '#', so that line numbers stay correct. */
static const char *program_in(const char *text, size_t *len)
{
    static const char mark[] = "\xEF\xBB\xBF";
    const char *end = text + *len;
    if (strncmp(text, mark, sizeof mark - 1) == 0)
        text += sizeof mark - 1;
    if (text < end && *text == '#') {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        text = line_end != NULL ? line_end : end;
        if (end - text > 1 && text[1] == LUA_SIGNATURE[0])
            text++;
    }
    *len = (size_t)(end - text);
    return text;
}

/* Stack: the results of reading everything, from `results` on. Replaces them by the function or the
 * message. */
static int load_read(lua_State *L, int results, const char *mode)
{
    int status = LUA_ERRFILE;
    size_t len;
    const char *text = lua_tolstring(L, results, &len);
    if (text == NULL) {
        lua_pushfstring(L, "cannot read stdin: %s", lua_tostring(L, results + 1));
    } else {
        text = program_in(text, &len);
        status = luaL_loadbufferx(L, text, len, "=stdin", mode);
    }
    lua_replace(L, results);
    lua_settop(L, results);
    return status;
}

/* Reads everything; `then` continues with the results on top of the stack. */
static int read_all(lua_State *L, lua_KContext ctx, lua_KFunction then)
{
    int args = read_push_reader(L);
    lua_pushliteral(L, "a");
    lua_callk(L, args + 1, LUA_MULTRET, ctx, then);
    return then(L, LUA_OK, ctx);
}

/* ---- the functions ---- */

static int has_run(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L);
}

static int run_read(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (load_read(L, 1, NULL) != LUA_OK)
        return lua_error(L);
    lua_callk(L, 0, LUA_MULTRET, 0, has_run);
    return has_run(L, status, ctx);
}

static int dofile(lua_State *L)
{
    if (!lua_isnoneornil(L, 1) || !read_may_wait(L))
        return stock.dofile(L);
    lua_settop(L, 0);
    return read_all(L, 0, run_read);
}

enum { MODE = 2, ENVIRONMENT, LOADED };

/* `environment`: one was given, which can be nil. */
static int return_read(lua_State *L, int status, lua_KContext environment)
{
    (void)status;
    if (load_read(L, LOADED, lua_tostring(L, MODE)) != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (environment) {
        lua_pushvalue(L, ENVIRONMENT);
        if (lua_setupvalue(L, LOADED, 1) == NULL)
            lua_pop(L, 1);
    }
    return 1;
}

static int loadfile(lua_State *L)
{
    if (!lua_isnoneornil(L, 1) || !read_may_wait(L))
        return stock.loadfile(L);
    luaL_optstring(L, MODE, NULL);
    lua_KContext environment = !lua_isnone(L, ENVIRONMENT);
    lua_settop(L, ENVIRONMENT);
    return read_all(L, environment, return_read);
}

/* Lua's own loop reads a line, blocking, and runs it where nothing can yield. */
static int debug_debug(lua_State *L)
{
    read_lend(L);
    return stock.debug(L);
}

int load_stdin(lua_State *L)
{
    read_lend(L);
    return luaL_loadfile(L, NULL);
}

/* ---- installing ---- */

void load_install(lua_State *L, struct runtime *rt)
{
    lua_pushglobaltable(L);
    stock.dofile = bind_replace(L, rt, "dofile", dofile);
    stock.loadfile = bind_replace(L, rt, "loadfile", loadfile);
    lua_getfield(L, -1, LUA_DBLIBNAME);
    stock.debug = bind_replace(L, rt, "debug", debug_debug);
    lua_pop(L, 2);
}
