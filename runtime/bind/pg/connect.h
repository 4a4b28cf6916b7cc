/* Opening connections for the pool (pool_ops.open). */
#ifndef DBRUN_BIND_PG_CONNECT_H
#define DBRUN_BIND_PG_CONNECT_H

#include "bind/pg/engine.h"

void pg_connect_slot(struct pool_slot *slot);
/* The engine is going: connects under way end by themselves and are thrown away. */
void pg_connects_forget(struct pg_engine *e);

#endif
