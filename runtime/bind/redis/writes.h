/* What becomes of commands that may write, when the program runs with --read-only. */
#ifndef DBRUN_BIND_REDIS_WRITES_H
#define DBRUN_BIND_REDIS_WRITES_H

#include "bind/redis/command.h"

/* With --read-only, of a command with arguments from `first` on: may it be sent, or does only the server
 * know? */
enum redis_reading { READING_MAY_SEND, READING_MAY_WRITE, READING_ASK };
enum redis_reading redis_reading_of(lua_State *L, const struct runtime *rt, const struct redis_command *cmd,
                                    int first);
/* Raises: the command may write. */
int redis_refuse_write(lua_State *L, struct runtime *rt, const struct redis_command *cmd, int first);
/* Asks the server of the handle on top of the stack, which it pops, whether the command only reads; then k(L,
 * status, first) has the answer, a boolean, on top. The arguments are from `first` to below the handle. */
int redis_ask_reading(lua_State *L, const struct redis_command *cmd, int first, lua_KFunction k);
/* The registry's key of the function that asks: fn(client, name, argument) -> boolean. */
#define REDIS_ONLY_READS "dbrun.redis.only_reads"

#endif
