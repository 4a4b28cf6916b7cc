/*
 * What is known about a command: its name as it is sent, the shape of its reply, and whether it may run on a
 * shared connection. A command that is not in the table may run; its reply is plain.
 */
#ifndef DBRUN_BIND_REDIS_COMMAND_H
#define DBRUN_BIND_REDIS_COMMAND_H

#include "bind/base/runtime.h"
#include "bind/redis/command_table.h"

#include <stdbool.h>
#include <stddef.h>

struct redis_command {
    redis_shape_id shape;
    unsigned flags; /* those of the fact that make a call different, and COMMAND_REFUSED */
    const struct redis_fact *fact;
    const char *instead; /* what to use when the command is refused; NULL: it is not */
    const char *name;    /* upper case, NUL-terminated, in `text` */
    size_t wire_len;     /* "$3\r\nGET\r\n" at the beginning of `text` */
    char text[];
};

/* What the table says of a name in upper case, "XINFO STREAM"; NULL: it is not there. */
const struct redis_fact *redis_fact_find(const char *name);

/* Pushes and returns the command of the name at `idx`, which must be a string. The command is a userdata,
 * kept for the next call. Raises a usage error when the name is not valid. */
const struct redis_command *redis_command_push(lua_State *L, struct runtime *rt, int idx);

/* The shape of the reply for these arguments (stack first .. top). *instead is set when the command is
 * refused, else NULL. */
redis_shape_id redis_command_shape(lua_State *L, const struct redis_command *cmd, int first,
                                   const char **instead);
/* The name for messages, with the subcommand if there is one: "CLIENT reply". */
void redis_command_full_name(lua_State *L, const struct redis_command *cmd, int first, char *out,
                             size_t size);
/* Is it certain that the command changes nothing? Any other command, also an unknown one, may write. */
bool redis_command_only_reads(lua_State *L, const struct redis_command *cmd, int first);
/* Is the command, with its subcommand, in the table? */
bool redis_command_is_known(lua_State *L, const struct redis_command *cmd, int first);
/* Does the command end or show what may be running on its own connection, so that it needs another one? */
bool redis_command_overtakes(lua_State *L, const struct redis_command *cmd, int first);
/* How long the command may block, in seconds: -1 = not at all, 0 = without limit. */
double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first);

#endif
