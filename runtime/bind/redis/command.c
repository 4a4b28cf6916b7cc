#include "bind/redis/command.h"

#include "base/number.h"
#include "bind/base/error.h"
#include "redis/resp.h"

#include <stdio.h>
#include <string.h>

#define COMMAND_CLASS "dbrun.redis.command"

enum { MAX_NAME = 64, MAX_KEPT = 1024 };

struct trait {
    const char *name;
    enum redis_shape shape;
    unsigned flags;
    const char *instead;
};

#define BLOCK_LAST  COMMAND_BLOCK_LAST
#define BLOCK_FIRST COMMAND_BLOCK_FIRST
#define BLOCK_MS    COMMAND_BLOCK_MS
#define OPTIONS     COMMAND_OPTIONS
#define SUB         COMMAND_HAS_SUB
#define REFUSED     COMMAND_REFUSED

static const char use_multi[] = "use r:multi(function(tx) ... end), which sends MULTI and EXEC itself";
static const char use_watch[] = "use r:multi({watch = {...}}, function(tx) ... end)";
static const char use_subscribe[] =
    "use r:subscribe(...), r:psubscribe(...) or r:ssubscribe(...): a subscription has "
    "a dedicated connection; closing it unsubscribes";
static const char use_url[] =
    "set it in the client's URL: redis.client{url = \"redis://user:password@host:port/db\"}";
static const char never[] = "it would change the state of a connection that other tasks use";

