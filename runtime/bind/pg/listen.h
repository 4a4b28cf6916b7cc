/*
 * A feed: the connection of a listener, taken out of its pool, and the notifications that the script has not
 * taken yet. When too many are queued, the feed stops reading the connection: memory stays bounded, and the
 * server keeps the rest.
 *
 * Who owns what: the feed (a userdata) owns the connection. It is made from a lease, which it releases. A
 * feed never reconnects; lua/dbrun/db/listen.lua makes a new feed.
 */
#ifndef DBRUN_BIND_PG_LISTEN_H
#define DBRUN_BIND_PG_LISTEN_H

#include "bind/base/runtime.h"

void pg_listen_class(lua_State *L, struct runtime *rt);
/* Method of leases: listen_feed() -> feed */
int pg_listen_feed(lua_State *L);

#endif
