#include "bind/redis/reply.h"

#include "base/number.h"
#include "bind/base/error.h"
#include "redis/codes.h"

#include <math.h>
#include <string.h>

#define ERROR_BOX "dbrun.redis.error"

/* Limits for nested tables. The functions here recurse for each level, and so do most scripts that read the
 * tables. */
enum {
    MAX_DEPTH = 512,
    STACK_A_TABLE = 16, /* slots of Lua's stack for a table and a value in it */
};

/* ---- errors ---- */

void redis_reply_error(const struct resp_item *item, const char *command, struct error *e)
{
    int len = item->size > 4096 ? 4096 : (int)item->size;
    error_set(e, ERROR_REDIS, "%.*s", len, item->text);
    error_set_field(e, ERROR_CONTEXT, command);
    redis_code_describe(e, item->text, (size_t)item->size);
}

static int error_box_gc(lua_State *L)
{
    error_clear(luaL_checkudata(L, 1, ERROR_BOX));
    return 0;
}

/* Pushes the owner of a struct error, so that it cannot leak while Lua makes the error object. */
static struct error *push_error_box(lua_State *L)
{
    struct error *e = lua_newuserdatauv(L, sizeof *e, 0);
    *e = (struct error){0};
    if (luaL_newmetatable(L, ERROR_BOX)) {
        lua_pushcfunction(L, error_box_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return e;
}

/* Pushes the error object of an error reply. */
static void push_error(lua_State *L, struct runtime *rt, const struct resp_item *item)
{
    struct error *e = push_error_box(L);
    redis_reply_error(item, NULL, e);
    bind_error_push(L, rt, e);
    error_clear(e);
    lua_remove(L, -2);
}

/* ---- values ---- */

void redis_reply_push_float(lua_State *L, const char *s, size_t size)
{
    char text[64];
    if (size == 0 || size >= sizeof text) {
        lua_pushlstring(L, s, size);
        return;
    }
    memcpy(text, s, size);
    text[size] = '\0';
    char *end;
    double v = number_parse(text, &end);
    if (strspn(text, "0123456789+-.eE") == size && *end == '\0') {
        lua_pushnumber(L, v);
    } else if (strcmp(text, "inf") == 0 || strcmp(text, "+inf") == 0) {
        lua_pushnumber(L, HUGE_VAL);
    } else if (strcmp(text, "-inf") == 0) {
        lua_pushnumber(L, -HUGE_VAL);
    } else if (strcmp(text, "nan") == 0 || strcmp(text, "-nan") == 0) {
        lua_pushnumber(L, (lua_Number)NAN);
    } else {
        lua_pushlstring(L, s, size);
    }
}

/* The state of the functions below, which make the values at the cursor. */
struct maker {
    lua_State *L;
    struct runtime *rt;
    struct resp_cursor *c;
    int depth; /* of the tables that are being filled */
    bool too_deep;
    bool typed; /* REDIS_SHAPE_TYPED */
};

static void push_elements(struct maker *m, uint64_t n, const struct redis_shape *shape);

/* Pushes an item that is different in a typed reply; false for all other items. */
static bool push_typed(const struct maker *m, const struct resp_item *item)
{
    if (item->type == RESP_NIL && m->depth > 0) {
        lua_pushlightuserdata(m->L, NULL);
        return true;
    }
    if (item->type != RESP_STATUS)
        return false;
    luaL_checkstack(m->L, 3, NULL);
    lua_createtable(m->L, 0, 1);
    lua_pushlstring(m->L, item->text, item->size);
    lua_setfield(m->L, -2, "status");
    return true;
}

static void push_item(struct maker *m, const struct resp_item *item, const struct redis_shape *shape)
{
    lua_State *L = m->L;
    if (m->typed && push_typed(m, item))
        return;
    switch (item->type) {
    case RESP_NIL:
        lua_pushnil(L);
        break;
    case RESP_INTEGER:
        lua_pushinteger(L, item->integer);
        break;
    case RESP_ERROR:
        push_error(L, m->rt, item);
        break;
    case RESP_STATUS:
    case RESP_STRING:
        if (shape->kind == SHAPE_IS_NUMBER)
            redis_reply_push_float(L, item->text, item->size);
        else
            lua_pushlstring(L, item->text, item->size);
        break;
    case RESP_ARRAY:
        push_elements(m, item->size, shape);
        break;
    }
}

static void push_next(struct maker *m, redis_shape_id shape)
{
    struct resp_item item;
    if (resp_next(m->c, &item))
        push_item(m, &item, &redis_shapes[shape]);
    else
        lua_pushnil(m->L);
}

static void push_too_deep(lua_State *L, struct runtime *rt)
{
    struct error *e = push_error_box(L);
    error_set(e, ERROR_PROTOCOL, "redis: the reply is nested more than %d levels deep", MAX_DEPTH);
    e->outcome = OUTCOME_UNKNOWN;
    error_set_field(e, ERROR_HINT,
                    "the command ran: ask for a part of the value, or for its text (cjson.encode in a "
                    "script)");
    bind_error_push(L, rt, e);
    error_clear(e);
    lua_remove(L, -2);
}

bool redis_reply_push_item(lua_State *L, struct runtime *rt, struct resp_cursor *c,
                           const struct resp_item *item, redis_shape_id shape)
{
    if (item->type == RESP_STRING && shape == SHAPE_PLAIN) { /* GET and INCR need no more */
        lua_pushlstring(L, item->text, item->size);
        return true;
    }
    if (item->type == RESP_INTEGER && shape == SHAPE_PLAIN) {
        lua_pushinteger(L, item->integer);
        return true;
    }
    luaL_checkstack(L, STACK_A_TABLE, "no room for a reply");
    bool typed = shape == REDIS_SHAPE_TYPED;
    struct maker m = {.L = L, .rt = rt, .c = c, .typed = typed};
    push_item(&m, item, &redis_shapes[typed ? SHAPE_PLAIN : shape]);
    if (!m.too_deep)
        return true;
    lua_pop(L, 1);
    push_too_deep(L, rt);
    return false;
}

bool redis_reply_push(lua_State *L, struct runtime *rt, struct resp_cursor *c, redis_shape_id shape)
{
    struct resp_item item;
    if (!resp_next(c, &item))
        item = (struct resp_item){.type = RESP_NIL};
    return redis_reply_push_item(L, rt, c, &item, shape);
}

/* ---- shapes ---- */

static int table_size(uint64_t n)
{
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

static int counted_len(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

/* Pushes the metatable of lists of `n` elements. Lists with the same number share it while there are any. */
static void push_counted(lua_State *L, lua_Integer n)
{
    static const char key;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "v");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    }
    if (lua_rawgeti(L, -1, n) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 2);
        lua_pushinteger(L, n);
        lua_pushcclosure(L, counted_len, 1);
        lua_setfield(L, -2, "__len");
        lua_createtable(L, 0, 1);
        lua_pushinteger(L, n);
        lua_setfield(L, -2, "n");
        lua_setfield(L, -2, "__index");
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, n);
    }
    lua_remove(L, -2);
}

