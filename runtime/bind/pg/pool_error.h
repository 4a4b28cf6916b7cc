/* What a task is told that got no connection from its pool. */
#ifndef DBRUN_BIND_PG_POOL_ERROR_H
#define DBRUN_BIND_PG_POOL_ERROR_H

#include "bind/pg/engine.h"

/* Sets `err` to the pool's answer, with who holds the connections. */
void pg_engine_pool_error(struct pg_engine *e, enum pool_settle result, struct error *err);

#endif
