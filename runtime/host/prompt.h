/*
 * The prompt's terminal, for lua/dbrun/prompt: it reads lines with libedit where that is installed, and runs
 * what was typed in a stretch that Ctrl-C cancels. What a line means is decided in Lua.
 */
#ifndef DBRUN_HOST_PROMPT_H
#define DBRUN_HOST_PROMPT_H

#include "host/host.h"

/* Is standard input a terminal, at which the prompt runs? Else repl.c reads it as lua does. */
bool prompt_has_terminal(void);
/* Pushes the terminal, an object of class dbrun.terminal. */
void prompt_push(lua_State *L, struct host *h);

#endif
