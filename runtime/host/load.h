/*
 * dofile and loadfile without a name, debug.debug and the script on standard input read it in turn with
 * io.read: they also get what a waiting read has taken of a line.
 */
#ifndef DBRUN_HOST_LOAD_H
#define DBRUN_HOST_LOAD_H

#include "bind/base/runtime.h"

#include <lua.h>

/* Replaces these functions; after read_install. */
void load_install(lua_State *L, struct runtime *rt);
/* As luaL_loadfile without a name: it blocks until the end of standard input. */
int load_stdin(lua_State *L);

#endif
