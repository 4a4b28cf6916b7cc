/*
 * Notices that a server is silent: the oldest command that may not block waits for its reply for longer than
 * a second. A task (lua/dbrun/redis/failover.lua) waits for that, asks others where the primary is, and says
 * what becomes of the pool's connections.
 *
 *   in flight ---answered---> (nothing to do)
 *       | 1 s
 *       v
 *   silent: the task is woken; with `holds` the connection is neither read nor written
 *       |-- it is the primary still --> release: what has arrived is read
 *       +-- it is not, or it is dead --> condemn: what was sent is `unknown`, the rest moves on or fails
 *
 * While nothing is in flight no timer runs; while something is, it looks at each connection ten times a
 * second. A command pays for one branch.
 */
#ifndef DBRUN_BIND_REDIS_GUARD_H
#define DBRUN_BIND_REDIS_GUARD_H

#include "bind/redis/pool.h"

/* Pushes core.redis.guard. All functions but the first take a watcher; it does not keep the pool, and when
 * the pool is gone nothing is in use or in flight. All but `stalled` take the pool as well.
 *
 *   watch(pool, holds)    -> the watcher; `holds`: others know who is the primary
 *   stalled(w, seconds)   waits -> the seconds that the oldest command waits, once they are more than one, or
 *                         when the time of `due` has come | nil after `seconds`
 *   silence(w)            -> the seconds now; 0 = none waits
 *   in_use(w)             -> has the pool open clients or connections?
 *   elsewhere(w, host, port)  -> does a connection go to another address?
 *   address(w)            -> host, port where its connections go | nil
 *   hold(w)               neither reads nor writes on its connections until release
 *   release(w, all)       reads what has arrived on those that are held; `all`: and goes on with all
 *   condemn(w, {reason=, hint=, host=, port=, sentinel=, leaving=})
 *                         closes the connections that do not go to this address (without one: all), and gives
 *                         up the connects under way. `sentinel` is the one to ask first; `leaving`: what was
 *                         not sent fails instead of waiting for the next connection
 *   due(w, seconds | nil) when to decide although all commands under way may block
 */
void redis_guard_open(lua_State *L, struct runtime *rt);

#endif
