/*
 * os.execute and io.popen: in a dry run functions of Lua take their place. They are replaced from the start,
 * so that this holds also for a script that has kept them in variables before.
 */
#ifndef DBRUN_HOST_CHILDREN_H
#define DBRUN_HOST_CHILDREN_H

#include "bind/base/runtime.h"

#include <lua.h>

/* Replaces these functions, and sets core.children in the table on top of the stack. */
void children_install(lua_State *L, struct runtime *rt);

#endif
