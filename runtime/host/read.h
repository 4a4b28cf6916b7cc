/*
 * io.read, io.lines, file:read and file:lines as in Lua, except that they park the task instead of waiting
 * for a pipe, a socket or a terminal (standard input, io.popen). Where nothing can yield, and for all other
 * files, Lua's own functions run and block.
 */
#ifndef DBRUN_HOST_READ_H
#define DBRUN_HOST_READ_H

#include "bind/base/runtime.h"

/* Replaces these functions, and those that close a file, in the library `io` and its file class. */
void read_install(lua_State *L, struct runtime *rt);
/* Pushes a function that reads a line of standard input, even if the script has changed `io`, and its
 * arguments; returns their number. A format can follow them. */
int read_push_reader(lua_State *L);
/* True when a read of standard input may have to wait. */
bool read_may_wait(lua_State *L);
/* Call it before C's own functions read standard input, and block: gives them what waiting reads have
 * taken. */
void read_lend(lua_State *L);

#endif
