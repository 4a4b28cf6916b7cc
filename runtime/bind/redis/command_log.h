/* Commands in the log (--log debug): which, how long, from which line of the script; arguments with
 * --log-parameters. */
#ifndef DBRUN_BIND_REDIS_COMMAND_LOG_H
#define DBRUN_BIND_REDIS_COMMAND_LOG_H

#include "bind/redis/session.h"

/* The command `what` has ended. `first`: where its arguments begin on the stack; 0: there are none to show.
 * Does not raise. */
void redis_log_command(lua_State *L, const struct session_call *c, const char *what, int first);

#endif
