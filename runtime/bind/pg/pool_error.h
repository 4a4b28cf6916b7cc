/* The error of a task that got no connection from an engine's pool. */
#ifndef DBRUN_BIND_PG_POOL_ERROR_H
#define DBRUN_BIND_PG_POOL_ERROR_H

#include "bind/pg/engine.h"

/* Sets `err` for the pool's answer, and names the holders of the connections. */
void pg_engine_pool_error(struct pg_engine *e, enum pool_settle result, struct error *err);

#endif
