/*
 * Notices a silent server: the oldest command, of those that do not block, has waited for its reply for
 * longer than a second. A task (lua/dbrun/redis/failover.lua) waits for this, asks other servers where the
 * primary is, and decides what to do with the pool's connections.
 *
 *   in flight ---answered---> (nothing to do)
 *       | 1 s
 *       v
 *   silent: the task is woken; with `holds` the connection is neither read nor written
 *       |-- it is still the primary --> release: what has arrived is read
 *       +-- it is not, or it is dead --> condemn: what was sent is `unknown`, the rest moves on or fails
 *
 * A timer runs only while commands are in flight; it looks at each connection ten times a second. A command
 * costs one branch.
 */
#ifndef DBRUN_BIND_REDIS_GUARD_H
#define DBRUN_BIND_REDIS_GUARD_H

#include "bind/redis/pool.h"

/* Pushes core.redis.guard. All functions except the first take a watcher, which does not keep the pool alive;
 * when the pool is gone, nothing is in use or in flight. All except `stalled` also take the pool.
 *
 *   watch(pool, holds)    -> the watcher; `holds`: other servers know the primary
 *   stalled(w, seconds)   waits -> seconds that the oldest command has waited, once above one second, or
 *                         at the time of `due` | nil after `seconds`
 *   silence(w)            -> seconds that the oldest command has waited until now; 0 = none waits
 *   in_use(w)             -> true when the pool has open clients or connections
 *   elsewhere(w, host, port)  -> true when a connection goes to another address
 *   address(w)            -> host, port where its connections go | nil
 *   hold(w)               neither reads nor writes on its connections until release
 *   release(w, all)       resumes and reads the held connections that have received something, or `all`
 *   condemn(w, {reason=, hint=, host=, port=, sentinel=, leaving=})
 *                         closes the connections that do not go to this address (without one: all), and
 *                         abandons connects under way. `sentinel`: ask this one first; `leaving`: unsent
 *                         commands fail instead of waiting for the next connection
 *   due(w, seconds | nil) when to decide although all commands under way can block */
void redis_guard_open(lua_State *L, struct runtime *rt);

#endif
