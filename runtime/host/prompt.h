/*
 * The prompt's terminal, for lua/dbrun/prompt: reads lines with libedit if it is installed, and runs what was
 * typed in a stretch that Ctrl-C cancels. Lua decides what a line means.
 */
#ifndef DBRUN_HOST_PROMPT_H
#define DBRUN_HOST_PROMPT_H

#include "host/host.h"

/* True when standard input is a terminal, at which the prompt runs. Otherwise repl.c reads it as lua does. */
bool prompt_has_terminal(void);
/* Pushes the terminal, an object of class dbrun.terminal. */
void prompt_push(lua_State *L, struct host *h);

#endif
