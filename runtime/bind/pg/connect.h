/* Opening connections for the pool of an engine. */
#ifndef DBRUN_BIND_PG_CONNECT_H
#define DBRUN_BIND_PG_CONNECT_H

#include "bind/pg/engine.h"

extern const struct connector_ops pg_connector_ops;
/* For pool_ops.open. */
void pg_connect_slot(struct pool_slot *slot);

#endif
