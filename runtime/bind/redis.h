/*
 * core.redis: pools and clients of Redis. lua/dbrun/redis.lua is the surface that scripts see.
 *
 *   redis_pool.c     connections on the loop, opened on workers, kept by the generic pool
 *   redis_line.c     where commands go: the shared connection of a client, or one of one's own
 *   redis_connection.c  how a line comes to its connection, and what happens when that goes
 *   redis_command.c  what is known about a command: its name on the wire, its reply's shape
 *   redis_args.c     arguments, written straight into the output buffer
 *   redis_reply.c    replies into Lua values
 *   redis_call.c     one command: one C function, one yield
 *   redis_batch.c    many commands in one round trip; transactions
 *   redis_feed.c     what a subscription is sent
 *   redis.c          the userdata of clients and connections; redis_pool_handle.c those of pools
 */
#ifndef DBRUN_BIND_REDIS_H
#define DBRUN_BIND_REDIS_H

#include "bind/runtime.h"

int bind_redis_open(lua_State *L, struct runtime *rt);

#endif
