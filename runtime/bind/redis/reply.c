#include "bind/redis/reply.h"

#include "base/number.h"
#include "bind/base/error.h"

#include <math.h>
#include <string.h>

#define ERROR_BOX "dbrun.redis.error"

/* ---- errors ---- */

static const struct {
    const char *code;
    const char *hint;
    bool retryable;
} known_codes[] = {
    {"BUSY", "a script has been running for too long: SCRIPT KILL stops it, unless it has written", true},
    {"CLUSTERDOWN", "the cluster does not serve all hash slots: redis-cli --cluster check host:port", true},
    {"LOADING", "the server is loading its data: try again in a moment", true},
    {"MASTERDOWN", "this replica has lost the connection to its primary", true},
    {"MISCONF", "the server cannot save its data to disk; its log says why", false},
    {"MOVED", "another node of the cluster has this key: a client with a redis+cluster:// URL finds it",
     false},
    {"ASK",
     "this key is migrating to another node of the cluster: a client with a redis+cluster:// URL finds it",
     true},
    {"CROSSSLOT", "in a cluster, keys that are used together need the same {tag}", false},
    {"NOAUTH", "the server requires a password: set REDIS_PASSWORD, or use redis://:password@host", false},
    {"NOPERM", "the user's ACL does not allow this command, key or channel", false},
    {"NOSCRIPT", "the server does not know the script (any more): r:script(source) loads it when needed",
     true},
    {"OOM", "the server has reached its maxmemory: delete keys or raise the limit", true},
    {"READONLY", "this server is a replica: write to the primary", false},
    {"TRYAGAIN", "the keys are migrating to another node of the cluster: try again", true},
    {"UNBLOCKED", "while the command waited, the server became a replica or the key was deleted", true},
    {"WRONGTYPE", NULL, false},
};

void redis_reply_error(const struct resp_item *item, const char *command, struct error *e)
{
    char code[32] = "";
    size_t n = 0;
    while (n < item->size && n < sizeof code - 1 && (ascii_is_upper(item->text[n]) || item->text[n] == '_'))
        n++;
    if (n > 0 && (n == item->size || item->text[n] == ' '))
        memcpy(code, item->text, n);
    int len = item->size > 4096 ? 4096 : (int)item->size;
    error_set(e, ERROR_REDIS, "%.*s", len, item->text);
    e->outcome = OUTCOME_FAILED;
    error_set_field(e, ERROR_CODE, code[0] ? code : NULL);
    error_set_field(e, ERROR_CONTEXT, command);
    for (size_t i = 0; i < sizeof known_codes / sizeof *known_codes; i++) {
        if (strcmp(code, known_codes[i].code) == 0) {
            error_set_field(e, ERROR_HINT, known_codes[i].hint);
            e->retryable = known_codes[i].retryable;
        }
    }
}

static int error_box_gc(lua_State *L)
{
    error_clear(luaL_checkudata(L, 1, ERROR_BOX));
    return 0;
}

