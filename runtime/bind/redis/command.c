#include "bind/redis/command.h"

#include "base/number.h"
#include "bind/base/error.h"
#include "bind/redis/words.h"
#include "redis/resp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_CLASS "dbrun.redis.command"

enum { MAX_NAME = 64, MAX_KEPT = 1024 };

static const char use_multi[] = "use r:multi(function(tx) ... end), which sends MULTI and EXEC itself";
static const char use_watch[] = "use r:multi({watch = {...}}, function(tx) ... end)";
static const char use_subscribe[] =
    "use r:subscribe(...), r:psubscribe(...) or r:ssubscribe(...): a subscription has "
    "a dedicated connection; closing it unsubscribes";
static const char use_url[] =
    "set it in the client's URL: redis.client{url = \"redis://user:password@host:port/db\"}";
static const char use_read_from[] =
    "set it for a client of a cluster: redis.client{url = \"redis+cluster://...\", read_from = \"replica\"}";
static const char http[] = "the server would read it as an HTTP request, and close the connection";
static const char never[] = "it would change the state of a connection that other tasks use";

/* Sorted by name (bytes). */
static const struct refused {
    const char *name;
    const char *instead;
} refused[] = {
    {"ASKING", never},
    {"AUTH", use_url},
    {"CLIENT CACHING", never},
    {"CLIENT CAPA", never},
    {"CLIENT IMPORT-SOURCE", never},
    {"CLIENT NO-EVICT", "redis.client{no_evict = true} sets it on each connection that the client opens"},
    {"CLIENT NO-TOUCH", "redis.client{no_touch = true} sets it on each connection that the client opens"},
    {"CLIENT REPLY", never},
    {"CLIENT SETINFO",
     "redis.client{lib_name = ..., lib_ver = ...} sets it on each connection that the client "
     "opens"},
    {"CLIENT SETNAME", "redis.client{client_name = ...} names each connection that the client opens"},
    {"CLIENT TRACKING", never},
    {"DISCARD", use_multi},
    {"EXEC", use_multi},
    {"HELLO", use_url},
    {"HOST:", http},
    {"MONITOR", "it turns the connection into a stream of all commands: use redis-cli monitor"},
    {"MULTI", use_multi},
    {"POST", http},
    {"PSUBSCRIBE", use_subscribe},
    {"PSYNC", never},
    {"PUNSUBSCRIBE", use_subscribe},
    {"QUIT", "use r:close()"},
    {"READONLY", use_read_from},
    {"READWRITE", use_read_from},
    {"REPLCONF", never},
    {"RESET", never},
    {"SCRIPT DEBUG", never},
    {"SELECT", use_url},
    {"SSUBSCRIBE", use_subscribe},
    {"SUBSCRIBE", use_subscribe},
    {"SUNSUBSCRIBE", use_subscribe},
    {"SYNC", never},
    {"UNSUBSCRIBE", use_subscribe},
    {"UNWATCH", use_watch},
    {"WATCH", use_watch},
};

static int compare(const void *key, const void *item)
{
    return strcmp(key, ((const struct refused *)item)->name);
}

/* What to use instead of a refused command; NULL: it is not refused. */
static const char *instead_of(const char *name)
{
    const struct refused *r =
        bsearch(name, refused, sizeof refused / sizeof *refused, sizeof *refused, compare);
    return r ? r->instead : NULL;
}

/* ---- the table of facts ---- */

