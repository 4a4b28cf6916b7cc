/*
 * A feed: the connection of a listener, taken out of its pool, and the notifications that came on it until
 * the script takes them. A consumer that is behind stops the reading, so memory stays bounded; the server
 * keeps what is not read.
 *
 * Who owns what: the feed (a userdata) owns the connection. It is made from a lease, which is released by
 * that. A feed whose connection is lost stays so; lua/dbrun/db/listen.lua makes another one.
 */
#ifndef DBRUN_BIND_PG_LISTEN_H
#define DBRUN_BIND_PG_LISTEN_H

#include "bind/base/runtime.h"

void pg_listen_class(lua_State *L, struct runtime *rt);
/* Method of leases: listen_feed() -> feed */
int pg_listen_feed(lua_State *L);

#endif
