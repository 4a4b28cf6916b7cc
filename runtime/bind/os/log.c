#include "bind/os/log.h"

#include "bind/base/error.h"

#include <string.h>

static const char *const words[] = {"error", "warn", "info", "debug", NULL};

/* write(level, text) */
static int write_line(lua_State *L)
{
    int level = luaL_checkoption(L, 1, NULL, words);
    log_write(bind_runtime(L)->log, (enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* level([word]) -> word: sets the level; returns the level */
static int level_word(lua_State *L)
{
    struct log *log = bind_runtime(L)->log;
    if (!lua_isnoneornil(L, 1))
        log->level = (enum log_level)luaL_checkoption(L, 1, NULL, words);
    lua_pushstring(L, words[log->level]);
    return 1;
}

/* mask(text) -> text without secrets */
static int mask(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer out;
    struct buf masked = {0};
    luaL_buffinit(L, &out); /* pushing the string may raise: do that before memory of C is taken */
    char *place = luaL_prepbuffsize(&out, len * 2 + 64);
    bool ok = secrets_mask(bind_runtime(L)->secrets, text, len, &masked) && masked.len <= len * 2 + 64;
    if (ok && masked.len)
        memcpy(place, masked.data, masked.len);
    size_t n = masked.len;
    buf_free(&masked);
    if (!ok)
        return luaL_error(L, "not enough memory");
    luaL_pushresultsize(&out, n);
    return 1;
}

/* secret(text): masked from now on */
static int secret(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!secrets_add(bind_runtime(L)->secrets, text, len))
        return luaL_error(L, "not enough memory");
    return 0;
}

int bind_log_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {
        {"write", write_line}, {"level", level_word}, {"mask", mask}, {"secret", secret}, {NULL, NULL}};
    bind_lib(L, rt, functions);
    return 1;
}