const struct redis_fact *redis_fact_find(const char *name)
{
    size_t lo = 0;
    size_t hi = redis_fact_count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int cmp = strcmp(name, redis_facts[mid].name);
        if (cmp == 0)
            return &redis_facts[mid];
        if (cmp < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- making commands ---- */

/* A name consists of letters, digits and a few signs; a server may have renamed one to a hash. A blank is
 * refused, because the words of a command are separate arguments. */
static bool valid_name(const char *name, size_t len)
{
    if (len == 0 || len > MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!ascii_is_alpha(name[i]) && !ascii_is_digit(name[i]) && !memchr("._-:|", name[i], 5))
            return false;
    return ascii_is_alpha(name[0]) || ascii_is_digit(name[0]) || name[0] == '_';
}

static int refuse_name(lua_State *L, struct runtime *rt, const char *name, size_t len)
{
    struct error e = {0};
    error_set(&e, ERROR_USAGE, "redis: \"%.*s\" is not the name of a command", MAX_NAME, name);
    e.outcome = OUTCOME_NOT_SENT;
    if (memchr(name, ' ', len))
        error_set_field(&e, ERROR_HINT,
                        "each word is an argument of its own: r:call(\"CONFIG\", \"GET\", \"maxmemory\")");
    return bind_error_raise(L, rt, &e);
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
    static const struct redis_fact unknown = {.name = ""};
    const struct redis_fact *fact = redis_fact_find(upper);
    cmd->fact = fact ? fact : &unknown;
    cmd->instead = instead_of(upper);
    cmd->shape = cmd->fact->shape;
    cmd->flags = (cmd->fact->flags & ~(unsigned)COMMAND_QUIET) | (cmd->instead ? COMMAND_REFUSED : 0);
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
        refuse_name(L, rt, name, len);
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
    redis_each_arg(L, want_first ? first : (lua_gettop(L) > first ? lua_gettop(L) : first), take_end, &e);
    return e;
}

enum { MAX_FULL = 2 * MAX_NAME + 2 };

/* The name with the subcommand, in upper case; false when there is none. */
static bool full_name(lua_State *L, const struct redis_command *cmd, int first, char full[MAX_FULL])
{
    if (!(cmd->flags & COMMAND_HAS_SUB))
        return false;
    struct end sub = end_of(L, first, true);
    if (!sub.is_text)
        return false;
    int n = snprintf(full, MAX_FULL, "%s %s", cmd->name, sub.text);
    for (int i = 0; i < n; i++)
        full[i] = ascii_upper(full[i]);
    return true;
}

redis_shape_id redis_command_shape(lua_State *L, const struct redis_command *cmd, int first,
                                   const char **instead)
{
    char full[MAX_FULL];
    struct redis_words words;
    *instead = cmd->instead;
    if (full_name(L, cmd, first, full)) {
        const struct redis_fact *fact = redis_fact_find(full);
        *instead = instead_of(full);
        return fact ? fact->shape : cmd->shape;
    }
    if (!(cmd->flags & COMMAND_OPTIONS))
        return cmd->shape;
    redis_words_read(L, cmd->fact, first, &words);
    return words.shape;
}

void redis_command_full_name(lua_State *L, const struct redis_command *cmd, int first, char *out, size_t size)
{
    struct end sub = {.is_text = false};
    if (cmd->flags & COMMAND_HAS_SUB)
        sub = end_of(L, first, true);
    snprintf(out, size, "%s%s%.40s", cmd->name, sub.is_text ? " " : "", sub.is_text ? sub.text : "");
}

bool redis_command_only_reads(lua_State *L, const struct redis_command *cmd, int first)
{
    char full[MAX_FULL];
    const struct redis_fact *fact = cmd->fact;
    if (full_name(L, cmd, first, full)) {
        fact = redis_fact_find(full);
        if (!fact)
            return false;
    }
    return (fact->flags & COMMAND_READS) != 0;
}

bool redis_command_is_known(lua_State *L, const struct redis_command *cmd, int first)
{
    char full[MAX_FULL];
    return full_name(L, cmd, first, full) ? redis_fact_find(full) != NULL : cmd->fact->name[0] != '\0';
}

bool redis_command_overtakes(lua_State *L, const struct redis_command *cmd, int first)
{
    char full[MAX_FULL];
    const struct redis_fact *fact = full_name(L, cmd, first, full) ? redis_fact_find(full) : cmd->fact;
    return fact && (fact->flags & COMMAND_OVERTAKES);
}

double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first)
{
    double seconds;
    struct redis_words words;
    if (cmd->flags & (COMMAND_BLOCK_LAST | COMMAND_BLOCK_MS)) {
        seconds = end_of(L, first, false).number * (cmd->flags & COMMAND_BLOCK_MS ? 1e-3 : 1);
    } else if (cmd->flags & COMMAND_BLOCK_FIRST) {
        seconds = end_of(L, first, true).number;
    } else if (cmd->flags & COMMAND_BLOCK_WORD) {
        redis_words_read(L, cmd->fact, first, &words);
        if (!words.blocks)
            return -1;
        seconds = words.milliseconds * 1e-3;
    } else {
        return -1;
    }
    return seconds > 0 ? seconds : 0;
}
