/* core.tty: whether a descriptor is a terminal, its size, and text escaped for it. */
#ifndef DBRUN_BIND_TTY_H
#define DBRUN_BIND_TTY_H

#include "bind/base/runtime.h"

int bind_tty_open(lua_State *L, struct runtime *rt);

#endif
