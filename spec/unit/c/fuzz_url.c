/*
 * For libFuzzer (make fuzz): the texts that name servers: PostgreSQL's URLs and keyword=value lists, URLs of
 * Redis. A refused text is an error of kind "config". An accepted text gives the same result when it is
 * rewritten in each form, and libpq reads the same parameters from it.
 *
 * The code under test is Lua: the lines that run are reported to libFuzzer as coverage.
 */
#include "bind/core.h"

#include <libpq-fe.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char checks[] =
    "local url, errors = require 'dbrun.url', require 'dbrun.error'\n"
    "local function same(a, b, at)\n"
    "    if type(a) ~= 'table' or type(b) ~= 'table' then\n"
    "        if a ~= b then error(('%s: %q became %q'):format(at, tostring(a), tostring(b)), 0) end\n"
    "        return\n"
    "    end\n"
    "    for k, v in pairs(a) do if k ~= 'form' then same(v, b[k], at .. '.' .. tostring(k)) end end\n"
    "    for k in pairs(b) do if k ~= 'form' and a[k] == nil then error(at .. '.' .. tostring(k) .. ' is "
    "new', 0) "
    "end end\n"
    "end\n"
    "local function parsed(parse, text)\n"
    "    local ok, result = pcall(parse, text)\n"
    "    if ok then return result end\n"
    "    if not errors.is(result, 'config') then error('no error of kind config: ' .. tostring(result), 0) "
    "end\n"
    "end\n"
    "local function again(parse, build, first)\n"
    "    local text = build(first)\n"
    "    local second = parsed(parse, text)\n"
    "    if not second then error('refused: ' .. text, 0) end\n"
    "    same(first, second, text)\n"
    "end\n"
    "return function(text)\n"
    "    local redis = parsed(url.parse_redis, text)\n"
    "    if redis then again(url.parse_redis, url.build_redis, redis) end\n"
    "    local pg = parsed(url.parse_postgres, text)\n"
    "    if not pg then return end\n"
    "    again(url.parse_postgres, url.build_postgres, pg)\n"
    "    again(url.parse_postgres, url.build_keywords, pg)\n"
    "    return url.build_keywords(pg), url.conninfo_params(pg)\n"
    "end\n";

/* libFuzzer treats each byte here as one of its own counters. */
__attribute__((section("__libfuzzer_extra_counters"), used)) static uint8_t lines[1 << 14];

static void on_line(lua_State *L, lua_Debug *ar)
{
    lua_getinfo(L, "S", ar);
    size_t file = ar->srclen * 977 + (ar->srclen > 6 ? (unsigned char)ar->source[ar->srclen - 6] * 131u : 0);
    lines[(file + (size_t)ar->currentline) % sizeof lines]++;
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static lua_State *new_state(void)
{
    lua_State *L = luaL_newstate();
    must(L != NULL, "no memory");
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, bind_core);
    lua_setfield(L, -2, "dbrun.core");
    lua_getglobal(L, "package");
    lua_pushliteral(L, "lua/?.lua");
    lua_setfield(L, -2, "path");
    lua_settop(L, 0);
    if (luaL_loadstring(L, checks) != LUA_OK || lua_pcall(L, 0, 1, 0) != LUA_OK)
        must(false, lua_tostring(L, -1));
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return L;
}

/* The value that libpq has read; NULL when there is none, or it is empty. */
static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o->val && o->val[0] ? o->val : NULL;
    return NULL;
}

/* Stack: the function, the list of keywords and values as a text, the same as a table. */
static void compare_with_libpq(lua_State *L)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(lua_tostring(L, 2), &why);
    must(options != NULL, why ? why : "libpq refuses it");
    for (lua_Integer i = 1; lua_rawgeti(L, 3, i) == LUA_TTABLE; i++) {
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        const char *ours = lua_tostring(L, -1);
        const char *theirs = value_of(options, lua_tostring(L, -2));
        must(strcmp(ours, theirs ? theirs : "") == 0, lua_tostring(L, -2));
        lua_pop(L, 3);
    }
    PQconninfoFree(options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (!L)
        L = new_state();
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushlstring(L, (const char *)data, size);
    must(lua_pcall(L, 1, 2, 0) == LUA_OK, lua_tostring(L, -1));
    if (lua_type(L, 2) == LUA_TSTRING)
        compare_with_libpq(L);
    return 0;
}
