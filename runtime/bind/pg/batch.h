/* Several statements in one round trip: methods of leases. */
#ifndef DBRUN_BIND_PG_BATCH_H
#define DBRUN_BIND_PG_BATCH_H

#include "bind/base/runtime.h"

void pg_batch_class(lua_State *L, struct runtime *rt);
int pg_lease_batch(lua_State *L);
int pg_lease_batch_many(lua_State *L);

#endif
