/* core.log: write(level, text), level() and level(word), mask(text), secret(text). */
#ifndef DBRUN_BIND_LOG_H
#define DBRUN_BIND_LOG_H

#include "bind/base/runtime.h"

int bind_log_open(lua_State *L, struct runtime *rt);

#endif
