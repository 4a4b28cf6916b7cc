/*
 * The part of core.process for processes and users in general: signals, ids, the user database, the
 * environment.
 */
#ifndef DBRUN_BIND_SYSTEM_H
#define DBRUN_BIND_SYSTEM_H

#include "bind/base/runtime.h"

/* Adds the functions, and the table `signals`, to the table on top of the stack. */
void bind_system_functions(lua_State *L, struct runtime *rt);

#endif
