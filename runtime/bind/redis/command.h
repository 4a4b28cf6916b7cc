/*
 * What is known about a command: its name as it is sent, the shape of its reply, and whether it can run on a
 * shared connection. A command that is not in the table can run; its reply is plain.
 */
#ifndef DBRUN_BIND_REDIS_COMMAND_H
#define DBRUN_BIND_REDIS_COMMAND_H

#include "bind/base/runtime.h"
#include "bind/redis/command_table.h"

#include <stdbool.h>
#include <stddef.h>

struct redis_command {
    redis_shape_id shape;
    unsigned flags; /* the flags of its fact that need special treatment in a call, and COMMAND_REFUSED */
    const struct redis_fact *fact;
    const char *instead; /* a refused command: what to use instead; NULL: not refused */
    const char *name;    /* upper case, NUL-terminated, in `text` */
    size_t wire_len;     /* "$3\r\nGET\r\n" at the beginning of `text` */
    char text[];
};

/* The table's entry for a name in upper case, such as "XINFO STREAM"; NULL: none. */
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
/* True when the command certainly changes nothing. Any other command, also an unknown one, may write. */
bool redis_command_only_reads(lua_State *L, const struct redis_command *cmd, int first);
/* True when the command, with its subcommand, is in the table. */
bool redis_command_is_known(lua_State *L, const struct redis_command *cmd, int first);
/* True when the command ends or shows what may be running on its own connection, so that it needs another
 * connection. */
bool redis_command_overtakes(lua_State *L, const struct redis_command *cmd, int first);
/* How long the command may block, in seconds: -1 = not at all, 0 = without limit. */
double redis_command_blocks(lua_State *L, const struct redis_command *cmd, int first);

#endif
