/*
 * os.execute and io.popen: in a dry run, Lua functions replace them. Wrappers are installed from the start,
 * so that this also affects a script that stored them in variables before.
 */
#ifndef DBRUN_HOST_CHILDREN_H
#define DBRUN_HOST_CHILDREN_H

#include "bind/base/runtime.h"

#include <lua.h>

/* Installs the wrappers, and sets core.children in the table on top of the stack. */
void children_install(lua_State *L, struct runtime *rt);

#endif
