/* core.clock: the time of day. */
#ifndef DBRUN_BIND_CLOCK_H
#define DBRUN_BIND_CLOCK_H

#include "bind/base/runtime.h"

int bind_clock_open(lua_State *L, struct runtime *rt);

#endif
