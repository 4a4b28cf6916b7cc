/*
 * A floor of P4: makes the values with Lua's C API, without a database. It uses mimalloc with huge pages
 * when it is installed, and stops the collector.
 *
 * Usage: values rows|columns ROWS
 */
#include "floor.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

enum { COLUMNS = 4, KEYS = 1, RESULT = KEYS + COLUMNS, ARRAYS = RESULT };

static void *(*resize)(void *block, size_t size) = realloc;
static void (*give)(void *block) = free;

static void *serve(void *data, void *block, size_t old, size_t size)
{
    (void)data, (void)old;
    if (size > 0)
        return resize(block, size);
    give(block);
    return NULL;
}

static void use_mimalloc(void)
{
    setenv("MIMALLOC_LARGE_OS_PAGES", "1", 1);
    void *library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return;
    *(void **)&resize = dlsym(library, "mi_realloc");
    *(void **)&give = dlsym(library, "mi_free");
}

/* Pushes the value of a column. */
static void push(lua_State *L, int column, int64_t i)
{
    char text[64];
    time_t at = 1704067200 + i;
    struct tm tm;
    switch (column) {
    case 0:
        lua_pushinteger(L, i);
        return;
    case 1:
        lua_pushnumber(L, (double)i / 4);
        return;
    case 2:
        lua_pushlstring(L, text, (size_t)sprintf(text, "text of row %lld", (long long)i));
        return;
    default:
        gmtime_r(&at, &tm);
        lua_pushlstring(L, text, strftime(text, sizeof text, "%F %T+00", &tm));
    }
}

static void make_rows(lua_State *L, int64_t count)
{
    lua_createtable(L, (int)count, 0);
    for (int64_t i = 1; i <= count; i++) {
        lua_createtable(L, 0, COLUMNS);
        for (int column = 0; column < COLUMNS; column++) {
            lua_pushvalue(L, KEYS + column);
            push(L, column, i);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, RESULT, i);
    }
}

static void make_columns(lua_State *L, int64_t count)
{
    for (int column = 0; column < COLUMNS; column++)
        lua_createtable(L, (int)count, 0);
    for (int64_t i = 1; i <= count; i++)
        for (int column = 0; column < COLUMNS; column++) {
            push(L, column, i);
            lua_rawseti(L, ARRAYS + column, i);
        }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s rows|columns ROWS\n", argv[0]);
        return 2;
    }
    use_mimalloc();
    int64_t count = strtoll(argv[2], NULL, 10);
    struct floor_clock start = floor_start();
    lua_State *L = lua_newstate(serve, NULL);
    lua_gc(L, LUA_GCSTOP);
    for (int column = 0; column < COLUMNS; column++)
        lua_pushlstring(L, &"abcd"[column], 1);
    (strcmp(argv[1], "rows") == 0 ? make_rows : make_columns)(L, count);
    floor_report(start, (uint64_t)count, 0);
    fflush(stdout);
    _Exit(0); /* without freeing each value */
}
