/*
 * io.read, io.lines, file:read and file:lines as Lua's own, but for this: where they would wait for a pipe, a
 * socket or a terminal (standard input, io.popen), they park the task. Where nothing can yield, and for all
 * other files, Lua's own functions run and block.
 */
#ifndef DBRUN_HOST_READ_H
#define DBRUN_HOST_READ_H

#include "bind/base/runtime.h"

/* Replaces these functions, and those that close a file, in the library `io` and in its class of files. */
void read_install(lua_State *L, struct runtime *rt);
/* Pushes a function that reads a line of standard input, whatever the script has made of `io`, and its
 * arguments; returns their number. A format may follow them. */
int read_push_reader(lua_State *L);
/* Is standard input a file that a read may have to wait for? */
bool read_may_wait(lua_State *L);
/* Before C's own functions read standard input, and block: they get what waiting reads have taken. */
void read_lend(lua_State *L);

#endif
