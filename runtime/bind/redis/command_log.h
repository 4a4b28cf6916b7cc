/* Commands in the log (--log debug): name, duration, line of the script; arguments with --log-parameters. */
#ifndef DBRUN_BIND_REDIS_COMMAND_LOG_H
#define DBRUN_BIND_REDIS_COMMAND_LOG_H

#include "bind/redis/session.h"

/* Logs the end of the command `what`. `first`: stack index of its first argument; 0: no arguments to show.
 * Does not raise. */
void redis_log_command(lua_State *L, const struct session_call *c, const char *what, int first);

#endif
