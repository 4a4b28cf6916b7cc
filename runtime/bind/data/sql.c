#include "bind/data/sql.h"
#include "base/symbol.h"
#include "pg/scan.h"

#include <pg_query.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define BOX      "dbrun.sql.result"
#define TREE_BOX "dbrun.sql.tree"

/* The name of the library whose structs pg_query.h describes. Another version may lay them out
 * differently, so the plain `.so` link is not tried. */
#ifndef DBRUN_PG_QUERY_SONAME
#define DBRUN_PG_QUERY_SONAME "libpg_query.so.1504.0"
#endif

typedef PgQuerySplitResult (*split_fn)(const char *sql);
typedef void (*free_fn)(PgQuerySplitResult result);
typedef PgQueryParseResult (*parse_fn)(const char *sql);
typedef void (*free_parse_fn)(PgQueryParseResult result);

/* Upvalue 2 of the functions. */
struct library {
    void *handle;
    split_fn split;
    free_fn free;
    parse_fn parse;
    free_parse_fn free_parse;
};

/* A result, which the collector frees after a Lua error. */
struct box {
    PgQuerySplitResult result;
    free_fn free; /* NULL: empty */
};

static int box_gc(lua_State *L)
{
    struct box *b = luaL_checkudata(L, 1, BOX);
    if (b->free)
        b->free(b->result);
    b->free = NULL;
    return 0;
}

/* The same for a parse tree. */
struct tree_box {
    PgQueryParseResult result;
    free_parse_fn free; /* NULL: empty */
};

static int tree_box_gc(lua_State *L)
{
    struct tree_box *b = luaL_checkudata(L, 1, TREE_BOX);
    if (b->free)
        b->free(b->result);
    b->free = NULL;
    return 0;
}

