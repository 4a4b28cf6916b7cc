/*
 * core.fs: files and folders, synchronous. lua/dbrun/fs.lua adds what is simpler in Lua. Failures raise
 * errors of kind io that name the path and the cause.
 */
#ifndef DBRUN_BIND_FS_H
#define DBRUN_BIND_FS_H

#include "bind/base/runtime.h"

int bind_fs_open(lua_State *L, struct runtime *rt);

#endif
