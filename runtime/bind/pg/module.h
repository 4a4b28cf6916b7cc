/* core.pg: PostgreSQL engines, leases and statements. lua/dbrun/db.lua builds sessions, transactions and the
 * singletons on top of it. */
#ifndef DBRUN_BIND_PG_H
#define DBRUN_BIND_PG_H

#include "bind/base/runtime.h"

/* Makes the classes, and pushes the module's table. */
int bind_pg_open(lua_State *L, struct runtime *rt);
/* At the end of the program: abandons all connections that are still in use, or being opened, drained or
 * reset. */
void bind_pg_shutdown(struct runtime *rt);

#endif
