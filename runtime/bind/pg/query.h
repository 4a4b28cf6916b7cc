/* The entry points of statements. Stack: 1 = engine (`lease` is then NULL) or lease, its type already
 * checked; 2 = SQL; 3.. = parameters. */
#ifndef DBRUN_BIND_PG_QUERY_H
#define DBRUN_BIND_PG_QUERY_H

#include "bind/pg/lease.h"
#include "bind/pg/result.h"

/* Methods of engines and of leases: a statement with parameters ... */
int pg_query(lua_State *L, struct pg_lease *lease, enum pg_result_shape shape);
/* ... one or more statements without parameters (simple protocol) ... */
int pg_script(lua_State *L, struct pg_lease *lease);
/* ... the columns of a statement, without running it ... */
int pg_describe(lua_State *L, struct pg_lease *lease);
/* ... whether a statement that failed with the SQLSTATE at 3, for the data type at 4, was prepared before its
 * types changed: returns a boolean, or nothing when the SQLSTATE has other causes ... */
int pg_is_stale(lua_State *L, struct pg_lease *lease);
/* ... a row iterator ... */
int pg_rows(lua_State *L, struct pg_lease *lease);
/* ... or only the checkout: returns a lease. */
int pg_acquire(lua_State *L);

#endif
