#include "bind/os/log.h"

#include "bind/base/error.h"
#include "task/where.h"

#include <string.h>

static const char *const words[] = {"error", "warn", "info", "debug", NULL};

/* write(level, text) */
static int write_line(lua_State *L)
{
    int level = luaL_checkoption(L, 1, NULL, words);
    log_write(bind_runtime(L)->log, (enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* fields(level, message, {key, kind, value, ...}): kind "text", or "raw" for what JSON writes without quotes.
 * Raw values are not masked here: the caller masks what it encodes. */
static int write_fields(lua_State *L)
{
    struct log *log = bind_runtime(L)->log;
    enum log_level level = (enum log_level)luaL_checkoption(L, 1, NULL, words);
    struct log_line line;
    size_t len;
    const char *message = luaL_checklstring(L, 2, &len);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 3);
    luaL_checkstack(L, 3, NULL);
    for (lua_Integer i = 1; i <= n; i++) { /* nothing raises below */
        luaL_argcheck(L, lua_rawgeti(L, 3, i) == LUA_TSTRING, 3, "expected strings");
        lua_pop(L, 1);
    }
    if (!log_wants(log, level))
        return 0;
    log_begin(&line, log, level, message, len);
    for (lua_Integer i = 1; i + 2 <= n; i += 3) {
        lua_rawgeti(L, 3, i);
        lua_rawgeti(L, 3, i + 1);
        lua_rawgeti(L, 3, i + 2);
        bool raw = lua_tostring(L, -2)[0] == 'r';
        const char *value = lua_tolstring(L, -1, &len);
        (raw ? log_raw : log_text)(&line, lua_tostring(L, -3), value, len);
        lua_pop(L, 3);
    }
    log_end(&line);
    return 0;
}

/* parameters([on]) -> true when statements are logged with their parameters */
static int log_parameters(lua_State *L)
{
    struct log *log = bind_runtime(L)->log;
    if (!lua_isnoneornil(L, 1))
        log->parameters = lua_toboolean(L, 1);
    lua_pushboolean(L, log->parameters);
    return 1;
}

/* format([word]) -> "text" or "json" */
static int format_word(lua_State *L)
{
    static const char *const forms[] = {"text", "json", NULL};
    struct log *log = bind_runtime(L)->log;
    if (!lua_isnoneornil(L, 1))
        log->json = luaL_checkoption(L, 1, NULL, forms) == 1;
    lua_pushstring(L, forms[log->json]);
    return 1;
}

/* place([level]) -> "file:line" of the calling script line, or nil */
static int place(lua_State *L)
{
    char where[SCRIPT_WHERE];
    if (!script_where(L, 1, where, sizeof where))
        return 0;
    lua_pushstring(L, where);
    return 1;
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
    luaL_buffinit(L, &out); /* pushing the string can raise: push it before allocating C memory */
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
    static const luaL_Reg functions[] = {{"write", write_line},
                                         {"fields", write_fields},
                                         {"level", level_word},
                                         {"format", format_word},
                                         {"parameters", log_parameters},
                                         {"place", place},
                                         {"mask", mask},
                                         {"secret", secret},
                                         {NULL, NULL}};
    bind_lib(L, rt, functions);
    return 1;
}
