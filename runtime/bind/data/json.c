#include "bind/data/json.h"

#include "base/number.h"
#include "bind/base/error.h"
#include "bind/data/rows.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>

#define BOX_CLASS "dbrun.jsonbox"

/* Owns the document while Lua values are made of it, which can raise "not enough memory". */
static int box_gc(lua_State *L)
{
    json_t **box = luaL_checkudata(L, 1, BOX_CLASS);
    json_decref(*box);
    *box = NULL;
    return 0;
}

static json_t **push_box(lua_State *L)
{
    json_t **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, BOX_CLASS);
    return box;
}

static int size_hint(size_t n)
{
    return n > INT_MAX ? 0 : (int)n;
}

static void push_value(lua_State *L, json_t *v);

static void push_object(lua_State *L, json_t *v)
{
    const char *key;
    size_t len;
    json_t *item;
    lua_createtable(L, 0, size_hint(json_object_size(v)));
    json_object_keylen_foreach(v, key, len, item)
    {
        lua_pushlstring(L, key, len);
        push_value(L, item);
        lua_rawset(L, -3);
    }
}

static void push_array(lua_State *L, json_t *v)
{
    size_t n = json_array_size(v);
    lua_createtable(L, size_hint(n), 0);
    for (size_t i = 0; i < n; i++) {
        push_value(L, json_array_get(v, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    luaL_setmetatable(L, JSON_ARRAY_CLASS);
}

/* The depth of this recursion is bounded by the parser's own limit. */
static void push_value(lua_State *L, json_t *v)
{
    luaL_checkstack(L, 4, "JSON is nested too deeply");
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        push_object(L, v);
        break;
    case JSON_ARRAY:
        push_array(L, v);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(v));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(v));
        break;
    case JSON_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    }
}

static const char *hint_for(enum json_error_code code)
{
    switch (code) {
    case json_error_numeric_overflow:
        return "a number does not fit into 64 bits: write it as a string, or read the column as text "
               "(column::text)";
    case json_error_stack_overflow:
        return "the nesting is deeper than 2048 levels";
    case json_error_null_byte_in_key:
        return "the name of a member cannot contain \\u0000";
    default:
        return NULL;
    }
}

static void set_malformed(struct error *e, json_error_t *at)
{
    /* jansson's message quotes a piece of the text, which may hold secrets: line and column are enough. */
    char *near = strstr(at->text, " near '");
    if (near)
        *near = '\0';
    error_set(e, ERROR_USAGE, "malformed JSON, line %d, column %d: %s", at->line, at->column, at->text);
    error_set_field(e, ERROR_HINT, hint_for(json_error_code(at)));
}

/* True for a NUL byte in the text: jansson would end the text there and ignore the rest. */
static bool has_nul(const char *text, size_t len, json_error_t *at)
{
    const char *nul = memchr(text, '\0', len);
    if (!nul)
        return false;
    *at = (json_error_t){.line = 1, .column = 1, .text = "there is a NUL byte"};
    for (const char *c = text; c < nul; c++) {
        at->column++;
        if (*c == '\n') {
            at->line++;
            at->column = 1;
        }
    }
    return true;
}

bool bind_json_read(lua_State *L, const char *text, size_t len, struct error *e)
{
    json_error_t at;
    luaL_checkstack(L, 4, "out of stack for JSON");
    if (has_nul(text, len, &at)) {
        set_malformed(e, &at);
        return false;
    }
    json_t **box = push_box(L);
    locale_t before = number_locale_begin(); /* jansson reads numbers with strtod */
    *box = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &at);
    number_locale_end(before);
    if (!*box) {
        if (json_error_code(&at) == json_error_out_of_memory)
            luaL_error(L, "not enough memory");
        lua_pop(L, 1);
        set_malformed(e, &at);
        return false;
    }
    push_value(L, *box);
    json_decref(*box);
    *box = NULL;
    lua_remove(L, -2);
    return true;
}

void bind_json_push(lua_State *L, const char *text, size_t len)
{
    struct error e = {0};
    if (!bind_json_read(L, text, len, &e))
        bind_error_raise(L, bind_find(L), &e);
}

static int decode(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_fail(L, bind_runtime(L), ERROR_USAGE, "json.decode: expected a string, got %s",
                         luaL_typename(L, 1));
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    bind_json_push(L, text, len);
    return 1;
}

/* True when each key of the table at `at` is a string. */
static bool has_texts_only(lua_State *L, int at)
{
    for (lua_pushnil(L); lua_next(L, at) != 0; lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            return false;
        }
    }
    return true;
}

/* Sets the class of the table at 1 (a new one when there is none) and returns it. */
static int mark(lua_State *L, const char *name, const char *class)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else if (!lua_istable(L, 1)) {
        return bind_fail(L, bind_runtime(L), ERROR_USAGE, "json.%s: expected a table, got %s", name,
                         luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    enum rows_kind kind = bind_rows_kind(L, 1);
    if (kind == ROWS_RESULT && strcmp(class, JSON_ARRAY_CLASS) == 0)
        return 1; /* a result is written as the list of its rows */
    if (kind == ROWS_ROW && strcmp(class, JSON_OBJECT_CLASS) == 0 && has_texts_only(L, 1))
        return 1; /* a row is written as an object, in the order of its columns */
    if (kind == ROWS_NONE && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, JSON_ARRAY_CLASS);
        luaL_getmetatable(L, JSON_OBJECT_CLASS);
        if (!lua_rawequal(L, 2, 3) && !lua_rawequal(L, 2, 4))
            return bind_fail(L, bind_runtime(L), ERROR_USAGE, "json.%s: the table has a metatable already",
                             name);
        lua_settop(L, 1);
    }
    luaL_setmetatable(L, class);
    return 1;
}

static int array(lua_State *L)
{
    return mark(L, "array", JSON_ARRAY_CLASS);
}

static int object(lua_State *L)
{
    return mark(L, "object", JSON_OBJECT_CLASS);
}

static int is_array(lua_State *L)
{
    lua_settop(L, 1);
    bool is = bind_rows_kind(L, 1) == ROWS_RESULT;
    if (!is && lua_istable(L, 1) && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, JSON_ARRAY_CLASS);
        is = lua_rawequal(L, -1, -2);
    }
    lua_pushboolean(L, is);
    return 1;
}

int bind_json_open(lua_State *L, struct runtime *rt)
{
    static const luaL_Reg box_meta[] = {{"__gc", box_gc}, {"__close", box_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"decode", decode}, {"encode", bind_json_encode}, {"array", array},
        {"object", object}, {"is_array", is_array},       {NULL, NULL},
    };
    bind_class(L, rt, BOX_CLASS, box_meta, NULL);
    bind_class(L, rt, JSON_ARRAY_CLASS, NULL, NULL);
    bind_class(L, rt, JSON_OBJECT_CLASS, NULL, NULL);
    lua_pop(L, 3);
    bind_lib(L, rt, functions);
    return 1;
}