void redis_reply_count(lua_State *L, uint64_t n)
{
    if (n == 0)
        return;
    bool at_end = lua_rawgeti(L, -1, (lua_Integer)n) == LUA_TNIL;
    lua_pop(L, 1);
    if (!at_end)
        return;
    luaL_checkstack(L, 6, NULL);
    push_counted(L, (lua_Integer)n);
    lua_setmetatable(L, -2);
}

/* Pushes a list; its first elements have the shapes of the parts. */
static void push_list(struct maker *m, uint64_t n, const struct redis_shape *shape)
{
    lua_State *L = m->L;
    lua_createtable(L, table_size(n), 0);
    for (uint64_t i = 1; i <= n; i++) {
        push_next(m, i <= shape->count ? shape->parts[i - 1].shape : shape->each);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
    redis_reply_count(L, n);
}

/* True when the elements at the cursor are lists. The server sends some pairs flat, and some as lists. */
static bool is_nested(const struct resp_cursor *c, uint64_t n)
{
    struct resp_item item;
    struct resp_cursor look = *c;
    return n > 0 && resp_next(&look, &item) && item.type == RESP_ARRAY;
}

static redis_shape_id shape_of_name(const struct redis_shape *map, const struct resp_item *name)
{
    for (size_t i = 0; name->text && i < map->count; i++)
        if (name->size == strlen(map->parts[i].name) &&
            memcmp(name->text, map->parts[i].name, name->size) == 0)
            return map->parts[i].shape;
    return map->each;
}

/* Sets t[name] = value for the name and the value on top of the stack, which it pops. */
static void set_value(lua_State *L)
{
    if (lua_isnil(L, -2))
        lua_pop(L, 2);
    else
        lua_rawset(L, -3);
}

/* The same for a field with a string value. A repeated field becomes the list of its values. */
static void set_field(lua_State *L)
{
    lua_pushvalue(L, -2);
    int before = lua_isnil(L, -1) ? LUA_TNIL : lua_rawget(L, -4);
    if (before == LUA_TNIL) {
        lua_pop(L, 1);
        set_value(L);
        return;
    }
    if (before != LUA_TTABLE) {
        lua_createtable(L, 2, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -2);
        lua_rawset(L, -6);
    }
    lua_insert(L, -2); /* table name list value */
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 2);
}

