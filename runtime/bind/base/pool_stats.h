/* The figures of a pool as a Lua table. */
#ifndef DBRUN_BIND_POOL_STATS_H
#define DBRUN_BIND_POOL_STATS_H

#include "pool/pool.h"

#include <lua.h>

/* Pushes {size=, overflow=, open=, idle=, leased=, opening=, resetting=, waiting=, opened=, closed=,
 * recycled=, invalidated=, timeouts=, failed=, acquired=, wait_count=, wait_sum=, wait_max=}: counts, except
 * wait_sum and wait_max, which are in seconds. */
void pool_push_stats(lua_State *L, const struct pool *p);

#endif