/* Sorted by name (bytes). A command that is not listed has a plain reply and no flags. */
static const struct trait traits[] = {
    {"ACL", SHAPE_PLAIN, SUB, NULL},
    {"ACL GETUSER", SHAPE_MAP, 0, NULL},
    {"ACL LOG", SHAPE_MAPS, 0, NULL},
    {"ASKING", SHAPE_PLAIN, REFUSED, never},
    {"AUTH", SHAPE_PLAIN, REFUSED, use_url},
    {"BLMOVE", SHAPE_PLAIN, BLOCK_LAST, NULL},
    {"BLMPOP", SHAPE_PLAIN, BLOCK_FIRST, NULL},
    {"BLPOP", SHAPE_PLAIN, BLOCK_LAST, NULL},
    {"BRPOP", SHAPE_PLAIN, BLOCK_LAST, NULL},
    {"BRPOPLPUSH", SHAPE_PLAIN, BLOCK_LAST, NULL},
    {"BZMPOP", SHAPE_KEY_SCORED, BLOCK_FIRST, NULL},
    {"BZPOPMAX", SHAPE_KEY_SCORE, BLOCK_LAST, NULL},
    {"BZPOPMIN", SHAPE_KEY_SCORE, BLOCK_LAST, NULL},
    {"CLIENT", SHAPE_PLAIN, SUB, NULL},
    {"CLIENT CACHING", SHAPE_PLAIN, REFUSED, never},
    {"CLIENT REPLY", SHAPE_PLAIN, REFUSED, never},
    {"CLIENT TRACKING", SHAPE_PLAIN, REFUSED, never},
    {"CLIENT TRACKINGINFO", SHAPE_MAP, 0, NULL},
    {"CLUSTER", SHAPE_PLAIN, SUB, NULL},
    {"CLUSTER LINKS", SHAPE_MAPS, 0, NULL},
    {"CONFIG", SHAPE_PLAIN, SUB, NULL},
    {"CONFIG GET", SHAPE_MAP, 0, NULL},
    {"DISCARD", SHAPE_PLAIN, REFUSED, use_multi},
    {"EXEC", SHAPE_PLAIN, REFUSED, use_multi},
    {"FUNCTION", SHAPE_PLAIN, SUB, NULL},
    {"FUNCTION LIST", SHAPE_NAMED_LIST, 0, NULL},
    {"FUNCTION STATS", SHAPE_DEEP_MAP, 0, NULL},
    {"GEOPOS", SHAPE_PLACES, 0, NULL},
    {"GEORADIUS", SHAPE_FOUND, 0, NULL},
    {"GEORADIUSBYMEMBER", SHAPE_FOUND, 0, NULL},
    {"GEORADIUSBYMEMBER_RO", SHAPE_FOUND, 0, NULL},
    {"GEORADIUS_RO", SHAPE_FOUND, 0, NULL},
    {"GEOSEARCH", SHAPE_FOUND, 0, NULL},
    {"HELLO", SHAPE_PLAIN, REFUSED, use_url},
    {"HGETALL", SHAPE_MAP, 0, NULL},
    {"HRANDFIELD", SHAPE_PLAIN, OPTIONS, NULL},
    {"LATENCY", SHAPE_PLAIN, SUB, NULL},
    {"LCS", SHAPE_PLAIN, OPTIONS, NULL},
    {"MEMORY", SHAPE_PLAIN, SUB, NULL},
    {"MEMORY STATS", SHAPE_DEEP_MAP, 0, NULL},
    {"MODULE", SHAPE_PLAIN, SUB, NULL},
    {"MODULE LIST", SHAPE_MAPS, 0, NULL},
    {"MONITOR", SHAPE_PLAIN, REFUSED,
     "it turns the connection into a stream of all commands: use redis-cli monitor"},
    {"MULTI", SHAPE_PLAIN, REFUSED, use_multi},
    {"PSUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"PSYNC", SHAPE_PLAIN, REFUSED, never},
    {"PUBSUB", SHAPE_PLAIN, SUB, NULL},
    {"PUBSUB NUMSUB", SHAPE_MAP, 0, NULL},
    {"PUBSUB SHARDNUMSUB", SHAPE_MAP, 0, NULL},
    {"PUNSUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"QUIT", SHAPE_PLAIN, REFUSED, "use r:close()"},
    {"READONLY", SHAPE_PLAIN, REFUSED, never},
    {"READWRITE", SHAPE_PLAIN, REFUSED, never},
    {"REPLCONF", SHAPE_PLAIN, REFUSED, never},
    {"RESET", SHAPE_PLAIN, REFUSED, never},
    {"SCRIPT", SHAPE_PLAIN, SUB, NULL},
    {"SCRIPT DEBUG", SHAPE_PLAIN, REFUSED, never},
    {"SELECT", SHAPE_PLAIN, REFUSED, use_url},
    {"SENTINEL", SHAPE_PLAIN, SUB, NULL},
    {"SENTINEL MASTER", SHAPE_MAP, 0, NULL},
    {"SENTINEL MASTERS", SHAPE_MAPS, 0, NULL},
    {"SENTINEL REPLICAS", SHAPE_MAPS, 0, NULL},
    {"SENTINEL SENTINELS", SHAPE_MAPS, 0, NULL},
    {"SLOWLOG", SHAPE_PLAIN, SUB, NULL},
    {"SSUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"SUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"SUNSUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"SYNC", SHAPE_PLAIN, REFUSED, never},
    {"UNSUBSCRIBE", SHAPE_PLAIN, REFUSED, use_subscribe},
    {"UNWATCH", SHAPE_PLAIN, REFUSED, use_watch},
    {"WAIT", SHAPE_PLAIN, BLOCK_MS, NULL},
    {"WAITAOF", SHAPE_PLAIN, BLOCK_MS, NULL},
    {"WATCH", SHAPE_PLAIN, REFUSED, use_watch},
    {"XAUTOCLAIM", SHAPE_CLAIMED, OPTIONS, NULL},
    {"XCLAIM", SHAPE_ENTRIES, OPTIONS, NULL},
    {"XINFO", SHAPE_PLAIN, SUB, NULL},
    {"XINFO CONSUMERS", SHAPE_MAPS, 0, NULL},
    {"XINFO GROUPS", SHAPE_MAPS, 0, NULL},
    {"XINFO STREAM", SHAPE_NAMED, 0, NULL},
    {"XRANGE", SHAPE_ENTRIES, 0, NULL},
    {"XREAD", SHAPE_STREAMS, OPTIONS, NULL},
    {"XREADGROUP", SHAPE_STREAMS, OPTIONS, NULL},
    {"XREVRANGE", SHAPE_ENTRIES, 0, NULL},
    {"ZADD", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZDIFF", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZINCRBY", SHAPE_SCORE, 0, NULL},
    {"ZINTER", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZMPOP", SHAPE_KEY_SCORED, 0, NULL},
    {"ZMSCORE", SHAPE_SCORES, 0, NULL},
    {"ZPOPMAX", SHAPE_SCORED, 0, NULL},
    {"ZPOPMIN", SHAPE_SCORED, 0, NULL},
    {"ZRANDMEMBER", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZRANGE", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZRANGEBYSCORE", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZREVRANGE", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZREVRANGEBYSCORE", SHAPE_PLAIN, OPTIONS, NULL},
    {"ZSCORE", SHAPE_SCORE, 0, NULL},
    {"ZUNION", SHAPE_PLAIN, OPTIONS, NULL},
};

static const struct trait *find(const char *name)
{
    size_t lo = 0;
    size_t hi = sizeof traits / sizeof *traits;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int cmp = strcmp(name, traits[mid].name);
        if (cmp == 0)
            return &traits[mid];
        if (cmp < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- making commands ---- */

/* A name consists of letters, digits and a few signs. A blank is refused, because the words of a command are
 * separate arguments. */
static bool valid_name(const char *name, size_t len)
{
    if (len == 0 || len > MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!ascii_is_alpha(name[i]) && !ascii_is_digit(name[i]) && !strchr("._-:|", name[i]))
            return false;
    return strlen(name) == len && ascii_is_alpha(name[0]);
}

static struct redis_command *new_command(lua_State *L, const char *name, size_t len)
{
    char wire[MAX_NAME + 16];
    char upper[MAX_NAME + 1];
    for (size_t i = 0; i < len; i++)
        upper[i] = ascii_upper(name[i]);
    upper[len] = '\0';
    int wire_len = snprintf(wire, sizeof wire, "$%zu\r\n%s\r\n", len, upper);
    struct redis_command *cmd = lua_newuserdatauv(L, sizeof *cmd + (size_t)wire_len + len + 1, 0);
    memset(cmd, 0, sizeof *cmd);
    memcpy(cmd->text, wire, (size_t)wire_len);
    memcpy(cmd->text + wire_len, upper, len + 1);
    cmd->wire_len = (size_t)wire_len;
    cmd->name = cmd->text + wire_len;
    const struct trait *t = find(upper);
    if (t) {
        cmd->shape = t->shape;
        cmd->flags = t->flags;
        cmd->instead = t->instead;
    }
    luaL_newmetatable(L, COMMAND_CLASS);
    lua_setmetatable(L, -2);
    return cmd;
}

const struct redis_command *redis_command_push(lua_State *L, struct runtime *rt, int idx)
{
    static const char key;
    size_t len;
    idx = lua_absindex(L, idx);
    const char *name = lua_tolstring(L, idx, &len);
    luaL_checkstack(L, 5, NULL);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    }
    lua_pushvalue(L, idx);
    if (lua_rawget(L, -2) == LUA_TUSERDATA) {
        lua_remove(L, -2);
        return lua_touserdata(L, -1);
    }
    lua_pop(L, 1);
    if (!valid_name(name, len))
        bind_fail(L, rt, ERROR_USAGE, "redis: \"%s\" is not the name of a command", name);
    struct redis_command *cmd = new_command(L, name, len);
    /* The limit keeps a program that makes up names from filling the memory. */
    lua_Integer kept = lua_rawgeti(L, -2, 1) == LUA_TNUMBER ? lua_tointeger(L, -1) : 0;
    lua_pop(L, 1);
    if (kept < MAX_KEPT) {
        lua_pushinteger(L, kept + 1);
        lua_rawseti(L, -3, 1);
        lua_pushvalue(L, idx);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    }
    lua_remove(L, -2);
    return cmd;
}

/* ---- looking at arguments ---- */

/* Is the argument this word, in upper or lower case? */
static bool is_word(lua_State *L, int idx, const char *word)
{
    size_t len;
    if (lua_type(L, idx) != LUA_TSTRING)
        return false;
    const char *s = lua_tolstring(L, idx, &len);
    return ascii_is_word(s, len, word);
}

/* Calls fn(L, index, data) for each argument from `first` on as it is sent (a table gives several, see
 * args.c), until fn returns true. */
static bool each_arg(lua_State *L, int first, bool (*fn)(lua_State *L, int idx, void *data), void *data)
{
    int top = lua_gettop(L);
    bool stop = false;
    luaL_checkstack(L, 4, NULL);
    for (int i = first; i <= top && !stop; i++) {
        if (!lua_istable(L, i)) {
            stop = fn(L, i, data);
            continue;
        }
        lua_Integer list = (lua_Integer)lua_rawlen(L, i);
        for (lua_Integer at = 1; at <= list && !stop; at++) {
            lua_rawgeti(L, i, at);
            stop = fn(L, top + 1, data);
            lua_settop(L, top);
        }
        if (list == 0)
            lua_pushnil(L);
        while (list == 0 && !stop && lua_next(L, i)) {
            stop = fn(L, top + 1, data) || fn(L, top + 2, data);
            lua_settop(L, top + 1);
        }
        lua_settop(L, top);
    }
    return stop;
}

/* Searches a word among the arguments, and takes the number after it. */
struct search {
    const char *word;
    const char *before; /* stop at this word; NULL = none */
    bool to_number;     /* stop at the first number */
    int skip;           /* the number of arguments not to look at */
    bool found;
    double value; /* 0 when it is no number: the server refuses the command at once */
};

static bool look_at(lua_State *L, int idx, void *data)
{
    struct search *s = data;
    if (s->found) {
        s->value = lua_isnumber(L, idx) ? lua_tonumber(L, idx) : 0;
        return true;
    }
    if (s->skip > 0) {
        s->skip--;
        return false;
    }
    if ((s->before && is_word(L, idx, s->before)) || (s->to_number && lua_isnumber(L, idx)))
        return true;
    s->found = is_word(L, idx, s->word);
    return false;
}

static bool has_word(lua_State *L, int first, int skip, const char *word)
{
    struct search s = {.word = word, .skip = skip};
    each_arg(L, first, look_at, &s);
    return s.found;
}

/* Looks only before the first score: after it a member may be the same word. */
static bool has_option(lua_State *L, int first, int skip, const char *word)
{
    struct search s = {.word = word, .skip = skip, .to_number = true};
    each_arg(L, first, look_at, &s);
    return s.found;
}

/* The first or the last argument. */
struct end {
    bool first;
    bool is_text;
    double number;
    char text[MAX_NAME];
};

static bool take_end(lua_State *L, int idx, void *data)
{
    struct end *e = data;
    size_t len = 0;
    const char *s = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &len) : NULL;
    e->number = lua_isnumber(L, idx) ? lua_tonumber(L, idx) : 0;
    e->is_text = s && len < sizeof e->text;
    if (e->is_text)
        memcpy(e->text, s, len + 1);
    return e->first;
}

static struct end end_of(lua_State *L, int first, bool want_first)
{
    struct end e = {.first = want_first};
    each_arg(L, want_first ? first : (lua_gettop(L) > first ? lua_gettop(L) : first), take_end, &e);
    return e;
}

static enum redis_shape shape_of_options(lua_State *L, const struct redis_command *cmd, int first)
{
    const char *name = cmd->name;
    if (strcmp(name, "HRANDFIELD") == 0)
        return has_word(L, first, 1, "WITHVALUES") ? SHAPE_PAIRS : SHAPE_PLAIN;
    if (strcmp(name, "LCS") == 0)
        return has_word(L, first, 2, "IDX") ? SHAPE_MAP : SHAPE_PLAIN;
    if (strcmp(name, "ZADD") == 0)
        return has_option(L, first, 1, "INCR") ? SHAPE_SCORE : SHAPE_PLAIN;
    if (name[0] == 'Z')
        return has_word(L, first, 1, "WITHSCORES") ? SHAPE_SCORED : SHAPE_PLAIN;
    if (strcmp(name, "XCLAIM") == 0 || strcmp(name, "XAUTOCLAIM") == 0)
        return has_word(L, first, 4, "JUSTID") ? SHAPE_PLAIN : cmd->shape;
    return cmd->shape;
}

enum redis_shape redis_command_shape(lua_State *L, const struct redis_command *cmd, int first,
                                     const char **instead)
{
    *instead = cmd->flags & REFUSED ? cmd->instead : NULL;
    if (cmd->flags & OPTIONS)
        return shape_of_options(L, cmd, first);
    if (!(cmd->flags & SUB))
        return cmd->shape;
    struct end sub = end_of(L, first, true);
    if (!sub.is_text)
        return cmd->shape;
    char full[2 * MAX_NAME + 2];
    int n = snprintf(full, sizeof full, "%s %s", cmd->name, sub.text);
    for (int i = 0; i < n; i++)
        full[i] = ascii_upper(full[i]);
    const struct trait *t = find(full);
    if (!t)
        return cmd->shape;
    *instead = t->flags & REFUSED ? t->instead : NULL;
    return t->shape;
}

void redis_command_full_name(lua_State *L, const struct redis_command *cmd, int first, char *out, size_t size)
{
    struct end sub = {.is_text = false};
    if (cmd->flags & SUB)
        sub = end_of(L, first, true);
    snprintf(out, size, "%s%s%.40s", cmd->name, sub.is_text ? " " : "", sub.is_text ? sub.text : "");
}

double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first)
{
    double seconds;
    if (cmd->flags & (BLOCK_LAST | BLOCK_MS)) {
        seconds = end_of(L, first, false).number * (cmd->flags & BLOCK_MS ? 1e-3 : 1);
    } else if (cmd->flags & BLOCK_FIRST) {
        seconds = end_of(L, first, true).number;
    } else if (cmd->name[0] == 'X' && (cmd->flags & OPTIONS)) {
        struct search s = {.word = "BLOCK", .before = "STREAMS"};
        each_arg(L, first, look_at, &s);
        if (!s.found)
            return -1;
        seconds = s.value * 1e-3;
    } else {
        return -1;
    }
    return seconds > 0 ? seconds : 0;
}
