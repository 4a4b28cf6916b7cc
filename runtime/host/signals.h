/*
 * SIGINT, SIGTERM, SIGPIPE and the script's time limit. A signal stops whatever the program does: a
 * wait on the loop (uv_async), a blocking wait (an eventfd that io_poll watches), Lua code that
 * never waits (a hook). Signals belong to the process, so what is known about them is static.
 */
#ifndef DBRUN_HOST_SIGNALS_H
#define DBRUN_HOST_SIGNALS_H

#include "bind/base/runtime.h"

/* SIGPIPE kills nobody from here on. Call it first. */
void signals_ignore_pipe(void);
/* Watches from now until signals_stop. `timeout` in seconds, 0 = none. False: errno says why. */
bool signals_start(struct runtime *rt, double timeout);
/* Before lua_close: a signal that comes later ends the process at once. */
void signals_stop(void);

/* What stopped the program: SIGINT, SIGTERM, or 0 when nothing did or the time limit. */
int signals_received(void);
/* The text for it ("interrupted by SIGINT"); NULL when nothing stopped the program. */
const char *signals_reason(void);
/* Did writing to stdout fail because nobody reads it any more? */
bool signals_pipe_broke(void);

/* In the REPL, SIGINT ends what was typed and not the program: `interrupted` is called on the loop.
 * NULL restores the ordinary meaning. */
void signals_interactive(void (*interrupted)(void *data), void *data);

#endif
