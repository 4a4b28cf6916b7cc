#include "bind/redis/writes.h"

#include "bind/base/error.h"
#include "bind/redis/args.h"
#include "bind/redis/words.h"

#include <stdio.h>

/* Adds the read-only variant to the hint: SORT and EVAL may write, SORT_RO and EVAL_RO cannot. */
static void add_reading_twin(struct error *e, const struct redis_command *cmd)
{
    char twin[80], hint[128];
    int n = snprintf(twin, sizeof twin, "%s_RO", cmd->name);
    if (n < (int)sizeof twin && redis_fact_find(twin)) {
        snprintf(hint, sizeof hint, "%s does the same, and never writes", twin);
        error_set_field(e, ERROR_HINT, hint);
    }
}

enum redis_reading redis_reading_look(lua_State *L, const struct runtime *rt, const struct redis_command *cmd,
                                      int first)
{
    if (rt->redis_writes == REDIS_WRITES_JUDGED)
        return READING_JUDGE;
    if (redis_command_only_reads(L, cmd, first))
        return READING_MAY_SEND;
    return redis_command_is_known(L, cmd, first) ? READING_MAY_WRITE : READING_ASK;
}

int redis_ask_reading(lua_State *L, const struct redis_command *cmd, int first, lua_KFunction k)
{
    bool argument = lua_gettop(L) > first && lua_type(L, first) == LUA_TSTRING;
    luaL_checkstack(L, 4, NULL);
    if (lua_getfield(L, LUA_REGISTRYINDEX, REDIS_ONLY_READS) != LUA_TFUNCTION)
        return redis_refuse_write(L, bind_runtime(L), cmd, first);
    lua_insert(L, -2); /* function handle */
    lua_pushstring(L, cmd->name);
    if (argument)
        lua_pushvalue(L, first);
    else
        lua_pushnil(L);
    lua_callk(L, 3, 1, first, k);
    return k(L, LUA_OK, first);
}

int redis_refuse_write(lua_State *L, struct runtime *rt, const struct redis_command *cmd, int first)
{
    char name[128];
    struct error e = {0};
    redis_command_full_name(L, cmd, first, name, sizeof name);
    error_set(&e, ERROR_USAGE, "redis: %s may write, and this program runs with --read-only", name);
    e.outcome = OUTCOME_NOT_SENT;
    if (redis_command_is_known(L, cmd, first))
        add_reading_twin(&e, cmd);
    else
        error_set_field(
            &e, ERROR_HINT,
            "dbrun does not know it, and the server does not say that it only reads (COMMAND INFO)");
    return bind_error_raise(L, rt, &e);
}

/* ---- judging ---- */

struct word_list {
    int table;
    lua_Integer count;
};

static bool add_word(lua_State *L, int idx, void *data)
{
    struct word_list *list = data;
    lua_pushvalue(L, idx);
    lua_rawseti(L, list->table, ++list->count);
    return false;
}

/* Pushes the list of the arguments first .. last as they are sent. */
static void push_words(lua_State *L, int first, int last)
{
    lua_newtable(L);
    struct word_list list = {lua_gettop(L), 0};
    redis_each_arg_to(L, first, last, add_word, &list);
}

int redis_judge(lua_State *L, const struct redis_command *cmd, int first, const struct redis_judged *of,
                lua_KFunction k)
{
    int last = lua_gettop(L);
    size_t size;
    struct redis_args_error wrong;
    if (!redis_args_size(L, cmd, first, &size, &wrong))
        return redis_args_raise(L, bind_runtime(L), cmd, &wrong);
    luaL_checkstack(L, 8, NULL);
    lua_getfield(L, LUA_REGISTRYINDEX, REDIS_JUDGE);
    if (of->handle)
        lua_getiuservalue(L, 1, of->handle);
    else
        lua_pushvalue(L, 1);
    lua_pushstring(L, cmd->name);
    push_words(L, first, last);
    lua_pushstring(L, of->how);
    lua_pushboolean(L, of->typed);
    lua_callk(L, 5, 2, first, k);
    return k(L, LUA_OK, first);
}
