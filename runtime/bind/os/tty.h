/* core.tty: is a descriptor a terminal, and how wide is it? */
#ifndef DBRUN_BIND_TTY_H
#define DBRUN_BIND_TTY_H

#include "bind/base/runtime.h"

int bind_tty_open(lua_State *L, struct runtime *rt);

#endif
