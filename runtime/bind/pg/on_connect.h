/* on_connect: the script's function for each new connection, before the connection's first statement. */
#ifndef DBRUN_BIND_PG_ON_CONNECT_H
#define DBRUN_BIND_PG_ON_CONNECT_H

#include "bind/pg/lease.h"

/* Pushes on_connect and its argument, a lease that takes the new link over from *owner. The caller calls the
 * function and passes the status to pg_connected. */
struct pg_lease *pg_connect_event(lua_State *L, struct pg_link **owner);
/* Takes the link back from the lease. NULL when on_connect failed: the connection is then closed, and the
 * error to raise (an error object, or a message) is on top of the stack. */
struct pg_link *pg_connected(lua_State *L, struct pg_lease *lease, int status);

#endif
