/* core.pg: PostgreSQL engines, leases and statements. lua/dbrun/db.lua builds sessions, transactions
 * and the singletons on it. */
#ifndef DBRUN_BIND_PG_H
#define DBRUN_BIND_PG_H

#include "bind/base/runtime.h"

int bind_pg_open(lua_State *L, struct runtime *rt);
/* The program ends: connections that are still being rolled back, drained or opened are given up. */
void bind_pg_shutdown(struct runtime *rt);

#endif
