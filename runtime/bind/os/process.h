/*
 * core.process: child processes, signals, users. Scripts use lua/dbrun/process.lua, which checks and
 * completes the arguments, so the functions here accept only one exact form.
 */
#ifndef DBRUN_BIND_PROCESS_H
#define DBRUN_BIND_PROCESS_H

#include "bind/base/runtime.h"

int bind_process_open(lua_State *L, struct runtime *rt);

#endif
