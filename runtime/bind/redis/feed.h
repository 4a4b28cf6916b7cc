/*
 * A feed keeps the messages of a subscription until the script takes them. When too many are queued, it stops
 * reading the connection, so that memory stays bounded; if the server then drops the connection, the script
 * gets an error.
 *
 * Who owns what: a dedicated session owns its feed, as its subscription, and frees it.
 */
#ifndef DBRUN_BIND_REDIS_FEED_H
#define DBRUN_BIND_REDIS_FEED_H

#include <lua.h>

/* Methods of a dedicated connection. */
int redis_feed__listen(lua_State *L); /* from now on replies go to the feed */
int redis_feed__post(lua_State *L);   /* (name, ...): sends a command without waiting for a reply */
int redis_feed__next(lua_State *L);   /* ([seconds]) -> list | nil */

#endif
