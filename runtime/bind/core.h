/*
 * The one place that knows all bindings: it makes the runtime of a Lua universe, and dbrun.core.
 */
#ifndef DBRUN_BIND_CORE_H
#define DBRUN_BIND_CORE_H

#include "bind/base/runtime.h"

/* The runtime of this Lua universe; makes it when there is none yet. */
struct runtime *bind_open(lua_State *L);
/* lua_CFunction: pushes the table `dbrun.core` with one sub-table per binding. */
int bind_core(lua_State *L);

#endif
