/*
 * SIGINT, SIGTERM, SIGHUP, SIGPIPE and the script's time limit. A signal interrupts a wait on the loop (by
 * uv_async), a blocking wait (by an eventfd that io_poll watches), and Lua code that never waits (by a hook).
 * Signals belong to the process, so their state is static.
 */
#ifndef DBRUN_HOST_SIGNALS_H
#define DBRUN_HOST_SIGNALS_H

#include "bind/base/runtime.h"

/* From here on SIGPIPE does not end the process. Call it first. */
void signals_ignore_pipe(void);
/* Watches from now until signals_stop. `timeout` in seconds, 0 = none. False: errno says why. */
bool signals_start(struct runtime *rt, double timeout);
/* Calls `fn(data)` from a hook in the running Lua code, `seconds` from now and every 50 ms after that; fn
 * need not return. Call it at most once. */
void signals_hook_after(double seconds, void (*fn)(void *data), void *data);
/* From now on a signal or time limit no longer cancels Lua code: it only limits the time that the rest can
 * take. */
void signals_spare(void);
/* Call it before lua_close: a later signal ends the process at once. */
void signals_stop(void);

/* The signal that stopped the program: SIGINT, SIGTERM or SIGHUP; 0 for none and for the time limit. */
int signals_received(void);
/* The reason as text ("interrupted by SIGINT"); NULL when nothing stopped the program. */
const char *signals_reason(void);
/* True when a write to stdout failed because its reader closed the pipe. */
bool signals_pipe_broke(void);

/* In the REPL, SIGINT cancels what was typed and not the program: `interrupted` is called on the loop. NULL
 * restores the ordinary meaning. */
void signals_interactive(void (*interrupted)(void *data), void *data);
/* true: Lua typed at the prompt begins to run; false: it has ended. */
void signals_typed(bool runs);
/* Counts an interruption of that Lua, which runs in L. The third Ctrl-C means that the code catches each
 * error: from then on every instruction of it raises the interruption, in coroutines too. Does nothing while
 * no typed Lua runs. */
void signals_insist(lua_State *L);

/* A handler that ends the process first writes what this trace has collected. NULL: no trace. */
void signals_trace(struct trace *trace);

#endif
