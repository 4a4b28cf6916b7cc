/* Writes the arguments of a command from the Lua stack directly into the buffer that will be sent. */
#ifndef DBRUN_BIND_REDIS_ARGS_H
#define DBRUN_BIND_REDIS_ARGS_H

#include "base/buf.h"
#include "bind/redis/command.h"

struct redis_args_error {
    int arg;          /* the number of the argument, from 1; 0 = out of memory */
    const char *what; /* why it cannot be sent */
};

/* Appends the command with the arguments at first .. top of the stack: strings, numbers, and flat tables of
 * strings and numbers (lists in order; other tables as key, value, ...). Never raises: false leaves the
 * buffer unchanged, and `e` says which argument cannot be sent. */
bool redis_args_write(lua_State *L, const struct redis_command *cmd, int first, struct buf *out,
                      struct redis_args_error *e);
/* The same for a few strings and integers, the usual case. False also for other arguments that could be
 * sent. */
bool redis_args_write_few(lua_State *L, const struct redis_command *cmd, int first, struct buf *out);
/* The bytes that redis_args_write would append, to within a few for each argument. False: the arguments
 * cannot be sent. */
bool redis_args_size(lua_State *L, const struct redis_command *cmd, int first, size_t *size,
                     struct redis_args_error *e);
/* Raises the usage error for `e`, or "not enough memory". */
int redis_args_raise(lua_State *L, struct runtime *rt, const struct redis_command *cmd,
                     const struct redis_args_error *e);

#endif
