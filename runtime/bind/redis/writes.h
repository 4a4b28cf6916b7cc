/*
 * How commands that may write are treated: sent, refused (--read-only), or judged in Lua (a dry run), which
 * decides whether to send them, and what to answer instead.
 */
#ifndef DBRUN_BIND_REDIS_WRITES_H
#define DBRUN_BIND_REDIS_WRITES_H

#include "bind/redis/command.h"

/* For a command with arguments from `first` on: it may be sent, it may write, only the server knows whether
 * it writes, or it must be judged. */
enum redis_reading { READING_MAY_SEND, READING_MAY_WRITE, READING_ASK, READING_JUDGE };
enum redis_reading redis_reading_look(lua_State *L, const struct runtime *rt, const struct redis_command *cmd,
                                      int first);
static inline enum redis_reading redis_reading_of(lua_State *L, const struct runtime *rt,
                                                  const struct redis_command *cmd, int first)
{
    return rt->redis_writes == REDIS_WRITES_SENT ? READING_MAY_SEND : redis_reading_look(L, rt, cmd, first);
}
/* Raises: the command may write. */
int redis_refuse_write(lua_State *L, struct runtime *rt, const struct redis_command *cmd, int first);
/* Asks the server of the handle on top of the stack, which it pops, whether the command only reads; then k(L,
 * status, first) has the answer, a boolean, on top. The arguments are from `first` to below the handle. */
int redis_ask_reading(lua_State *L, const struct redis_command *cmd, int first, lua_KFunction k);
/* The registry key of the function that asks: fn(client, name, argument) -> boolean. */
#define REDIS_ONLY_READS "dbrun.redis.only_reads"
/* For whom a command is judged. */
struct redis_judged {
    int handle;      /* which user value of the object at 1 is the handle; 0: the object itself */
    const char *how; /* "command", "pipeline", "transaction" */
    bool typed;      /* the reply keeps its type */
};

/* Has the command judged; its arguments are from `first` to the top. k(L, status, first) then has two values
 * on top: whether to send the command, and the answer when not. Raises when it cannot be answered. */
int redis_judge(lua_State *L, const struct redis_command *cmd, int first, const struct redis_judged *of,
                lua_KFunction k);
/* The registry key of the function that judges: fn(handle, name, arguments, how, typed) -> send, answer. */
#define REDIS_JUDGE "dbrun.redis.judge"

#endif
