/* The methods of leases (conn:query, conn:release, ...). */
#ifndef DBRUN_BIND_PG_LEASE_METHODS_H
#define DBRUN_BIND_PG_LEASE_METHODS_H

#include "bind/base/runtime.h"

void pg_lease_class(lua_State *L, struct runtime *rt);

#endif
