/*
 * core.redis: pools and clients of Redis. lua/dbrun/redis.lua is the surface that scripts see.
 *
 *   pool.c     connections on the loop, opened on workers, kept by the generic pool
 *   session.c     where commands go: the shared connection of a client, or one of one's own
 *   session_connect.c  how a session comes to its connection, and what happens when that goes
 *   command.c  what is known about a command: its name on the wire, its reply's shape
 *   args.c     arguments, written straight into the output buffer
 *   reply.c    replies into Lua values
 *   call.c     one command: one C function, one yield
 *   batch.c    many commands in one round trip; transactions
 *   feed.c     what a subscription is sent
 *   redis.c          the userdata of clients and connections; pool_methods.c those of pools
 */
#ifndef DBRUN_BIND_REDIS_H
#define DBRUN_BIND_REDIS_H

#include "bind/base/runtime.h"

int bind_redis_open(lua_State *L, struct runtime *rt);

#endif
