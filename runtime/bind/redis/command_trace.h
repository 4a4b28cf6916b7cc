/* Commands in the trace (--trace): name, duration, line of the script; no arguments. */
#ifndef DBRUN_BIND_REDIS_COMMAND_TRACE_H
#define DBRUN_BIND_REDIS_COMMAND_TRACE_H

#include "bind/redis/session.h"
#include "task/traced.h"

/* Records the end of the wait for the command `name`; `c` is its call, NULL when there was no answer.
 * `batch`: several commands. There must be a trace. */
void redis_trace_command(lua_State *L, struct runtime *rt, struct wait *w, enum wait_status status,
                         const struct session_call *c, const char *name, bool batch);
/* Records the end of the wait for a dedicated connection. */
void redis_trace_waited(lua_State *L, struct runtime *rt, struct wait *w, const char *kind);

#endif
