/* Commands in the trace (--trace): which, how long, from which line of the script; no arguments. */
#ifndef DBRUN_BIND_REDIS_COMMAND_TRACE_H
#define DBRUN_BIND_REDIS_COMMAND_TRACE_H

#include "bind/redis/session.h"
#include "task/traced.h"

/* The wait for the command `name` has ended so; `c` is its call, NULL where there was no answer. `batch`: it
 * is several commands. There must be a trace. */
void redis_trace_command(lua_State *L, struct runtime *rt, struct wait *w, enum wait_status status,
                         const struct session_call *c, const char *name, bool batch);
/* The wait for a dedicated connection has ended. */
void redis_trace_waited(lua_State *L, struct runtime *rt, struct wait *w, const char *kind);

#endif
