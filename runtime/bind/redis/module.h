/*
 * core.redis: pools, clients and dedicated connections of Redis. Scripts use it through lua/dbrun/redis.lua.
 * The README.md of this folder lists the files.
 */
#ifndef DBRUN_BIND_REDIS_H
#define DBRUN_BIND_REDIS_H

#include "bind/base/runtime.h"

/* Makes the classes, and pushes the module's table. */
int bind_redis_open(lua_State *L, struct runtime *rt);

#endif
