#include "bind/base/error.h"

#include "task/where.h"

#include <string.h>

#define ERROR_CLASS "dbrun.error"
#define BUF_CLASS   "dbrun.buf"

/* Sets t[name] to the text with secrets masked. Lua owns the buffer `out` that holds the copy, so the copy
 * cannot leak when Lua raises "not enough memory". */
static void set_masked(lua_State *L, struct runtime *rt, struct buf *out, const char *name, const char *text)
{
    if (!text)
        return;
    buf_clear(out);
    if (!secrets_mask(rt->secrets, text, strlen(text), out))
        luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->data ? out->data : "", out->len);
    lua_setfield(L, -2, name);
}

static int box_gc(lua_State *L)
{
    buf_free(luaL_checkudata(L, 1, BUF_CLASS));
    return 0;
}

static struct buf *push_box(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct buf){0};
    if (luaL_newmetatable(L, BUF_CLASS)) {
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, box_gc);
        lua_setfield(L, -2, "__close");
    }
    lua_setmetatable(L, -2);
    return b;
}

void bind_error_push(lua_State *L, struct runtime *rt, const struct error *e)
{
    char where[SCRIPT_WHERE];
    luaL_checkstack(L, 6, "no room for an error object");
    struct buf *masked = push_box(L);
    lua_createtable(L, 0, 8);
    lua_pushstring(L, error_kind_name(e->kind));
    lua_setfield(L, -2, "kind");
    set_masked(L, rt, masked, "message", e->message ? e->message : "unknown error");
    for (int f = 0; f < ERROR_FIELDS; f++)
        if (e->field[f])
            set_masked(L, rt, masked, error_field_name((enum error_field)f), e->field[f]);
    if (e->position > 0) {
        lua_pushinteger(L, e->position);
        lua_setfield(L, -2, "position");
    }
    if (e->column > 0) {
        lua_pushinteger(L, e->column);
        lua_setfield(L, -2, "column_number");
    }
    lua_pushboolean(L, e->retryable);
    lua_setfield(L, -2, "retryable");
    if (e->outcome != OUTCOME_NONE) {
        lua_pushstring(L, error_outcome_name(e->outcome));
        lua_setfield(L, -2, "outcome");
    }
    if (script_where(L, 0, where, sizeof where)) {
        lua_pushstring(L, where);
        lua_setfield(L, -2, "where");
    }
    luaL_setmetatable(L, ERROR_CLASS);
    buf_free(masked);
    lua_remove(L, -2);
}

static void push_for_task(lua_State *L, void *rt, const struct error *e)
{
    bind_error_push(L, rt, e);
}

void bind_error_of_tasks(struct runtime *rt)
{
    sched_set_errors(rt->sched, push_for_task, rt);
}

static int push_protected(lua_State *L)
{
    bind_error_push(L, lua_touserdata(L, 1), lua_touserdata(L, 2));
    return 1;
}

/* The object is made in a protected call, so that `e` is freed even when Lua runs out of memory meanwhile.
 * (Pushing a light C function or a light userdata allocates nothing.) */
int bind_error_raise(lua_State *L, struct runtime *rt, struct error *e)
{
    if (!lua_checkstack(L, 4)) {
        error_clear(e);
        return luaL_error(L, "not enough memory");
    }
    lua_pushcfunction(L, push_protected);
    lua_pushlightuserdata(L, rt);
    lua_pushlightuserdata(L, e);
    lua_pcall(L, 2, 1, 0);
    error_clear(e);
    return lua_error(L); /* the object, or the error raised while it was made */
}

int bind_fail(lua_State *L, struct runtime *rt, enum error_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = lua_pushvfstring(L, fmt, ap);
    va_end(ap);
    struct error e = {0};
    error_set(&e, kind, "%s", text);
    return bind_error_raise(L, rt, &e);
}

int bind_refuse(lua_State *L, struct runtime *rt, const char *message, const char *hint)
{
    struct error e = {0};
    error_set(&e, ERROR_USAGE, "%s", message);
    error_set_field(&e, ERROR_HINT, hint);
    return bind_error_raise(L, rt, &e);
}

/* Masks a field of the table at 1, if it is a text. */
static void mask_field(lua_State *L, struct runtime *rt, const char *name)
{
    if (lua_getfield(L, 1, name) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        struct buf *masked = push_box(L);
        if (!secrets_mask(rt->secrets, text, len, masked))
            luaL_error(L, "not enough memory");
        lua_pushlstring(L, masked->data ? masked->data : "", masked->len);
        lua_setfield(L, 1, name);
        buf_free(masked);
    }
    lua_settop(L, 1);
}

/* new{kind=, message=, ...} -> object. The table itself becomes the object. */
static int error_new(lua_State *L)
{
    struct runtime *rt = bind_runtime(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    mask_field(L, rt, "message");
    mask_field(L, rt, "text");
    for (int f = 0; f < ERROR_FIELDS; f++)
        mask_field(L, rt, error_field_name((enum error_field)f));
    if (lua_getfield(L, 1, "where") == LUA_TNIL) {
        char where[SCRIPT_WHERE];
        if (script_where(L, 0, where, sizeof where)) {
            lua_pushstring(L, where);
            lua_setfield(L, 1, "where");
        }
    }
    lua_settop(L, 1);
    luaL_setmetatable(L, ERROR_CLASS);
    return 1;
}

/* metatable() -> table: lua/dbrun/error.lua adds __tostring and methods. */
static int error_metatable(lua_State *L)
{
    luaL_getmetatable(L, ERROR_CLASS);
    return 1;
}

/* __tostring until lua/dbrun/error.lua is loaded and replaces it: loads that module. */
static int error_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "dbrun.error");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "format");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

int bind_error_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg functions[] = {{"new", error_new}, {"metatable", error_metatable}, {NULL, NULL}};
    luaL_newmetatable(L, ERROR_CLASS);
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, ERROR_CLASS);
    lua_setfield(L, -2, "__name");
    lua_pop(L, 1);
    bind_lib(L, rt, functions);
    return 1;
}
