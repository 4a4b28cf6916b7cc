/*
 * A feed: what a connection that subscribed is sent, kept until the script takes it. A consumer that is
 * behind stops the reading, so memory stays bounded; the server then drops the connection, which the
 * script is told.
 *
 * Who owns what: the feed is the subscription of its session (a dedicated session) and ends with it.
 */
#ifndef DBRUN_BIND_REDIS_FEED_H
#define DBRUN_BIND_REDIS_FEED_H

#include <lua.h>

/* Methods of a connection of one's own. */
int redis_feed__listen(lua_State *L); /* from now on replies are what it is sent */
int redis_feed__post(lua_State *L);   /* (name, ...): sends a command that has no reply of its own */
int redis_feed__next(lua_State *L);   /* ([seconds]) -> list | nil */

#endif
