#include "bind/base/args.h"

#include "bind/base/error.h"

/* ---- names ---- */

void bind_class_words(lua_State *L, const char *what, const char *as)
{
    lua_pushstring(L, what);
    lua_setfield(L, -2, "what");
    lua_pushstring(L, as);
    lua_setfield(L, -2, "as");
}

/* Pushes the function's key in the table; false, and pushes nothing, when it is not there. */
static bool push_key_of(lua_State *L, int table, int function)
{
    lua_pushnil(L);
    while (lua_next(L, table)) {
        bool same = lua_rawequal(L, -1, function) && lua_type(L, -2) == LUA_TSTRING;
        lua_pop(L, 1);
        if (same)
            return true;
    }
    return false;
}

/* Pushes the running function's name in the metatable at `meta` or among its methods; false: pushes
 * nothing. */
static bool push_name_in(lua_State *L, int meta)
{
    lua_Debug ar;
    if (!lua_getstack(L, 0, &ar) || !lua_getinfo(L, "f", &ar))
        return false;
    int function = lua_gettop(L);
    static const char *const tables[] = {"methods", "__index"};
    bool found = false;
    for (size_t i = 0; i < 2 && !found; i++) {
        lua_pushstring(L, tables[i]);
        found = lua_rawget(L, meta) == LUA_TTABLE && push_key_of(L, lua_gettop(L), function);
        if (!found)
            lua_settop(L, function);
    }
    if (!found && !push_key_of(L, meta, function)) {
        lua_settop(L, function - 1);
        return false;
    }
    lua_replace(L, function);
    lua_settop(L, function);
    return true;
}

const char *bind_push_name(lua_State *L, const char *tname)
{
    luaL_checkstack(L, 8, "no room for an error object");
    luaL_getmetatable(L, tname);
    if (!push_name_in(L, lua_gettop(L)))
        lua_pushstring(L, "a method");
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

const char *bind_push_got(lua_State *L, int arg)
{
    switch (lua_type(L, arg)) {
    case LUA_TNONE:
    case LUA_TNIL:
        return lua_pushstring(L, "nil");
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
        return luaL_tolstring(L, arg, NULL);
    case LUA_TTHREAD:
        return lua_pushstring(L, "a coroutine");
    case LUA_TUSERDATA:
    case LUA_TLIGHTUSERDATA:
        return lua_pushstring(L, lua_touserdata(L, arg) ? "an object" : "db.null");
    default:
        return lua_pushfstring(L, "a %s", luaL_typename(L, arg));
    }
}

/* ---- the object ---- */

/* Pushes a word of the class, or its name. */
static const char *push_word(lua_State *L, int meta, const char *key, const char *tname)
{
    lua_pushstring(L, key);
    if (lua_rawget(L, meta) == LUA_TSTRING)
        return lua_tostring(L, -1);
    lua_pop(L, 1);
    return lua_pushstring(L, tname);
}

int bind_wrong_self(lua_State *L, const char *tname, const char *fn)
{
    struct error e = {0};
    luaL_checkstack(L, 12, "no room for an error object");
    const char *got = bind_push_got(L, 1); /* before the stack grows, because there may be no argument */
    const char *name = fn ? fn : bind_push_name(L, tname);
    luaL_getmetatable(L, tname);
    int meta = lua_gettop(L);
    const char *what = push_word(L, meta, "what", tname);
    const char *as = push_word(L, meta, "as", "object");
    const char *hint = lua_pushfstring(L, "call it with ':', as %s:%s(...)", as, name);
    error_set(&e, ERROR_USAGE, "%s: must be called on %s, got %s", name, what, got);
    error_set_field(&e, ERROR_HINT, hint);
    return bind_error_raise(L, bind_find(L), &e);
}

void *bind_of(lua_State *L, int upvalue)
{
    void *object = lua_touserdata(L, 1);
    if (!object || !lua_getmetatable(L, 1))
        return NULL;
    bool same = lua_rawequal(L, -1, lua_upvalueindex(upvalue));
    lua_pop(L, 1);
    return same ? object : NULL;
}

void *bind_self(lua_State *L, const char *tname)
{
    void *self = bind_of(L, 2);
    if (!self)
        self = luaL_testudata(L, 1, tname);
    if (!self)
        bind_wrong_self(L, tname, NULL);
    return self;
}

/* ---- other arguments ---- */

int bind_wrong_arg(lua_State *L, const char *tname, int arg, const char *what, const char *expected)
{
    luaL_checkstack(L, 12, "no room for an error object");
    const char *got = bind_push_got(L, arg);
    const char *name = bind_push_name(L, tname);
    return bind_fail(L, bind_find(L), ERROR_USAGE, "%s: %s must be %s, got %s", name, what, expected, got);
}

void bind_check_type(lua_State *L, const char *tname, int arg, const char *what, int type)
{
    if (lua_type(L, arg) == type)
        return;
    static const char *const words[] = {[LUA_TNUMBER] = "a number",
                                        [LUA_TSTRING] = "a string",
                                        [LUA_TTABLE] = "a table",
                                        [LUA_TFUNCTION] = "a function"};
    bind_wrong_arg(L, tname, arg, what, words[type]);
}

void bind_check_none(lua_State *L, const char *tname)
{
    if (lua_isnoneornil(L, 2))
        return;
    luaL_checkstack(L, 12, "no room for an error object");
    const char *got = bind_push_got(L, 2);
    const char *name = bind_push_name(L, tname);
    bind_fail(L, bind_find(L), ERROR_USAGE, "%s: takes no arguments, got %s", name, got);
}
