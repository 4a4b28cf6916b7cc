/*
 * core.process: child processes, signals, users. lua/dbrun/process.lua is the surface that scripts
 * see; it checks and completes what it is given, so the functions here take one exact form.
 */
#ifndef DBRUN_BIND_PROCESS_H
#define DBRUN_BIND_PROCESS_H

#include "bind/base/runtime.h"

int bind_process_open(lua_State *L, struct runtime *rt);

#endif
