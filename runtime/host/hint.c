#include "host/hint.h"

#include "host/embedded.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

struct question {
    const char *word;
    size_t len;
    const struct buf *names;
    char *out;
    size_t size;
    bool found;
};

/* lua_CFunction under pcall: asks dbrun.nearest, which needs only Lua's standard libraries. */
static int ask(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    const struct embedded_module *m = embedded_find("dbrun.nearest");
    luaL_openlibs(L);
    if (m == NULL || luaL_loadbufferx(L, (const char *)m->code, m->size, m->name, "b") != LUA_OK)
        return 0;
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "find");
    lua_pushlstring(L, q->word, q->len);
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t at = 0; at < q->names->len; at += strlen(q->names->data + at) + 1) {
        lua_pushstring(L, q->names->data + at);
        lua_seti(L, -2, ++n);
    }
    lua_call(L, 2, 1);
    const char *name = lua_tostring(L, -1);
    if (name != NULL) {
        snprintf(q->out, q->size, "%s", name);
        q->found = true;
    }
    return 0;
}

bool hint_find(const char *word, size_t len, const struct buf *names, char *out, size_t size)
{
    struct question q = {.word = word, .len = len, .names = names, .out = out, .size = size};
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return false;
    lua_pushcfunction(L, ask);
    lua_pushlightuserdata(L, &q);
    lua_pcall(L, 1, 0, 0);
    lua_close(L);
    return q.found;
}