/* Pushes the error object. Lua owns the struct error meanwhile, so that it cannot leak. */
static void push_error(lua_State *L, struct runtime *rt, const struct resp_item *item)
{
    struct error *e = lua_newuserdatauv(L, sizeof *e, 0);
    *e = (struct error){0};
    if (luaL_newmetatable(L, ERROR_BOX)) {
        lua_pushcfunction(L, error_box_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
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

static void push_elements(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                          enum redis_shape shape);

static void push_item(lua_State *L, struct runtime *rt, struct resp_cursor *c, const struct resp_item *item,
                      enum redis_shape shape)
{
    switch (item->type) {
    case RESP_NIL:
        lua_pushnil(L);
        break;
    case RESP_INTEGER:
        lua_pushinteger(L, item->integer);
        break;
    case RESP_ERROR:
        push_error(L, rt, item);
        break;
    case RESP_STATUS:
    case RESP_STRING:
        if (shape == SHAPE_SCORE)
            redis_reply_push_float(L, item->text, item->size);
        else
            lua_pushlstring(L, item->text, item->size);
        break;
    case RESP_ARRAY:
        push_elements(L, rt, c, item->size, shape);
        break;
    }
}

void redis_reply_push(lua_State *L, struct runtime *rt, struct resp_cursor *c, enum redis_shape shape)
{
    struct resp_item item;
    luaL_checkstack(L, 10, "the reply is nested too deep");
    if (resp_next(c, &item))
        push_item(L, rt, c, &item, shape);
    else
        lua_pushnil(L);
}

/* ---- shapes ---- */

static int table_size(uint64_t n)
{
    return n > INT32_MAX ? INT32_MAX : (int)n;
}

/* A list; `each` is the shape of its elements. */
static void push_list(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                      enum redis_shape each)
{
    lua_createtable(L, table_size(n), 0);
    for (uint64_t i = 1; i <= n; i++) {
        redis_reply_push(L, rt, c, each);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

/* name value name value ...; `each` is the shape of the values. */
static void push_map(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                     enum redis_shape each)
{
    lua_createtable(L, 0, table_size(n / 2));
    for (uint64_t i = 0; i + 1 < n; i += 2) {
        redis_reply_push(L, rt, c, SHAPE_PLAIN);
        redis_reply_push(L, rt, c, each);
        if (lua_isnil(L, -2))
            lua_pop(L, 2);
        else
            lua_rawset(L, -3);
    }
}

/* a b a b ... -> {{a, b}, ...}; `second` is the shape of b. The server may also send the pairs as lists. */
static void push_pairs(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                       enum redis_shape second)
{
    struct resp_item item;
    struct resp_cursor look = *c;
    bool nested = n > 0 && resp_next(&look, &item) && item.type == RESP_ARRAY;
    uint64_t pairs = nested ? n : n / 2;
    lua_createtable(L, table_size(pairs), 0);
    for (uint64_t i = 1; i <= pairs; i++) {
        if (nested)
            resp_next(c, &item);
        lua_createtable(L, 2, 0);
        redis_reply_push(L, rt, c, SHAPE_PLAIN);
        lua_rawseti(L, -2, 1);
        redis_reply_push(L, rt, c, second);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

/* A list whose elements have the `given` shapes; the elements after these are plain. */
static void push_tuple(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                       const enum redis_shape *shapes, uint64_t given)
{
    lua_createtable(L, table_size(n), 0);
    for (uint64_t i = 1; i <= n; i++) {
        redis_reply_push(L, rt, c, i <= given ? shapes[i - 1] : SHAPE_PLAIN);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

/* The entries of a stream, {id, {field value ...}}; an entry that was deleted meanwhile is nil. */
static void push_entries(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n)
{
    static const enum redis_shape entry[] = {SHAPE_PLAIN, SHAPE_MAP};
    struct resp_item item;
    lua_createtable(L, table_size(n), 0);
    for (uint64_t i = 1; i <= n && resp_next(c, &item); i++) {
        if (item.type == RESP_ARRAY)
            push_tuple(L, rt, c, item.size, entry, 2);
        else
            push_item(L, rt, c, &item, SHAPE_PLAIN);
        lua_rawseti(L, -2, (lua_Integer)i);
    }
}

static void push_streams(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n)
{
    struct resp_item item;
    lua_createtable(L, 0, table_size(n));
    for (uint64_t i = 0; i < n && resp_next(c, &item) && item.type == RESP_ARRAY && item.size == 2; i++) {
        redis_reply_push(L, rt, c, SHAPE_PLAIN);
        redis_reply_push(L, rt, c, SHAPE_ENTRIES);
        lua_rawset(L, -3);
    }
}

static enum redis_shape shape_of_name(const struct resp_item *name)
{
    static const struct {
        const char *name;
        enum redis_shape shape;
    } known[] = {{"consumers", SHAPE_NAMED_LIST}, {"entries", SHAPE_ENTRIES},   {"first-entry", SHAPE_ENTRY},
                 {"functions", SHAPE_NAMED_LIST}, {"groups", SHAPE_NAMED_LIST}, {"last-entry", SHAPE_ENTRY}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (name->text && name->size == strlen(known[i].name) &&
            memcmp(name->text, known[i].name, name->size) == 0)
            return known[i].shape;
    return SHAPE_PLAIN;
}

/* The description of a stream (with its groups and consumers) or of a function library. */
static void push_named(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n)
{
    struct resp_item name;
    lua_createtable(L, 0, table_size(n / 2));
    for (uint64_t i = 0; i + 1 < n && resp_next(c, &name); i += 2) {
        push_item(L, rt, c, &name, SHAPE_PLAIN);
        redis_reply_push(L, rt, c, shape_of_name(&name));
        if (lua_isnil(L, -2))
            lua_pop(L, 2);
        else
            lua_rawset(L, -3);
    }
}

static void push_elements(lua_State *L, struct runtime *rt, struct resp_cursor *c, uint64_t n,
                          enum redis_shape shape)
{
    static const enum redis_shape entry[] = {SHAPE_PLAIN, SHAPE_MAP};
    static const enum redis_shape key_score[] = {SHAPE_PLAIN, SHAPE_PLAIN, SHAPE_SCORE};
    static const enum redis_shape key_scored[] = {SHAPE_PLAIN, SHAPE_SCORED};
    static const enum redis_shape claimed[] = {SHAPE_PLAIN, SHAPE_ENTRIES, SHAPE_PLAIN};
    switch (shape) {
    case SHAPE_PLAIN:
        push_list(L, rt, c, n, SHAPE_PLAIN);
        break;
    case SHAPE_MAP:
        push_map(L, rt, c, n, SHAPE_PLAIN);
        break;
    case SHAPE_MAPS:
        push_list(L, rt, c, n, SHAPE_MAP);
        break;
    case SHAPE_PAIRS:
        push_pairs(L, rt, c, n, SHAPE_PLAIN);
        break;
    case SHAPE_SCORED:
        push_pairs(L, rt, c, n, SHAPE_SCORE);
        break;
    case SHAPE_SCORE:
    case SHAPE_SCORES:
        push_list(L, rt, c, n, SHAPE_SCORE);
        break;
    case SHAPE_KEY_SCORE:
        push_tuple(L, rt, c, n, key_score, 3);
        break;
    case SHAPE_KEY_SCORED:
        push_tuple(L, rt, c, n, key_scored, 2);
        break;
    case SHAPE_ENTRIES:
        push_entries(L, rt, c, n);
        break;
    case SHAPE_STREAMS:
        push_streams(L, rt, c, n);
        break;
    case SHAPE_CLAIMED:
        push_tuple(L, rt, c, n, claimed, 3);
        break;
    case SHAPE_PLACES:
        push_list(L, rt, c, n, SHAPE_SCORES);
        break;
    case SHAPE_FOUND:
        push_list(L, rt, c, n, SHAPE_FOUND_PART);
        break;
    case SHAPE_FOUND_PART:
        push_list(L, rt, c, n, SHAPE_SCORES);
        break;
    case SHAPE_DEEP_MAP:
        push_map(L, rt, c, n, SHAPE_DEEP_MAP);
        break;
    case SHAPE_ENTRY:
        push_tuple(L, rt, c, n, entry, 2);
        break;
    case SHAPE_NAMED:
        push_named(L, rt, c, n);
        break;
    case SHAPE_NAMED_LIST:
        push_list(L, rt, c, n, SHAPE_NAMED);
        break;
    }
}