/* Opens the library once. False when it cannot be opened; dlerror says why. */
static bool library_load(struct library *lib)
{
    if (lib->split)
        return true;
    if (!lib->handle)
        lib->handle = dlopen(DBRUN_PG_QUERY_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (!lib->handle)
        return false;
    symbol_find(lib->handle, "pg_query_free_split_result", &lib->free);
    symbol_find(lib->handle, "pg_query_parse", &lib->parse);
    symbol_find(lib->handle, "pg_query_free_parse_result", &lib->free_parse);
    if (lib->free && lib->parse && lib->free_parse)
        symbol_find(lib->handle, "pg_query_split_with_parser", &lib->split);
    return lib->split != NULL;
}

static int push_missing(lua_State *L)
{
    const char *why = dlerror();
    lua_pushfstring(L, "PostgreSQL's SQL parser is not installed (%s)",
                    why ? why : DBRUN_PG_QUERY_SONAME " lacks a function");
    return 2;
}

static int sql_available(lua_State *L)
{
    struct library *lib = lua_touserdata(L, lua_upvalueindex(2));
    bool ok = library_load(lib);
    lua_pushboolean(L, ok);
    return ok ? 1 : push_missing(L);
}

static int push_error(lua_State *L, const PgQueryError *e)
{
    lua_pushnil(L);
    lua_pushstring(L, e->message ? e->message : "the text does not parse");
    if (e->cursorpos <= 0)
        return 2;
    lua_pushinteger(L, e->cursorpos);
    return 3;
}

static int push_statements(lua_State *L, const PgQuerySplitResult *r)
{
    lua_createtable(L, r->n_stmts, 0);
    for (int i = 0; i < r->n_stmts; i++) {
        lua_Integer first = r->stmts[i]->stmt_location + 1;
        lua_createtable(L, 0, 2);
        lua_pushinteger(L, first);
        lua_setfield(L, -2, "first");
        lua_pushinteger(L, first + r->stmts[i]->stmt_len - 1);
        lua_setfield(L, -2, "last");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* Returns the text to parse, or NULL with nil and a message pushed. */
static const char *check_text(lua_State *L, struct library *lib)
{
    size_t len;
    const char *sql = luaL_checklstring(L, 1, &len);
    if (memchr(sql, '\0', len)) {
        lua_pushnil(L);
        lua_pushliteral(L, "the text contains a NUL byte");
        return NULL;
    }
    if (!library_load(lib)) {
        lua_pushnil(L);
        push_missing(L);
        return NULL;
    }
    return sql;
}

static int sql_split(lua_State *L)
{
    struct library *lib = lua_touserdata(L, lua_upvalueindex(2));
    const char *sql = check_text(L, lib);
    if (!sql)
        return 2;
    struct box *b = lua_newuserdatauv(L, sizeof *b, 0);
    b->free = NULL;
    luaL_setmetatable(L, BOX);
    b->result = lib->split(sql);
    b->free = lib->free;
    return b->result.error ? push_error(L, b->result.error) : push_statements(L, &b->result);
}

/* The library writes a tree by recursion and does not watch the stack: a chain of 70,000 operators, which is
 * 140 KB of text, needs more than 8 MiB. A level takes 130 bytes of stack and at least two bytes of text. */
enum {
    SHORT_TEXT = 16 * 1024,
    STACK_PER_BYTE = 256,
    STACK_BASE = 1024 * 1024,
    LONGEST_TEXT = 8 * 1024 * 1024
};

struct parse_job {
    parse_fn parse;
    const char *sql;
    PgQueryParseResult result;
};

static void *parse_thread(void *arg)
{
    struct parse_job *job = arg;
    job->result = job->parse(job->sql);
    return NULL;
}

/* Parses on a thread with a stack large enough for the text. False when no such thread can be started. */
static bool parse_long(struct parse_job *job, size_t len)
{
    sigset_t all;
    sigset_t before;
    pthread_attr_t attr;
    pthread_t thread;
    if (len > LONGEST_TEXT || pthread_attr_init(&attr) != 0)
        return false;
    int rc = pthread_attr_setstacksize(&attr, STACK_BASE + len * STACK_PER_BYTE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc == 0)
        rc = pthread_create(&thread, &attr, parse_thread, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        pthread_join(thread, NULL);
    return rc == 0;
}

/* The parse tree as JSON text: {"version": n, "stmts": [{"stmt": {...}, "stmt_location": n}]}. */
static int sql_parse(lua_State *L)
{
    struct library *lib = lua_touserdata(L, lua_upvalueindex(2));
    const char *sql = check_text(L, lib);
    if (!sql)
        return 2;
    struct tree_box *b = lua_newuserdatauv(L, sizeof *b, 0);
    b->free = NULL;
    luaL_setmetatable(L, TREE_BOX);
    struct parse_job job = {.parse = lib->parse, .sql = sql};
    size_t len = strlen(sql);
    if (len <= SHORT_TEXT) {
        job.result = lib->parse(sql);
    } else if (!parse_long(&job, len)) {
        lua_pushnil(L);
        lua_pushliteral(L, "the statement is too long for the parser");
        return 2;
    }
    b->result = job.result;
    b->free = lib->free_parse;
    if (b->result.error)
        return push_error(L, b->result.error);
    lua_pushstring(L, b->result.parse_tree);
    return 1;
}

/* scan(sql, at [, backslash]) -> the position after the piece, its kind, its position, true when it has no
 * end; nothing at the end of the text. Usable as an iterator: for behind, kind, at in scan, sql, 1 do.
 * backslash: standard_conforming_strings is off. */
static int sql_scan(lua_State *L)
{
    static const char *const names[] = {
        [SQL_BLANK] = "blank",   [SQL_COMMENT] = "comment", [SQL_WORD] = "word",
        [SQL_QUOTED] = "quoted", [SQL_STRING] = "string",   [SQL_DOLLAR] = "dollar",
        [SQL_NUMBER] = "number", [SQL_SIGN] = "sign",       [SQL_PARAMETER] = "parameter",
    };
    struct sql_scan x = {0};
    x.sql = luaL_checklstring(L, 1, &x.len);
    lua_Integer at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, at >= 1, 2, "positions begin at 1");
    x.backslash = lua_toboolean(L, 3);
    x.at = (lua_Unsigned)at - 1 < x.len ? (size_t)at - 1 : x.len;
    enum sql_kind kind = sql_next(&x);
    if (kind == SQL_END)
        return 0;
    lua_pushinteger(L, (lua_Integer)x.at + 1);
    lua_pushstring(L, names[kind]);
    lua_pushinteger(L, at);
    lua_pushboolean(L, x.open);
    return 4;
}

/* True for a {name} or {operator}, and not a brace of the SQL itself ('{}', an array, JSON). */
static bool in_braces(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (name[i] == '{' || name[i] == ' ' || (name[i] >= '\t' && name[i] <= '\r'))
            return false;
    return len > 0;
}

/* Skips a string or a quoted name that begins there: its content is not replaced, because it may be the name
 * of a table. */
static const char *behind_quotes(const char *open, const char *end)
{
    const char *close = memchr(open + 1, *open, (size_t)(end - open - 1));
    return close ? close + 1 : end;
}

/* The text with each {name} and {operator} qualified with pg_catalog (dbrun.db.catalog). */
static int sql_catalog(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *end = text + len, *at = text;
    luaL_Buffer out;
    luaL_buffinitsize(L, &out, len + len / 2);
    while (at < end) {
        if (*at == '\'' || *at == '"') {
            at = behind_quotes(at, end);
            continue;
        }
        const char *name = at + 1;
        if (*at++ != '{')
            continue;
        const char *close = memchr(name, '}', (size_t)(end - name));
        if (!close)
            break;
        size_t n = (size_t)(close - name);
        if (!in_braces(name, n))
            continue;
        bool word = (name[0] | 0x20) >= 'a' && (name[0] | 0x20) <= 'z';
        word = word || name[0] == '_';
        luaL_addlstring(&out, text, (size_t)(name - 1 - text));
        luaL_addstring(&out, word ? "pg_catalog." : "operator(pg_catalog.");
        luaL_addlstring(&out, name, n);
        if (!word)
            luaL_addchar(&out, ')');
        text = at = close + 1;
    }
    luaL_addlstring(&out, text, (size_t)(end - text));
    luaL_pushresult(&out);
    return 1;
}

static const luaL_Reg functions[] = {
    {"available", sql_available}, {"split", sql_split},     {"parse", sql_parse},
    {"scan", sql_scan},           {"catalog", sql_catalog}, {NULL, NULL},
};

int bind_sql_open(lua_State *L, struct runtime *rt)
{
    if (luaL_newmetatable(L, BOX)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
    }
    if (luaL_newmetatable(L, TREE_BOX)) {
        lua_pushcfunction(L, tree_box_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 2);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, rt);
    struct library *lib = lua_newuserdatauv(L, sizeof *lib, 0);
    memset(lib, 0, sizeof *lib);
    luaL_setfuncs(L, functions, 2);
    return 1;
}
