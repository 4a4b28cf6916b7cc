#include "host/words.h"

#include "host/options.h"
#include "host/script.h"

#include <lauxlib.h>
#include <limits.h>
#include <string.h>

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (text == NULL)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void push_options(lua_State *L)
{
    lua_newtable(L);
    for (size_t i = 0; options_words(i) != NULL; i++) {
        const struct option_words *w = options_words(i);
        lua_createtable(L, 0, 4);
        set_text(L, "name", w->name);
        set_text(L, "value", w->value);
        set_text(L, "choices", w->choices);
        set_text(L, "about", w->about);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
}

/* Runs under pcall, because pushing can raise, and the buffer must be freed. */
static int push_names(lua_State *L)
{
    const struct buf *names = lua_touserdata(L, 1);
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1) {
        lua_pushstring(L, names->data + at);
        lua_seti(L, -2, ++n);
    }
    return 1;
}

static int words(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, NULL);
    if (name != NULL) {
        char path[PATH_MAX];
        const struct embedded_module *inside;
        if (!script_find_named(name, path, sizeof path, &inside))
            return 0;
        lua_pushstring(L, path);
        lua_pushboolean(L, inside != NULL);
        return 2;
    }
    push_options(L);
    struct buf names = {0};
    lua_pushcfunction(L, push_names);
    lua_pushlightuserdata(L, &names);
    int status = script_names(&names) ? lua_pcall(L, 1, 1, 0) : LUA_ERRMEM;
    buf_free(&names);
    if (status == LUA_ERRMEM)
        return luaL_error(L, "not enough memory");
    return status == LUA_OK ? 2 : lua_error(L);
}

void words_install(lua_State *L)
{
    lua_pushcfunction(L, words);
    lua_setfield(L, -2, "words");
}