static void push_map(struct maker *m, uint64_t n, const struct redis_shape *shape)
{
    lua_State *L = m->L;
    struct resp_item item;
    bool nested = is_nested(m->c, n);
    uint64_t pairs = nested ? n : n / 2;
    lua_createtable(L, 0, table_size(pairs));
    for (uint64_t i = 0; i < pairs; i++) {
        if (!resp_next(m->c, &item))
            return;
        if (nested && (item.type != RESP_ARRAY || item.size != 2)) { /* no server sends that */
            push_item(m, &item, &redis_shapes[SHAPE_PLAIN]);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
            continue;
        }
        if (nested)
            resp_next(m->c, &item);
        push_item(m, &item, &redis_shapes[SHAPE_PLAIN]);
        push_next(m, shape_of_name(shape, &item));
        if (shape->kind == SHAPE_IS_FIELDS)
            set_field(L);
        else
            set_value(L);
    }
    if (!nested && n % 2 == 1) { /* no server sends that either */
        push_next(m, SHAPE_PLAIN);
        lua_rawseti(L, -2, (lua_Integer)pairs + 1);
    }
}

/* True for a RESP3 map with a list for each name, where RESP2 has a flat list of names and values: VSIM
 * WITHSCORES WITHATTRIBS. */
static bool has_lists_by_name(const struct resp_cursor *c, uint64_t n)
{
    struct resp_item item;
    struct resp_cursor look = *c;
    return n > 1 && n % 2 == 0 && resp_next(&look, &item) && item.type != RESP_ARRAY &&
           resp_next(&look, &item) && item.type == RESP_ARRAY;
}

/* Pushes the name at the cursor and the values in the list after it as one row. */
static void push_named_row(struct maker *m, const struct redis_shape *shape)
{
    lua_State *L = m->L;
    struct resp_item item;
    lua_createtable(L, shape->count, 0);
    push_next(m, shape->parts[0].shape);
    lua_rawseti(L, -2, 1);
    if (!resp_next(m->c, &item))
        return;
    bool listed = item.type == RESP_ARRAY;
    uint64_t n = listed ? item.size : 1;
    for (uint64_t i = 1; i <= n; i++) {
        redis_shape_id each = i < shape->count ? shape->parts[i].shape : shape->each;
        if (listed)
            push_next(m, each);
        else
            push_item(m, &item, &redis_shapes[each]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    redis_reply_count(L, n + 1);
}

static void push_named_rows(struct maker *m, uint64_t rows, const struct redis_shape *shape)
{
    lua_createtable(m->L, table_size(rows), 0);
    for (uint64_t i = 1; i <= rows; i++) {
        push_named_row(m, shape);
        lua_rawseti(m->L, -2, (lua_Integer)i);
    }
}

static void push_rows(struct maker *m, uint64_t n, const struct redis_shape *shape)
{
    lua_State *L = m->L;
    struct resp_item item = {.type = RESP_ARRAY};
    bool nested = is_nested(m->c, n);
    if (!nested && has_lists_by_name(m->c, n)) {
        push_named_rows(m, n / 2, shape);
        return;
    }
    uint64_t rows = nested ? n : n / shape->count;
    lua_createtable(L, table_size(rows), 0);
    for (uint64_t i = 1; i <= rows; i++) {
        if (nested && !resp_next(m->c, &item))
            return;
        if (item.type == RESP_ARRAY)
            push_list(m, nested ? item.size : shape->count, shape);
        else
            push_item(m, &item, shape);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
    for (uint64_t left = nested ? 0 : n % shape->count; left > 0; left--)
        resp_skip(m->c);
}

static void push_table(struct maker *m, uint64_t n, const struct redis_shape *shape)
{
    switch ((enum redis_shape_kind)shape->kind) {
    case SHAPE_IS_PLAIN:
    case SHAPE_IS_NUMBER:
        push_list(m, n, &redis_shapes[SHAPE_PLAIN]);
        break;
    case SHAPE_IS_LIST:
    case SHAPE_IS_TUPLE:
        push_list(m, n, shape);
        break;
    case SHAPE_IS_MAP:
    case SHAPE_IS_FIELDS:
        push_map(m, n, shape);
        break;
    case SHAPE_IS_ROWS:
        push_rows(m, n, shape);
        break;
    }
}

static void push_elements(struct maker *m, uint64_t n, const struct redis_shape *shape)
{
    if (m->depth < MAX_DEPTH && !m->too_deep) {
        luaL_checkstack(m->L, STACK_A_TABLE, "no room for a reply");
        m->depth++;
        push_table(m, n, shape);
        m->depth--;
        return;
    }
    /* Skips the rest, because other replies may follow. */
    m->too_deep = true;
    for (uint64_t left = n; left > 0 && resp_skip(m->c);)
        left--;
    lua_pushnil(m->L);
}
